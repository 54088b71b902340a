"""Whatever ends a call from outside, whenever: the permit is back, no process is left, the next call works."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from e2e import handlers
from e2e.tools import assert_settled, descriptors, eventually, is_alive
from pyfaas import FunctionError, InvokeError, Runtime

LARGE = "x" * 3_000_000

CALLS: dict[str, Callable[[Runtime], Any]] = {
    "a warm call": lambda runtime: runtime.invoke(handlers.echo, 1),
    "a call with its outcome": lambda runtime: runtime.try_invoke(handlers.echo, 1).log,
    "a large event and result": lambda runtime: runtime.invoke(handlers.echo, LARGE),
    "a call that fails": lambda runtime: runtime.try_invoke(handlers.fail, 1),
    "a call that crashes": lambda runtime: runtime.try_invoke(handlers.mixed, {"do": "exit"}),
    "a stream": lambda runtime: list(runtime.map(handlers.echo, range(100))),
    "a stream with crashes": lambda runtime: list(
        runtime.try_map(handlers.mixed, [{"do": "exit" if n == 7 else "return", "value": n} for n in range(20)])
    ),
    "a stream that is given up": lambda runtime: next(runtime.map(handlers.echo, range(1000))),
}


def make_cold(runtime: Runtime) -> None:
    """Let the next call be a cold start."""
    runtime._pool.retire(handlers.echo)


@pytest.fixture(autouse=True)
def _finalizers_may_be_interrupted() -> Iterator[None]:
    """Python tells of what an interrupt did to a finalizer, or left to one; no caller can do anything about that."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    yield
    gc.collect()
    sys.unraisablehook = before


def interrupted(call: Callable[[], Any], delay: float) -> bool:
    """Run the call in this thread, with a Ctrl-C after so many seconds; tell whether that came in time."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, delay)
            call()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:
        return True
    finally:
        signal.signal(signal.SIGALRM, before)
    return False


def grown(before: Sequence[str]) -> Counter[str]:
    """Tell what this process holds open that it did not before."""
    gc.collect()
    more = Counter(descriptors()) - Counter(before)
    # An interrupt between the system call that gives a descriptor and the line that keeps it loses that one. It must be
    # rare, and no socket, whose end somebody would wait for.
    harmless = [kind for kind in more if kind == "anon_inode:[pidfd]" or kind.endswith("(deleted)")]
    if sum(more[kind] for kind in harmless) == 1:
        del more[harmless[0]]
    return more


def length_of(call: Callable[[], Any]) -> float:
    """Measure a call, cold things and the machine's other work left out."""
    times = []
    for _ in range(4):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return min(times)


def sweep(length: float, steps: int) -> Iterator[float]:
    """Give moments spread over a call and a little beyond."""
    for step in range(steps):
        yield max(1e-6, 1.3 * length * (step + 0.5) / steps)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    return int(getattr(request, "param", 60))


SHORT_AND_LONG = pytest.mark.parametrize(
    "rounds", [60, pytest.param(3000, marks=pytest.mark.long)], ids=["short", "long"], indirect=True
)


class TestCtrlC:
    @SHORT_AND_LONG
    @pytest.mark.parametrize("call", CALLS)
    def test_at_any_moment_costs_at_most_that_call(self, runtime: Runtime, call: str, rounds: int) -> None:
        run = CALLS[call]
        steps = rounds // 3 if "large" in call else rounds
        struck = 0
        for delay in sweep(length_of(lambda: run(runtime)), steps):
            struck += interrupted(lambda: run(runtime), delay)
            assert_settled(runtime, 3.0)
            assert runtime.invoke(handlers.echo, 5) == 5
            run(runtime)
        assert struck
        assert_settled(runtime)

    @SHORT_AND_LONG
    def test_at_any_moment_of_a_cold_start_costs_at_most_that_call(self, runtime: Runtime, rounds: int) -> None:
        def cold() -> None:
            assert runtime.invoke(handlers.echo, 1) == 1

        make_cold(runtime)
        began = time.perf_counter()
        cold()
        struck = 0
        for delay in sweep(time.perf_counter() - began, rounds):
            make_cold(runtime)
            struck += interrupted(cold, delay)
            assert_settled(runtime, 3.0)
            assert runtime.invoke(handlers.echo, 5) == 5
        assert struck

    def test_at_any_moment_of_the_very_first_call_lets_the_second_one_work(self) -> None:
        def first() -> float:
            with Runtime() as runtime:
                began = time.perf_counter()
                runtime.invoke(handlers.echo, 1)
                return time.perf_counter() - began

        before = descriptors()
        for delay in sweep(first(), 15):
            with Runtime() as runtime:
                interrupted(lambda: runtime.invoke(handlers.echo, 1), delay)
                assert runtime.invoke(handlers.echo, 1) == 1
                assert_settled(runtime, 3.0)
        assert not grown(before)

    def test_while_waiting_for_a_permit_gives_up_the_place_in_line(self) -> None:
        with Runtime(concurrency=1, when_full="wait") as runtime:
            runtime.invoke(handlers.echo, 1)
            for delay in (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.03):
                holder = threading.Thread(target=runtime.invoke, args=(handlers.nap, 0.02))
                holder.start()
                eventually(lambda: runtime.statistics().in_flight)
                interrupted(lambda: runtime.invoke(handlers.echo, 1), delay)
                holder.join()
                assert_settled(runtime, 3.0)
            assert runtime.invoke(handlers.echo, 1) == 1

    def test_while_closing_still_ends_every_process(self) -> None:
        before = descriptors()
        for delay in sweep(0.03, 12):
            runtime = Runtime().open()
            list(runtime.map(handlers.echo, range(50)))
            zygote = runtime._pool.zygote()
            pid = zygote.pid
            interrupted(runtime.close, delay)
            runtime.close()
            assert not is_alive(pid)
        assert not grown(before)


# -- the async worlds --------------------------------------------------------------------------------------------------


async def drain_stream(runtime: Runtime) -> list[Any]:
    return [value async for value in runtime.amap(handlers.echo, range(60))]


async def drain_async_stream(runtime: Runtime) -> list[Any]:
    async def events() -> AsyncGenerator[int, None]:
        for number in range(30):
            await anyio.lowlevel.checkpoint()
            yield number

    async with contextlib.aclosing(events()) as source:  # a generator that is not closed is told of by trio
        return [value async for value in runtime.amap(handlers.echo, source)]


ASYNC_CALLS: dict[str, Callable[[Runtime], Awaitable[Any]]] = {
    "a warm call": lambda runtime: runtime.ainvoke(handlers.echo, 1),
    "a large event and result": lambda runtime: runtime.ainvoke(handlers.echo, LARGE),
    "a call that crashes": lambda runtime: runtime.atry_invoke(handlers.mixed, {"do": "exit"}),
    "a stream": drain_stream,
    "a stream of async events": drain_async_stream,
}


async def assert_settled_soon(runtime: Runtime) -> None:
    """Look without stopping the loop for long: it may have a part in it."""
    for _ in range(400):
        try:
            assert_settled(runtime, 0.0)
        except AssertionError:
            await anyio.sleep(0.005)
        else:
            return
    assert_settled(runtime, 0.0)


class TestCancellation:
    @pytest.mark.parametrize("call", ASYNC_CALLS)
    def test_of_an_asyncio_task_at_any_moment_costs_at_most_that_call(self, runtime: Runtime, call: str) -> None:
        run = ASYNC_CALLS[call]

        async def main() -> None:
            began = time.perf_counter()
            for _ in range(3):
                await run(runtime)
            length = (time.perf_counter() - began) / 3
            cancelled = 0
            for turns in range(15):
                task = asyncio.ensure_future(run(runtime))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                cancelled += isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
                await assert_settled_soon(runtime)
                assert await runtime.ainvoke(handlers.echo, 5) == 5
            for delay in sweep(length, 25):
                task = asyncio.ensure_future(run(runtime))
                asyncio.get_running_loop().call_later(delay, task.cancel)
                cancelled += isinstance((await asyncio.gather(task, return_exceptions=True))[0], asyncio.CancelledError)
                await assert_settled_soon(runtime)
                assert await runtime.ainvoke(handlers.echo, 5) == 5
                await run(runtime)
            assert cancelled

        asyncio.run(main())
        assert_settled(runtime)

    @pytest.mark.parametrize("call", ASYNC_CALLS)
    def test_of_a_trio_scope_at_any_moment_costs_at_most_that_call(self, runtime: Runtime, call: str) -> None:
        run = ASYNC_CALLS[call]

        async def main() -> None:
            began = time.perf_counter()
            for _ in range(3):
                await run(runtime)
            length = (time.perf_counter() - began) / 3
            for turns in range(15):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run, runtime)
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()
                    nursery.cancel_scope.cancel()
                await assert_settled_soon(runtime)
                assert await runtime.ainvoke(handlers.echo, 5) == 5
            for delay in sweep(length, 25):
                with trio.move_on_after(delay):
                    await run(runtime)
                await assert_settled_soon(runtime)
                assert await runtime.ainvoke(handlers.echo, 5) == 5
                await run(runtime)

        trio.run(main)
        assert_settled(runtime)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_by_anyios_deadline_ends_a_sleeping_handler_at_once(self, runtime: Runtime, backend: str) -> None:
        async def main() -> None:
            await runtime.ainvoke(handlers.nap, 0)
            began = time.monotonic()
            with anyio.move_on_after(0.1) as scope:
                await runtime.ainvoke(handlers.nap, 15)
            assert scope.cancelled_caught
            with anyio.move_on_after(0.1) as scope:
                async for _ in runtime.amap(handlers.nap, [0, 15, 15, 15]):
                    pass
            assert scope.cancelled_caught
            assert time.monotonic() - began < 5
            await assert_settled_soon(runtime)
            assert await runtime.ainvoke(handlers.nap, 0) == 0

        anyio.run(main, backend=backend)
        assert_settled(runtime)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_while_waiting_for_a_permit_gives_up_the_place_in_line(self, backend: str) -> None:
        with Runtime(concurrency=1, when_full="wait") as runtime:

            async def main() -> None:
                await runtime.ainvoke(handlers.echo, 1)
                for delay in (0, 0.0005, 0.001, 0.005, 0.018, 0.02, 0.022, 0.03):
                    async with anyio.create_task_group() as group:
                        group.start_soon(runtime.ainvoke, handlers.nap, 0.02)
                        await anyio.lowlevel.checkpoint()
                        for _ in range(3):
                            with anyio.move_on_after(delay):
                                await runtime.ainvoke(handlers.echo, 1)
                    await assert_settled_soon(runtime)
                    assert await runtime.ainvoke(handlers.echo, 1) == 1

            anyio.run(main, backend=backend)
            assert_settled(runtime)

    @pytest.mark.parametrize("backend", ["asyncio", "trio"])
    def test_by_ctrl_c_in_a_running_loop_costs_at_most_that_call(self, runtime: Runtime, backend: str) -> None:
        if backend == "asyncio" and sys.version_info < (3, 11):
            pytest.skip("before Python 3.11, asyncio itself may hang when Ctrl-C strikes its loop")

        async def main(delay: float) -> None:
            signal.setitimer(signal.ITIMER_REAL, delay)
            try:
                await drain_stream(runtime)
                await runtime.ainvoke(handlers.echo, 1)
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

        before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            length = length_of(lambda: anyio.run(main, 100.0, backend=backend))
            struck = 0
            for delay in sweep(length, 40):
                try:
                    anyio.run(main, delay, backend=backend)
                except BaseException as error:
                    # Trio may raise it within a group; and where it strikes between two lines of a task group's own
                    # exit, which anyio does not keep it from, trio gives up its whole loop.
                    assert "KeyboardInterrupt" in repr(error) or isinstance(error, trio.TrioInternalError)  # noqa: PT017
                    struck += 1
                assert_settled(runtime, 3.0)
                assert runtime.invoke(handlers.echo, 5) == 5
        finally:
            signal.signal(signal.SIGALRM, before)
        assert struck


# -- closing -----------------------------------------------------------------------------------------------------------


def in_asyncio(run: Callable[[Runtime], Awaitable[Any]]) -> Callable[[Runtime], Any]:
    async def main(runtime: Runtime) -> Any:
        return await run(runtime)

    return lambda runtime: asyncio.run(main(runtime))


def in_trio(run: Callable[[Runtime], Awaitable[Any]]) -> Callable[[Runtime], Any]:
    return lambda runtime: trio.run(run, runtime)


CLOSED_CALLS: dict[str, Callable[[Runtime], Any]] = {
    "a warm call": CALLS["a warm call"],
    "a stream": CALLS["a stream"],
    "a large event and result": CALLS["a large event and result"],
    "a call in asyncio": in_asyncio(ASYNC_CALLS["a warm call"]),
    "a stream in asyncio": in_asyncio(drain_stream),
    "a call in trio": in_trio(ASYNC_CALLS["a warm call"]),
    "a stream in trio": in_trio(drain_stream),
}


class TestCloseFromAnotherThread:
    @pytest.mark.parametrize("call", CLOSED_CALLS)
    def test_at_any_moment_ends_the_call_and_every_process(self, call: str) -> None:
        run = CLOSED_CALLS[call]
        before = descriptors()
        length = 0.0
        for step in range(9):
            runtime = Runtime().open()
            length = length or length_of(lambda: run(runtime))  # noqa: B023
            run(runtime)
            pid = runtime._pool.zygote().pid
            endings: list[Any] = []

            def work(runtime: Runtime = runtime, endings: list[Any] = endings) -> None:
                try:
                    while True:
                        run(runtime)
                except BaseException as error:
                    endings.append(error)

            thread = threading.Thread(target=work)
            thread.start()
            until = time.perf_counter() + length * (1 + step / 6)
            while time.perf_counter() < until:
                pass
            runtime.close(drain=0.0)
            thread.join(10)
            assert not thread.is_alive()
            assert isinstance(endings[0], (InvokeError, FunctionError)), repr(endings[0])
            assert not is_alive(pid)
            now = runtime.statistics()
            assert (now.in_flight, now.live, now.waiting) == (0, 0, 0), now
        eventually(lambda: not grown(before), lambda: grown(before), 3.0)


class TestAStream:
    @pytest.mark.parametrize("taken", [0, 1, 2, 5, 30, 64, 65, 199, 200])
    def test_closed_after_any_number_of_values_leaves_nothing(self, runtime: Runtime, taken: int) -> None:
        for close in (lambda stream: stream.close(), lambda stream: None):
            stream = runtime.map(handlers.echo, range(200))
            assert [next(stream) for _ in range(taken)] == list(range(taken))
            close(stream)
            del stream
            assert_settled(runtime, 3.0)
        assert runtime.invoke(handlers.echo, 5) == 5

    def test_whose_events_raise_ends_with_that_after_all_that_came_before(self, runtime: Runtime) -> None:
        def events() -> Iterator[int]:
            yield from range(10)
            raise LookupError("no more")

        found: list[int] = []
        with pytest.raises(LookupError, match="no more"):
            found.extend(runtime.map(handlers.echo, events()))
        assert found == list(range(10))
        assert_settled(runtime, 3.0)

    def test_is_ended_by_ctrl_c_in_its_events(self, runtime: Runtime) -> None:
        def events() -> Iterator[int]:
            yield from range(100)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            list(runtime.map(handlers.echo, events()))
        assert_settled(runtime, 3.0)
