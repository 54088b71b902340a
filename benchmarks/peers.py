"""
Every pool that one would take instead, each as one small class: ``call``, ``map`` (in chunks) and ``close``.

Each does its best: workers are warm, and what it has to spare work (chunks, reuse, plain pickle) is on. Only pebble has
a time-out for calls that stops the work, and has it on here.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from typing import Any

CHUNK = 64


class Executor:
    """``concurrent.futures.ProcessPoolExecutor``."""

    def __init__(self, workers: int) -> None:
        from concurrent.futures import ProcessPoolExecutor

        self.pool: Any = ProcessPoolExecutor(workers)

    def call(self, handler: Any, event: Any) -> Any:
        return self.pool.submit(handler, event).result()

    def map(self, handler: Any, events: Iterable[Any]) -> Iterator[Any]:
        return iter(self.pool.map(handler, events, chunksize=CHUNK))

    def close(self) -> None:
        self.pool.shutdown()


class Loky(Executor):
    """loky's reusable executor."""

    def __init__(self, workers: int) -> None:
        loky: Any = importlib.import_module("loky")
        self.pool = loky.get_reusable_executor(max_workers=workers, timeout=None)


class Pool:
    """``multiprocessing.Pool``."""

    def __init__(self, workers: int) -> None:
        import multiprocessing

        self.pool: Any = multiprocessing.Pool(workers)

    def call(self, handler: Any, event: Any) -> Any:
        return self.pool.apply(handler, (event,))

    def map(self, handler: Any, events: Iterable[Any]) -> Iterator[Any]:
        return iter(self.pool.imap(handler, events, chunksize=CHUNK))

    def close(self) -> None:
        self.pool.terminate()


class Billiard(Pool):
    """billiard, Celery's fork of it."""

    def __init__(self, workers: int) -> None:
        billiard: Any = importlib.import_module("billiard")
        self.pool = billiard.Pool(workers)


class Pebble:
    """pebble, with a time-out."""

    TIMEOUT = 3

    def __init__(self, workers: int) -> None:
        pebble: Any = importlib.import_module("pebble")
        self.pool = pebble.ProcessPool(max_workers=workers)

    def call(self, handler: Any, event: Any) -> Any:
        return self.pool.schedule(handler, args=[event], timeout=self.TIMEOUT).result()

    def map(self, handler: Any, events: Iterable[Any]) -> Iterator[Any]:
        # Its time-out is one chunk's.
        future: Any = self.pool.map(handler, events, chunksize=CHUNK, timeout=self.TIMEOUT)
        return iter(future.result())

    def close(self) -> None:
        self.pool.stop()
        self.pool.join()


class Mpire:
    """mpire."""

    def __init__(self, workers: int) -> None:
        mpire: Any = importlib.import_module("mpire")
        # Two, for workers kept alive from `apply` take the items of an `imap` for something else.
        self.pool = mpire.WorkerPool(n_jobs=workers, keep_alive=True)
        self.map_pool = mpire.WorkerPool(n_jobs=workers, keep_alive=True)

    def call(self, handler: Any, event: Any) -> Any:
        return self.pool.apply(handler, args=(event,))

    def map(self, handler: Any, events: Iterable[Any]) -> Iterator[Any]:
        # A bare dict would be taken for keyword arguments.
        return iter(self.map_pool.imap(handler, [(event,) for event in events], chunk_size=CHUNK))

    def close(self) -> None:
        self.pool.terminate()
        self.map_pool.terminate()


class Anyio:
    """``anyio.to_process``, from an asyncio loop: its workers live as long as the loop runs. It has no map."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._limiter: Any = None

    def open(self) -> None:
        """Begin in the loop that runs now."""
        import anyio

        self._limiter = anyio.CapacityLimiter(self._workers)

    async def acall(self, handler: Any, event: Any) -> Any:
        from anyio import to_process

        return await to_process.run_sync(handler, event, limiter=self._limiter)


PEERS: dict[str, Any] = {
    "ProcessPoolExecutor": Executor,
    "multiprocessing.Pool": Pool,
    "loky": Loky,
    "pebble": Pebble,
    "mpire": Mpire,
    "anyio.to_process": Anyio,
    "billiard": Billiard,
}
