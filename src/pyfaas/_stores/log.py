"""
An append-only log: what was put stays for a while, and each mapping that reads it has a cursor in every part.

    append ──► shard, by the key's hash ──► [ 17 18 19 20 ] ──► trimmed, once they are older than the retention
                                                 ▲
            a cursor: due ──lease──► leased until ... ──move──► due, further on     (give_back: due, where it was)

The records of one key are in one shard, and in one lane of it, in the order of their commits. A lane is leased as a
whole, so they are read in that order too. A host that dies gives its lanes back by dying.

When a log is to have another number of shards it gets a new generation of them; what is in the older one is read first.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from pyfaas._stores.database import Ticket, Transaction

TRIMMED_AT_ONCE = 1_000
_EVERYTHING = 2**63 - 1


class Log(NamedTuple):
    """A log, as a store knows it; ``retention`` in seconds."""

    id: int
    retention: float


class Shard(NamedTuple):
    """A part of a log."""

    id: int
    number: int
    generation: int


class Record(NamedTuple):
    """One thing that was put."""

    id: int
    at: float
    key: str
    attributes: dict[str, Any]
    data: bytes


class Kept(NamedTuple):
    """What a log holds."""

    records: int
    shards: int


class Unread(NamedTuple):
    """What waits in a lane: how many records, and their bytes; of a full batch, and when the first one came."""

    records: int
    size: int
    since: float


class Lane(NamedTuple):
    """A mapping's cursor in its part of a shard; ``lease`` is 0 until it is leased."""

    mapping: int
    shard: int
    number: int  # of the shard in its log
    lane: int
    lanes: int
    position: int
    noted: dict[str, Any]
    lease: int = 0

    def keep(self, transaction: Transaction, seconds: float) -> int:
        """Have the lease end so many seconds from now."""
        return transaction.count("keep_cursor", until=transaction.now + seconds, **self._key(), lease=self.lease)

    def give_back(self, transaction: Transaction) -> int:
        """Give the lease up."""
        transaction.touch(ticket_of_mapping(self.mapping), transaction.now)
        return transaction.count("give_back_cursor", now=transaction.now, **self._key(), lease=self.lease)

    def _key(self) -> dict[str, int]:
        return {"mapping": self.mapping, "shard": self.shard, "lane": self.lane}


def ticket_of(log: Log) -> Ticket:
    """Name what those wait for who read a log."""
    return f"log/{log.id}"


def ticket_of_mapping(mapping: int) -> Ticket:
    """Name what one of those waits for, besides: that a lane of its own is given up."""
    return f"mapping/{mapping}"


# -- writing -----------------------------------------------------------------------------------------------------------


def find_or_make(transaction: Transaction, name: str, shards: int, retention: float) -> Log:
    """Give the log of this name, as it is; made with these, if there is none."""
    for found in transaction.run("find_log", name=name):
        return Log(*found)
    return declare(transaction, name, shards, retention)


def declare(transaction: Transaction, name: str, shards: int, retention: float) -> Log:
    """Say what a log is like from now on; with another number of shards than it has, it gets new ones."""
    log = Log(transaction.one("set_log", name=name, retention=retention), retention)
    there = shards_of(transaction, log)
    newest = [one for one in there if one.generation == there[0].generation]
    if len(newest) != shards:
        generation = newest[0].generation + 1 if newest else 0
        first = max((one.number for one in there), default=-1) + 1
        for number in range(first, first + shards):
            shard = transaction.one("add_shard", log=log.id, number=number, generation=generation)
            transaction.count("add_cursors", log=log.id, shard=shard, now=transaction.now)
    return log


def shards_of(transaction: Transaction, log: Log) -> list[Shard]:
    """List the shards of a log, those that are written to first."""
    return [Shard(*row) for row in transaction.run("shards", log=log.id)]


def append(transaction: Transaction, log: Log, records: Iterable[tuple[str, bytes, str | None]]) -> list[int]:
    """Put records at the end, each a key, data, and attributes in JSON; give their numbers."""
    there = shards_of(transaction, log)
    open_ones = [one for one in there if one.generation == there[0].generation]
    numbers = []
    for key, data, attributes in records:
        digest = int.from_bytes(hashlib.md5(key.encode(), usedforsecurity=False).digest(), "big")
        number = transaction.insert(
            "append",
            shard=open_ones[digest * len(open_ones) >> 128].id,
            now=transaction.now,
            hash=digest & 0x7FFFFFFF,
            key=key,
            attributes=attributes,
            data=data,
        )
        numbers.append(number)
    transaction.touch(ticket_of(log), transaction.now)
    return numbers


def trim(transaction: Transaction) -> tuple[int, set[str]]:
    """Forget some of what is too old; give how many records, and the targets that had not read all of them."""
    forgotten = 0
    late: set[str] = set()
    for number, _, retention in transaction.run("logs"):
        log = Log(number, retention)
        there = shards_of(transaction, log)
        for shard in there:
            before = transaction.now - retention
            gone = transaction.run("trim", shard=shard.id, count=TRIMMED_AT_ONCE, before=before)
            forgotten += len(gone)
            if gone:
                late.update(row[0] for row in transaction.run("skip_trimmed", shard=shard.id, position=max(gone)[0]))
            if shard.generation != there[0].generation:
                transaction.count("forget_shard", shard=shard.id)
    return forgotten, late


def count_unread(transaction: Transaction) -> int:
    """Tell how many records wait, once for each mapping that has not read them."""
    return int(transaction.one("count_unread"))


def count(transaction: Transaction, log: Log) -> Kept:
    """Tell what a log holds; it looks at each record."""
    return Kept(transaction.one("count_records", log=log.id), len(shards_of(transaction, log)))


# -- reading -----------------------------------------------------------------------------------------------------------


def follow(transaction: Transaction, log: Log, mapping: int, lanes: int, start: str | float) -> None:
    """
    See that a mapping has its cursors in all shards.

    ``start``: where it begins if it has none: ``"trim_horizon"`` with the oldest record, ``"latest"`` after the newest,
    or with those since a moment. With another number of lanes than before each begins where the last one was, so no
    record is left out, and some come twice.
    """
    there: dict[int, list[tuple[int, int, int]]] = {}
    for shard, lane, known, position in transaction.run("cursors_of", mapping=mapping):
        there.setdefault(shard, []).append((lane, known, position))
    for shard in shards_of(transaction, log):
        cursors = there.get(shard.id, [])
        if cursors and cursors[0][1] == lanes:
            continue
        position = min((one[2] for one in cursors), default=0)
        if not there:
            position = _position(transaction, shard, start)
        transaction.count("forget_cursors", mapping=mapping, shard=shard.id)
        for lane in range(lanes):
            transaction.count(
                "set_cursor",
                mapping=mapping,
                shard=shard.id,
                lane=lane,
                lanes=lanes,
                position=position,
                now=transaction.now,
            )


def _position(transaction: Transaction, shard: Shard, start: str | float) -> int:
    """Tell after which record of a shard to begin."""
    if start == "trim_horizon":
        return 0
    first = None if start == "latest" else transaction.one("first_since", shard=shard.id, at=start)
    return int(first) - 1 if first is not None else last(transaction, shard.id)


def last(transaction: Transaction, shard: int) -> int:
    """Give the number of the newest record of a shard; 0 without one."""
    return transaction.one("last_of_shard", shard=shard) or 0


def due(transaction: Transaction, mapping: int, most: int) -> list[Lane]:
    """List lanes in which there is something to read, or to end."""
    found = transaction.run("due_cursors", mapping=mapping, now=transaction.now, count=most)
    return [
        Lane(mapping, shard, number, lane, lanes, position, json.loads(noted) if noted else {})
        for shard, number, lane, lanes, position, noted in found
    ]


def next_due(transaction: Transaction, mapping: int) -> float:
    """Tell when there will be; infinity where nothing waits."""
    found: float | None = transaction.one("next_due_cursor", mapping=mapping)
    return math.inf if found is None else found


def read(
    transaction: Transaction, lane: Lane, log: Log, most: int, size: int, upto: int | None = None
) -> tuple[list[Record], int]:
    """
    Give the next records of a lane: at most so many, and not many more bytes than ``size``; up to one of them.

    And give up to which record of the shard that is: all of the lane's up to there are among them.
    """
    through = last(transaction, lane.shard) if upto is None else upto
    records = []
    rows = transaction.each(
        "read",
        shard=lane.shard,
        position=lane.position,
        upto=through,
        lane=lane.lane,
        lanes=lane.lanes,
        after=transaction.now - log.retention,
        count=most,
    )
    for number, at, key, attributes, data in rows:
        records.append(Record(number, at, key, json.loads(attributes) if attributes else {}, data))
        size -= len(data)
        if size <= 0:
            break
    if records and (len(records) == most or size <= 0):
        through = records[-1].id
    return records, through


def unread(transaction: Transaction, lane: Lane, log: Log, most: int) -> Unread:
    """Tell what waits in a lane, of up to so many records."""
    values = {"shard": lane.shard, "position": lane.position, "lane": lane.lane, "lanes": lane.lanes, "count": most}
    number, size, since = transaction.run("unread", after=transaction.now - log.retention, **values)[0]
    return Unread(number, int(size), transaction.now if since is None else since)


def next_arrival(transaction: Transaction, shard: int, position: int) -> float:
    """Tell when the first record after this one has come; infinity where there is none."""
    found: float | None = transaction.one("next_arrival", shard=shard, position=position)
    return math.inf if found is None else found


def lease(transaction: Transaction, lane: Lane, seconds: float) -> Lane:
    """Have nobody else read a lane for so long."""
    leased = lane._replace(lease=transaction.new_lease())
    until = transaction.now + seconds
    transaction.count(
        "lease_cursor", mapping=lane.mapping, shard=lane.shard, lane=lane.lane, until=until, lease=leased.lease
    )
    return leased


def move(
    transaction: Transaction,
    lane: Lane,
    position: int,
    noted: dict[str, Any],
    *,
    delay: float = 0.0,
    ends_at: float | None = None,
) -> bool:
    """
    Give up a lease, and say up to which record was read; tell whether it was ours still.

    ``delay``: seconds until it goes on; ``ends_at``: when there is something to end, even if nothing comes until then.
    """
    due_at = transaction.now + delay
    transaction.touch(ticket_of_mapping(lane.mapping), due_at)
    return bool(
        transaction.count(
            "move_cursor",
            mapping=lane.mapping,
            shard=lane.shard,
            lane=lane.lane,
            lease=lane.lease,
            position=position,
            due_at=due_at,
            ends_at=ends_at,
            noted=json.dumps(noted) if noted else None,
        )
    )
