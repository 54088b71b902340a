"""Schedules: what is due at a time on the wall is run once, by one host, and what was missed as it was declared."""

from __future__ import annotations

import ctypes
import os
import select
import sys
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from handlers import PLACE
from pyfaas import ConfigurationError, Runtime, _clock, _port, function, resources, schedule
from pyfaas._sources.schedules import next_of
from pyfaas._stores import schedules
from pyfaas.testing import ManualClock, settle
from sources.tools import events, recorder, wait_for
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")

BEGIN = datetime(2027, 1, 15, 8, 0, 0, tzinfo=timezone.utc)  # where a ManualClock begins: a Friday


def at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def times(file: Path) -> list[str]:
    return [event["time"] for event in events(file)]


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_rate_is_due_again_and_again(kind: str, tmp_path: Path, got: Path, clock: ManualClock) -> None:
    store = None if kind == "memory" else tmp_path / "s"
    with Runtime([recorder(got, trigger=schedule("rate(5 minutes)"))], clock=clock, store=store) as runtime:
        clock.advance(299)
        settle(runtime)
        assert events(got) == []
        for minutes in (5, 10, 15):
            clock.advance(1 if minutes == 5 else 300)
            wait_for(got, minutes // 5)
            settle(runtime)
    assert times(got) == [at(BEGIN + timedelta(minutes=minutes)) for minutes in (5, 10, 15)]


def test_the_event_is_that_of_eventbridge_scheduler(got: Path, clock: ManualClock) -> None:
    with Runtime([recorder(got, trigger=schedule("rate(1 minute)", name="tidy"))], clock=clock):
        clock.advance(60)
        (event,) = wait_for(got, 1)
    assert event.pop("id")
    assert event == {
        "version": "0",
        "detail-type": "Scheduled Event",
        "source": "aws.scheduler",
        "account": "000000000000",
        "time": "2027-01-15T08:01:00Z",
        "region": "us-east-1",
        "resources": ["arn:aws:scheduler:us-east-1:000000000000:schedule/default/tidy"],
        "detail": "{}",
    }


def test_an_event_of_ones_own_may_tell_the_time(got: Path, clock: ManualClock) -> None:
    told = {"at": "<aws.scheduler.scheduled-time>", "of": "<aws.scheduler.schedule-arn>", "n": [1]}
    with Runtime([recorder(got, trigger=schedule("rate(1 minute)", event=told))], clock=clock):
        clock.advance(60)
        (event,) = wait_for(got, 1)
    assert event == {
        "at": "2027-01-15T08:01:00Z",
        "of": "arn:aws:scheduler:us-east-1:000000000000:schedule/default/rate-1-minute",
        "n": [1],
    }


def test_a_cron_expression_is_due_at_local_times(got: Path, clock: ManualClock) -> None:
    trigger = schedule("cron(0 9 ? * MON-FRI *)", timezone="Europe/Berlin")
    with Runtime([recorder(got, trigger=trigger)], clock=clock) as runtime:
        for _ in range(5 * 24):
            clock.advance(3600)
            settle(runtime)
    # At the beginning it is Friday, 9:00 there: not after it, but now.
    assert times(got) == ["2027-01-18T08:00:00Z", "2027-01-19T08:00:00Z", "2027-01-20T08:00:00Z"]


def test_once_is_once(got: Path, clock: ManualClock) -> None:
    trigger = schedule("at(2027-01-15T09:30:00)")
    with Runtime([recorder(got, trigger=trigger)], clock=clock) as runtime:
        for _ in range(4):
            clock.advance(3600)
            settle(runtime)
    assert times(got) == ["2027-01-15T09:30:00Z"]


def test_a_function_may_have_many_schedules(got: Path, clock: ManualClock) -> None:
    triggers = [schedule("rate(1 hour)"), schedule("at(2027-01-15T08:30:00)")]
    with Runtime([recorder(got, trigger=triggers)], clock=clock) as runtime:
        assert [mapping.source for mapping in runtime.mappings()] == ["schedule/rate-1-hour", "schedule/at-2027-01-15T08-30-00"]  # fmt: skip # noqa: E501
        clock.advance(3600)
        wait_for(got, 2)


# -- what was missed ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("catch_up", "minutes"),
    [("one", [10, 40]), ("all", [10, 20, 30, 40]), ("skip", [40])],
)
def test_what_was_missed_is_made_up_for_as_declared(
    catch_up: str, minutes: list[int], tmp_path: Path, got: Path, clock: ManualClock
) -> None:
    function = recorder(got, trigger=schedule("rate(10 minutes)", catch_up=catch_up))
    with Runtime([function], store=tmp_path / "s", clock=clock):
        pass
    clock.advance(35 * 60)  # nobody runs at 10, 20 and 30
    with Runtime([function], store=tmp_path / "s", clock=clock) as runtime:
        settle(runtime)
        clock.advance(5 * 60)
        settle(runtime)
    assert sorted(times(got)) == [at(BEGIN + timedelta(minutes=one)) for one in minutes]


def test_a_little_late_is_not_missed(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    function = recorder(got, trigger=schedule("rate(10 minutes)", catch_up="skip"))
    with Runtime([function], clock=clock) as runtime:
        clock.advance(10 * 60 + 59)
        settle(runtime)
    assert times(got) == [at(BEGIN + timedelta(minutes=10))]


# -- windows, starts and ends ------------------------------------------------------------------------------------------


def test_a_flexible_window_spreads_them(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    with Runtime([recorder(got, trigger=schedule("rate(1 hour)", flexible=600))], clock=clock) as runtime:
        row = runtime._later().database.put(lambda one: schedules.of_function(one, "record-got")).block().value[0]
        fires_at = runtime._later().database.put(schedules.next_fire).block().value
        assert row.next_at <= fires_at <= row.next_at + 600
        clock.advance(3600 + 600)
        wait_for(got, 1)
        settle(runtime)
    assert times(got) == [at(BEGIN + timedelta(hours=1))]


def rule(expression: str, **given: Any) -> dict[str, Any]:
    return schedule(expression, **given).row()[1]


def due(expression: str, after: datetime, **given: Any) -> datetime | None:
    found = next_of(rule(expression, **given), BEGIN.timestamp(), after.timestamp())
    return None if found is None else datetime.fromtimestamp(found, timezone.utc)


def test_a_rate_counts_from_its_start_and_is_due_then() -> None:
    start = BEGIN + timedelta(minutes=7)
    assert due("rate(1 hour)", BEGIN, start=start) == start
    assert due("rate(1 hour)", start, start=start) == start + timedelta(hours=1)


def test_a_cron_expression_may_be_due_at_its_start() -> None:
    start = BEGIN + timedelta(hours=1)
    assert due("cron(0 * * * ? *)", BEGIN, start=start) == start
    assert due("cron(0 * * * ? *)", BEGIN, start=start + timedelta(seconds=1)) == start + timedelta(hours=1)


def test_nothing_is_due_after_its_end() -> None:
    end = BEGIN + timedelta(hours=2)
    assert due("rate(1 hour)", BEGIN, end=end) == BEGIN + timedelta(hours=1)
    assert due("rate(1 hour)", BEGIN + timedelta(hours=1), end=end) == end
    assert due("rate(1 hour)", end, end=end) is None


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_schedule_is_made_by_hand_and_forgotten_when_it_is_over(got: Path, clock: ManualClock) -> None:
    function = recorder(got)
    with Runtime([function], clock=clock) as runtime:
        name = function.schedule("at(2027-01-15T09:00:00)", {"remind": "Ada"})
        assert function.schedules() == {name: (BEGIN + timedelta(hours=1)).timestamp()}
        clock.advance(3600)
        wait_for(got, 1)
        settle(runtime)
        assert function.schedules() == {}
    assert events(got) == [{"remind": "Ada"}]


@pytest.mark.anyio
async def test_schedules_from_async_code(got: Path, clock: ManualClock) -> None:
    function = recorder(got)
    async with Runtime([function], clock=clock):
        name = await function.aschedule("rate(1 minute)", "hello", name="often")
        assert name == "often"
        clock.advance(60)
        wait_for(got, 1)
        assert await function.aunschedule("often") is True
        assert await function.aunschedule("often") is False


def test_what_is_unscheduled_is_not_due_any_more(got: Path, clock: ManualClock) -> None:
    function = recorder(got)
    with Runtime([function], clock=clock) as runtime:
        name = function.schedule("rate(1 minute)")
        other = function.schedule("rate(2 minutes)", 2)
        assert function.unschedule(name)
        clock.advance(120)
        wait_for(got, 1)
        settle(runtime)
        assert list(function.schedules()) == [other]
    assert events(got) == [2]


def test_a_schedule_by_hand_outlives_the_host(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    function = recorder(got)
    with Runtime([function], store=tmp_path / "s", clock=clock):
        function.schedule("at(2027-01-15T09:00:00)", 1)
    clock.advance(3600)
    with Runtime([function], store=tmp_path / "s", clock=clock):
        wait_for(got, 1)


def test_a_time_that_is_over_is_refused(got: Path, clock: ManualClock) -> None:
    function = recorder(got)
    with Runtime([function], clock=clock), pytest.raises(ConfigurationError, match="it is over"):
        function.schedule("at(2020-01-01T00:00:00)")


# -- what is declared --------------------------------------------------------------------------------------------------


def test_a_schedule_goes_on_counting_where_it_was(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    function = recorder(got, trigger=schedule("rate(10 minutes)"))
    with Runtime([function], store=tmp_path / "s", clock=clock):
        clock.advance(5 * 60)
    with Runtime([function], store=tmp_path / "s", clock=clock) as runtime:
        clock.advance(5 * 60)
        settle(runtime)
    assert times(got) == [at(BEGIN + timedelta(minutes=10))]


def test_one_that_is_not_declared_any_more_is_forgotten(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    with Runtime([recorder(got, trigger=schedule("rate(10 minutes)"))], store=tmp_path / "s", clock=clock):
        pass
    function = recorder(got)
    with Runtime([function], store=tmp_path / "s", clock=clock):
        assert function.schedules() == {}


def test_a_paused_schedule_is_not_made_up_for(got: Path, clock: ManualClock) -> None:
    with Runtime([recorder(got, trigger=schedule("rate(10 minutes)"))], clock=clock) as runtime:
        (mapping,) = runtime.mappings()
        mapping.pause()
        clock.advance(600)
        settle(runtime)
        mapping.resume()
        clock.advance(600)
        settle(runtime)
    assert times(got) == [at(BEGIN + timedelta(minutes=20))]


def test_a_schedule_that_is_removed_is_over(got: Path, clock: ManualClock) -> None:
    function = recorder(got, trigger=schedule("rate(10 minutes)"))
    with Runtime([function], clock=clock) as runtime:
        (mapping,) = runtime.mappings()
        mapping.remove()
        clock.advance(3600)
        settle(runtime)
        assert function.schedules() == {}
    assert events(got) == []


def test_a_schedule_is_changed_while_it_runs(got: Path, clock: ManualClock) -> None:
    with Runtime([recorder(got, trigger=schedule("rate(10 minutes)", name="s"))], clock=clock) as runtime:
        (mapping,) = runtime.mappings()
        mapping.change(expression="rate(1 minute)")
        clock.advance(60)
        wait_for(got, 1)
        with pytest.raises(ConfigurationError, match="schedule='often'"):
            mapping.change(expression="often")
        with pytest.raises(ConfigurationError, match="has the options expression"):
            mapping.change(speed=1)


# -- clocks, hosts -----------------------------------------------------------------------------------------------------


def test_a_clock_that_is_set_ahead_makes_it_due_and_set_back_not_again(got: Path, clock: ManualClock) -> None:
    with Runtime([recorder(got, trigger=schedule("rate(10 minutes)"))], clock=clock) as runtime:
        clock.set_wall(600)
        wait_for(got, 1)
        settle(runtime)
        clock.set_wall(-600)
        clock.set_wall(600)
        settle(runtime)
        assert len(events(got)) == 1
        clock.advance(600)
        wait_for(got, 2)


@pytest.mark.skipif(sys.platform != "linux", reason="counts in /proc")
@pytest.mark.parametrize("scheduled", [True, False])
def test_a_runtime_leaves_no_descriptor_behind(scheduled: bool, tmp_path: Path, got: Path) -> None:
    function = recorder(got, trigger=schedule("rate(1 hour)") if scheduled else resources.queue("q"))

    def open_and_close(store: Path) -> None:
        with Runtime([function], store=store) as runtime:
            function.invoke({})
            settle(runtime)

    open_and_close(tmp_path / "first")
    before = len(os.listdir("/proc/self/fd"))
    for number in range(3):
        open_and_close(tmp_path / f"{number}")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_sandbox_that_calls_while_its_runtime_is_closed_holds_nobody_up(tmp_path: Path, got: Path) -> None:
    """What was declared meanwhile would be looked at first; not by whoever closing waits for."""
    orders = resources.queue("orders")

    def handler(event: Any) -> Any:
        import time

        open(event, "w").close()
        time.sleep(0.3)
        return orders.send("x")

    call = function(name="call", allow=[orders.send], writes=[PLACE], timeout=10)(handler)
    begun = tmp_path / "begun"
    with Runtime([call], drain=5) as runtime:
        request_id = call.submit(str(begun))
        wait_until(begun.exists)
        _port.declared_more()
    assert request_id
    assert runtime._state == "closed"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_the_kernel_tells_when_the_wall_clock_is_set() -> None:
    """Setting it to what it is is enough; in a container without that right there is nothing to see."""
    descriptor = _clock.watch_wall()
    try:
        assert select.select([descriptor], [], [], 0)[0] == []
        now = (ctypes.c_long * 2)(*divmod(time.time_ns(), 10**9))
        if ctypes.CDLL(None, use_errno=True).clock_settime(0, now) != 0:
            pytest.skip("this user may not set the clock")
        assert select.select([descriptor], [], [], 5)[0] == [descriptor]
        assert _clock.watch_wall(descriptor) == descriptor
        assert select.select([descriptor], [], [], 0)[0] == []
    finally:
        os.close(descriptor)


def test_of_several_hosts_one_does_it(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    """Five runtimes on one file, each with a thread and a writer of its own; their clock is one."""
    function = recorder(got, trigger=schedule("rate(1 minute)"))
    hosts = [Runtime([function], store=tmp_path / "s", clock=clock).open() for _ in range(5)]
    try:
        for minute in range(1, 11):
            clock.advance(60)
            wait_for(got, minute)
            for host in hosts:  # what runs while a minute passes would run again: its lease ends
                settle(host)
    finally:
        for host in hosts:
            host.close()
    assert times(got) == [at(BEGIN + timedelta(minutes=minute)) for minute in range(1, 11)]


def test_many_schedules_cost_nothing_until_they_are_due(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    """Looking takes what is due by an index, however many are not."""
    function = recorder(got)
    with Runtime([function], store=tmp_path / "s", clock=clock) as runtime:
        database = runtime._later().database
        often = rule("rate(1 hour)")

        def fill(transaction: Any) -> None:
            for number in range(2_000):
                schedules.put(transaction, "other", str(number), often, clock.wall(), next_of, declared=False)

        database.put(fill).block()
        plan = database.put(
            lambda one: one._connection.execute(
                "EXPLAIN QUERY PLAN SELECT id FROM schedule WHERE fires_at <= 5 ORDER BY fires_at LIMIT 100"
            ).fetchall()
        ).block()
        assert "schedule_fires" in str(plan.value)
        function.schedule("at(2027-01-15T08:30:00)", "mine")
        clock.advance(1800)
        wait_for(got, 1)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"expression": "every day"}, "schedule='every day': must be in the form of"),
        ({"timezone": "Mars/Base"}, "timezone='Mars/Base'"),
        ({"start": datetime(2030, 1, 1)}, "start=.* with a time zone"),  # noqa: DTZ001
        ({"start": BEGIN, "end": BEGIN - timedelta(1)}, "end=.*: must be after start"),
        ({"flexible": 86_401}, "flexible=86401"),
        ({"catch_up": "some"}, "catch_up='some': must be 'one' or 'all' or 'skip'"),
        ({"name": "a b"}, "name='a b'"),
    ],
)
def test_a_schedule_says_what_it_may_be(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        schedule(**{"expression": "rate(1 minute)", **given})


def test_two_of_one_name_are_refused(got: Path) -> None:
    twice = [schedule("rate(1 minute)"), schedule("rate(1 minute)", flexible=5)]
    with pytest.raises(ConfigurationError, match="has schedule/rate-1-minute twice"):
        Runtime([recorder(got, trigger=twice)]).open()
