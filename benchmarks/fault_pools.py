"""
The pools of ``faults.py``: each set up as a careful user would, with the time-outs and limits that it has.

``call(handler, event, seconds)`` gives the value or raises; may be called from several threads.
"""

from __future__ import annotations

import importlib
from typing import Any

WORKERS = 2


class Executor:
    """``concurrent.futures.ProcessPoolExecutor``: a time-out for the wait."""

    def __init__(self) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.pool: Any = ProcessPoolExecutor(WORKERS)

    def call(self, handler: Any, event: Any, seconds: float) -> Any:
        return self.pool.submit(handler, event).result(seconds)


class Loky(Executor):
    """loky's reusable executor: a time-out for the wait; a broken one is made anew, as its users do."""

    def __init__(self) -> None:
        self.pool = None

    def call(self, handler: Any, event: Any, seconds: float) -> Any:
        loky: Any = importlib.import_module("loky")
        self.pool = loky.get_reusable_executor(max_workers=WORKERS, timeout=None)
        return super().call(handler, event, seconds)


class Pool:
    """``multiprocessing.Pool``: a time-out for the wait."""

    def __init__(self) -> None:
        import multiprocessing

        self.pool: Any = multiprocessing.Pool(WORKERS)

    def call(self, handler: Any, event: Any, seconds: float) -> Any:
        return self.pool.apply_async(handler, (event,)).get(seconds)


class Billiard:
    """billiard: a hard time limit for the task."""

    def __init__(self) -> None:
        pool: Any = importlib.import_module("billiard.pool")
        self.pool = pool.Pool(WORKERS, enable_timeouts=True)

    def call(self, handler: Any, event: Any, seconds: float) -> Any:
        return self.pool.apply_async(handler, (event,), timeout=seconds).get(seconds + 2)


class Pebble:
    """pebble: a time-out for the task."""

    def __init__(self) -> None:
        pebble: Any = importlib.import_module("pebble")
        self.pool = pebble.ProcessPool(max_workers=WORKERS)

    def call(self, handler: Any, event: Any, seconds: float) -> Any:
        return self.pool.schedule(handler, args=[event], timeout=seconds).result()


class Mpire:
    """mpire: a time-out for the task."""

    def __init__(self) -> None:
        mpire: Any = importlib.import_module("mpire")
        self.pool = mpire.WorkerPool(n_jobs=WORKERS, keep_alive=True)

    def call(self, handler: Any, event: Any, seconds: float) -> Any:
        return self.pool.apply(handler, args=(event,), task_timeout=seconds)


class Anyio:
    """``anyio.to_process``: cancelled at the time-out."""

    def __init__(self) -> None:
        from anyio.from_thread import start_blocking_portal

        self._loop = start_blocking_portal()
        self._portal = self._loop.__enter__()

    def call(self, handler: Any, event: Any, seconds: float) -> Any:
        return self._portal.call(self._acall, handler, event, seconds)

    async def _acall(self, handler: Any, event: Any, seconds: float) -> Any:
        import anyio
        from anyio import to_process

        with anyio.fail_after(seconds):
            return await to_process.run_sync(handler, event, cancellable=True)


class Pyfaas:
    """pyfaas: a time-out and a memory limit for each function."""

    def __init__(self) -> None:
        from benchmarks.fault_handlers import declare
        from pyfaas import Runtime

        self._declare = declare
        self._functions: dict[float, Any] = {}
        self._runtime = Runtime().open()

    def call(self, handler: Any, event: Any, seconds: float) -> Any:
        if seconds not in self._functions:
            self._functions[seconds] = self._declare(seconds)
        return self._runtime.invoke(self._functions[seconds][handler.__name__], event)


POOLS: dict[str, Any] = {
    "pyfaas": Pyfaas,
    "ProcessPoolExecutor": Executor,
    "multiprocessing.Pool": Pool,
    "loky": Loky,
    "pebble": Pebble,
    "mpire": Mpire,
    "anyio.to_process": Anyio,
    "billiard": Billiard,
}
