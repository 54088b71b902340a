"""
Schedules as a source: what is due becomes an event of its function, in the same transaction.

    sleep until the next one fires, or somebody sets the clock ──► tick ──► the events of all that are due

Schedules go by the clock on the wall. After a time in which no host ran, ``catch_up`` says what becomes of what was
missed: one of them is made up for, all of them, or none.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import os
from datetime import datetime, timezone
from typing import Any

from pyfaas import _clock, _shapes
from pyfaas._invoke.attempts import House
from pyfaas._invoke.cause import NOBODY
from pyfaas._invoke.dispatch import Run, Source
from pyfaas._invoke.ids import new_id
from pyfaas._invoke.outbox import accept_for
from pyfaas._language import schedules as language
from pyfaas._payload import encode_event
from pyfaas._stores import schedules
from pyfaas._stores.database import Transaction
from pyfaas._stores.schedules import Schedule
from pyfaas._waits import run_async
from pyfaas.context import request_id_text
from pyfaas.errors import ConfigurationError

LATE_SECONDS = 60.0  # what is later than that was missed; AWS's schedules are precise to a minute
_log = logging.getLogger("pyfaas")


class Ticker(Source):
    """All schedules of a store."""

    tickets = (schedules.TICKET,)

    def __init__(self, house: House) -> None:
        self._database = house.database

    def __str__(self) -> str:
        return "schedules"

    async def look(self, runs: int) -> list[Run]:  # noqa: ARG002 - it begins none
        """Put the events of what is due into their functions' queues."""
        if self.descriptor < 0 and isinstance(self._database.clock, _clock.SystemClock):
            self.descriptor = _clock.watch_wall()
        self.due_at = math.inf  # before the clock is read: who sets it then is heard
        wall = self._database.clock.wall()
        fires_at = await run_async(self._database.write(lambda one: tick(one, wall)))
        if fires_at is not None:
            self.due_at = min(self.due_at, self._database.now() + max(fires_at - self._database.clock.wall(), 0.0))
            if self.descriptor < 0:
                self.due_at = min(self.due_at, self._database.now() + LATE_SECONDS)  # nobody tells when it is set
        return []

    def next_due(self, transaction: Transaction) -> float:  # noqa: ARG002 - it is on the wall's time
        """Look in any case: that is one query."""
        return 0.0

    def read(self) -> None:
        """Somebody has set the clock on the wall: look again."""
        _clock.watch_wall(self.descriptor)
        self.due_at = 0.0

    def close(self) -> None:
        """Let go of what tells of the clock."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def tick(transaction: Transaction, wall: float) -> float | None:
    """Do what is due, a part of it where it is much; give when the next one fires."""
    for schedule in schedules.due(transaction, wall):
        try:
            fired, next_at = _moved_on(schedule, wall)
        except ConfigurationError as error:  # a time zone that is gone, say
            _log.warning("schedule %r of %r is over: %s", schedule.name, schedule.function, error)
            fired, next_at = [], None
        for at in fired if schedule.enabled else ():
            accept_for(schedule.function, _event(schedule, at), NOBODY)(transaction)
        schedules.advance(transaction, schedule, next_at)
    return schedules.next_fire(transaction)


def _moved_on(schedule: Schedule, wall: float) -> tuple[list[float], float | None]:
    """Tell for which moments it fires now, and when it is due next."""
    assert schedule.next_at is not None  # noqa: S101 - else it would not be due
    rule, due_at = schedule.rule, schedule.next_at
    if rule["catch_up"] == "all":
        return [due_at], next_of(rule, schedule.began_at, due_at)
    missed = wall - due_at > LATE_SECONDS + rule["flexible"]
    fired = [] if missed and rule["catch_up"] == "skip" else [due_at]
    return fired, next_of(rule, schedule.began_at, max(wall, due_at))


def next_of(rule: dict[str, Any], began_at: float, after: float) -> float | None:
    """Tell when a schedule is due next; None once it is over. Raises ConfigurationError."""
    start, end = rule["start"], rule["end"]
    is_rate = rule["expression"].startswith("rate")
    if start is not None and after < start:
        if is_rate:
            return None if end is not None and end < start else float(start)
        after = start - 1e-6  # the start itself may be one of them
    parsed = _parsed(rule["expression"], rule["timezone"], (began_at if start is None else start) if is_rate else None)
    found = parsed.next_after(datetime.fromtimestamp(after, timezone.utc))
    next_at = None if found is None else found.timestamp()
    is_over = next_at is None or (end is not None and next_at > end)
    return None if is_over else next_at


@functools.lru_cache(maxsize=1024)
def _parsed(expression: str, zone: str, start: float | None) -> language.Schedule:
    began = None if start is None else datetime.fromtimestamp(start, timezone.utc)
    return language.parse(expression, zone, began)


def _event(schedule: Schedule, at: float) -> bytes:
    """Make the event: the one that was given, or that of EventBridge Scheduler."""
    request_id, given = request_id_text(new_id()), schedule.rule["event"]
    if given is None:
        return encode_event(_shapes.scheduled_event(schedule.name, event_id=request_id, at=at))
    told = {
        "schedule-arn": _shapes.schedule_arn(schedule.name),
        "scheduled-time": _shapes.whole_moment(at),
        "execution-id": request_id,
        "attempt-number": "1",
    }
    text = given
    for name, value in told.items():
        text = text.replace(f"<aws.scheduler.{name}>", json.dumps(value)[1:-1])
    return text.encode()  # type: ignore[no-any-return]
