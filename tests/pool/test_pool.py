"""The pool with real sandboxes: which one serves, how long it stays, who waits, who is turned away."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

import handlers
from pyfaas import ConfigurationError, Function, InvokeError, Runtime, RuntimeStatistics, Throttled, function
from pyfaas._pool.rounds import Rounds
from support import is_alive, kill, reach, wait_until


def waits(runtime: Runtime, count: int) -> bool:
    return runtime.statistics().waiting == count


@contextmanager
def held(runtime: Runtime, path: Path, count: int = 1, handler: Any = handlers.until_there) -> Iterator[Any]:
    """Keep so many sandboxes at work until the block ends; gives what they answered, once they did."""
    path.mkdir(exist_ok=True)
    answers: list[Any] = []
    done = str(path / "done")
    events = [{"began": str(path / f"began-{number}"), "until": done} for number in range(count)]

    def call(event: dict[str, str]) -> None:
        answers.append(runtime.invoke(handler, event))

    threads = [threading.Thread(target=call, args=(event,)) for event in events]
    for thread, event in zip(threads, events, strict=True):
        thread.start()
        wait_until(partial(os.path.exists, event["began"]))
    try:
        yield answers
    finally:
        Path(done).touch()
        for thread in threads:
            thread.join(20)


def local(**options: Any) -> Function[Any, Any]:
    """A function of this test's own that waits as handlers.until_there does, or tells who it is."""

    def handler(event: Any) -> int:
        import os
        import time

        if "began" in event:
            with open(event["began"], "w"):
                pass
        while "until" in event and not os.path.exists(event["until"]):
            time.sleep(0.002)
        return int(os.environ["AWS_LAMBDA_LOG_STREAM_NAME"][-16:], 16)

    declared: Function[Any, Any] = function(timeout=60, writes=[handlers.PLACE], **options)(handler)
    return declared


# -- which sandbox -----------------------------------------------------------------------------------------------------


def test_a_warm_sandbox_serves_again_and_keeps_its_globals(runtime: Runtime) -> None:
    assert [handlers.count.invoke(None) for _ in range(5)] == [1, 2, 3, 4, 5]
    assert runtime.statistics().functions["count"].cold_starts == 1


def test_the_sandbox_used_last_is_taken_first(runtime: Runtime, tmp_path: Path) -> None:
    """So that the surplus shows."""
    with held(runtime, tmp_path, 3) as answers:
        pass
    assert len(set(answers)) == 3
    last = runtime.invoke(handlers.until_there, {"until": "/"})
    assert [runtime.invoke(handlers.until_there, {"until": "/"}) for _ in range(5)] == [last] * 5
    told = runtime.statistics()
    assert (told.live, told.idle, told.in_flight) == (3, 3, 0)


def test_each_function_has_sandboxes_of_its_own(runtime: Runtime) -> None:
    assert handlers.identify.invoke(None) != handlers.until_there.invoke({"until": "/"})


def test_threads_get_a_sandbox_each_and_the_answers_to_their_own_events(runtime: Runtime) -> None:
    def call(number: int) -> bool:
        return all(handlers_echo(number * 1_000 + step) == number * 1_000 + step for step in range(40))

    def handlers_echo(value: int) -> Any:
        return runtime.invoke(handlers.echo, value)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(call, range(8)))
    told = runtime.statistics()
    assert told.functions["echo"].invocations == 320
    assert told.functions["echo"].errors == 0
    assert 1 <= told.live <= 8
    assert told.in_flight == told.waiting == 0


# -- how long it stays -------------------------------------------------------------------------------------------------


def test_an_idle_sandbox_is_kept_so_long_and_no_longer() -> None:
    with Runtime(keep_alive=0.1) as runtime:
        first = runtime.invoke(handlers.count, None)
        assert runtime.invoke(handlers.count, None) == first + 1
        (sandbox,) = runtime._pool.ledger.shelves[handlers.count].idle
        pid, slot = sandbox.pid, sandbox.slot
        assert is_alive(pid)
        assert os.path.isdir(slot)
        wait_until(lambda: runtime.statistics().live == 0)
        wait_until(lambda: not is_alive(pid))
        wait_until(lambda: not os.path.exists(slot))
        assert runtime.statistics().evicted == 1
        assert runtime.invoke(handlers.count, None) == 1


def test_with_no_keep_alive_no_sandbox_stays() -> None:
    with Runtime(keep_alive=0) as runtime:
        runtime.invoke(handlers.count, None)
        wait_until(lambda: runtime.statistics().live == 0)


def test_after_so_many_invocations_a_sandbox_is_replaced(runtime: Runtime) -> None:
    @function(max_invocations=3)
    def count(event: Any) -> int:
        import sys

        sys.__dict__.setdefault("seen", []).append(1)
        return len(sys.__dict__["seen"])

    assert [count.invoke(None) for _ in range(7)] == [1, 2, 3, 1, 2, 3, 1]
    assert count.statistics().cold_starts == 3


@pytest.mark.parametrize("size", [1, 2])
def test_no_sandbox_serves_more_than_its_invocations_in_a_stream_either(runtime: Runtime, size: int) -> None:
    @function(max_invocations=size)
    def count(event: Any) -> int:
        import sys

        sys.__dict__.setdefault("seen", []).append(1)
        return len(sys.__dict__["seen"])

    assert max(count.map(range(9))) <= size
    assert count.statistics().invocations == 9


def test_a_function_that_is_declared_again_replaces_the_old_one_and_its_sandboxes(runtime: Runtime) -> None:
    """As a notebook cell that runs again does."""
    text = "from pyfaas import function\n@function\ndef cell(event):\n    return {}\n"
    space: dict[str, Any] = {"__name__": "notebook_cell"}
    exec(text.format(1), space)
    first = space["cell"]
    assert runtime.invoke(first, None) == 1
    exec(text.format(2), space)
    second = space["cell"]
    assert runtime.invoke(second, None) == 2
    wait_until(lambda: runtime.statistics().live == 1)
    assert runtime.invoke(first, None) == 1


# -- provisioned -------------------------------------------------------------------------------------------------------


def test_provisioned_sandboxes_are_loaded_when_the_runtime_opens_and_stay() -> None:
    @function(provisioned_concurrency=2)
    def show(event: Any) -> str:
        import os

        return os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"]

    with Runtime([show], keep_alive=0.05) as runtime:
        told = runtime.function_statistics(show)
        assert (told.live, told.idle, told.invocations) == (2, 2, 0)
        outcome = runtime.try_invoke(show, None)
        assert outcome.value == "provisioned-concurrency"
        assert (outcome.report.cold, outcome.report.init_ms) == (False, None)
        assert runtime.function_statistics(show).live == 2


def test_the_provisioned_floor_outlives_keep_alive_and_crashes() -> None:
    @function(provisioned_concurrency=2)
    def fragile(event: bool) -> str:
        import os

        if event:
            os._exit(1)
        return "fine"

    with Runtime([fragile], keep_alive=0.05) as runtime:
        assert not runtime.try_invoke(fragile, True).ok
        wait_until(lambda: runtime.function_statistics(fragile).live == 2)
        assert runtime.invoke(fragile, False) == "fine"
        time.sleep(0.2)  # four times as long as an idle one is kept: nothing may change
        assert runtime.function_statistics(fragile).live == 2


def test_a_provisioned_function_that_does_not_load_is_told_and_the_runtime_opens() -> None:
    def broken(event: Any) -> None: ...

    class Bad:
        def __reduce__(self) -> Any:
            return (_explode, ())

    broken.__defaults__ = (Bad(),)
    declared: Function[Any, Any] = function(provisioned_concurrency=1)(broken)
    with pytest.warns(RuntimeWarning, match="provisioned_concurrency of 'broken'"):
        opened = Runtime([declared]).__enter__()
    opened.__exit__(None, None, None)


def _explode() -> None:
    raise ZeroDivisionError


# -- permits -----------------------------------------------------------------------------------------------------------


def test_when_all_permits_are_taken_a_call_is_throttled(tmp_path: Path) -> None:
    with Runtime(concurrency=1) as runtime:
        with held(runtime, tmp_path):
            with pytest.raises(Throttled) as caught:
                runtime.invoke(handlers.echo, 1)
            assert caught.value.reason == "ConcurrentInvocationLimitExceeded"
            assert caught.value.retry_after > 0
            assert "1 permits are taken; 'echo' was not invoked" in str(caught.value)
            with pytest.raises(Throttled):
                next(runtime.map(handlers.echo, [1]))
            assert runtime.function_statistics(handlers.echo).throttles == 2
        assert runtime.invoke(handlers.echo, 1) == 1


def test_reserved_permits_are_a_functions_own_and_its_limit(tmp_path: Path) -> None:
    reserved = local(name="reserved", reserved_concurrency=1)
    with Runtime(concurrency=2) as runtime:
        assert runtime.invoke(reserved, {})
        with held(runtime, tmp_path / "reserved", handler=reserved):
            with pytest.raises(Throttled) as caught:
                runtime.invoke(reserved, {})
            assert caught.value.reason == "ReservedFunctionConcurrentInvocationLimitExceeded"
            with held(runtime, tmp_path / "others"), pytest.raises(Throttled) as caught:
                runtime.invoke(handlers.echo, 1)  # one of two permits is reserved, the other is taken
            assert caught.value.reason == "ConcurrentInvocationLimitExceeded"
        with held(runtime, tmp_path / "others again"):
            assert runtime.invoke(reserved, {})


@pytest.mark.parametrize("when_full", ["raise", "wait"])
def test_a_function_with_no_permits_takes_no_calls_and_nobody_waits_for_ever(when_full: str) -> None:
    closed = local(name="closed", reserved_concurrency=0)
    with Runtime(when_full=when_full) as runtime:
        with pytest.raises(Throttled, match="'closed' has reserved_concurrency=0 and takes no calls"):
            runtime.invoke(closed, {})
        with pytest.raises(Throttled):
            list(runtime.map(closed, [{}]))


def test_reserving_more_than_there_is_names_what_is_left() -> None:
    with Runtime(concurrency=3) as runtime:
        runtime.invoke(local(name="first", reserved_concurrency=2), {})
        told = "reserved_concurrency=2 of 'second': the runtime has only 1 permits that are not reserved"
        with pytest.raises(ConfigurationError, match=told):
            runtime.invoke(local(name="second", reserved_concurrency=2), {})


def test_waiting_calls_are_served_in_the_order_in_which_they_came(tmp_path: Path) -> None:
    """Across threads and functions; nobody overtakes."""
    log = tmp_path / "log"
    with Runtime(concurrency=1, when_full="wait") as runtime:
        threads = []
        with held(runtime, tmp_path):
            for number in range(6):
                target = handlers.note if number % 2 else handlers.note_too
                event = {"path": str(log), "line": str(number)}
                threads.append(threading.Thread(target=runtime.invoke, args=(target, event)))
                threads[-1].start()
                wait_until(partial(waits, runtime, number + 1))
            assert not log.exists()
        for thread in threads:
            thread.join(20)
        assert log.read_text().split() == list("012345")
        assert runtime.statistics().waiting == 0


@pytest.mark.anyio
async def test_threads_and_tasks_wait_in_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with Runtime(concurrency=1, when_full="wait") as runtime:
        done = tmp_path / "done"
        began = tmp_path / "began"

        async def hold() -> None:
            await runtime.ainvoke(handlers.until_there, {"began": str(began), "until": str(done)})

        async def task(name: str) -> None:
            await runtime.ainvoke(handlers.note, {"path": str(log), "line": name})

        def thread(name: str) -> None:
            runtime.invoke(handlers.note, {"path": str(log), "line": name})

        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            await reach(began.exists)
            for number in range(4):
                if number % 2:
                    group.start_soon(task, f"task {number}")
                else:
                    group.start_soon(anyio.to_thread.run_sync, thread, f"thread {number}")
                await reach(partial(waits, runtime, number + 1))
            done.touch()
    assert log.read_text().splitlines() == ["thread 0", "task 1", "thread 2", "task 3"]


@pytest.mark.anyio
async def test_a_call_that_gives_up_its_place_leaves_the_line_whole(tmp_path: Path) -> None:
    async with Runtime(concurrency=1, when_full="wait") as runtime:
        done, began = tmp_path / "done", tmp_path / "began"
        async with anyio.create_task_group() as group:
            event = {"began": str(began), "until": str(done)}
            group.start_soon(runtime.ainvoke, handlers.until_there, event)
            await reach(began.exists)
            with anyio.move_on_after(0.05) as scope:
                await runtime.ainvoke(handlers.echo, 1)
            assert scope.cancelled_caught
            assert runtime.statistics().waiting == 0
            done.touch()
        assert await runtime.ainvoke(handlers.echo, 2) == 2
        assert runtime.statistics().in_flight == 0


@pytest.mark.anyio
async def test_a_blocking_wait_on_a_thread_that_runs_a_loop_raises_instead_of_locking_up(tmp_path: Path) -> None:
    async with Runtime(concurrency=1, when_full="wait") as runtime:
        assert runtime.invoke(handlers.echo, 1) == 1  # no wait, no harm
        done, began = tmp_path / "done", tmp_path / "began"
        async with anyio.create_task_group() as group:
            event = {"began": str(began), "until": str(done)}
            group.start_soon(runtime.ainvoke, handlers.until_there, event)
            await reach(began.exists)
            with pytest.raises(InvokeError, match="use ainvoke there"):
                runtime.invoke(handlers.echo, 1)
            assert runtime.statistics().waiting == 0
            done.touch()


def test_closing_tells_those_who_wait(tmp_path: Path) -> None:
    told: list[BaseException] = []
    runtime = Runtime(concurrency=1, when_full="wait", drain=0.2).open()

    def call(handler: Any, event: Any) -> None:
        try:
            runtime.invoke(handler, event)
        except Exception as error:
            told.append(error)

    began = tmp_path / "began"
    first = threading.Thread(
        target=call, args=(handlers.until_there, {"began": str(began), "until": str(tmp_path / "never")})
    )
    first.start()
    wait_until(began.exists)
    second = threading.Thread(target=call, args=(handlers.echo, 1))
    second.start()
    wait_until(lambda: runtime.statistics().waiting == 1)
    runtime.close()
    first.join(10)
    second.join(10)
    kinds = sorted(type(error).__name__ for error in told)
    assert kinds == ["InvokeError", "SandboxDied"]
    assert "the runtime was closed" in str(told[0])


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_after_a_cold_start_one_blank_sandbox_stands_by(runtime: Runtime) -> None:
    handlers.echo.invoke(1)
    wait_until(lambda: runtime.statistics().standby == 1)
    spawned = runtime.statistics().spawned
    handlers.count.invoke(None)
    wait_until(lambda: runtime.statistics().standby == 1)
    assert runtime.statistics().spawned == spawned + 1


def test_when_the_zygote_dies_the_next_call_starts_another(runtime: Runtime) -> None:
    assert handlers.count.invoke(None) == 1
    zygote = runtime._pool.zygote()
    pid = zygote.pid
    kill(pid)
    wait_until(lambda: not is_alive(pid))
    assert handlers.count.invoke(None) == 1
    assert runtime._pool.zygote().pid != pid
    wait_until(lambda: runtime.statistics().live == 1)


def test_memory_pressure_lets_the_longer_idle_half_go(runtime: Runtime, tmp_path: Path) -> None:
    with held(runtime, tmp_path, 4):
        pass
    assert runtime.statistics().idle == 4
    Rounds(runtime._pool).relieve()
    told = runtime.statistics()
    assert (told.idle, told.evicted) == (2, 2)
    assert runtime.invoke(handlers.until_there, {"until": "/"})


def test_statistics_are_frozen_and_say_what_is(runtime: Runtime, tmp_path: Path) -> None:
    with held(runtime, tmp_path):
        told = runtime.statistics()
        assert isinstance(told, RuntimeStatistics)
        assert (told.concurrency, told.live, told.idle, told.in_flight, told.waiting) == (1_000, 1, 0, 1, 0)
        one = told.functions["until_there"]
        assert (one.name, one.live, one.idle, one.in_flight, one.cold_starts) == ("until_there", 1, 0, 1, 1)
        assert "1 of 1000 permits in use, 0 waiting, sandboxes: 1 live, 0 idle" in repr(runtime)
    told = runtime.statistics()
    assert (told.in_flight, told.idle, told.functions["until_there"].invocations) == (0, 1, 1)
    with pytest.raises(AttributeError):
        told.live = 3  # type: ignore[misc]


def test_errors_and_timeouts_are_counted(runtime: Runtime) -> None:
    for event in ("a", "b"):
        assert not handlers.fail.try_invoke(event).ok
    assert not handlers.hang.try_invoke(None).ok
    assert not handlers.leave.try_invoke(3).ok
    told = runtime.statistics().functions
    assert (told["fail"].invocations, told["fail"].errors, told["fail"].timeouts) == (2, 2, 0)
    assert (told["hang"].invocations, told["hang"].errors, told["hang"].timeouts) == (1, 1, 1)
    assert (told["leave"].invocations, told["leave"].errors, told["leave"].timeouts) == (1, 1, 0)
    assert runtime.statistics().died == 2
