"""
When is it due?  ``rate()``, ``cron()`` and ``at()``, as EventBridge's rules and its Scheduler write them.  (pure)

    parse("cron(0 9 ? * MON-FRI *)", "Europe/Berlin") ──► Schedule
    Schedule.next_after(moment) ──► the next moment, or None once there is none

Moments are aware datetimes. A cron expression names local times of its time zone: one that does not exist (clocks go
forward) is skipped, one that comes twice (clocks go back) is taken the first time, as Scheduler does it.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import NamedTuple, Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pyfaas._language.cron import Cron, parse_cron
from pyfaas.errors import ConfigurationError

_UNITS = {"minute": 60, "hour": 3600, "day": 86_400}
_FORM = re.compile(r"(rate|cron|at)\((.*)\)", re.DOTALL)
_RATE = re.compile(r"([0-9]+) ([a-z]+)")
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")


class Schedule(Protocol):
    """What all three forms can tell."""

    def next_after(self, moment: datetime) -> datetime | None:
        """Give the first moment after this one, in UTC; None once there is none."""


class Rate(NamedTuple):
    """Every so many seconds, counted from ``start`` on; that is not one of them."""

    seconds: int
    start: datetime

    def next_after(self, moment: datetime) -> datetime:
        """Give the first moment after this one, in UTC."""
        start = self.start.astimezone(timezone.utc)  # in a zone of its own Python would count the hours on the wall
        passed = max((moment.astimezone(timezone.utc) - start) // timedelta(seconds=self.seconds), 0)
        return start + timedelta(seconds=self.seconds * (passed + 1))


class At(NamedTuple):
    """Once."""

    moment: datetime

    def next_after(self, moment: datetime) -> datetime | None:
        """Give the moment, if it is after this one."""
        return self.moment if moment < self.moment else None


class LocalCron(NamedTuple):
    """The local times of a cron expression in a time zone."""

    cron: Cron
    zone: tzinfo

    def next_after(self, moment: datetime) -> datetime | None:
        """Give the first moment after this one, in UTC; None after the year 2199, or where no such day exists."""
        local = moment.astimezone(self.zone).replace(tzinfo=None, fold=0)
        for found in self.cron.times_after(local):
            due = found.replace(tzinfo=self.zone).astimezone(timezone.utc)
            exists = due.astimezone(self.zone).replace(tzinfo=None) == found
            if exists and due > moment:
                return due
        return None


def parse(expression: str, zone: str | tzinfo = "UTC", start: datetime | None = None) -> Schedule:
    """
    Read an expression; ``start`` is what a rate counts from.

    Raises ConfigurationError: which field is wrong, and what would be right.
    """
    where = zone_of(zone)
    form = _FORM.fullmatch(str(expression).strip())
    if form is None:
        right = "rate(5 minutes), cron(0 9 ? * MON-FRI *) or at(2030-01-31T09:00:00)"
        raise ConfigurationError(f"schedule={expression!r}: must be in the form of {right}")
    kind, text = form.groups()
    if kind == "cron":
        return LocalCron(parse_cron(text, expression), where)
    if kind == "at":
        return At(_moment(text, expression).replace(tzinfo=where).astimezone(timezone.utc))
    return Rate(_rate(text, expression), start or datetime.now(timezone.utc))


def zone_of(zone: str | tzinfo) -> tzinfo:
    """Give the time zone of this name. Raises ConfigurationError."""
    if isinstance(zone, tzinfo):
        return zone
    try:
        return ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError):
        raise ConfigurationError(
            f'timezone={zone!r}: must be the IANA name of one, such as "Europe/Berlin" '
            "(where the system has no time zones, `pip install tzdata`)"
        ) from None


def _rate(text: str, expression: str) -> int:
    found = _RATE.fullmatch(text)
    number = int(found[1]) if found else 0
    unit = found[2] if found else ""
    singular = unit.removesuffix("s")
    if not number or singular not in _UNITS or (unit == singular) != (number == 1):
        right = "a whole number above 0 and minutes, hours or days; of 1 it is minute, hour or day"
        raise ConfigurationError(f"schedule={expression!r}: rate({text}) must be {right}")
    return number * _UNITS[singular]


def _moment(text: str, expression: str) -> datetime:
    try:
        if not _AT.fullmatch(text):
            raise ValueError("another form")
        return datetime.fromisoformat(text)
    except ValueError:
        right = "a moment in the form of yyyy-mm-ddThh:mm:ss"
        raise ConfigurationError(f"schedule={expression!r}: at({text}) must be {right}") from None
