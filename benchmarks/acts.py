"""
What contenders do on their stage (``stage.py``): the same measuring code around each one's call.

    block    calls one after the other, with gaps         crowd    threads that call in a loop
    stream   a map over many events                       crash    a map in which one event kills its worker
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter, sleep
from typing import Any

from benchmarks import handlers, loops
from benchmarks.handlers import EVENT
from benchmarks.measure import percentile
from benchmarks.peers import PEERS, Anyio

Call = Callable[[Any], Any]
AsyncCall = Callable[[Any], Awaitable[Any]]


def some_events(count: int) -> list[dict[str, Any]]:
    """Make small events, no two alike."""
    return [{"id": number, "name": "a.png"} for number in range(count)]


class Blocking:
    """A contender that is called from a thread."""

    def __init__(self, call: Call, close: Callable[[], Any] = lambda: None) -> None:
        self._call = call
        self.close = close
        call(EVENT)

    def block(self, calls: int, gap: float) -> list[float]:
        """Time calls. Between them the caller sleeps, as one does that waits for its next request."""
        call, durations = self._call, []
        call(EVENT)
        for _ in range(calls):
            if gap:
                sleep(gap)
            began = perf_counter()
            call(EVENT)
            durations.append(perf_counter() - began)
        return durations

    def crowd(self, threads: int, seconds: float) -> list[float]:
        """Let threads call in a loop; give calls a second, the median and the 99th percentile."""
        start = threading.Barrier(threads + 1)
        durations: list[list[float]] = [[] for _ in range(threads)]

        def work(mine: list[float]) -> None:
            call = self._call
            call(EVENT)
            start.wait()
            now, until = perf_counter(), perf_counter() + seconds
            while now < until:
                began = now
                call(EVENT)
                now = perf_counter()
                mine.append(now - began)

        workers = [threading.Thread(target=work, args=(mine,)) for mine in durations]
        for worker in workers:
            worker.start()
        start.wait()
        began = perf_counter()
        for worker in workers:
            worker.join()
        elapsed = perf_counter() - began
        every = [duration for mine in durations for duration in mine]
        return [len(every) / elapsed, percentile(every, 50), percentile(every, 99)]


class Streaming(Blocking):
    """One that has a map, too: ``map(crashing, events)``."""

    def __init__(self, call: Call, map_: Callable[[bool, Any], Iterator[Any]], close: Callable[[], Any]) -> None:
        super().__init__(call, close)
        self._map = map_

    def stream(self, events: int) -> float:
        """Time a map over so many events; give events a second."""
        given = some_events(events)
        began = perf_counter()
        count = sum(1 for _ in self._map(False, given))
        elapsed = perf_counter() - began
        assert count == events
        return events / elapsed

    def crash(self, events: int, patience: float) -> dict[str, Any]:
        """Map over events of which the middle one kills its worker; count what still comes in time."""
        given = some_events(events)
        given[events // 2]["crash"] = True
        seen: dict[str, Any] = {"values": 0, "errors": [], "ended": False, "seconds": patience, "usable": False}

        def consume() -> None:
            began = perf_counter()
            answers = self._map(True, given)
            while len(seen["errors"]) < 100:
                try:
                    next(answers)
                    seen["values"] += 1
                except StopIteration:
                    break
                except BaseException as error:  # noqa: BLE001 - whatever the pool tells
                    seen["errors"].append(type(error).__name__)
            seen.update(ended=True, seconds=perf_counter() - began)

        def use() -> None:
            self._call(EVENT)
            seen["usable"] = True

        for step in (consume, use):
            thread = threading.Thread(target=step, daemon=True)
            thread.start()
            thread.join(patience)
        return dict(seen)


class Async:
    """A contender that is called from an asyncio loop."""

    def __init__(self, call: AsyncCall) -> None:
        self._call = call
        self._loop = asyncio.new_event_loop()

    def block(self, calls: int, gap: float) -> list[float]:
        """Time calls from one task."""
        return self._loop.run_until_complete(timed(self._call, calls, gap, asyncio.sleep))

    def close(self) -> None:
        """End the loop."""
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0.01))
        self._loop.close()


class Trio:
    """The same from trio."""

    def __init__(self, call: AsyncCall) -> None:
        self._call = call

    def block(self, calls: int, gap: float) -> list[float]:
        """Time calls from one task."""
        import trio

        return trio.run(timed, self._call, calls, gap, trio.sleep)

    def close(self) -> None:
        """Nothing is kept."""


async def timed(call: AsyncCall, calls: int, gap: float, rest: Callable[[float], Awaitable[Any]]) -> list[float]:
    """Time calls; between them the task sleeps."""
    durations = []
    await call(EVENT)
    for _ in range(calls):
        if gap:
            await rest(gap)
        began = perf_counter()
        await call(EVENT)
        durations.append(perf_counter() - began)
    return durations


class AnyioPeer:
    """anyio.to_process, called from tasks, as it is meant to be."""

    def __init__(self, workers: int) -> None:
        self._peer = Anyio(workers)

    async def _call(self, event: Any) -> Any:
        return await self._peer.acall(handlers.plain_echo, event)

    def block(self, calls: int, gap: float) -> list[float]:
        """Time calls from one task."""

        async def run() -> list[float]:
            self._peer.open()
            return await timed(self._call, calls, gap, asyncio.sleep)

        return asyncio.run(run())

    def crowd(self, threads: int, seconds: float) -> list[float]:
        """Let tasks call in a loop instead of threads."""
        durations: list[float] = []

        async def work(until: float) -> None:
            while (began := perf_counter()) < until:
                await self._call(EVENT)
                durations.append(perf_counter() - began)

        async def run() -> float:
            self._peer.open()
            await asyncio.gather(*(self._call(EVENT) for _ in range(threads)))
            began = perf_counter()
            await asyncio.gather(*(work(began + seconds) for _ in range(threads)))
            return perf_counter() - began

        elapsed = asyncio.run(run())
        return [len(durations) / elapsed, percentile(durations, 50), percentile(durations, 99)]

    def close(self) -> None:
        """Its workers ended with their loop."""


def _peer(name: str, workers: int) -> Blocking:
    peer = PEERS[name](workers)

    def call(event: Any) -> Any:
        return peer.call(handlers.plain_echo, event)

    def map_(crashing: bool, events: Any) -> Iterator[Any]:
        return iter(peer.map(handlers.plain_crash if crashing else handlers.plain_echo, events))

    return Streaming(call, map_, peer.close)


def make(name: str, workers: int) -> Any:
    """Make the contender of this name."""
    from benchmarks import ours

    if name == "floor":
        return Blocking(loops.BlockingFloor().call)
    if name == "floor, large":
        return ours.LargeFloor()
    if name == "spinning loop":
        return Async(loops.SpinningLoop().call)
    if name == "reader loop":
        return Async(loops.ReaderLoop().call)
    if name == "pyfaas":
        return ours.Ours()
    if name == "pyfaas, asyncio":
        return ours.OursAsync()
    if name == "pyfaas, trio":
        return Trio(handlers.echo.ainvoke)
    if name == "anyio.to_process":
        return AnyioPeer(workers)
    return _peer(name, workers)
