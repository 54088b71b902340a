"""What users test their triggers with."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest
from aws_lambda_powertools.utilities.data_classes import (
    APIGatewayProxyEvent,
    APIGatewayProxyEventV2,
    EventBridgeEvent,
    KinesisStreamEvent,
    SNSEvent,
    SQSEvent,
)
from aws_lambda_powertools.utilities.data_classes.cognito_user_pool_event import PreSignUpTriggerEvent

import handlers
from pyfaas import ConfigurationError, Runtime
from pyfaas.testing import ManualClock, events, pattern_matches, schedule_times, settle

START = datetime(2026, 3, 27, 12, tzinfo=timezone.utc)


def test_a_pattern_can_be_tried() -> None:
    assert pattern_matches({"source": ["shop"]}, {"source": "shop", "detail": {}})
    assert not pattern_matches('{"source": [{"prefix": "x"}]}', {"source": "shop"})
    with pytest.raises(ConfigurationError, match=r"pattern\.source='shop'"):
        pattern_matches({"source": "shop"}, {})


def test_the_times_of_a_schedule_come_in_its_time_zone() -> None:
    found = schedule_times("cron(30 2 ? * * *)", START, 2, "Europe/Berlin")
    assert [one.isoformat() for one in found] == ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00"]
    assert schedule_times("at(2026-03-28T00:00:00)", START, 5) == [datetime(2026, 3, 28, tzinfo=timezone.utc)]
    assert [one.minute for one in schedule_times("rate(25 minutes)", START, 3)] == [25, 50, 15]
    assert schedule_times("rate(1 minute)", START, 0) == []


def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must have a time zone"):
        schedule_times("rate(1 minute)", datetime(2026, 1, 1), 1)  # noqa: DTZ001


def test_events_are_made_for_handlers() -> None:
    records = [*SQSEvent(events.queue("a", {"b": 1}, name="orders", attributes={"k": 1}, receives=3)).records]
    assert [record.body for record in records] == ["a", '{"b":1}']
    assert records[0].event_source_arn.endswith(":orders")
    assert records[0].attributes.approximate_receive_count == "3"
    assert records[0].message_id != records[1].message_id
    (record,) = KinesisStreamEvent(events.stream({"a": 1}, name="clicks", key="ada")).records
    assert (record.kinesis.partition_key, record.kinesis.data_as_json()) == ("ada", {"a": 1})
    request = APIGatewayProxyEventV2(events.http("POST /orders/{id}", "/orders/7", body='{"a": 1}', query="x=1"))
    assert (request.path_parameters, request.json_body) == ({"id": "7"}, {"a": 1})
    assert request.query_string_parameters == {"x": "1"}
    older = APIGatewayProxyEvent(events.http("ANY /{path+}", "/a/b", payload="1.0", headers={"X-A": "1"}))
    assert (older.http_method, older.path_parameters, older.headers["x-a"]) == ("GET", {"path": "a/b"}, "1")
    asked = PreSignUpTriggerEvent(events.auth("pre_sign_up", "ada", {"email": "e"}))
    assert (asked.user_name, asked.request.user_attributes) == ("ada", {"email": "e"})
    with pytest.raises(ConfigurationError, match="path='/b': is not of the route 'GET /a'"):
        events.http("GET /a", "/b")
    assert SNSEvent(events.topic({"a": 1}, subject="s")).sns_message == '{"a":1}'
    put = EventBridgeEvent(events.bus({"a": 1}, source="till", detail_type="Sold"))
    assert (put.detail, put.source, put.detail_type) == ({"a": 1}, "till", "Sold")
    assert EventBridgeEvent(events.schedule("tidy")).resources[0].endswith("/tidy")


def test_a_runtime_settles_when_all_is_done_that_is_due() -> None:
    clock = ManualClock()
    with Runtime(clock=clock, drain=0) as runtime:
        now, later = handlers.echo.submit(1), handlers.echo.submit(2, delay=60)
        settle(runtime)
        assert [told and told.state for told in map(runtime.submission, (now, later))] == ["done", "waiting"]
        clock.advance(60)
        settle(runtime)
        told = runtime.submission(later)
        assert told is not None
        assert told.state == "done"


@pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")
def test_a_runtime_that_does_not_settle_says_so() -> None:
    with Runtime(drain=0) as runtime:
        handlers.sleep.submit(5)
        with pytest.raises(TimeoutError, match=r"still has something to do after 0\.05 s"):
            settle(runtime, timeout=0.05)
