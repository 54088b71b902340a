"""What a handler may ask of the host while it runs: what was granted, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from invoke import calling_handlers as calling
from invoke.calling_handlers import ask, orders, receipts, shop, steps, tell_all, twice
from pyfaas import (
    ConfigurationError,
    Function,
    HandlerFailed,
    Runtime,
    SandboxDied,
    TimedOut,
    function,
    limits,
    queue,
)
from pyfaas._sandbox.port import denied
from pyfaas._stores.queue import Waiting
from pyfaas.grants import Grant, checked_grants
from pyfaas.testing import settle
from sources.tools import recorder, wait_for
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


@pytest.fixture(scope="module")
def module_runtime() -> Iterator[Runtime]:
    with Runtime(drain=0) as opened:
        yield opened


@pytest.fixture
def runtime(module_runtime: Runtime) -> Iterator[Runtime]:
    """One for all of them: each leaves its queues empty."""
    yield module_runtime
    settle(module_runtime)
    orders.purge()
    steps.purge()


def refusal(of: Function[Any, Any], event: Any = None) -> str:
    with pytest.raises(HandlerFailed) as caught:
        of.invoke(event)
    return f"{caught.value.error_type}: {caught.value.message}"


# -- what is granted ---------------------------------------------------------------------------------------------------


def test_handles_work_inside_as_they_do_outside(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("orders", "receipts", "shop", "steps")}
    functions = [
        recorder(files["orders"], trigger=orders),
        recorder(files["receipts"], trigger=receipts),
        recorder(files["shop"], trigger=shop.rule({"source": ["till"]})),
        recorder(files["steps"], trigger=steps),
    ]
    with Runtime([tell_all, *functions]) as runtime:
        ids = tell_all.invoke({"a": 1})
        settle(runtime)
    records = {one["body"]: one for event in wait_for(files["orders"], 1) for one in event["Records"]}
    assert records.keys() == {'{"a":1}', "1", "2"}
    assert [records[body]["messageId"] for body in ('{"a":1}', "1", "2")] == ids[:3]
    told = records['{"a":1}']["messageAttributes"]
    assert (told["kind"]["stringValue"], told["raw"]["binaryValue"]) == ("new", "AA==")
    (step,) = wait_for(files["steps"], 1)[0]["Records"]
    assert (step["attributes"]["MessageGroupId"], step["attributes"]["MessageDeduplicationId"]) == ("g", "d")
    sns = wait_for(files["receipts"], 1)[0]["Records"][0]["Sns"]
    assert (sns["Message"], sns["Subject"], sns["MessageId"]) == ('{"a":1}', "s", ids[4])
    event = wait_for(files["shop"], 1)[0]
    assert (event["detail"], event["id"]) == ({"a": 1}, ids[5])


def test_a_function_invokes_another_one(runtime: Runtime) -> None:
    assert ask.invoke(21) == 42
    assert list(ask.map([1, 2, 3])) == [2, 4, 6]
    assert ask.try_invoke(4).value == 8


@pytest.mark.anyio
async def test_from_an_async_caller_too(runtime: Runtime) -> None:
    assert await ask.ainvoke(21) == 42
    assert [one async for one in ask.amap([1, 2])] == [2, 4]


def test_a_failure_of_the_other_one_is_the_same_error_inside(runtime: Runtime) -> None:
    assert ask.invoke("fail") == ["HandlerFailed", "inside", "ValueError"]


def test_a_function_submits_to_another_one(runtime: Runtime) -> None:
    told = runtime.wait(ask.invoke("submit"), 10)
    assert told is not None
    assert told.value == 42


def test_an_async_handler_calls_too(runtime: Runtime) -> None:
    assert calling.ask_async.invoke([1, 2, 3]) == [2, 4, 6]
    assert orders.statistics().due == 1


def test_threads_of_a_handler_take_turns(runtime: Runtime) -> None:
    assert calling.from_threads.invoke(20) == 20
    assert orders.statistics().due == 20


def test_a_handler_that_travels_by_value_takes_its_handles_along(runtime: Runtime) -> None:
    here = queue("here")

    def handler(event: Any) -> Any:
        return here.send(event)

    assert function(name="local", allow=[here.send])(handler).invoke("x")
    assert here.statistics() == Waiting(1, 0, 0)


def test_snap_start_keeps_the_grants(runtime: Runtime) -> None:
    def handler(event: Any) -> Any:
        return twice.invoke(event)

    assert function(name="snapped", allow=[twice.invoke], snap_start=True, timeout=10)(handler).invoke(4) == 8


def test_a_stream_of_calls_within_calls(runtime: Runtime) -> None:
    assert list(ask.map(range(100))) == [2 * number for number in range(100)]


def test_what_was_submitted_calls_too_and_again_until_it_is_stopped(runtime: Runtime) -> None:
    """A function that submits to itself is stopped after sixteen of them."""
    calling.walk.submit(0)
    settle(runtime, 30)
    assert calling.walk.statistics().invocations == limits.HOPS


def test_functions_that_dive_into_themselves_are_stopped(runtime: Runtime) -> None:
    assert "they run in a circle" in refusal(calling.dive, 0)


# -- what is not -------------------------------------------------------------------------------------------------------


def test_what_is_not_granted_is_denied_and_the_grant_is_named(runtime: Runtime) -> None:
    told = refusal(calling.may_not, "x")
    assert told == (
        "AccessDenied: 'may_not' may not send queue 'called-orders': that needs allow=[\"queue:called-orders:send\"], "
        'or its name "queue:called-orders:send"'
    )
    assert "allow=[other.invoke]" in denied("f", "function:other:invoke")
    assert "queue 'called-secret'" in refusal(calling.try_others, "send")
    assert orders.statistics() == Waiting(0, 0, 0)


def test_what_a_sandbox_is_not_for_says_so(runtime: Runtime) -> None:
    assert "nothing else with 'twice'" in refusal(calling.try_others, "map")
    assert "nothing else with 'called-orders'" in refusal(calling.try_others, "purge")


def test_what_cannot_be_sent_is_refused_inside_as_outside(runtime: Runtime) -> None:
    assert "PayloadTooLarge: the message has 1,048,577 bytes" in refusal(calling.send_large, 1_048_577)
    assert calling.send_large.invoke(1_048_576)


def test_a_thread_that_a_handler_left_calls_nobody_until_the_next_invocation(runtime: Runtime) -> None:
    leave = calling.leave_a_thread
    assert leave.invoke("begin") == []
    (told,) = leave.invoke("go on")
    assert len(told) == 36, told  # within the next invocation it is part of that
    assert orders.statistics().due == 1


def test_a_child_process_cannot_call(runtime: Runtime) -> None:
    assert "by the process that runs it" in calling.from_a_child.invoke(None)
    assert orders.statistics() == Waiting(1, 0, 0)


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when_full", ["raise", "wait"])
def test_a_call_within_a_call_does_not_wait_for_the_permit_of_its_caller(when_full: str) -> None:
    with Runtime(concurrency=1, when_full=when_full, drain=0):
        assert refusal(ask, 1).startswith("Throttled: ")


def test_a_caller_whose_time_is_over_does_not_wait_for_the_other_one(runtime: Runtime) -> None:
    calling.sleep_for.invoke(0)
    with pytest.raises(TimedOut):
        calling.impatient.invoke(1.5)
    assert calling.sleep_for.statistics().in_flight == 1  # as in AWS, it goes on
    wait_until(lambda: calling.sleep_for.statistics().in_flight == 0)


def test_a_call_that_is_broken_off_leaves_the_next_one_its_own_result(runtime: Runtime) -> None:
    twice.invoke(1)
    assert 0 <= calling.interrupted.invoke(50) <= 50


# -- forgeries ---------------------------------------------------------------------------------------------------------


def forger(frame: str, **options: Any) -> Function[Any, Any]:
    """Declare a function that puts bytes of its own on the wire."""

    def handler(event: Any) -> str:
        import struct
        import sys

        from pyfaas._sandbox import protocol

        caller: Any = sys._getframe()
        while "wire" not in caller.f_locals:
            caller = caller.f_back
        wire, sequence = caller.f_locals["wire"], caller.f_locals["sequence"]
        given = {"protocol": protocol, "sequence": sequence, "struct": struct}
        wire.sendall(eval(frame, given))
        return str(wire.recv(1000), "latin-1")

    return function(**{"name": "forger", "timeout": 5, **options})(handler)


CALL = "protocol.answer_frame(protocol.CALL, {sequence}, 0.0, 0.0, 1, {payload})"


@pytest.mark.parametrize(
    ("payload", "sequence"),
    [
        ("b''", "sequence"),
        ("b'\\xff\\xff\\xff\\xff'", "sequence"),
        ("struct.pack('<I', 2) + b'[]'", "sequence"),
        ("struct.pack('<I', 2) + b'{}'", "sequence"),
        ("struct.pack('<I', 400) + b'[' * 400", "sequence"),
        ("struct.pack('<I', 20) + b'{\"kind\": 1, \"name\":1'", "sequence"),
        ("struct.pack('<I', 2) + b'{}'", "sequence + 1"),
        ("struct.pack('<I', 2) + b'{}'", "sequence - 1"),
    ],
)
def test_a_call_that_no_worker_makes_is_the_end_of_the_sandbox(payload: str, sequence: str, runtime: Runtime) -> None:
    with pytest.raises(SandboxDied, match="broke the protocol"):
        forger(CALL.format(payload=payload, sequence=sequence), allow=[orders.send]).invoke(None)


def test_a_call_without_any_grant_is_the_end_of_the_sandbox(runtime: Runtime) -> None:
    with pytest.raises(SandboxDied, match="a call of a function that may make none"):
        forger(CALL.format(payload="b''", sequence="1")).invoke(None)


@pytest.mark.parametrize(
    ("head", "told"),
    [
        ({"kind": "queue", "name": "called-secret", "verb": "send", "what": {}}, "AccessDenied"),
        ({"kind": "queue", "name": "called-orders", "verb": "purge"}, "AccessDenied"),
        ({"kind": "function", "name": "twice", "verb": "invoke"}, "AccessDenied"),
        ({"kind": "queue", "name": "called-orders", "verb": "send", "what": [{"bodies": 7}]}, "ConfigurationError"),
        ({"kind": "queue", "name": "called-orders", "verb": "send"}, "ConfigurationError"),
        ({"kind": "queue", "name": "called-orders", "verb": "send", "what": {"bodies": 7}}, "ConfigurationError"),
        (
            {
                "kind": "queue",
                "name": "called-orders",
                "verb": "send",
                "what": {"bodies": [7], "delay": None, "attributes": None, "group": None, "duplicate_id": None},
            },
            "ConfigurationError",
        ),
        (
            {
                "kind": "queue",
                "name": "called-orders",
                "verb": "send",
                "what": {"bodies": ["x"], "delay": -5, "attributes": {"a": []}, "group": None, "duplicate_id": None},
            },
            "ConfigurationError",
        ),
    ],
)
def test_the_host_looks_at_everything_itself(head: dict[str, Any], told: str, runtime: Runtime) -> None:
    text = json.dumps(head)
    frame = CALL.format(payload=f"struct.pack('<I', {len(text)}) + {text.encode()!r}", sequence="sequence")
    assert f'"kind": "{told}"' in forger(frame, allow=[orders.send]).invoke(None)
    assert orders.statistics() == Waiting(0, 0, 0)


@pytest.mark.parametrize(
    "head",
    [
        {"kind": "queue", "name": "a:b", "verb": "send"},
        {"kind": "queue:a", "name": "b", "verb": "send"},
        {"kind": "disk", "name": "a", "verb": "send"},
        {
            "kind": "queue",
            "name": "called-orders",
            "verb": "send",
            "what": {
                "bodies": ["x"], "delay": None, "attributes": {"a": {"bytes": "A"}}, "group": None,
                "duplicate_id": None,
            },
        },
        {
            "kind": "bus",
            "name": "called-shop",
            "verb": "put_event",
            "what": [{"source": "s", "detail_type": "t", "detail": {}, "resources": 7, "at": None}],
        },
    ],
)  # fmt: skip
def test_a_call_in_a_form_that_no_worker_gives_it_is_the_end_of_the_sandbox(
    head: dict[str, Any], runtime: Runtime
) -> None:
    text = json.dumps(head)
    frame = CALL.format(payload=f"struct.pack('<I', {len(text)}) + {text.encode()!r}", sequence="sequence")
    with pytest.raises(SandboxDied, match="broke the protocol"):
        forger(frame, allow=[orders.send, shop.put_event]).invoke(None)


@pytest.mark.parametrize(
    "told",
    [
        {"source": "s", "detail_type": "t", "detail": {}, "resources": [], "at": 1e300},
        {"source": "s", "detail_type": "t", "detail": {}, "resources": [], "at": -1},
        {"source": "\ud800", "detail_type": "t", "detail": {}, "resources": [], "at": None},
    ],
)
def test_an_event_that_nobody_could_write_is_refused(told: dict[str, Any], runtime: Runtime) -> None:
    text = json.dumps({"kind": "bus", "name": "called-shop", "verb": "put_event", "what": [told]})
    frame = CALL.format(payload=f"struct.pack('<I', {len(text)}) + {text.encode()!r}", sequence="sequence")
    assert '"kind": "' in forger(frame, allow=[shop.put_event]).invoke(None)


def test_a_grant_to_submit_is_none_to_invoke_by_whatever_name(runtime: Runtime) -> None:
    """A twin is what its grant says: here accepted for later, and a request id is told."""
    text = json.dumps({"kind": "function", "name": "twice", "verb": "asubmit"})
    frame = CALL.format(payload=f"struct.pack('<I', {len(text)}) + {text.encode()!r} + b'21'", sequence="sequence")
    told = forger(frame, allow=[twice.submit]).invoke(None)
    request_id = told.rpartition("\0")[2].strip('"')
    settle(runtime)
    done = runtime.submission(request_id)
    assert done is not None
    assert done.value == 42


# -- declaring ---------------------------------------------------------------------------------------------------------


def test_grants_are_verbs_or_their_names() -> None:
    assert checked_grants([orders.send, orders.asend, orders.send_many, "queue:x:send"]) == (
        Grant("queue:called-orders:send", orders),
        Grant("queue:called-orders:send", orders),
        Grant("queue:called-orders:send", orders),
        Grant("queue:x:send"),
    )
    assert checked_grants([twice.ainvoke, twice.submit, receipts.publish, shop.aput_events]) == (
        Grant("function:twice:invoke", twice),
        Grant("function:twice:submit", twice),
        Grant("topic:called-receipts:publish", receipts),
        Grant("bus:called-shop:put_event", shop),
    )


@pytest.mark.parametrize(
    "wrong", [7, "queue:x", "queue:x:purge", "file:x:read", orders.purge, twice.map, print, len, orders, [].append]
)
def test_what_cannot_be_granted_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"allow\[0\]=.*: must be one of orders\.send, "):
        function(allow=[wrong])(lambda event: event)


def test_a_grant_by_name_of_what_is_not_there_says_so(runtime: Runtime) -> None:
    def handler(event: Any) -> Any:
        from pyfaas import queue

        return queue("nobody").send("x")

    told = refusal(function(name="local", allow=["queue:nobody:send"])(handler))
    assert "queue 'nobody' is granted by its name, and not declared in this program" in told
