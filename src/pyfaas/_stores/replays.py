"""
Archives of buses, and what of them is put on its bus once more, as the store knows it.

    keep ──► the archive's log ──replay──► a row: from where, up to where ──► some events at a time, until it is there

A part of a replay is one transaction with what it leads to; so each event is put once more just once, by some host.
"""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

from pyfaas._records import Replay
from pyfaas._stores import log
from pyfaas._stores.database import Transaction
from pyfaas._stores.log import Lane, Log, Record
from pyfaas.errors import ConfigurationError
from pyfaas.resources.archives import Replaying

TICKET = "replays"
AT_ONCE, BYTES_AT_ONCE = 100, 4_194_304
RUNNING, COMPLETED = "RUNNING", "COMPLETED"


class Part(NamedTuple):
    """Some events of one that runs."""

    id: int
    name: str
    bus: str
    rules: list[str] | None
    records: list[Record]
    position: int
    is_last: bool


def keep(transaction: Transaction, archive: str, retention: float | None, event: tuple[str, bytes]) -> None:
    """Put an event, its id and its JSON, into an archive; None keeps it for ever."""
    log.append(transaction, _log_of(transaction, archive, retention), [(*event, None)])


def _log_of(transaction: Transaction, archive: str, retention: float | None) -> Log:
    return log.find_or_make(transaction, archive, 1, math.inf if retention is None else retention)


def declare(transaction: Transaction, archive: str, retention: float | None) -> None:
    """Say for how long an archive keeps its events from now on."""
    log.declare(transaction, archive, 1, math.inf if retention is None else retention)


def begin(transaction: Transaction, archive: str, bus: str, retention: float | None, wanted: Replaying) -> None:
    """Have what came in a time put once more. Raises ConfigurationError where there is one of this name."""
    (shard,) = log.shards_of(transaction, _log_of(transaction, archive, retention))
    first = transaction.one("first_since", shard=shard.id, at=wanted.start)
    upto = transaction.one("last_until", shard=shard.id, at=wanted.end) or 0
    added = transaction.count(
        "add_replay",
        name=wanted.name,
        archive=archive,
        bus=bus,
        begins_at=wanted.start,
        ends_at=wanted.end,
        rules=None if wanted.rules is None else json.dumps(wanted.rules),
        position=upto if first is None else min(first - 1, upto),
        upto=upto,
    )
    if not added:
        raise ConfigurationError(f"replay={wanted.name!r}: there is one of this name already; give it another")
    transaction.touch(TICKET, 0.0)


def part(transaction: Transaction) -> Part | None:
    """Give the next events of the first that runs; None where none does."""
    for number, name, archive, bus, upto, rules, position in transaction.run("next_replay"):
        of = Log(*transaction.run("find_log", name=archive)[0])
        (shard,) = log.shards_of(transaction, of)
        lane = Lane(mapping=0, shard=shard.id, number=shard.number, lane=0, lanes=1, position=position, noted={})
        records, through = log.read(transaction, lane, of, AT_ONCE, BYTES_AT_ONCE, upto)
        wanted = None if rules is None else json.loads(rules)
        return Part(number, name, bus, wanted, records, through, is_last=through >= upto)
    return None


def move(transaction: Transaction, done: Part) -> None:
    """Say that these events were put."""
    state = COMPLETED if done.is_last else RUNNING
    transaction.count("move_replay", id=done.id, position=done.position, count=len(done.records), state=state)


def is_any(transaction: Transaction) -> bool:
    """Tell whether one runs."""
    return bool(transaction.run("next_replay"))


def is_any_wanted(transaction: Transaction) -> bool:
    """Tell whether there is an archive, of which one may be wanted."""
    return bool(transaction.one("has_archives"))


def every(transaction: Transaction, archive: str) -> list[Replay]:
    """List those of an archive, the oldest first."""
    return [Replay(*row) for row in transaction.run("replays", archive=archive)]


def cancel(transaction: Transaction, archive: str, name: str) -> bool:
    """Stop one; tell whether it was running."""
    return bool(transaction.count("end_replay", archive=archive, name=name))


def count(transaction: Transaction, archive: str, retention: float | None) -> Any:
    """Tell how many events an archive holds."""
    return log.count(transaction, _log_of(transaction, archive, retention)).records
