"""
What is due at times on the wall, as the store knows it.

    put, declare ──► rows with the moment at which each is due next ──► tick: those that are due, moved on

A tick is one transaction with what it leads to; so of several hosts just one does it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pyfaas._stores.database import Transaction

TICKET = "schedules"
AT_ONCE = 100


class Schedule(NamedTuple):
    """One row: ``rule`` is what was declared; moments are of the wall, ``next_at`` None once it is over."""

    id: int
    function: str
    name: str
    declared: bool
    rule: dict[str, Any]
    began_at: float
    next_at: float | None
    enabled: bool = True


Next = Callable[["dict[str, Any]", float, float], "float | None"]


def of_function(transaction: Transaction, function: str) -> list[Schedule]:
    """List those of a function."""
    return [_read(row) for row in transaction.run("schedules_of", function=function)]


def put(
    transaction: Transaction,
    function: str,
    name: str,
    rule: dict[str, Any],
    wall: float,
    next_of: Next,
    *,
    declared: bool,
) -> float | None:
    """Have a function run at times from now on; give the first, None where there is none."""
    next_at = next_of(rule, wall, wall)
    transaction.count(
        "set_schedule",
        function=function,
        name=name,
        declared=declared,
        rule=json.dumps(rule),
        began_at=wall,
        next_at=next_at,
        fires_at=_fires_at(rule, next_at),
    )
    transaction.touch(TICKET, 0.0)
    return next_at


def declare(
    transaction: Transaction, function: str, wanted: dict[str, dict[str, Any]], wall: float, next_of: Next
) -> None:
    """Say all that a function's triggers want; what is as it was goes on counting."""
    there = {one.name: one for one in of_function(transaction, function) if one.declared}
    for name in there.keys() - wanted.keys():
        remove(transaction, function, name)
    for name, rule in wanted.items():
        if name not in there or there[name].rule != rule:
            put(transaction, function, name, rule, wall, next_of, declared=True)


def remove(transaction: Transaction, function: str, name: str) -> bool:
    """Forget one; tell whether it was there."""
    return bool(transaction.count("remove_schedule", function=function, name=name))


def due(transaction: Transaction, wall: float) -> Iterable[Schedule]:
    """Give some of those that are due."""
    return [_read(row) for row in transaction.run("due_schedules", wall=wall, count=AT_ONCE)]


def advance(transaction: Transaction, schedule: Schedule, next_at: float | None) -> None:
    """Say when one is due again; without a moment it is over, and forgotten if no trigger declares it."""
    if next_at is None and not schedule.declared:
        transaction.count("forget_schedule", id=schedule.id)
    else:
        fires_at = _fires_at(schedule.rule, next_at)
        transaction.count("advance_schedule", id=schedule.id, next_at=next_at, fires_at=fires_at)


def next_fire(transaction: Transaction) -> float | None:
    """Tell when the next one fires; None where there is none."""
    fires_at: float | None = transaction.one("next_schedule")
    return fires_at


def _fires_at(rule: dict[str, Any], next_at: float | None) -> float | None:
    return None if next_at is None else next_at + random.uniform(0.0, rule["flexible"])


def _read(row: tuple[Any, ...]) -> Schedule:
    number, function, name, declared, rule, began_at, next_at, *enabled = row
    return Schedule(number, function, name, bool(declared), json.loads(rule), began_at, next_at, *map(bool, enabled))
