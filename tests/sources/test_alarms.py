"""Alarms: a number that crosses its threshold is told once, as CloudWatch tells it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pyfaas import ConfigurationError, Function, FunctionError, Runtime, alarm, function, queue
from pyfaas._sources.thresholds import judged, value
from pyfaas.testing import ManualClock, settle
from sources.tools import events, recorder
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


def flaky(**options: Any) -> Function[Any, Any]:
    def handler(event: Any) -> Any:
        if event == "fail":
            raise ValueError("as it was told to")
        return event

    return function(name="flaky", **options)(handler)


def call(runtime: Runtime, of: Function[Any, Any], *given: Any) -> None:
    for event in given:
        runtime.try_invoke(of, event)


def pass_on(runtime: Runtime, clock: ManualClock, seconds: float = 60.0) -> None:
    clock.advance(seconds)
    settle(runtime)


def states(file: Path) -> list[tuple[str, str]]:
    told = [event["alarmData"] for event in events(file)]
    return [(one["previousState"]["value"], one["state"]["value"]) for one in told]


def test_errors_over_the_threshold_are_told_once_and_their_end_too(got: Path, clock: ManualClock) -> None:
    charge = flaky()
    failing = alarm("failing", "Errors", charge, threshold=2, on=["ALARM", "OK"], description="see the log")
    with Runtime([charge, recorder(got, trigger=failing)], clock=clock) as runtime:
        (mapping,) = runtime.mappings()
        assert mapping.alarm_state == "INSUFFICIENT_DATA"
        call(runtime, charge, "fail", "fail", "well")
        pass_on(runtime, clock)
        assert mapping.alarm_state == "ALARM"
        call(runtime, charge, "fail", "fail", "fail")
        pass_on(runtime, clock)
        call(runtime, charge, "well", "fail")
        pass_on(runtime, clock)
    assert states(got) == [("INSUFFICIENT_DATA", "ALARM"), ("ALARM", "OK")]
    first = events(got)[0]
    assert (first["source"], first["region"], first["time"]) == (
        "aws.cloudwatch",
        "us-east-1",
        "2027-01-15T08:01:00.000+0000",
    )
    told = first["alarmData"]
    assert told["alarmName"] == "failing"
    assert "1 out of the last 1 datapoints [2] were GreaterThanOrEqualToThreshold (2.0)" in told["state"]["reason"]
    assert json.loads(told["state"]["reasonData"])["recentDatapoints"] == [2.0]
    stat = told["configuration"]["metrics"][0]["metricStat"]
    assert stat["metric"] == {"namespace": "AWS/Lambda", "name": "Errors", "dimensions": {"FunctionName": "flaky"}}
    assert (stat["period"], stat["stat"], told["configuration"]["description"]) == (60, "Sum", "see the log")


def test_some_of_several_periods_are_enough_where_that_was_said(got: Path, clock: ManualClock) -> None:
    charge = flaky()
    often = alarm("often", "Errors", charge, threshold=1, periods=3, datapoints=2, period=10)
    with Runtime([charge, recorder(got, trigger=often)], clock=clock) as runtime:
        for given in ("fail", "well", "fail"):
            assert states(got) == []
            call(runtime, charge, given)
            pass_on(runtime, clock, 10)
    assert states(got) == [("OK", "ALARM")]


@pytest.mark.parametrize(
    ("missing", "state"),
    [("missing", "INSUFFICIENT_DATA"), ("ignore", "OK"), ("breaching", "ALARM"), ("notBreaching", "OK")],
)
def test_a_function_that_nobody_calls_has_no_numbers(missing: str, state: str, got: Path, clock: ManualClock) -> None:
    charge = flaky()
    quiet = alarm("quiet", "Invocations", charge, threshold=1, comparison="<", missing=missing)
    with Runtime([charge, recorder(got, trigger=quiet)], clock=clock) as runtime:
        (mapping,) = runtime.mappings()
        call(runtime, charge, 1, 2)
        pass_on(runtime, clock)
        assert mapping.alarm_state == "OK"
        pass_on(runtime, clock)
        assert mapping.alarm_state == state


def test_how_long_calls_take_and_how_many_run_can_be_watched(got: Path, clock: ManualClock) -> None:
    def sleep(event: Any) -> None:
        import time

        time.sleep(event)

    sleeping = function(name="sleeping", timeout=0.2)(sleep)
    slow = alarm("slow", "Duration", sleeping, threshold=50, statistic="p90", comparison=">")
    busy = alarm("busy", "ConcurrentExecutions", threshold=0, statistic="Maximum")
    with Runtime([sleeping, recorder(got, trigger=[slow, busy])], clock=clock) as runtime:
        call(runtime, sleeping, *[0] * 20)
        pass_on(runtime, clock)
        assert [one.alarm_state for one in runtime.mappings()] == ["OK", "ALARM"]
        with pytest.raises(FunctionError):
            runtime.invoke(sleeping, 30)
        pass_on(runtime, clock)
        assert [one.alarm_state for one in runtime.mappings()] == ["ALARM", "ALARM"]
        slow_one = runtime.mappings()[0]
        slow_one.pause()
        wait_until(lambda: not runtime._pool.timed)  # what nobody watches is not timed
    (*_, told) = events(got)
    assert told["alarmData"]["configuration"]["metrics"][0]["metricStat"]["stat"] == "p90"


def test_a_queue_that_grows_old_is_told(got: Path, clock: ManualClock) -> None:
    orders = queue("orders-that-wait")
    old = alarm("old", "ApproximateAgeOfOldestMessage", orders, threshold=100, statistic="Maximum")
    many = alarm("many", "ApproximateNumberOfMessagesVisible", orders, threshold=2, statistic="Maximum")
    with Runtime([recorder(got, trigger=[old, many])], clock=clock) as runtime:
        orders.send("1")
        pass_on(runtime, clock)
        assert [one.alarm_state for one in runtime.mappings()] == ["OK", "OK"]
        orders.send("2")
        pass_on(runtime, clock)
        assert [one.alarm_state for one in runtime.mappings()] == ["ALARM", "ALARM"]
        orders.purge()
        pass_on(runtime, clock)
        assert [one.alarm_state for one in runtime.mappings()] == ["OK", "OK"]
    told = {event["alarmData"]["alarmName"]: event["alarmData"] for event in events(got)}
    metric = told["old"]["configuration"]["metrics"][0]["metricStat"]["metric"]
    assert metric["dimensions"] == {"QueueName": "orders-that-wait"}


def test_a_threshold_is_changed_while_it_runs(got: Path, clock: ManualClock) -> None:
    charge = flaky()
    with Runtime(
        [charge, recorder(got, trigger=alarm("failing", "Errors", charge, threshold=5))], clock=clock
    ) as runtime:
        (mapping,) = runtime.mappings()
        call(runtime, charge, "fail")
        pass_on(runtime, clock)
        assert mapping.alarm_state == "OK"
        mapping.change(threshold=1)
        call(runtime, charge, "fail")
        pass_on(runtime, clock)
        assert mapping.alarm_state == "ALARM"
        with pytest.raises(ConfigurationError, match="this trigger has the options threshold"):
            mapping.change(metric="Duration")


@pytest.mark.parametrize(
    ("statistic", "wanted"),
    [
        ("Sum", 10.0),
        ("Average", 2.5),
        ("Minimum", 1.0),
        ("Maximum", 4.0),
        ("SampleCount", 4.0),
        ("p50", 2.5),
        ("p100", 4.0),
    ],
)
def test_statistics_are_what_their_names_say(statistic: str, wanted: float) -> None:
    assert value(statistic, [4, 1, 3, 2]) == wanted
    assert value(statistic, []) is None


X, O, N = 5.0, 0.0, None  # noqa: E741 - over the threshold, not over it, missing


@pytest.mark.parametrize(
    ("datapoints", "missing", "state"),
    [
        ([O, O, O], "missing", "OK"),
        ([X, X, O], "missing", "OK"),
        ([X, X, X], "missing", "ALARM"),
        ([N, X, X], "missing", "OK"),
        ([N, X, X], "ignore", "was"),
        ([N, X, X], "breaching", "ALARM"),
        ([N, X, X], "notBreaching", "OK"),
        ([N, O, X], "ignore", "OK"),
        ([N, N, N], "missing", "INSUFFICIENT_DATA"),
        ([N, N, N], "ignore", "was"),
        ([N, N, N], "breaching", "ALARM"),
        ([N, N, N], "notBreaching", "OK"),
        ([X], "missing", "OK"),
        ([O, X, X, X], "missing", "ALARM"),
    ],
)
def test_three_datapoints_are_judged(datapoints: list[float | None], missing: str, state: str) -> None:
    assert judged(alarm("a", "Errors", threshold=1, periods=3, missing=missing), datapoints, "was") == state


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"name": ""}, "name=''"),
        ({"of": 7}, "of=7"),
        ({"metric": "Sadness"}, "metric='Sadness'"),
        ({"metric": "Errors", "of": queue("orders-that-wait")}, "metric='Errors'"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"comparison": "=="}, "comparison='=='"),
        ({"statistic": "p101"}, "statistic='p101'"),
        ({"period": 0}, "period=0"),
        ({"periods": 0}, "periods=0"),
        ({"datapoints": 2}, "datapoints=2"),
        ({"missing": "no"}, "missing='no'"),
        ({"on": []}, r"on=\[\]"),
        ({"description": 7}, "description=7"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        alarm(**{"name": "a", "metric": "Errors", "threshold": 1, **given})
