"""
Tables as sources: what was caught in somebody's database is carried into our log, where functions read it as a stream.

    somebody commits ──inotify──► read what is new ──► log, and how far, in one transaction ──► forgotten over there

What dies in between is done again: the place where our store is says whether it was done. Several hosts may carry the
same table; each change is carried once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio.to_thread

from pyfaas import limits
from pyfaas._capture import INSERT, REMOVE
from pyfaas._invoke.attempts import House
from pyfaas._invoke.dispatch import POLL_SECONDS, Source
from pyfaas._shapes.rows import image
from pyfaas._sources.outside import OutsideSource
from pyfaas._stores import changes, log, tables
from pyfaas._stores.database import Transaction
from pyfaas._stores.tables import Change, Changes, Place
from pyfaas._waits import run_async
from pyfaas.errors import HostError
from pyfaas.resources import Table

FORGET_SECONDS = 5.0
FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 0.001, 8.0
FORGET_AT_ONCE = 5_000
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_log = logging.getLogger("pyfaas")


class Carrier(OutsideSource):
    """Carries the changes of one table."""

    def __init__(self, house: House, table: Table, hurry: Callable[[Source], None]) -> None:
        super().__init__(house)
        self._hurry = partial(hurry, self)
        self._pause = math.inf  # until the next look of those that follow a write
        self.table = table
        self._changes = Changes(table.database, table.table, house.database.reader)
        self._place: Place | None = None
        self._forgotten = 0
        self._forget_at = math.inf
        self._watch: changes.Watch | None = None

    def __str__(self) -> str:
        return f"table {self.table.name!r}"

    def open(self) -> None:
        """Have changes caught from now on, where there is the table already. Raises ConfigurationError."""
        try:
            self._changes.install()
        except HostError as error:
            _log.warning("%s waits: %s", self, error)
        finally:
            self._changes.close()

    async def work(self) -> None:
        """Carry what is new."""
        try:
            if self._place is None:
                self._place = await run_async(self._house.database.write(self._position, durable=False))
            await self._carry(self._place)
        except BaseException:
            self._place = None
            raise

    def read(self) -> None:
        """Somebody has written."""
        if self._watch is not None:
            self._watch.drain()
        self._pause = FIRST_PAUSE_SECONDS
        self.due_at = 0.0

    def close(self) -> None:
        """Let go of the database."""
        if self._place is not None and self._place.number > self._forgotten:
            self._forget()
        self._changes.close()
        if self._watch is not None:
            self._watch.close()
            self._watch, self.descriptor = None, -1

    # -- the steps -----------------------------------------------------------------------------------------------------

    async def _carry(self, before: Place) -> None:
        self._listen()
        place, found = await anyio.to_thread.run_sync(self._changes.read, before)
        self._listen()  # the write-ahead log is made by the first who reads
        if place.identity != before.identity:
            self._forgotten = 0
        if place != before:
            self._place = await self._append(before, place, found)
            self._pause = min(self._pause, FIRST_PAUSE_SECONDS)
            self.due_at = 0.0  # there may be more
        elif self._pause <= LAST_PAUSE_SECONDS:
            # A write to the log is told before its transaction can be seen: a sync of the disk may lie in between.
            asyncio.get_running_loop().call_later(self._pause, self._hurry)
            self._pause *= 2
        now = self._house.database.now()
        if place.number > self._forgotten:
            self._forget_at = min(self._forget_at, now + FORGET_SECONDS)
        if self._forget_at <= now or place.number - self._forgotten > FORGET_AT_ONCE:
            await anyio.to_thread.run_sync(self._forget)
        self.due_at = min(self.due_at, self._forget_at)

    def _listen(self) -> None:
        """Hear of writes from now on; where nobody tells of them, look now and then."""
        if self._watch is None:
            self._watch = changes.watch(self.table.database)
            self.descriptor = -1 if self._watch is None else self._watch.fileno()
        if self._watch is None:
            self.due_at = min(self.due_at, self._house.database.now() + POLL_SECONDS)
        elif self._watch.follow(self._changes.files):
            self.due_at = 0.0

    def _position(self, transaction: Transaction) -> Place:
        return tables.position(transaction, self.table.path)

    async def _append(self, before: Place, after: Place, found: list[Change]) -> Place:
        """Put changes into our log, unless another host has; tell how far it is then."""
        told = [record for change in found for record in _records(change)]

        def job(transaction: Transaction) -> Place:
            there = self._position(transaction)
            if there != before:
                return there
            into = log.find_or_make(transaction, self.table.path, self.table.shards, self.table.retention)
            log.append(transaction, into, told)
            tables.move(transaction, self.table.path, after)
            return after

        return await run_async(self._house.database.write(job))

    def _forget(self) -> None:
        """Let go, over there, of what is in our store."""
        assert self._place is not None  # noqa: S101 - else nothing was carried
        self._forget_at = math.inf
        try:
            self._changes.forget(self._place.number)
            self._forgotten = self._place.number
        except HostError as error:  # it is only kept for longer
            _log.warning("%s: %s", self, error)


def _records(change: Change) -> list[tuple[str, bytes, str | None]]:
    """Make of a change what is put into the log; a row that got another key was removed, and inserted."""
    old, new = change.old, change.new
    if old is not None and new is not None and _keys(change, old) != _keys(change, new):
        return [_record(change, REMOVE, old, None), _record(change, INSERT, None, new)]
    return [_record(change, change.kind, old, new)]


def _record(
    change: Change, kind: str, old: dict[str, Any] | None, new: dict[str, Any] | None
) -> tuple[str, bytes, str | None]:
    keys = _keys(change, old if new is None else new)
    told: dict[str, Any] = {"eventName": kind, "at": change.at, "Keys": keys}
    images = {} if new is None else {"NewImage": image(new)}
    images |= {} if old is None else {"OldImage": image(old)}
    data = _compact({**told, **images}).encode()
    if len(data) > limits.MESSAGE_BYTES:  # no event could hold some of them
        _log.warning("a row %s is too large for its event, which tells its keys only", keys)
        data = _compact(told).encode()
    return _compact(keys), data, None


def _keys(change: Change, row: dict[str, Any] | None) -> dict[str, Any]:
    return image({name: (row or {})[name] for name in change.keys})
