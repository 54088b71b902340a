"""Accepted means done: submit, its retries, what can be known of it, and what a store keeps."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import handlers
from handlers import PLACE
from invoke.deferred_handlers import fail, never, note, wait_and_note, whose
from pyfaas import (
    ConfigurationError,
    EventExpired,
    Function,
    HandlerFailed,
    InvalidEvent,
    InvokeError,
    PayloadTooLarge,
    Runtime,
    StoreUnavailable,
    Submission,
    Throttled,
    TimedOut,
    function,
)
from pyfaas._clock import SystemClock
from pyfaas._stores import submissions
from pyfaas._stores.database import Database, Transaction
from pyfaas._waits import run_blocking
from pyfaas.context import request_id_text
from pyfaas.testing import ManualClock
from support import SOURCE, run_python, wait_until

# Of a runtime in memory that is closed with something left; one test asks for it.
pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


@pytest.fixture(params=["memory", "file"])
def runtime(request: pytest.FixtureRequest, tmp_path: Path, clock: ManualClock) -> Iterator[Runtime]:
    store = tmp_path / "store.db" if request.param == "file" else None
    with Runtime(store=store, clock=clock, drain=0) as opened:
        yield opened


def again(declared: Function[Any, Any], **options: Any) -> Function[Any, Any]:
    """Declare a handler once more with other options, under no name at the top of a module."""

    def handler(event: Any, context: Any) -> Any:
        return declared(event, context)

    return function(**{"name": f"{declared.name}-again", "writes": [PLACE], "timeout": 10, **options})(handler)


def ended(runtime: Runtime, request_id: str) -> Submission:
    told = runtime.wait(request_id, 20)
    assert told is not None
    assert told.finished_at is not None, told
    return told


def accept_echo(transaction: Transaction, raw_id: bytes) -> bytes:
    """Accept an event as another host does, which does not run it."""
    to = submissions.queue_of(transaction, "echo")
    return submissions.accept(transaction, to, raw_id, b"5", json.dumps({"id": raw_id.hex()}))


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


def now(runtime: Runtime, request_id: str) -> Submission:
    told = runtime.submission(request_id)
    assert told is not None
    return told


# -- what is accepted is run -------------------------------------------------------------------------------------------


def test_an_event_is_run_and_its_value_is_known_afterwards(runtime: Runtime) -> None:
    request_id = handlers.echo.submit({"a": [1, None]})
    told = ended(runtime, request_id)
    assert (told.state, told.attempts, told.value, told.error) == ("done", 1, {"a": [1, None]}, None)
    assert told.function == "echo"
    assert runtime.submission(request_id) == told


@pytest.mark.anyio
async def test_the_async_verbs_do_the_same(runtime: Runtime) -> None:
    request_id = await handlers.echo.asubmit(7)
    told = await runtime.await_(request_id, 20)
    assert told is not None
    assert told.value == 7
    assert await runtime.asubmission(request_id) == told


def test_the_handler_sees_the_request_id_that_was_told(runtime: Runtime, tmp_path: Path) -> None:
    request_id = note.submit({"file": str(tmp_path / "notes")})
    assert ended(runtime, request_id).value == 1
    assert lines(tmp_path / "notes") == [request_id]


def test_many_from_many_threads_are_all_run(runtime: Runtime) -> None:
    ids: list[tuple[int, str]] = []

    def submit(first: int) -> None:
        ids.extend((number, runtime.submit(handlers.echo, number)) for number in range(first, first + 25))

    threads = [threading.Thread(target=submit, args=(first,)) for first in range(0, 200, 25)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [ended(runtime, request_id).value for _, request_id in ids] == [number for number, _ in ids]


def test_a_tenant_comes_along(runtime: Runtime) -> None:
    assert ended(runtime, whose.submit(None, tenant="a")).value == "a"


# -- retries -----------------------------------------------------------------------------------------------------------


def test_a_failure_is_repeated_after_one_and_two_minutes_under_the_same_request_id(
    runtime: Runtime, clock: ManualClock, tmp_path: Path
) -> None:
    notes = tmp_path / "notes"
    request_id = note.submit({"file": str(notes), "fails": 2})
    for attempt, wait in ((1, 60.0), (2, 120.0)):
        wait_until(lambda made=attempt: now(runtime, request_id).attempts == made)  # type: ignore[misc]
        assert now(runtime, request_id).state == "waiting"
        assert isinstance(now(runtime, request_id).error, HandlerFailed)
        clock.advance(wait - 1.0)
        assert len(lines(notes)) == attempt
        clock.advance(1.0)
    told = ended(runtime, request_id)
    assert (told.state, told.attempts, told.value) == ("done", 3, 3)
    assert lines(notes) == [request_id] * 3


def test_after_the_last_retry_it_has_failed_and_tells_why(runtime: Runtime, clock: ManualClock, tmp_path: Path) -> None:
    request_id = note.submit({"file": str(tmp_path / "notes"), "fails": 9})
    for attempt in (1, 2):
        wait_until(lambda made=attempt: now(runtime, request_id).attempts == made)  # type: ignore[misc]
        clock.advance(120.0)
    told = ended(runtime, request_id)
    assert (told.state, told.attempts, told.condition) == ("failed", 3, "RetriesExhausted")
    with pytest.raises(HandlerFailed, match=r"failed for the 3\. time") as caught:
        told.value  # noqa: B018
    assert caught.value.error_type == "ValueError"
    assert caught.value.request_id == request_id
    assert "failed for the 3. time" in caught.value.remote_traceback


def test_a_time_out_is_a_failure_like_any_other(runtime: Runtime) -> None:
    hang = again(handlers.hang, timeout=0.1, retries=0)
    told = ended(runtime, hang.submit(None))
    assert isinstance(told.error, TimedOut)
    assert (told.attempts, told.condition) == (1, "RetriesExhausted")


def test_what_waited_for_too_long_is_not_run(runtime: Runtime, clock: ManualClock, tmp_path: Path) -> None:
    """As where no host was there when it was due."""
    brief = again(note, max_event_age=60)
    request_id = brief.submit({"file": str(tmp_path / "notes")}, delay=10)
    clock.advance(10.0 + 61.0)
    told = ended(runtime, request_id)
    assert (told.state, told.attempts, told.condition) == ("failed", 0, "EventAgeExceeded")
    assert isinstance(told.error, EventExpired)
    assert lines(tmp_path / "notes") == []


def test_a_retry_beyond_the_age_is_not_waited_for(runtime: Runtime, clock: ManualClock, tmp_path: Path) -> None:
    brief = again(note, max_event_age=100)
    request_id = brief.submit({"file": str(tmp_path / "notes"), "fails": 9})
    wait_until(lambda: now(runtime, request_id).attempts == 1)
    clock.advance(60.0)
    told = ended(runtime, request_id)
    assert (told.attempts, told.condition, told.state) == (2, "EventAgeExceeded", "failed")
    assert isinstance(told.error, HandlerFailed), "the last answer is told"


def test_a_function_with_no_concurrency_gives_up_at_once(runtime: Runtime) -> None:
    told = ended(runtime, never.submit(1))
    assert (told.state, told.attempts, told.condition) == ("failed", 0, "ZeroReservedConcurrency")
    assert isinstance(told.error, Throttled)


def test_what_finds_no_permit_waits_and_uses_up_no_retry(tmp_path: Path, clock: ManualClock) -> None:
    """One permit, taken by a call: the event waits, whatever ``retries`` says."""
    once = again(handlers.echo, retries=0)
    with Runtime(concurrency=1, clock=clock) as runtime:
        stop = threading.Event()
        caller = threading.Thread(target=runtime.try_invoke, args=(handlers.sleep, 0.5))
        caller.start()
        wait_until(lambda: runtime.statistics().in_flight == 1)
        request_id = runtime.submit(once, 5)
        caller.join()
        stop.set()
        clock.advance(1.0)
        told = ended(runtime, request_id)
        assert (told.state, told.attempts, told.value) == ("done", 1, 5)


def test_what_is_refused_until_it_is_too_old_has_expired(clock: ManualClock) -> None:
    brief = again(handlers.echo, max_event_age=60)
    with Runtime(concurrency=1, clock=clock, drain=0) as runtime:
        caller = threading.Thread(target=runtime.try_invoke, args=(handlers.sleep, 1.0))
        caller.start()
        wait_until(lambda: runtime.statistics().in_flight == 1)
        request_id = runtime.submit(brief, 5)
        while now(runtime, request_id).finished_at is None:
            clock.advance(16.0)
            time.sleep(0.005)
        told = ended(runtime, request_id)
        assert (told.state, told.attempts, told.condition) == ("failed", 0, "EventAgeExceeded")
        assert isinstance(told.error, (EventExpired, Throttled))
        caller.join()


def test_a_delay_holds_it_back(runtime: Runtime, clock: ManualClock) -> None:
    request_id = handlers.echo.submit(1, delay=60)
    clock.advance(59.0)
    assert ended(runtime, handlers.echo.submit(2)).value == 2
    assert now(runtime, request_id).state == "waiting"
    clock.advance(1.0)
    assert ended(runtime, request_id).value == 1


# -- leases and neighbours ---------------------------------------------------------------------------------------------


def test_what_runs_is_not_claimed_again_however_long_the_machine_slept(
    runtime: Runtime, clock: ManualClock, tmp_path: Path
) -> None:
    notes, go = tmp_path / "notes", tmp_path / "go"
    slow = wait_and_note
    request_id = slow.submit({"file": str(notes), "until": str(go)})
    wait_until(lambda: len(lines(notes)) == 1)
    clock.advance(3600.0)
    assert ended(runtime, handlers.echo.submit(1)).value == 1, "the loop has gone round"
    go.touch()
    told = ended(runtime, request_id)
    assert (told.state, told.attempts) == ("done", 1)
    assert lines(notes) == [request_id, "went on"]


def test_a_function_with_a_long_queue_leaves_room_for_others() -> None:
    with Runtime(concurrency=2, drain=0) as runtime:
        ended(runtime, runtime.submit(handlers.echo, 0))
        many = [runtime.submit(handlers.sleep, 0.1) for _ in range(30)]
        wait_until(lambda: any(now(runtime, one).state == "done" for one in many))
        assert ended(runtime, runtime.submit(handlers.echo, 1)).value == 1
        assert now(runtime, many[-1]).finished_at is None


def test_long_runs_begin_a_few_at_a_time_until_all_run() -> None:
    with Runtime(drain=0) as runtime:
        for _ in range(20):
            runtime.submit(handlers.sleep, 30)
        wait_until(lambda: runtime.function_statistics(handlers.sleep).in_flight == 20)


def test_short_runs_after_long_ones_and_long_ones_after_short_ones_all_have_their_turn() -> None:
    with Runtime(drain=0) as runtime:
        pauses = [0, 0.03, 0] * 20 + [0] * 60 + [0.1] * 10 + [0] * 30
        waited_for = [runtime.submit(handlers.sleep, pause) for pause in pauses]
        assert [ended(runtime, one).value for one in waited_for] == pauses


@pytest.mark.parametrize("pause", [0, 0.05])
@pytest.mark.parametrize("reserved", [1, 3])
def test_more_than_the_reserved_concurrency_wait_and_are_run_one_after_the_other(reserved: int, pause: float) -> None:
    few: Function[float, None] = function(name="few", timeout=30, reserved_concurrency=reserved)(time.sleep)
    with Runtime([few], drain=0) as runtime:
        waited_for = [runtime.submit(few, pause) for _ in range(20)]
        assert [ended(runtime, one).state for one in waited_for] == ["done"] * 20


def test_an_event_that_another_host_accepts_is_noticed(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with Runtime([handlers.echo], store=store) as runtime:
        ended(runtime, runtime.submit(handlers.echo, 0))
        other = Database(str(store), "full", SystemClock())
        raw_id = os.urandom(16)

        run_blocking(other.write(lambda one: accept_echo(one, raw_id)))
        assert ended(runtime, request_id_text(raw_id)).value == 5
        other.close()


def test_a_host_that_was_there_first_runs_what_another_one_submits(tmp_path: Path) -> None:
    """The one that accepts has gone before it ran it; the store was empty when the other one came."""
    store = tmp_path / "store.db"
    with Runtime([handlers.echo], store=store) as worker:
        web = Runtime([], store=store).open()
        raw_id = os.urandom(16)
        web_store = web._later().database
        run_blocking(web_store.write(lambda one: accept_echo(one, raw_id)))
        web.close()
        assert ended(worker, request_id_text(raw_id)).value == 5


def test_functions_of_one_name_are_no_hindrance_to_a_store_that_nobody_submits_to(tmp_path: Path) -> None:
    @function(name="echo")
    def other(event: Any) -> None: ...

    with Runtime([handlers.echo, other], store=tmp_path / "store.db") as runtime:
        assert runtime.invoke(handlers.echo, 1) == 1
        assert ended(runtime, runtime.submit(handlers.echo, 2)).value == 2
    with pytest.raises(ConfigurationError, match="two functions are named 'echo'"):
        Runtime([handlers.echo, other], store=tmp_path / "store.db").open()


def test_a_host_that_only_waits_learns_what_another_finished(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    with Runtime([handlers.sleep], store=store) as first, Runtime([], store=store) as second:
        request_id = first.submit(handlers.sleep, 0.2)
        assert ended(second, request_id).value == 0.2


# -- keys --------------------------------------------------------------------------------------------------------------


def test_a_key_is_accepted_once_a_day(runtime: Runtime, clock: ManualClock) -> None:
    first = handlers.echo.submit(1, idempotency_key="order 5")
    assert handlers.echo.submit(2, idempotency_key="order 5") == first
    assert ended(runtime, first).value == 1
    assert handlers.echo.submit(3, idempotency_key="order 5") == first, "also when it is done"
    assert fail.submit(1, idempotency_key="order 5") != first, "a key is one of its function"
    clock.advance(86_400.0)
    assert handlers.echo.submit(4, idempotency_key="order 5") != first


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_accepted_is_refused_at_once(runtime: Runtime) -> None:
    refused: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (InvalidEvent, "cannot be sent as JSON", lambda: handlers.echo.submit({1, 2})),
        (PayloadTooLarge, "smaller than 1048576 bytes", lambda: handlers.echo.submit("x" * 1_048_577)),
        (
            ConfigurationError,
            "delay=901: must be a number of seconds from 0 to 900",
            lambda: handlers.echo.submit(1, delay=901),
        ),
        (ConfigurationError, "idempotency_key=''", lambda: handlers.echo.submit(1, idempotency_key="")),
        (ConfigurationError, "tenant=None", lambda: whose.submit(1)),
        (ConfigurationError, "must be what submit gave", lambda: runtime.submission("x")),
        (ConfigurationError, "must be what submit gave", lambda: runtime.wait(5)),  # type: ignore[arg-type]
    ]
    for kind, told, call in refused:
        with pytest.raises(kind) as caught:
            call()
        assert told in str(caught.value)


def test_two_functions_of_one_name_cannot_share_a_queue(runtime: Runtime) -> None:
    handlers.echo.submit(1)
    other = again(fail, name="echo")
    with pytest.raises(ConfigurationError, match="two functions are named 'echo'"):
        other.submit(1)


def test_of_an_unknown_request_nothing_is_known(runtime: Runtime) -> None:
    unknown = "00000000-0000-4000-8000-000000000000"
    assert runtime.submission(unknown) is None
    assert runtime.wait(unknown) is None


def test_what_is_not_finished_has_no_value(runtime: Runtime) -> None:
    told = now(runtime, handlers.echo.submit(1, delay=60))
    with pytest.raises(InvokeError, match="is not finished: it is waiting"):
        told.value  # noqa: B018
    waited = runtime.wait(told.request_id, 0.01)
    assert waited is not None
    assert waited.state == "waiting"


def test_a_closed_runtime_accepts_nothing() -> None:
    runtime = Runtime().open()
    runtime.submit(handlers.echo, 1)
    runtime.close()
    with pytest.raises(InvokeError, match="is closed"):
        runtime.submit(handlers.echo, 1)


def test_what_was_done_is_forgotten_after_four_days(runtime: Runtime, clock: ManualClock) -> None:
    first = ended(runtime, handlers.echo.submit(1)).request_id
    clock.advance(submissions.KEPT_SECONDS)
    second = ended(runtime, handlers.echo.submit(2)).request_id
    database = runtime._deferred.database
    assert run_blocking(database.write(submissions.forget)) == 1
    assert runtime.submission(first) is None
    assert now(runtime, second).value == 2


def test_of_very_many_only_the_newest_are_known_for_more_than_an_hour(
    runtime: Runtime, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submissions, "MANY", 2)
    ids = []
    for number in range(4):
        ids.append(ended(runtime, handlers.echo.submit(number)).request_id)
        clock.advance(1.0)
    database = runtime._deferred.database
    assert run_blocking(database.write(submissions.forget)) == 0
    clock.advance(3_600.0)
    assert run_blocking(database.write(submissions.forget)) == 2
    assert [runtime.submission(one) is not None for one in ids] == [False, False, True, True]


def test_what_has_a_key_is_known_for_as_long_as_its_key(
    runtime: Runtime, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the same key would give the id of an event that nobody runs."""
    monkeypatch.setattr(submissions, "MANY", 0)
    first = handlers.echo.submit(1, idempotency_key="order 5")
    assert ended(runtime, first).value == 1
    clock.advance(3_600.0)
    database = runtime._deferred.database
    assert run_blocking(database.write(submissions.forget)) == 0
    assert handlers.echo.submit(1, idempotency_key="order 5") == first
    assert now(runtime, first).value == 1


def test_a_result_that_is_too_large_is_not_kept_but_it_is_done(runtime: Runtime) -> None:
    @function
    def large(event: int) -> str:
        return "x" * event

    assert len(ended(runtime, large.submit(1_000_000)).value) == 1_000_000
    told = ended(runtime, large.submit(1_048_575))
    assert (told.state, told.payload) == ("done", b"")
    with pytest.raises(InvokeError, match="its result is over 1 MB, and not kept"):
        told.value  # noqa: B018


# -- closing -----------------------------------------------------------------------------------------------------------


def test_closing_without_a_store_runs_what_is_due_and_tells_what_is_lost(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    runtime = Runtime(drain=20).open()
    for _ in range(20):
        runtime.submit(note, {"file": str(notes)})
    runtime.submit(note, {"file": str(notes)}, delay=100)
    with pytest.warns(RuntimeWarning, match="was closed with 1 submitted events that were not run"):
        runtime.close()
    assert len(lines(notes)) == 20


def test_what_a_store_keeps_is_run_by_the_next_host(tmp_path: Path) -> None:
    notes, clock = tmp_path / "notes", ManualClock()
    with Runtime(store=tmp_path / "store.db", clock=clock) as runtime:
        request_id = runtime.submit(note, {"file": str(notes)}, delay=100)
    clock.advance(100.0)
    with Runtime([note], store=tmp_path / "store.db", clock=clock) as runtime:
        assert ended(runtime, request_id).state == "done"
    assert lines(notes) == [request_id]


def test_closing_in_the_middle_gives_back_what_runs(tmp_path: Path) -> None:
    store = tmp_path / "store.db"
    runtime = Runtime(store=store).open()
    request_id = runtime.submit(handlers.sleep, 30)
    wait_until(lambda: runtime.statistics().in_flight == 1)
    runtime.close(drain=0)
    with Runtime([handlers.echo], store=store) as second:
        told = now(second, request_id)
        assert (told.state, told.attempts) == ("waiting", 0)


def test_a_forked_child_leaves_its_parents_submissions_alone(tmp_path: Path) -> None:
    with Runtime(store=tmp_path / "store.db") as runtime:
        assert ended(runtime, runtime.submit(handlers.echo, 1)).value == 1
        child = os.fork()
        if child == 0:
            try:
                runtime.submit(handlers.echo, 2)
            except InvokeError as error:
                os._exit(0 if "belongs to" in str(error) or "process" in str(error) else 3)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert ended(runtime, runtime.submit(handlers.echo, 3)).value == 3


def test_a_store_that_cannot_be_opened_is_told_of_by_open(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        Runtime(store=tmp_path / "nowhere" / "store.db").open()
    with pytest.raises(ConfigurationError, match="store=':memory:': must be the path of a file, or None"):
        Runtime(store=":memory:")


PROGRAM = """
    import os, sys
    from pyfaas import Runtime, function
    file = sys.argv[2]

    @function(writes=[os.path.dirname(file)], timeout=10)
    def note(event):
        with open(event["file"], "a") as out:
            out.write(f"{event['number']}\\n")

    if __name__ == "__main__":
        with Runtime([note], store=sys.argv[1]) as runtime:
            if sys.argv[3] == "write":
                number = int(sys.argv[4])
                while True:
                    runtime.submit(note, {"file": file, "number": number})
                    os.write(1, b"%d\\n" % number)
                    number += 1
            sys.stdin.read()
"""


@pytest.mark.parametrize("rounds", [3, pytest.param(100, marks=pytest.mark.long)])
def test_hosts_killed_at_any_moment_lose_no_accepted_event(tmp_path: Path, rounds: int) -> None:
    """A host that accepts and runs is killed, again and again; the last one runs what is left."""
    import textwrap

    script = tmp_path / "app.py"
    script.write_text(textwrap.dedent(PROGRAM))
    notes, store = tmp_path / "notes", tmp_path / "store.db"
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    accepted: list[int] = []
    for number in range(rounds):
        first = str(max(accepted, default=-1) + 2)
        with subprocess.Popen(
            [sys.executable, str(script), str(store), str(notes), "write", first],
            stdout=subprocess.PIPE,
            env=environment,
        ) as host:
            assert host.stdout is not None
            accepted += [int(host.stdout.readline()) for _ in range(5 + number * 13 % 40)]
            host.send_signal(signal.SIGKILL)
            accepted += [int(line) for line in host.stdout.read().split(b"\n")[:-1]]
    with subprocess.Popen(
        [sys.executable, str(script), str(store), str(notes), "drain", "0"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as host:
        assert host.stdin is not None
        wait_until(lambda: set(accepted) <= {int(line) for line in lines(notes)}, 60)
        host.stdin.close()
    done = [int(line) for line in lines(notes)]
    assert set(accepted) <= set(done)
    assert len(done) - len(set(done)) <= rounds * 40, "what was in flight when a host died is run again, and no more"


def test_an_import_does_not_pay_for_a_store() -> None:
    told = run_python(
        """
        import json, sys
        from pyfaas import Runtime, function
        Runtime().open().close()
        print(json.dumps(sorted({"sqlite3", "asyncio"} & set(sys.modules))))
        """,
        PYTHONPATH=str(SOURCE),
    )
    assert json.loads(told.stdout) == []
