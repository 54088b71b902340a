"""``map`` and its sisters: in order, lazy, each event with its own end; a crash costs only the event that crashed."""

from __future__ import annotations

import gc
import itertools
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import handlers
from pyfaas import (
    ConfigurationError,
    Function,
    HandlerFailed,
    InvalidEvent,
    InvokeError,
    PayloadTooLarge,
    Runtime,
    SandboxDied,
    TimedOut,
    function,
    limits,
)
from pyfaas._invoke.stream import HELD_BYTES, LANES
from support import is_alive, wait_until

# So far ahead may the source be pulled: what is sent and unanswered, what is answered and untaken.
AHEAD = LANES * limits.WINDOW_EVENTS * 3


class Source:
    """Numbers, and how many were taken."""

    def __init__(self, stop: int = 10**9) -> None:
        self.pulled = 0
        self.stop = stop
        self.closed = False

    def __iter__(self) -> Iterator[int]:
        try:
            while self.pulled < self.stop:
                self.pulled += 1
                yield self.pulled - 1
        finally:
            self.closed = True


async def numbers(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        yield number


# -- order and laziness ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 2, 63, 64, 65, 1_000])
def test_values_come_in_the_order_of_their_events(session_runtime: Runtime, size: int) -> None:
    assert list(session_runtime.map(handlers.add_one, range(size))) == list(range(1, size + 1))


def test_order_holds_where_events_take_different_times(session_runtime: Runtime) -> None:
    pauses = [random.choice([0, 0, 0.001, 0.005]) for _ in range(200)]
    assert list(session_runtime.map(handlers.sleep, pauses)) == pauses


def test_nothing_runs_before_the_first_value_is_asked_for(session_runtime: Runtime) -> None:
    source = Source()
    stream = session_runtime.map(handlers.add_one, source)
    assert source.pulled == 0
    assert next(stream) == 1
    stream.close()


def test_the_source_is_never_pulled_further_ahead_than_the_windows(session_runtime: Runtime) -> None:
    """An endless source is no trouble: values are taken slowly, and the source waits."""
    source = Source()
    stream = session_runtime.map(handlers.add_one, source)
    for taken, value in enumerate(itertools.islice(stream, 3_000), 1):
        assert value == taken
        assert source.pulled - taken <= AHEAD
    assert source.pulled > 3_000  # it was ahead all the same
    stream.close()


def test_a_consumer_that_stops_for_a_while_stops_the_source(session_runtime: Runtime) -> None:
    source = Source()
    stream = session_runtime.map(handlers.add_one, source)
    next(stream)
    pulled = source.pulled
    time.sleep(0.05)
    assert source.pulled == pulled
    stream.close()


@pytest.mark.parametrize(("size", "most"), [(10, AHEAD), (1_000_000, 2 * 7 + 3 * LANES)])
def test_one_slow_event_holds_the_source_back(session_runtime: Runtime, tmp_path: Path, size: int, most: int) -> None:
    """The results of those behind it wait in the host: neither too many of them nor too many bytes."""

    @function(timeout=60, reads=[str(tmp_path)])
    def wait_or_return(event: Any) -> Any:
        import os
        import time

        while isinstance(event, dict) and not os.path.exists(event["until"]):
            time.sleep(0.002)
        return event

    done = tmp_path / "done"
    pulled: list[float] = [time.monotonic()]

    def source() -> Iterator[Any]:
        yield {"until": str(done)}
        for _ in range(2_000):
            pulled.append(time.monotonic())
            yield "x" * size

    got: list[Any] = []
    stream = session_runtime.map(wait_or_return, source())
    taker = threading.Thread(target=lambda: got.append(next(stream)))
    taker.start()
    wait_until(lambda: len(pulled) > 2 and time.monotonic() - pulled[-1] > 0.5, 30)
    assert got == []
    assert len(pulled) <= most
    done.touch()
    taker.join(20)
    assert got == [{"until": str(done)}]
    stream.close()


def test_large_events_are_not_sent_ahead(session_runtime: Runtime) -> None:
    """More than a window of bytes is one event: the source is at most one ahead of each sandbox and what they did."""
    size = limits.WINDOW_BYTES * 2
    pulled = 0

    def source() -> Iterator[str]:
        nonlocal pulled
        for _ in range(100):
            pulled += 1
            yield "x" * size

    for taken, value in enumerate(session_runtime.map(handlers.echo, source()), 1):
        assert len(value) == size
        assert pulled - taken <= HELD_BYTES // size + 2 * LANES


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_events_larger_than_any_buffer_pass_in_both_directions(session_runtime: Runtime, size: int) -> None:
    """A writer never waits while it has answers to read."""
    events = [str(number) * size for number in range(4)]
    assert list(session_runtime.map(handlers.echo, events)) == events


def test_several_streams_run_side_by_side(session_runtime: Runtime) -> None:
    streams = [session_runtime.map(handlers.add_one, range(100)) for _ in range(3)]
    for values in zip(*streams, strict=True):
        assert len(set(values)) == 1


def test_an_invoke_between_two_values_is_not_disturbed(session_runtime: Runtime) -> None:
    for value in session_runtime.map(handlers.add_one, range(50)):
        assert session_runtime.invoke(handlers.add_one, value) == value + 1


def test_a_source_may_itself_invoke(session_runtime: Runtime) -> None:
    source = (session_runtime.invoke(handlers.echo, number) for number in range(20))
    assert list(session_runtime.map(handlers.add_one, source)) == list(range(1, 21))


def test_streams_may_be_chained(session_runtime: Runtime) -> None:
    inner = session_runtime.map(handlers.add_one, range(100))
    assert list(session_runtime.map(handlers.add_one, inner)) == list(range(2, 102))


def test_an_iterator_and_a_stream_are_their_own_iterators(session_runtime: Runtime) -> None:
    stream = session_runtime.map(handlers.add_one, iter([1]))
    assert iter(stream) is stream
    assert next(stream) == 2
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(stream)


@pytest.mark.parametrize("events", [1, None, handlers.echo])
def test_what_cannot_be_iterated_is_refused_at_once(session_runtime: Runtime, events: Any) -> None:
    with pytest.raises(InvalidEvent, match="must be an iterable of events"):
        session_runtime.map(handlers.echo, events)


def test_an_async_iterable_in_the_blocking_world_is_refused(session_runtime: Runtime) -> None:
    with pytest.raises((ConfigurationError, TypeError, InvalidEvent), match="amap"):
        list(session_runtime.map(handlers.echo, numbers(1)))  # type: ignore[arg-type]


# -- failures ----------------------------------------------------------------------------------------------------------


def test_map_stops_at_the_first_failure_by_raising_it(session_runtime: Runtime) -> None:
    misbehaving = function(handlers.do_as_told)
    source = Source()
    events = ({"what": "raise" if number == 5 else "return", "number": number} for number in source)
    stream = session_runtime.map(misbehaving, events)
    assert [next(stream) for _ in range(5)] == list(range(5))
    with pytest.raises(HandlerFailed, match="ValueError: 5"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert source.closed
    assert session_runtime.function_statistics(misbehaving).in_flight == 0


def test_try_map_never_stops(session_runtime: Runtime) -> None:
    misbehaving: Function[Any, Any] = function(timeout=0.3)(handlers.do_as_told)
    whats = ["return", "raise", "return", "exit", "set", "return", "hang", "return", "exit", "exit", "return"]
    outcomes = list(session_runtime.try_map(misbehaving, [{"what": what, "number": n} for n, what in enumerate(whats)]))
    ends = {"return": "ok", "raise": "HandlerFailed", "exit": "SandboxDied", "set": "BadResponse", "hang": "TimedOut"}
    assert [type(o.error).__name__ if o.error else "ok" for o in outcomes] == [ends[what] for what in whats]
    assert [o.value for o in outcomes if o.ok] == [n for n, what in enumerate(whats) if what == "return"]
    assert len({o.request_id for o in outcomes}) == len(whats)
    for outcome in outcomes:
        assert outcome.error is None or getattr(outcome.error, "request_id", "") == outcome.request_id
        assert outcome.log.splitlines()[-1].startswith(f"REPORT RequestId: {outcome.request_id}\t")


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["return"] * 12 + ["raise", "exit", "set"]), max_size=60))
def test_whatever_fails_each_event_gets_its_own_end(session_runtime: Runtime, whats: list[str]) -> None:
    events = [{"what": what, "number": number} for number, what in enumerate(whats)]
    outcomes = list(session_runtime.try_map(handlers.misbehave, events))
    assert [outcome.ok for outcome in outcomes] == [what == "return" for what in whats]
    for number, (what, outcome) in enumerate(zip(whats, outcomes, strict=True)):
        if what == "return":
            assert outcome.value == number
        elif what == "raise":
            assert isinstance(outcome.error, HandlerFailed)
            assert outcome.error.message == str(number)
        elif what == "exit":
            assert isinstance(outcome.error, SandboxDied)


def test_a_crash_costs_only_the_event_that_crashed_and_no_event_runs_twice(
    session_runtime: Runtime, tmp_path: Path
) -> None:
    """Of those sent ahead to the sandbox that died, none had begun; all are sent again elsewhere, once."""
    log = str(tmp_path / "ran")

    @function(writes=[str(tmp_path)])
    def note(event: int) -> int:
        import os

        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(descriptor, f"{event}\n".encode())
        os.close(descriptor)
        if event % 50 == 20:
            os._exit(1)
        return event

    outcomes = list(session_runtime.try_map(note, range(300)))
    crashed = [number for number, outcome in enumerate(outcomes) if not outcome.ok]
    assert crashed == [20, 70, 120, 170, 220, 270]
    ran = sorted(int(line) for line in Path(log).read_text().split())
    assert ran == list(range(300))


def test_every_event_has_a_time_out_of_its_own(session_runtime: Runtime) -> None:
    """Twenty events of 50 ms in a row are no reason to time out at 0.4 s; one that hangs is."""

    @function(timeout=0.4)
    def pause(event: float) -> float:
        import time

        time.sleep(event)
        return event

    outcomes = list(session_runtime.try_map(pause, [0.05] * 20 + [60] + [0.05] * 3))
    assert [outcome.ok for outcome in outcomes] == [True] * 20 + [False] + [True] * 3
    assert isinstance(outcomes[20].error, TimedOut)
    assert 380 <= outcomes[20].report.duration_ms < 3_000


def test_a_slow_consumer_is_no_reason_for_a_time_out(session_runtime: Runtime) -> None:
    quick: Function[Any, Any] = function(timeout=0.4)(lambda event: event)
    stream = session_runtime.try_map(quick, range(200))
    seen = []
    for number, outcome in enumerate(stream):
        if number in (0, 3, 100):
            time.sleep(0.5)
        seen.append(outcome.ok)
    assert seen == [True] * 200


def test_events_that_are_not_json_have_outcomes_in_their_places(session_runtime: Runtime) -> None:
    events = [1, {2}, 3, float("nan"), "x" * limits.REQUEST_BYTES, 6]
    outcomes = list(session_runtime.try_map(handlers.echo, events))
    kinds = [type(outcome.error) for outcome in outcomes]
    assert kinds == [type(None), InvalidEvent, type(None), InvalidEvent, PayloadTooLarge, type(None)]
    assert [outcome.value for outcome in outcomes if outcome.ok] == [1, 3, 6]
    assert not outcomes[1].ok
    assert outcomes[1].payload == b""


def test_an_event_that_is_not_json_stops_a_map(session_runtime: Runtime) -> None:
    stream = session_runtime.map(handlers.echo, [1, {2}, 3])
    assert next(stream) == 1
    with pytest.raises(InvalidEvent, match="event is of type set"):
        next(stream)


@pytest.mark.parametrize("sister", ["map", "try_map"])
def test_a_source_that_raises_is_heard_after_all_that_came_before(session_runtime: Runtime, sister: str) -> None:
    def source() -> Iterator[int]:
        yield from range(10)
        raise LookupError("the source broke")

    stream = getattr(session_runtime, sister)(handlers.echo, source())
    for number in range(10):
        value = next(stream)
        assert (value if sister == "map" else value.value) == number
    with pytest.raises(LookupError, match="the source broke"):
        next(stream)
    with pytest.raises(StopIteration):
        next(stream)
    assert session_runtime.function_statistics(handlers.echo).in_flight == 0


def test_a_source_that_raises_an_invoke_error_of_its_own_is_no_outcome(session_runtime: Runtime) -> None:
    """A source may be another stream; what it raises is the source's failure, not an event's end."""

    def source() -> Iterator[int]:
        yield 1
        raise InvokeError("from within the source")

    stream = session_runtime.try_map(handlers.echo, source())
    assert next(stream).value == 1
    with pytest.raises(InvokeError, match="from within the source"):
        next(stream)


def test_a_handler_that_cannot_travel_is_told_at_the_call(session_runtime: Runtime) -> None:
    lock = threading.Lock()
    with pytest.raises(ConfigurationError, match="cannot travel"):
        session_runtime.map(function(lambda event: lock.locked()), [1])


def test_a_handler_that_does_not_load_fails_every_event(session_runtime: Runtime) -> None:
    class Bad:
        def __reduce__(self) -> Any:
            return (eval, ("1 / 0",))

    bad = Bad()
    outcomes = list(session_runtime.try_map(function(lambda event: bad), range(3)))
    assert [outcome.error.error_type for outcome in outcomes if outcome.error] == ["ZeroDivisionError"] * 3  # type: ignore[attr-defined]


# -- closing -----------------------------------------------------------------------------------------------------------


def test_closing_kills_what_runs_and_forgets_the_rest(session_runtime: Runtime, tmp_path: Path) -> None:
    source = Source()
    began = tmp_path / "began"
    events = itertools.chain(
        [{"until": "/"}, {"began": str(began), "until": str(tmp_path / "never")}], ({"until": "/"} for _ in source)
    )
    stream = session_runtime.map(handlers.until_there, events)
    next(stream)
    wait_until(began.exists)
    mine = [box for box in session_runtime._pool.running if box.shelf.function is handlers.until_there]
    working = [sandbox.pid for sandbox in mine if sandbox.peer.waiting]  # the others rest, and stay
    assert working
    stream.close()
    wait_until(lambda: not any(map(is_alive, working)))
    assert session_runtime.statistics().in_flight == 0
    with pytest.raises(StopIteration):
        next(stream)
    stream.close()


def test_a_stream_that_is_dropped_closes_itself(session_runtime: Runtime) -> None:
    source = Source()
    stream = session_runtime.map(handlers.add_one, iter(source))
    next(stream)
    del stream
    gc.collect()
    assert source.closed
    assert session_runtime.statistics().in_flight == 0


def test_a_loop_that_breaks_leaves_warm_sandboxes(runtime: Runtime) -> None:
    for value in runtime.map(handlers.add_one, range(4)):
        if value == 4:
            break
    assert runtime.function_statistics(handlers.add_one).in_flight == 0
    assert handlers.add_one.invoke(1) == 2


def test_after_a_stream_its_sandboxes_serve_single_calls(runtime: Runtime) -> None:
    list(runtime.map(handlers.count, range(10)))
    told = runtime.function_statistics(handlers.count)
    assert (told.invocations, told.in_flight) == (10, 0)
    assert told.live == told.idle >= 1
    handlers.count.invoke(None)
    assert runtime.function_statistics(handlers.count).cold_starts == told.cold_starts


def test_a_runtime_that_closes_ends_its_streams() -> None:
    with Runtime(drain=0) as runtime:
        stream = runtime.map(handlers.add_one, Source())
        next(stream)
    with pytest.raises((InvokeError, SandboxDied)):
        for _ in stream:
            pass


def test_a_stream_takes_no_more_permits_than_there_are() -> None:
    with Runtime(concurrency=1) as runtime:
        assert list(runtime.map(handlers.add_one, range(300))) == list(range(1, 301))
        assert runtime.function_statistics(handlers.add_one).cold_starts == 1
        assert runtime.function_statistics(handlers.add_one).throttles == 0


# -- async -------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_amap_does_what_map_does() -> None:
    async with Runtime() as runtime:
        assert [value async for value in runtime.amap(handlers.add_one, range(300))] == list(range(1, 301))


@pytest.mark.anyio
async def test_amap_takes_async_iterables() -> None:
    async with Runtime() as runtime:
        assert [value async for value in runtime.amap(handlers.add_one, numbers(100))] == list(range(1, 101))


@pytest.mark.anyio
async def test_atry_map_never_stops() -> None:
    async with Runtime() as runtime:
        whats = ["return", "exit", "raise", "return"]
        events = [{"what": what, "number": number} for number, what in enumerate(whats)]
        ends = [outcome.ok async for outcome in runtime.atry_map(handlers.misbehave, events)]
        assert ends == [True, False, False, True]


@pytest.mark.anyio
async def test_an_async_source_that_raises_is_heard_after_all_that_came_before() -> None:
    async def source() -> AsyncIterator[int]:
        yield 1
        raise LookupError("the source broke")

    async with Runtime() as runtime:
        stream = runtime.amap(handlers.add_one, source())
        assert await anext(stream) == 2
        with pytest.raises(LookupError, match="the source broke"):
            await anext(stream)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)


@pytest.mark.anyio
async def test_aclose_kills_what_runs(tmp_path: Path) -> None:
    async with Runtime() as runtime:
        stream = runtime.amap(handlers.until_there, [{"until": "/"}, {"until": str(tmp_path / "never")}])
        await anext(stream)
        await stream.aclose()
        assert runtime.statistics().in_flight == 0
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        await stream.aclose()


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["aclose", "failure"])
async def test_an_async_source_is_closed_with_its_stream(how: str) -> None:
    """Its ``finally`` runs at once, in the same task, not when somebody collects garbage."""
    ended = False

    async def source() -> AsyncIterator[dict[str, Any]]:
        nonlocal ended
        try:
            for number in range(10**9):
                yield {"what": "raise" if number == 3 and how == "failure" else "return", "number": number}
        finally:
            ended = True

    async with Runtime() as runtime:
        stream = runtime.amap(handlers.misbehave, source())
        assert [await anext(stream) for _ in range(3)] == [0, 1, 2]
        assert not ended
        if how == "aclose":
            await stream.aclose()
        else:
            with pytest.raises(HandlerFailed):
                await anext(stream)
        assert ended


@pytest.mark.anyio
async def test_cancelling_a_stream_kills_what_runs(tmp_path: Path) -> None:
    import anyio

    async with Runtime() as runtime:
        with anyio.move_on_after(0.2) as scope:
            async for _ in runtime.amap(handlers.until_there, [{"until": str(tmp_path / "never")}]):
                pass
        assert scope.cancelled_caught
        assert runtime.statistics().in_flight == 0
        assert await runtime.ainvoke(handlers.until_there, {"until": "/"})


@pytest.mark.anyio
async def test_a_task_beside_a_stream_is_not_held_up() -> None:
    import anyio

    async with Runtime() as runtime:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await anyio.sleep(0.001)
                ticks += 1

        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            async for _ in runtime.amap(handlers.sleep, [0.01] * 30):
                pass
            group.cancel_scope.cancel()
        assert ticks >= 20


def test_the_lanes_are_at_least_as_many_as_the_cores() -> None:
    assert max(2, os.cpu_count() or 1) == LANES
