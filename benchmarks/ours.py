"""pyfaas on its stage: called like every peer, and looked at where it alone has something to show."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from time import monotonic, perf_counter, sleep
from typing import Any

from benchmarks import handlers, loops
from benchmarks.acts import Async, Streaming
from benchmarks.handlers import EVENT, TIMEOUT
from benchmarks.small import small
from pyfaas import TimedOut
from pyfaas._sandbox.vitals import private_bytes, tree
from pyfaas.runtime import default_runtime

LARGE_BYTES = 6_000_000


def large_event(kind: str) -> Any:
    """Make an event of just under 6 MB of JSON, however JSON is spaced."""
    dice = random.Random(7)
    if kind == "one string":
        return "x" * LARGE_BYTES
    if kind == "floats":
        return [dice.random() for _ in range(LARGE_BYTES // 21)]
    row = {"id": 1_000_000, "name": "a.png", "tags": ["a", "b"], "size": 123.5, "ready": True}
    return [row | {"id": 1_000_000 + number} for number in range(LARGE_BYTES // 84)]


class Ours(Streaming):
    """pyfaas, blocking, in the default runtime, with the limits that a bare ``@function`` has."""

    def __init__(self) -> None:
        super().__init__(handlers.echo.invoke, self._stream, default_runtime().close)
        self._pool: Any = default_runtime()._pool

    def _stream(self, crashing: bool, events: Any) -> Iterator[Any]:
        if not crashing:
            return handlers.echo.map(events)
        return (outcome.value if outcome.ok else None for outcome in self._only_good(events))

    def _only_good(self, events: Any) -> Iterator[Any]:
        return (outcome for outcome in handlers.crash.try_map(events) if outcome.ok)

    def cold(self, calls: int) -> list[float]:
        """Time first calls of sandboxes that are forked for them."""
        small.invoke(EVENT)
        durations = []
        for _ in range(calls):
            sleep(0.010)
            self._drop_standby()
            durations.append(self._timed_small())
        return durations

    def standby(self, calls: int) -> list[float]:
        """Time first calls that a blank sandbox was ready for; empty where this runtime keeps none."""
        small.invoke(EVENT)
        durations = []
        for _ in range(calls):
            sleep(0.005)
            until = monotonic() + 0.2
            while not default_runtime().statistics().standby:
                if monotonic() > until:
                    return []
                sleep(0.001)
            sleep(0.005)  # it was asked for; now it is there
            durations.append(self._timed_small())
        return durations

    def _timed_small(self) -> float:
        began = perf_counter()
        small.invoke(EVENT)
        return perf_counter() - began

    def _drop_standby(self) -> None:
        supply = self._pool.supply
        with supply._lock:
            zygote = supply.zygote()
            sandbox, zygote.spare = zygote.spare, None
        if sandbox is not None:
            supply.retire(sandbox)
            sleep(0.005)

    def memory(self, sandboxes: int, *, at_rest: bool) -> list[int]:
        """Give the private memory of each idle sandbox, after some calls; ``at_rest``: the zygote has had a second."""
        if at_rest:
            small.invoke(EVENT)
            sleep(1.0)

        def use() -> None:
            for _ in range(3):
                handlers.linger.invoke({"seconds": 0.2})

        threads = [threading.Thread(target=use) for _ in range(sandboxes)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shelf = self._pool.ledger.shelves[handlers.linger]
        return [private_bytes(sandbox.pid) for sandbox in shelf.idle]

    def late(self, calls: int) -> list[list[float]]:
        """For each time-out: how late the caller had its error, and when the slot gave the next value."""
        found = []
        for number in range(calls):
            handlers.hang.invoke({})
            began = perf_counter()
            try:
                handlers.hang.invoke({"how": "spin" if number % 2 else "sleep"})
            except TimedOut:
                told = perf_counter()
                handlers.hang.invoke({})
                found.append([told - began - TIMEOUT, perf_counter() - began - TIMEOUT])
        return found

    def idle(self) -> list[int]:
        """Make a call, and tell which processes are ours: the zygote and all below it."""
        self._call(EVENT)
        sleep(0.2)  # a standby is made after the answer
        return tree(self._pool.supply.zygote().pid)

    def wakeups(self) -> int:
        """Tell how often the watch woke so far."""
        return int(self._pool.watch.wakeups)

    def large(self, kind: str, calls: int) -> list[list[float]]:
        """Time the four JSON calls that the event needs, and the invocation, in turn."""
        event = large_event(kind)
        handlers.echo_large.invoke(event)
        found = []
        for _ in range(calls):
            bare = loops.four_calls(event)
            began = perf_counter()
            handlers.echo_large.invoke(event)
            found.append([bare, perf_counter() - began])
        return found


class LargeFloor:
    """The bare loop with 6 MB: what the JSON and the way through the kernel take, whoever does it."""

    def __init__(self) -> None:
        self._sock = loops.fork_large_echo()

    def large(self, kind: str, calls: int) -> list[list[float]]:
        """Time the four JSON calls, and the bare exchange, in turn."""
        import json

        event = large_event(kind)
        found = []
        for _ in range(calls):
            bare = loops.four_calls(event)
            began = perf_counter()
            loops.send_framed(self._sock, json.dumps(event).encode())
            json.loads(loops.receive_framed(self._sock))
            found.append([bare, perf_counter() - began])
        return found

    def close(self) -> None:
        """Hang up."""
        self._sock.close()


class OursAsync(Async):
    """pyfaas from asyncio."""

    def __init__(self) -> None:
        super().__init__(handlers.echo.ainvoke)

    def late(self, calls: int) -> list[list[float]]:
        """For each time-out: how late the task had its error, and when the slot gave the next value."""
        return self._loop.run_until_complete(self._late(calls))

    async def _late(self, calls: int) -> list[list[float]]:
        found = []
        for number in range(calls):
            await handlers.hang.ainvoke({})
            began = perf_counter()
            try:
                await handlers.hang.ainvoke({"how": "spin" if number % 2 else "sleep"})
            except TimedOut:
                told = perf_counter()
                await handlers.hang.ainvoke({})
                found.append([told - began - TIMEOUT, perf_counter() - began - TIMEOUT])
        return found

    def close(self) -> None:
        """End the runtime first, then the loop it may still watch from."""
        default_runtime().close()
        super().close()
