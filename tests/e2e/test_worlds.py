"""The basic trip, the same from a thread, from asyncio and from trio. Other tests run this module under a timer."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from e2e import handlers
from e2e.tools import assert_settled
from pyfaas import (
    HandlerFailed,
    InvalidEvent,
    Outcome,
    OutOfMemory,
    PayloadTooLarge,
    Runtime,
    SandboxDied,
    Throttled,
    TimedOut,
)

World = Callable[[Callable[["Verbs"], Awaitable[Any]]], Any]


class Verbs:
    """The verbs of a runtime, all of them awaited."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime

    async def invoke(self, fn: Any, event: Any) -> Any:
        return await self.runtime.ainvoke(fn, event)

    async def try_invoke(self, fn: Any, event: Any) -> Outcome:
        return await self.runtime.atry_invoke(fn, event)

    async def map(self, fn: Any, events: Any) -> list[Any]:
        return [value async for value in self.runtime.amap(fn, events)]

    async def try_map(self, fn: Any, events: Any) -> list[Outcome]:
        return [outcome async for outcome in self.runtime.atry_map(fn, events)]

    async def at_once(self, *works: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        async with anyio.create_task_group() as group:
            for work in works:
                group.start_soon(work)


class BlockingVerbs(Verbs):
    """The blocking verbs, for the same tests."""

    async def invoke(self, fn: Any, event: Any) -> Any:
        return self.runtime.invoke(fn, event)

    async def try_invoke(self, fn: Any, event: Any) -> Outcome:
        return self.runtime.try_invoke(fn, event)

    async def map(self, fn: Any, events: Any) -> list[Any]:
        return list(self.runtime.map(fn, events))

    async def try_map(self, fn: Any, events: Any) -> list[Outcome]:
        return list(self.runtime.try_map(fn, events))

    async def at_once(self, *works: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        failed: list[BaseException] = []

        def run(work: Callable[[], Awaitable[Any]]) -> None:
            try:
                finish(work())
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=run, args=(work,)) for work in works]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]


def finish(work: Any) -> Any:
    """Run a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("it waited")


def in_main_thread(work: Callable[[], Any]) -> Any:
    return finish(work())


def in_thread(work: Callable[[], Any]) -> Any:
    """Run it in a thread, one with a small stack at that."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(finish(work()))
        except BaseException as error:
            found.append(error)

    before = threading.stack_size(256 * 1024)
    thread = threading.Thread(target=run)
    thread.start()
    threading.stack_size(before)
    thread.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def in_asyncio_debug(work: Callable[[], Any]) -> Any:
    return asyncio.run(work(), debug=True)


WORLDS: dict[str, tuple[type[Verbs], Callable[[Any], Any]]] = {
    "the main thread": (BlockingVerbs, in_main_thread),
    "another thread": (BlockingVerbs, in_thread),
    "asyncio": (Verbs, lambda work: asyncio.run(work())),
    "asyncio in debug mode": (Verbs, in_asyncio_debug),
    "trio": (Verbs, trio.run),
}


@pytest.fixture(params=WORLDS)
def world(request: pytest.FixtureRequest, runtime: Runtime) -> Any:
    """Run a test in one of the worlds."""
    verbs, run = WORLDS[request.param]

    def in_world(test: Callable[[Verbs], Any]) -> Any:
        try:
            return run(lambda: test(verbs(runtime)))
        finally:
            assert_settled(runtime)

    return in_world


def test_values_come_back(world: Any) -> None:
    async def test(verbs: Verbs) -> None:
        for event in (None, True, 1, 1.5, "é😀", [1, [2]], {"a": {"b": None}}, "x" * 2_000_000):
            assert await verbs.invoke(handlers.echo, event) == event
            assert await verbs.invoke(handlers.async_echo, event) == event

    world(test)


def test_the_sandbox_stays_warm(world: Any) -> None:
    async def test(verbs: Verbs) -> None:
        first = await verbs.try_invoke(handlers.echo, 1)
        assert first.report.cold
        for _ in range(30):
            assert not (await verbs.try_invoke(handlers.echo, 1)).report.cold

    world(test)


def test_errors_come_back(world: Any) -> None:
    async def test(verbs: Verbs) -> None:
        with pytest.raises(HandlerFailed, match="no way"):
            await verbs.invoke(handlers.fail, "way")
        with pytest.raises(SandboxDied, match="exit status 3"):
            await verbs.invoke(handlers.mixed, {"do": "exit"})
        with pytest.raises(InvalidEvent):
            await verbs.invoke(handlers.echo, object())
        with pytest.raises(PayloadTooLarge):
            await verbs.invoke(handlers.echo, "x" * 7_000_000)
        outcome = await verbs.try_invoke(handlers.mixed, {"do": "kill"})
        assert isinstance(outcome.error, SandboxDied)
        assert await verbs.invoke(handlers.echo, 1) == 1

    world(test)


def test_time_outs_fire_on_time(world: Any) -> None:
    async def test(verbs: Verbs) -> None:
        for fn, timeout in ((handlers.spin, 0.25), (handlers.hang, 0.3)):
            await verbs.try_invoke(fn, 1)
            began = time.monotonic()
            with pytest.raises(TimedOut, match=f"Task timed out after {timeout:.2f} seconds"):
                await verbs.invoke(fn, 1)
            assert timeout <= time.monotonic() - began < timeout + 2.0

    world(test)


def test_memory_is_held(world: Any) -> None:
    async def test(verbs: Verbs) -> None:
        with pytest.raises(OutOfMemory):
            await verbs.invoke(handlers.eat, 1)

    world(test)


def test_streams_keep_their_order(world: Any) -> None:
    async def test(verbs: Verbs) -> None:
        assert await verbs.map(handlers.echo, range(500)) == list(range(500))
        assert await verbs.map(handlers.echo, []) == []
        large = [str(number) * 50_000 for number in range(9)]
        assert await verbs.map(handlers.echo, large) == large

    world(test)


def test_a_stream_loses_only_what_fails(world: Any) -> None:
    async def test(verbs: Verbs) -> None:
        special = {3: "exit", 11: "raise", 12: "exit", 13: "kill", 20: "hang", 29: "fork"}
        events = [{"do": special.get(n, "return"), "value": n} for n in range(40)]
        outcomes = await verbs.try_map(handlers.mixed, events)
        assert [n for n, outcome in enumerate(outcomes) if not outcome.ok] == sorted(special)
        assert [outcome.value for outcome in outcomes if outcome.ok] == [n for n in range(40) if n not in special]
        assert isinstance(outcomes[20].error, TimedOut)

    world(test)


def test_an_async_source_feeds_a_stream(runtime: Runtime) -> None:
    async def events() -> AsyncIterator[int]:
        for number in range(20):
            await anyio.lowlevel.checkpoint()
            yield number

    async def test() -> list[Any]:
        return [value async for value in runtime.amap(handlers.echo, events())]

    assert asyncio.run(test()) == trio.run(test) == list(range(20))
    assert_settled(runtime)


def test_many_at_once_each_get_their_own_answer(world: Any) -> None:
    async def test(verbs: Verbs) -> None:
        found: dict[int, Any] = {}

        def one(number: int) -> Callable[[], Coroutine[Any, Any, None]]:
            async def work() -> None:
                for step in range(5):
                    found[number, step] = await verbs.invoke(handlers.echo, [number, step])  # type: ignore[index]

            return work

        await verbs.at_once(*map(one, range(12)))
        assert all(value == list(key) for key, value in found.items())  # type: ignore[call-overload]
        assert len(found) == 60

    world(test)


@pytest.mark.parametrize("name", WORLDS)
def test_a_full_house_throttles_or_makes_wait(name: str) -> None:
    kind, run = WORLDS[name]

    async def throttles(verbs: Verbs) -> None:
        endings: list[str] = []

        async def work() -> None:
            try:
                await verbs.invoke(handlers.nap, 0.3)
                endings.append("ran")
            except Throttled:
                endings.append("throttled")

        await verbs.invoke(handlers.nap, 0)
        await verbs.at_once(work, work, work)
        assert sorted(endings) == ["ran", "throttled", "throttled"]

    async def waits(verbs: Verbs) -> None:
        endings: list[Any] = []

        async def work() -> None:
            endings.append(await verbs.invoke(handlers.nap, 0.01))

        await verbs.at_once(*[work] * 8)
        assert endings == [0.01] * 8
        assert verbs.runtime.statistics().spawned <= 2

    with Runtime(concurrency=1) as runtime:
        run(lambda: throttles(kind(runtime)))
        assert_settled(runtime)
    with Runtime(concurrency=1, when_full="wait") as runtime:
        run(lambda: waits(kind(runtime)))
        assert_settled(runtime)


def test_all_worlds_share_one_runtime_at_the_same_time(runtime: Runtime) -> None:
    failed: list[BaseException] = []

    def repeat(call: Callable[[int], Any]) -> Callable[[], None]:
        def run() -> None:
            try:
                for number in range(8):
                    assert call(number) == number
            except BaseException as error:
                failed.append(error)

        return run

    async def ainvoke(number: int) -> Any:
        return await runtime.ainvoke(handlers.echo, number)

    works = [
        repeat(lambda number: runtime.invoke(handlers.echo, number)),
        repeat(lambda number: next(runtime.map(handlers.echo, [number]))),
        repeat(lambda number: asyncio.run(ainvoke(number))),
        repeat(lambda number: trio.run(ainvoke, number)),
    ]
    threads = [threading.Thread(target=work) for work in works * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert_settled(runtime)
