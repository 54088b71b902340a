"""
The six fields of AWS's cron expressions.  (pure)

    minutes  hours  day-of-month  month    day-of-week            year
    0-59     0-23   1-31 ? L 15W  1-12     1-7 = SUN-SAT ? L 6L   1970-2199
                                  JAN-DEC  3#2

All know ``,`` ``-`` ``*`` ``/``. Just one of the two fields for days is ``?``. Times are local ones, without a zone.
"""

from __future__ import annotations

import calendar
import re
from bisect import bisect_left
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta
from typing import NamedTuple, TypeAlias

from pyfaas.errors import ConfigurationError

Days: TypeAlias = Callable[[int, int], "set[int]"]

_LAST_YEAR = 2199


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    wraps: bool = True


_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_FIELDS = (
    _Field("minutes", 0, 59),
    _Field("hours", 0, 23),
    _Field("day-of-month", 1, 31),
    _Field("month", 1, 12, _MONTH_NAMES),
    _Field("day-of-week", 1, 7, _DAY_NAMES),
    _Field("year", 1970, _LAST_YEAR, wraps=False),
)
_NEAREST = re.compile(r"([0-9]+)W")
_LAST = re.compile(r"([0-9A-Z]+)L")
_NTH = re.compile(r"([0-9A-Z]+)#([1-5])")


class Cron(NamedTuple):
    """What an expression allows."""

    minutes: list[int]
    hours: list[int]
    days: Days  # of a year and a month
    months: list[int]
    years: list[int]

    def times_after(self, local: datetime) -> Iterator[datetime]:
        """Give the local times after this one, from the earliest on, to the year 2199."""
        first = local.replace(second=0, microsecond=0) + timedelta(minutes=1)
        for day in self._days_from(first.date()):
            today = day == first.date()
            for hour in self.hours[bisect_left(self.hours, first.hour) if today else 0 :]:
                now = today and hour == first.hour
                for minute in self.minutes[bisect_left(self.minutes, first.minute) if now else 0 :]:
                    yield datetime(day.year, day.month, day.day, hour, minute)  # noqa: DTZ001 (local, without a zone)

    def _days_from(self, first: date) -> Iterator[date]:
        for year in self.years[bisect_left(self.years, first.year) :]:
            for month in self.months:
                if (year, month) >= (first.year, first.month):
                    here = (year, month) == (first.year, first.month)
                    for day in sorted(self.days(year, month)):
                        if not here or day >= first.day:
                            yield date(year, month, day)


def parse_cron(text: str, expression: str) -> Cron:
    """Read what stands between the brackets of ``cron(...)``. Raises ConfigurationError, naming the field."""
    fields = text.upper().split()
    if len(fields) != len(_FIELDS):
        named = ", ".join(field.name for field in _FIELDS)
        raise ConfigurationError(f"schedule={expression!r}: cron has six fields ({named}), here are {len(fields)}")

    def values(number: int) -> list[int]:
        return sorted(_values(fields[number], _FIELDS[number], expression))

    if (fields[2] == "?") == (fields[4] == "?"):
        raise ConfigurationError(
            f"schedule={expression!r}: just one of day-of-month ({fields[2]}) and day-of-week ({fields[4]}) must be ?"
        )
    days = _days_of_week(fields[4], expression) if fields[2] == "?" else _days_of_month(fields[2], expression)
    return Cron(values(0), values(1), days, values(3), values(5))


def _values(text: str, field: _Field, expression: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        found |= _part(part, field, expression)
    return found


def _part(part: str, field: _Field, expression: str) -> set[int]:
    """Read one of ``5``, ``*``, ``5-10``, ``5/10``, ``5-50/10``."""
    span, slash, step = part.partition("/")
    first, dash, last = span.partition("-")
    if slash and not (step.isascii() and step.isdigit() and int(step) > 0):
        raise _refuse(part, field, expression)
    if first == "*":
        if dash:
            raise _refuse(part, field, expression)
        low, high = field.low, field.high
    else:
        low = _number(first, field, expression, part)
        high = _number(last, field, expression, part) if dash else field.high if slash else low
    if low > high and not field.wraps:
        raise _refuse(part, field, expression)
    size = field.high - field.low + 1
    count = (high - low) % size + 1
    return {(low - field.low + offset) % size + field.low for offset in range(0, count, int(step or 1))}


def _number(text: str, field: _Field, expression: str, part: str) -> int:
    if text in field.names:
        return field.names.index(text) + field.low
    if text.isascii() and text.isdigit() and field.low <= int(text) <= field.high:
        return int(text)
    raise _refuse(part, field, expression)


def _refuse(part: str, field: _Field, expression: str) -> ConfigurationError:
    right = f"{field.low}-{field.high}"
    if field.names:
        right += f" or {field.names[0]}-{field.names[-1]}"
    extra = {"day-of-month": ", with ? L 15W", "day-of-week": ", with ? L 6L 3#2"}.get(field.name, "")
    return ConfigurationError(f"schedule={expression!r}: {field.name}={part!r} must be of {right}, with , - * /{extra}")


# -- days --------------------------------------------------------------------------------------------------------------


def _days_of_month(text: str, expression: str) -> Days:
    """Read a field such as ``1,15W,L``."""
    field = _FIELDS[2]
    plain: set[int] = set()
    nearest: set[int] = set()
    last = False
    for part in text.split(","):
        if part == "L":
            last = True
        elif found := _NEAREST.fullmatch(part):
            nearest.add(_number(found[1], field, expression, part))
        else:
            plain |= _part(part, field, expression)

    def days(year: int, month: int) -> set[int]:
        length = calendar.monthrange(year, month)[1]
        named = {day for day in plain if day <= length}
        named |= {_nearest_weekday(year, month, day, length) for day in nearest if day <= length}
        return named | {length} if last else named

    return days


def _nearest_weekday(year: int, month: int, day: int, length: int) -> int:
    weekday = calendar.weekday(year, month, day)  # 5 is Saturday
    if weekday == 5:
        return day - 1 if day > 1 else day + 2
    if weekday == 6:
        return day + 1 if day < length else day - 2
    return day


def _days_of_week(text: str, expression: str) -> Days:
    """Read a field such as ``2-6``, ``MON,FRIL``, ``L`` or ``3#2``."""
    field = _FIELDS[4]
    plain: set[int] = set()
    last: set[int] = set()
    nth: list[tuple[int, int]] = []
    for part in text.split(","):
        if part == "L":
            plain.add(7)
        elif found := _NTH.fullmatch(part):
            if "," in text:
                raise ConfigurationError(
                    f"schedule={expression!r}: day-of-week={text!r} must be one # expression and nothing else"
                )
            nth.append((_number(found[1], field, expression, part), int(found[2])))
        elif (found := _LAST.fullmatch(part)) and part not in field.names:
            last.add(_number(found[1], field, expression, part))
        else:
            plain |= _part(part, field, expression)

    def days(year: int, month: int) -> set[int]:
        length = calendar.monthrange(year, month)[1]
        of = {day: (calendar.weekday(year, month, day) + 1) % 7 + 1 for day in range(1, length + 1)}  # 1 is Sunday
        named = {day for day, weekday in of.items() if weekday in plain}
        named |= {day for day, weekday in of.items() if weekday in last and day + 7 > length}
        return named | {day for day, weekday in of.items() if (weekday, (day - 1) // 7 + 1) in nth}

    return days
