"""
Who gets what comes from where, as the store knows it; and for topics and buses, which of them fit a message.

    declare(rows) ──► the rows of these targets are just these from now on; whether one is paused stays as it was
    Routes.of(source, subject) ──► the targets that a message goes to, by an index that is made anew when rows change
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyfaas._language.patterns import compile_pattern
from pyfaas._language.rules import Rules
from pyfaas._stores.database import Transaction

_CURRENT = "mappings"  # the fact that is another one after each change


class Mapping(NamedTuple):
    """One row: ``rule`` is what the trigger says."""

    id: int
    source: str
    target: str
    name: str
    rule: dict[str, Any]
    enabled: bool


class Wanted(NamedTuple):
    """A row as it is declared."""

    source: str
    target: str
    name: str
    rule: dict[str, Any]


def every(transaction: Transaction) -> list[Mapping]:
    """List all, the oldest first."""
    found = transaction.run("mappings")
    return [
        Mapping(number, source, target, name, json.loads(rule), bool(enabled))
        for number, source, target, name, rule, enabled in found
    ]


def declare(transaction: Transaction, targets: Iterable[str], wanted: Iterable[Wanted]) -> list[Mapping]:
    """Say all that these targets get from now on; what they got and is not among it they get no more."""
    targets, rows = set(targets), {one[:3]: one for one in wanted}
    there = [one for one in every(transaction) if one.target in targets]
    gone = [one for one in there if (one.source, one.target, one.name) not in rows]
    known = {(one.source, one.target, one.name): one.rule for one in there}
    new = [one for key, one in rows.items() if known.get(key) != json.loads(json.dumps(one.rule))]
    for old in gone:
        transaction.count("remove_mapping", id=old.id)
    for one in new:
        rule = json.dumps(one.rule)
        transaction.count("add_mapping", source=one.source, target=one.target, name=one.name, rule=rule)
    if gone or new:
        _changed(transaction)
    return [one for one in every(transaction) if (one.source, one.target, one.name) in rows]


def enable(transaction: Transaction, number: int, enabled: bool) -> None:
    """Pause one, or let it go on."""
    transaction.count("enable_mapping", id=number, enabled=enabled)
    _changed(transaction)


def change(transaction: Transaction, number: int, rule: dict[str, Any]) -> None:
    """Let another rule take the place of what was declared."""
    transaction.count("change_mapping", id=number, rule=json.dumps(rule))
    _changed(transaction)


def remove(transaction: Transaction, number: int) -> None:
    """Forget one."""
    transaction.count("remove_mapping", id=number)
    _changed(transaction)


def _changed(transaction: Transaction) -> None:
    # No counter: a transaction that is undone would have given its number to another one.
    transaction.run("set_fact", name=_CURRENT, value=random.getrandbits(62))


def current(transaction: Transaction) -> int | None:
    """Give a number that is another one once a row has changed."""
    number: int | None = transaction.one("fact", name=_CURRENT)
    return number


class Routes:
    """The rows of topics and buses, indexed; used by the writer's thread only."""

    def __init__(self) -> None:
        self._current: int | None = 0
        self._by_source: dict[str, _Fan] = {}

    def of(self, transaction: Transaction, source: str, subject: dict[str, Any]) -> list[Mapping]:
        """Give the rows that want a message which tells this of itself."""
        number = current(transaction)
        if number != self._current:
            self._load(transaction)
            self._current = number
        fan = self._by_source.get(source)
        return [] if fan is None else fan.matching(subject)

    def _load(self, transaction: Transaction) -> None:
        self._by_source = {}
        for row in every(transaction):
            if row.enabled:
                self._by_source.setdefault(row.source, _Fan()).add(row)


class _Fan:
    """The rows of one source."""

    def __init__(self) -> None:
        self._rows: dict[int, Mapping] = {}
        self._all: list[Mapping] = []
        self._rules: Rules[int] = Rules()

    def add(self, row: Mapping) -> None:
        pattern = row.rule.get("pattern")
        if pattern is None:
            self._all.append(row)
        else:
            self._rows[row.id] = row
            self._rules.add(row.id, compile_pattern(pattern))

    def matching(self, subject: dict[str, Any]) -> list[Mapping]:
        return [*self._all, *(self._rows[number] for number in self._rules.matching(subject))]
