"""One call, from payload to end: in both worlds, from any thread; every end but an answer kills the sandbox."""

from __future__ import annotations

import os
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import handlers
from pyfaas import Function, HandlerFailed, InvalidEvent, Outcome, PayloadTooLarge, Runtime, TimedOut, function, limits
from pyfaas._invoke.ids import new_id
from pyfaas._pool import rounds
from support import is_alive, reach, wait_until

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("aé\U0001f600", max_size=3), inner, max_size=3),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values)
def test_any_json_value_comes_back_as_it_went(session_runtime: Runtime, value: Any) -> None:
    assert session_runtime.invoke(handlers.echo, value) == value


@pytest.mark.anyio
async def test_the_same_from_async_code() -> None:
    async with Runtime() as runtime:
        for value in (None, 1, "é", [1, {"a": None}]):
            assert await runtime.ainvoke(handlers.echo, value) == value
        outcome = await runtime.atry_invoke(handlers.fail, "text")
        assert isinstance(outcome.error, HandlerFailed)


def test_an_event_of_exactly_six_megabytes_passes_and_a_byte_more_does_not(session_runtime: Runtime) -> None:
    measure: Function[str, int] = function(timeout=20)(len)
    assert session_runtime.invoke(measure, "x" * (limits.REQUEST_BYTES - 2)) == 6_291_454
    with pytest.raises(PayloadTooLarge, match="the event has 6291457 bytes of JSON"):
        session_runtime.invoke(measure, "x" * (limits.REQUEST_BYTES - 1))


@pytest.mark.anyio
async def test_six_megabytes_pass_both_ways_in_async_code_too() -> None:
    event = "é" * ((limits.REQUEST_BYTES - 2) // 2)
    echo: Function[str, str] = function(timeout=20)(lambda event: event)
    async with Runtime() as runtime:
        assert await runtime.ainvoke(echo, event) == event


@pytest.mark.parametrize("verb", ["invoke", "try_invoke"])
def test_an_event_that_is_not_json_is_refused_before_anything_starts(verb: str) -> None:
    with Runtime() as runtime:
        with pytest.raises(InvalidEvent, match=r"event\['a'\]\[1\] is of type set, which is not JSON"):
            getattr(runtime, verb)(handlers.echo, {"a": [1, {2}]})
        assert runtime.statistics().spawned == 0


def test_an_outcome_holds_the_payload_as_it_came(session_runtime: Runtime) -> None:
    outcome = session_runtime.try_invoke(handlers.echo, {"b": [1, None], "a": "é"})
    assert outcome.payload == '{"b":[1,null],"a":"é"}'.encode()
    assert outcome.value == {"b": [1, None], "a": "é"}
    assert session_runtime.try_invoke(handlers.echo, None).payload == b"null"


@pytest.mark.anyio
async def test_cancelling_a_call_kills_its_sandbox_and_frees_the_permit(tmp_path: Path) -> None:
    async with Runtime(concurrency=1) as runtime:
        began = tmp_path / "began"
        async with anyio.create_task_group() as group:
            event = {"began": str(began), "until": str(tmp_path / "never")}
            group.start_soon(runtime.ainvoke, handlers.until_there, event)
            await reach(began.exists)
            group.cancel_scope.cancel()
        assert runtime.statistics().in_flight == 0
        assert await runtime.ainvoke(handlers.echo, 1) == 1


@pytest.mark.anyio
async def test_many_calls_at_once_get_their_own_answers() -> None:
    async with Runtime() as runtime:
        answers: dict[int, int] = {}

        async def call(number: int) -> None:
            answers[number] = await runtime.ainvoke(handlers.add_one, number)

        async with anyio.create_task_group() as group:
            for number in range(30):
                group.start_soon(call, number)
        assert answers == {number: number + 1 for number in range(30)}


@pytest.mark.anyio
async def test_a_timed_out_call_in_async_code_raises_like_any_other() -> None:
    async with Runtime() as runtime:
        with pytest.raises(TimedOut, match=r"Task timed out after 0\.20 seconds"):
            await runtime.ainvoke(handlers.hang, None)
        assert await runtime.ainvoke(handlers.echo, 1) == 1


def test_a_time_out_takes_everything_that_the_handler_started(session_runtime: Runtime, tmp_path: Path) -> None:
    """Double forks and new sessions included."""
    pids = str(tmp_path / "pids")

    def start(event: Any) -> None:
        import subprocess
        import time

        subprocess.Popen(["sleep", "4321"], start_new_session=True)
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(4321)
            os._exit(0)
        time.sleep(4321)

    declared: Function[Any, Any] = function(timeout=0.5)(start)
    caller = threading.Thread(target=session_runtime.try_invoke, args=(declared, pids))
    caller.start()
    wait_until(lambda: any(box.shelf.function is declared for box in tuple(session_runtime._pool.running)))
    (sandbox,) = [box for box in tuple(session_runtime._pool.running) if box.shelf.function is declared]
    from pyfaas._sandbox.vitals import tree

    wait_until(lambda: len(tree(sandbox.pid)) >= 4)
    family = tree(sandbox.pid)
    caller.join(20)
    wait_until(lambda: not any(map(is_alive, family)))


@pytest.mark.anyio
async def test_a_caller_that_comes_back_long_after_the_time_out_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watch takes a call whose loop is busy for forsaken, and closes what is left of its sandbox."""
    monkeypatch.setattr(rounds, "FORSAKEN_SECONDS", 0.05)
    snooze: Function[float, None] = function(timeout=0.1)(time.sleep)
    outcomes: list[Outcome] = []
    async with Runtime() as runtime:
        runtime.try_invoke(snooze, 0)

        async def call() -> None:
            outcomes.append(await runtime.atry_invoke(snooze, 60))

        async with anyio.create_task_group() as group:
            group.start_soon(call)
            while not runtime.statistics().in_flight:
                await anyio.lowlevel.checkpoint()
            (sandbox,) = runtime._pool.running
            wait_until(lambda: not sandbox.is_open)  # and nothing else runs in this loop meanwhile
        assert isinstance(outcomes[0].error, TimedOut)
        await runtime.ainvoke(snooze, 0)
        assert runtime.statistics().live == 1


def test_a_call_in_a_thread_that_ends_leaves_the_sandbox_alive(runtime: Runtime) -> None:
    """A parent-death signal against the host would fire when the thread that started the zygote ends."""
    thread = threading.Thread(target=lambda: runtime.invoke(handlers.count, None))
    thread.start()
    thread.join()
    assert runtime.invoke(handlers.count, None) == 2


def test_a_handler_that_closes_its_own_socket_costs_only_its_call(session_runtime: Runtime) -> None:
    def close(event: int) -> int:
        if event:
            for descriptor in range(3, 64):
                try:
                    os.close(descriptor)
                except OSError:
                    pass
        return 1

    declared = function(close)
    outcome = session_runtime.try_invoke(declared, 1)
    assert type(outcome.error).__name__ == "SandboxDied"
    assert session_runtime.invoke(declared, 0) == 1


def test_a_child_that_comes_back_from_the_handler_does_not_answer_twice(session_runtime: Runtime) -> None:
    def fork(event: int) -> int:
        os.fork()
        return event

    declared = function(fork)
    for number in range(5):
        assert session_runtime.invoke(declared, number) == number


def test_request_ids_are_uuids_of_version_four() -> None:
    ids = {uuid.UUID(bytes=new_id()) for _ in range(1_000)}
    assert len(ids) == 1_000
    assert {one.version for one in ids} == {4}
    assert {one.variant for one in ids} == {uuid.RFC_4122}


def test_a_forked_host_makes_other_ids() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writer, new_id())
        os._exit(0)
    here = new_id()
    os.waitpid(child, 0)
    assert os.read(reader, 16) != here
    os.close(reader)
    os.close(writer)


# -- what a sandbox starts with ----------------------------------------------------------------------------------------


def test_the_environment_is_built_from_nothing(session_runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    show: Function[Any, dict[str, str]] = function(environment={"MINE": "yes"}, memory=300)(
        lambda event: dict(os.environ)
    )
    seen = session_runtime.invoke(show, None)
    assert set(seen) == {
        "AWS_DEFAULT_REGION", "AWS_EXECUTION_ENV", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_REGION", "HOME", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT", "LANG",
        "LC_CTYPE", "MINE", "PATH", "PWD", "TMPDIR", "TZ", "_HANDLER",
    }  # fmt: skip
    assert seen["MINE"] == "yes"
    assert seen["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "300"
    assert seen["AWS_LAMBDA_INITIALIZATION_TYPE"] == "on-demand"
    assert seen["AWS_EXECUTION_ENV"].startswith("AWS_Lambda_python3.")
    assert seen["TZ"] == ":UTC"
    assert seen["HOME"] == seen["PWD"] == seen["TMPDIR"]


def test_a_directory_of_its_own_is_where_it_works_and_where_temporary_files_go(session_runtime: Runtime) -> None:
    def look(event: Any) -> list[str]:
        import tempfile

        return [os.getcwd(), tempfile.gettempdir(), os.path.expanduser("~")]

    first, second = (session_runtime.invoke(function(look), None) for _ in range(2))
    assert first[0] == first[1] == first[2]
    assert (first != second) is not (first[0] == "/tmp")  # its own, whatever it is called


def test_random_numbers_differ_between_sandboxes(runtime: Runtime) -> None:
    def draw(event: Any) -> list[float]:
        import random
        import secrets

        return [random.random(), secrets.randbelow(2**64)]

    drawn = [runtime.invoke(function(draw), None) for _ in range(4)]
    assert len({tuple(pair) for pair in drawn}) == 4
    assert len({pair[0] for pair in drawn}) == 4


def test_a_function_may_be_called_again_after_its_globals_changed(session_runtime: Runtime) -> None:
    """By value, the globals travel as they are at the first use."""
    space: dict[str, Any] = {"level": 1, "__name__": "no_module_of_this_name"}
    exec("def handler(event):\n    return level", space)
    declared = function(space["handler"])
    space["level"] = 2
    assert session_runtime.invoke(declared, None) == 2
    space["level"] = 3
    assert session_runtime.invoke(declared, None) == 2
