"""Who is told what came of an event: in the form of AWS, in the transaction that notes it, and never in a circle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas import ConfigurationError, Function, InvokeError, Runtime, bus, function, limits, queue, resources, topic
from pyfaas._invoke import retries
from pyfaas._invoke.cause import Cause
from pyfaas._invoke.outbox import accept_for
from pyfaas._invoke.retries import Over
from pyfaas._stores.queue import Waiting
from pyfaas.context import request_id_text
from pyfaas.testing import ManualClock, settle
from sources.tools import events, recorder, wait_for
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


def works(**options: Any) -> Function[Any, Any]:
    def handler(event: Any) -> Any:
        return {"doubled": event * 2}

    return function(**{"name": "works", **options})(handler)


def fails(**options: Any) -> Function[Any, Any]:
    def handler(event: Any) -> Any:
        raise ValueError("no such luck")

    return function(**{"name": "fails", "retries": 0, **options})(handler)


def attempts(runtime: Runtime, request_id: str) -> int:
    told = runtime.submission(request_id)
    assert told is not None
    return told.attempts


SUCCESS = {
    "version": "1.0",
    "timestamp": "2027-01-15T08:00:00.000Z",
    "requestContext": {
        "requestId": "?",
        "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:works:$LATEST",
        "condition": "Success",
        "approximateInvokeCount": 1,
    },
    "requestPayload": 21,
    "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
    "responsePayload": {"doubled": 42},
}


def expected(request_id: str) -> dict[str, Any]:
    return {**SUCCESS, "requestContext": {**SUCCESS["requestContext"], "requestId": request_id}}  # type: ignore[dict-item]


def test_a_function_is_told_of_success(got: Path, clock: ManualClock) -> None:
    with Runtime(clock=clock):
        request_id = works(on_success=recorder(got)).submit(21)
        (record,) = wait_for(got, 1)
    assert record == expected(request_id)


def test_a_queue_is_told_of_success(got: Path, clock: ManualClock) -> None:
    done = queue("done")
    first = works(on_success=done, on_failure=queue("bad"))
    with Runtime([first, recorder(got, trigger=done)], clock=clock):
        request_id = first.submit(21)
        (event,) = wait_for(got, 1)
        assert queue("bad").statistics() == Waiting(0, 0, 0)
    assert json.loads(event["Records"][0]["body"]) == expected(request_id)


def test_a_topic_is_told_of_success(got: Path, clock: ManualClock) -> None:
    done = topic("done")
    first = works(on_success=done)
    with Runtime([first, recorder(got, trigger=done)], clock=clock):
        request_id = first.submit(21)
        (event,) = wait_for(got, 1)
    assert json.loads(event["Records"][0]["Sns"]["Message"]) == expected(request_id)


def test_a_bus_is_told_of_success_and_of_failure(got: Path, clock: ManualClock) -> None:
    shop = bus("shop")
    both = [works(on_success=shop), fails(on_failure=shop)]
    with Runtime([*both, recorder(got, trigger=shop.rule({"source": ["lambda"]}))], clock=clock):
        request_id = both[0].submit(21)
        (event,) = wait_for(got, 1)
        assert event["detail-type"] == "Lambda Function Invocation Result - Success"
        assert event["resources"] == [
            "arn:aws:events:us-east-1:000000000000:event-bus/shop",
            "arn:aws:lambda:us-east-1:000000000000:function:works:$LATEST",
        ]
        assert event["detail"] == expected(request_id)
        both[1].submit(21)
        assert wait_for(got, 2)[1]["detail-type"] == "Lambda Function Invocation Result - Failure"


def test_a_failure_tells_the_error_of_the_last_attempt(got: Path, clock: ManualClock) -> None:
    bad = fails(on_failure=recorder(got), retries=1)
    with Runtime(clock=clock) as runtime:
        request_id = bad.submit({"a": 1})
        wait_until(lambda: attempts(runtime, request_id) == 1)
        settle(runtime)
        assert events(got) == []
        clock.advance(60)
        (record,) = wait_for(got, 1)
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 2
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"}
    told = record["responsePayload"]
    assert (told["errorMessage"], told["errorType"], told["requestId"]) == ("no such luck", "ValueError", request_id)
    assert told["stackTrace"]


def test_what_is_too_old_for_another_retry_tells_the_last_error(got: Path, clock: ManualClock) -> None:
    bad = fails(on_failure=recorder(got), retries=2, max_event_age=60)
    with Runtime(clock=clock) as runtime:
        request_id = bad.submit(1)
        wait_until(lambda: attempts(runtime, request_id) == 1)
        settle(runtime)
        clock.advance(61)
        (record,) = wait_for(got, 1)
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert record["responsePayload"]["errorType"] == "ValueError"


def test_no_concurrency_at_all_tells_at_once_that_there_was_no_attempt(got: Path, clock: ManualClock) -> None:
    never = works(reserved_concurrency=0, on_failure=recorder(got))
    with Runtime(clock=clock):
        never.submit(21)
        (record,) = wait_for(got, 1)
    assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert "responseContext" not in record
    assert "responsePayload" not in record


def test_a_dead_letter_queue_gets_the_event_and_why(got: Path, clock: ManualClock) -> None:
    dead = queue("dead")
    bad = fails(dead_letter=dead)
    with Runtime([bad, recorder(got, trigger=dead)], clock=clock):
        request_id = bad.submit({"a": [1, 2]})
        (event,) = wait_for(got, 1)
    (record,) = event["Records"]
    assert record["body"] == '{"a":[1,2]}'
    told = {name: (one["dataType"], one["stringValue"]) for name, one in record["messageAttributes"].items()}
    assert told == {
        "RequestID": ("String", request_id),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "no such luck"),
    }


def test_a_dead_letter_topic_gets_it_too_beside_on_failure(tmp_path: Path, clock: ManualClock) -> None:
    dead = topic("dead")
    bad = fails(dead_letter=dead, on_failure=recorder(tmp_path / "told"))
    with Runtime(clock=clock, functions=[bad, bad.options.on_failure, recorder(tmp_path / "dead", trigger=dead)]):
        bad.submit(5)
        wait_for(tmp_path / "told", 1)
        (event,) = wait_for(tmp_path / "dead", 1)
    assert event["Records"][0]["Sns"]["Message"] == "5"


def test_a_result_that_is_too_large_is_left_out_of_the_record(got: Path, clock: ManualClock) -> None:
    def handler(event: Any) -> str:
        return "x" * 1_048_570

    large = function(name="large", memory=256, on_success=recorder(got, memory=256))(handler)
    with Runtime(clock=clock):
        large.submit(1)
        (record,) = wait_for(got, 1)
    assert record["responsePayload"] is None
    assert record["requestContext"]["condition"] == "Success"


def test_destinations_of_destinations_are_run(tmp_path: Path, clock: ManualClock) -> None:
    last = recorder(tmp_path / "last")
    first = works(on_success=recorder(tmp_path / "middle", on_success=last))
    with Runtime(clock=clock):
        first.submit(1)
        wait_for(tmp_path / "last", 1)


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_functions_that_run_in_a_circle_are_stopped(kind: str, tmp_path: Path, got: Path, clock: ManualClock) -> None:
    """Sixteen, one after the other, then no more; what is left of it ends in the dead letter queue."""
    around, dead = bus("around"), queue("dead")
    store = None if kind == "memory" else tmp_path / "s"
    always = around.rule({"source": [{"exists": True}]}, input="go")
    turning = recorder(got, trigger=always, on_success=around, on_failure=around, dead_letter=dead)
    with Runtime([turning], clock=clock, store=store) as runtime:
        around.put_event({}, source="test", detail_type="Go")
        wait_until(lambda: dead.statistics() == Waiting(1, 0, 0))
        settle(runtime)
        assert len(events(got)) == limits.HOPS
        assert dead.statistics() == Waiting(1, 0, 0)


def test_a_message_that_came_round_too_often_goes_to_the_dead_letter_queue(got: Path, clock: ManualClock) -> None:
    dead = queue("dead")
    orders = queue("orders", max_receives=5, dead_letter=dead)
    with Runtime([recorder(got, trigger=orders)], clock=clock) as runtime:
        outbox = runtime._later().outbox
        sending = resources.Sending(["far"])
        runtime._later().database.put(outbox.job(orders, sending, Cause(limits.HOPS))).block()
        orders.send("near")
        wait_until(lambda: dead.statistics() == Waiting(1, 0, 0))
        wait_for(got, 1)
        settle(runtime)
        assert orders.statistics() == Waiting(0, 0, 0)
    assert [one["body"] for event in events(got) for one in event["Records"]] == ["near"]


def test_an_event_that_cannot_be_told_is_done_all_the_same(
    clock: ManualClock, got: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a sandbox may have written it: JSON for whoever reads it, but no text that anybody could send on."""

    def handler(event: Any) -> None: ...

    quiet = function(name="quiet", on_success=recorder(got))(handler)
    with Runtime([quiet, quiet.options.on_success], clock=clock, store=got.with_name("s")) as runtime:
        accepted = accept_for("quiet", b'"\\ud800"', Cause())
        raw_id = runtime._later().database.put(accepted).block().value
        told = runtime.wait(request_id_text(raw_id), 10)
        assert told is not None
        assert told.state == "done"
    assert events(got) == []
    assert "what came of an event of 'quiet' could not be told" in caplog.text


def test_the_submission_says_why(clock: ManualClock, got: Path) -> None:
    turning = recorder(got)
    with Runtime(clock=clock) as runtime:
        turning.submit(1)
        deferred = runtime._later()
        raw_id = deferred.database.put(accept_for(turning.name, b"1", Cause(limits.HOPS))).block().value
        told = runtime.wait(request_id_text(raw_id), 10)
        assert told is not None
        assert told.condition == "RecursiveInvocationException"
        with pytest.raises(InvokeError, match="they run in a circle"):
            _ = told.value


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"on_success": "queue"}, "on_success='queue': must be a function, a queue with fifo=False, a topic, a bus"),
        ({"on_failure": 7}, "on_failure=7: must be"),
        ({"dead_letter": "queue"}, "dead_letter='queue': must be a queue with fifo=False, a topic, or None"),
    ],
)
def test_what_cannot_be_told_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        works(**options)


def test_a_bus_is_no_dead_letter_queue_and_a_fifo_queue_no_destination() -> None:
    with pytest.raises(ConfigurationError, match="dead_letter=<Bus 'shop'>"):
        works(dead_letter=bus("shop"))
    with pytest.raises(ConfigurationError, match="on_success=<Queue 'steps'>"):
        works(on_success=queue("steps", fifo=True))


def test_a_runtime_in_memory_has_all_that_is_told(got: Path) -> None:
    with pytest.raises(ConfigurationError, match="tells 'record-got' what came of its events"):
        Runtime([works(on_success=recorder(got), trigger=topic("t"))]).open()


@given(st.integers(min_value=0, max_value=40))
def test_sixteen_is_one_too_many(hops: int) -> None:
    decided = retries.before(0.0, 60.0, None, hops)
    assert decided == (Over("RecursiveInvocationException") if hops >= 16 else None)
