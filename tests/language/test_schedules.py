"""When it is due: rates, moments, and cron expressions against a model that looks at every minute."""

from __future__ import annotations

import calendar
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pyfaas import ConfigurationError
from pyfaas._language.schedules import parse

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")


def moment(text: str, zone: tzinfo = UTC) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone)


def due(expression: str, after: str, count: int = 1, zone: Any = UTC) -> list[str]:
    """Give the next local times."""
    schedule = parse(expression, zone)
    found, now = [], moment(after, zone)
    for _ in range(count):
        following = schedule.next_after(now)
        if following is None:
            break
        assert following > now
        assert following.tzinfo is UTC
        found.append(following.astimezone(zone).strftime("%Y-%m-%d %H:%M"))
        now = following
    return found


# -- rates and moments -------------------------------------------------------------------------------------------------


def test_a_rate_counts_from_its_start() -> None:
    start = moment("2026-01-01T00:00:30")
    schedule = parse("rate(5 minutes)", start=start)
    for after, expected in (
        ("2025-12-31T00:00:00", "2026-01-01T00:05:30"),
        ("2026-01-01T00:00:30", "2026-01-01T00:05:30"),
        ("2026-01-01T00:05:29", "2026-01-01T00:05:30"),
        ("2026-01-01T00:05:30", "2026-01-01T00:10:30"),
    ):
        assert schedule.next_after(moment(after)) == moment(expected)


def test_a_day_of_a_rate_is_24_hours_whatever_the_clocks_do() -> None:
    schedule = parse("rate(1 day)", BERLIN, start=moment("2026-03-28T12:00:00", BERLIN))
    assert schedule.next_after(moment("2026-03-28T12:00:00", BERLIN)) == moment("2026-03-29T13:00:00", BERLIN)


def test_a_moment_comes_once() -> None:
    assert due("at(2026-07-01T09:30:00)", "2026-01-01T00:00:00", 2, BERLIN) == ["2026-07-01 09:30"]
    assert due("at(2026-07-01T09:30:00)", "2026-07-01T09:30:00") == []


# -- cron --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [  # AWS's own examples first; from Sunday, 1 March 2026, 00:00 on
        ("cron(0 10 * * ? *)", ["2026-03-01 10:00", "2026-03-02 10:00"]),
        ("cron(15 12 * * ? *)", ["2026-03-01 12:15", "2026-03-02 12:15"]),
        ("cron(0 18 ? * MON-FRI *)", ["2026-03-02 18:00", "2026-03-03 18:00"]),
        ("cron(0 8 1 * ? *)", ["2026-03-01 08:00", "2026-04-01 08:00"]),
        ("cron(0/15 * * * ? *)", ["2026-03-01 00:15", "2026-03-01 00:30"]),
        ("cron(0/10 * ? * MON-FRI *)", ["2026-03-02 00:00", "2026-03-02 00:10"]),
        ("cron(0/5 8-17 ? * MON-FRI *)", ["2026-03-02 08:00", "2026-03-02 08:05"]),
        ("cron(0 22-1 ? * * *)", ["2026-03-01 01:00", "2026-03-01 22:00"]),
        ("cron(30 9 L * ? *)", ["2026-03-31 09:30", "2026-04-30 09:30"]),
        ("cron(0 0 1W * ? *)", ["2026-03-02 00:00", "2026-04-01 00:00", "2026-05-01 00:00", "2026-06-01 00:00"]),
        ("cron(0 0 31W * ? *)", ["2026-03-31 00:00", "2026-05-29 00:00"]),
        ("cron(0 0 15W 8 ? *)", ["2026-08-14 00:00", "2027-08-16 00:00"]),
        ("cron(0 0 ? * L *)", ["2026-03-07 00:00", "2026-03-14 00:00"]),
        ("cron(0 0 ? * 6L *)", ["2026-03-27 00:00", "2026-04-24 00:00"]),
        ("cron(0 0 ? * FRIL *)", ["2026-03-27 00:00", "2026-04-24 00:00"]),
        ("cron(0 0 ? * 3#2 *)", ["2026-03-10 00:00", "2026-04-14 00:00"]),
        ("cron(0 0 ? * SAT-MON *)", ["2026-03-02 00:00", "2026-03-07 00:00", "2026-03-08 00:00"]),
        ("cron(0 0 1,15 jan,jul ? *)", ["2026-07-01 00:00", "2026-07-15 00:00", "2027-01-01 00:00"]),
        ("cron(0 0 29 2 ? *)", ["2028-02-29 00:00", "2032-02-29 00:00"]),
        ("cron(59 23 31 12 ? 2199)", ["2199-12-31 23:59"]),
        ("cron(0 0 1 1 ? 2025)", []),
        ("cron(0 0 30 2 ? *)", []),
    ],
)
def test_cron_comes_when_aws_says(expression: str, expected: list[str]) -> None:
    assert due(expression, "2026-03-01T00:00:00", max(len(expected), 1)) == expected


def test_a_local_time_that_does_not_exist_is_skipped() -> None:
    """In Berlin, clocks go from 2 to 3 on 29 March 2026."""
    assert due("cron(30 2 * * ? *)", "2026-03-27T12:00:00", 2, BERLIN) == ["2026-03-28 02:30", "2026-03-30 02:30"]


def test_a_local_time_that_comes_twice_counts_once() -> None:
    """In Berlin, clocks go from 3 back to 2 on 25 October 2026."""
    schedule = parse("cron(30 2 * * ? *)", "Europe/Berlin")
    first = schedule.next_after(moment("2026-10-24T12:00:00"))
    assert first == moment("2026-10-25T00:30:00")
    assert schedule.next_after(first) == moment("2026-10-26T01:30:00")


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("every day", "must be in the form of rate"),
        ("rate(5)", "minutes, hours or days"),
        ("rate(0 minutes)", "above 0"),
        ("rate(1 minutes)", "of 1 it is minute"),
        ("rate(5 minute)", "of 1 it is minute"),
        ("rate(5 seconds)", "minutes, hours or days"),
        ("rate(-5 minutes)", "above 0"),
        ("at(2026-01-01)", "yyyy-mm-ddThh:mm:ss"),
        ("at(2026-02-30T00:00:00)", "yyyy-mm-ddThh:mm:ss"),
        ("cron(0 9 * * ?)", "six fields (minutes, hours, day-of-month, month, day-of-week, year), here are 5"),
        ("cron(0 9 * * * *)", "just one of day-of-month (*) and day-of-week (*) must be ?"),
        ("cron(0 9 ? * ? *)", "just one of day-of-month (?) and day-of-week (?) must be ?"),
        ("cron(60 9 * * ? *)", "minutes='60' must be of 0-59"),
        ("cron(0 24 * * ? *)", "hours='24' must be of 0-23"),
        ("cron(0 0 0 * ? *)", "day-of-month='0' must be of 1-31"),
        ("cron(0 0 L-3 * ? *)", "day-of-month='L-3'"),
        ("cron(0 0 1 13 ? *)", "month='13' must be of 1-12 or JAN-DEC"),
        ("cron(0 0 ? * 0 *)", "day-of-week='0' must be of 1-7 or SUN-SAT"),
        ("cron(0 0 1 1 ? 1969)", "year='1969' must be of 1970-2199"),
        ("cron(0 0 1 1 ? 2030-2020)", "year='2030-2020'"),
        ("cron(0/0 0 1 1 ? *)", "minutes='0/0'"),
        ("cron(*-5 0 1 1 ? *)", "minutes='*-5'"),
        ("cron(٣ 0 1 1 ? *)", "minutes='٣'"),
        ("cron(0 0 ? * 3#6 *)", "day-of-week='3#6'"),
        ("cron(0 0 ? * 3#1,3#2 *)", "one # expression and nothing else"),
    ],
)
def test_a_bad_expression_is_refused_with_its_field(expression: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(expression)
    assert told in str(caught.value)
    assert repr(expression) in str(caught.value)


def test_a_time_zone_that_nobody_knows_is_refused() -> None:
    for zone in ("Mars/Olympus", "", "../../etc/passwd"):
        with pytest.raises(ConfigurationError, match="must be the IANA name of one"):
            parse("rate(1 day)", zone)


# -- against a model ---------------------------------------------------------------------------------------------------


def values(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    return st.one_of(
        st.just("*"),
        number.map(str),
        st.lists(number, min_size=2, max_size=3).map(lambda all_of: ",".join(map(str, all_of))),
        st.builds(lambda first, last: f"{first}-{last}", number, number),
        st.builds(lambda first, step: f"{first}/{step}", number | st.just("*"), st.integers(1, high)),
        st.builds(lambda first, last, step: f"{first}-{last}/{step}", number, number, st.integers(1, 9)),
    )


def says(field: str, value: int, low: int, high: int) -> bool:
    """Tell whether a field allows a value, by walking from the first to the last of each part."""
    for part in field.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        at = low if first == "*" else int(first)
        end = high if first == "*" or (step and not last) else int(last or first)
        walked = [at]
        while at != end:
            at = at + 1 if at < high else low
            walked.append(at)
        if value in walked[:: int(step or 1)]:
            return True
    return False


def day_says(of_month: str, of_week: str, local: datetime) -> bool:
    length = calendar.monthrange(local.year, local.month)[1]
    weekday = local.isoweekday() % 7 + 1
    if of_week == "?":
        if of_month == "L":
            return local.day == length
        return says(of_month, local.day, 1, 31)
    if "#" in of_week:
        wanted, nth = map(int, of_week.split("#"))
        return weekday == wanted and (local.day - 1) // 7 + 1 == nth
    if of_week.endswith("L"):
        return weekday == int(of_week[:-1]) and (local + timedelta(days=7)).month != local.month
    return says(of_week, weekday, 1, 7)


DAYS = st.one_of(
    st.tuples(values(1, 31) | st.just("L"), st.just("?")),
    st.tuples(
        st.just("?"),
        values(1, 7)
        | st.integers(1, 7).map(lambda day: f"{day}L")
        | st.builds(lambda day, nth: f"{day}#{nth}", st.integers(1, 7), st.integers(1, 5)),
    ),
)
ZONES = st.sampled_from([UTC, BERLIN, ZoneInfo("America/New_York"), ZoneInfo("Australia/Lord_Howe")])
STARTS = st.one_of(
    st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31)),  # noqa: DTZ001 (a zone is put on)
    st.sampled_from([datetime(2026, 3, 28, 23), datetime(2026, 10, 24, 22), datetime(2026, 3, 8, 5)]),  # noqa: DTZ001
)


@settings(max_examples=100, deadline=None)
@given(minutes=values(0, 59), hours=values(0, 23), days=DAYS, months=values(1, 12), zone=ZONES, start=STARTS)
def test_cron_agrees_with_a_model_that_looks_at_every_minute(
    minutes: str, hours: str, days: tuple[str, str], months: str, zone: tzinfo, start: datetime
) -> None:
    assume(months == "*" or "*" in days or hours == "*")
    now = start.replace(tzinfo=UTC)
    found = parse(f"cron({minutes} {hours} {days[0]} {months} {days[1]} *)", zone).next_after(now)
    at, seen = now.replace(second=0, microsecond=0), set()
    for _ in range(60 * 24 * 3):
        local = at.astimezone(zone)
        plain = local.replace(tzinfo=None, fold=0)
        fits = (
            says(minutes, local.minute, 0, 59)
            and says(hours, local.hour, 0, 23)
            and says(months, local.month, 1, 12)
            and day_says(*days, plain)
            and not local.fold
            and plain not in seen
        )
        seen.add(plain)
        if fits and at > now:
            assert found == at
            return
        at += timedelta(minutes=1)
    assert found is None or found >= at
