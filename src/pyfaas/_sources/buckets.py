"""
Buckets as sources: what changes in a directory becomes an event of each function that wants it, once.

    watchfiles, put() ──► keys that may have changed ──► settled? ──► noted, and its events, in one transaction
    a scan, now and then ──┘                                (each key: what it is like, against what was noted)

What the watcher tells is only a reason to look: what counts is what was noted against what is there. So nothing is
missed that happened while no runtime was open, or faster than the system tells.
"""

from __future__ import annotations

import logging
import math
import os
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import islice
from time import time
from typing import Any, NamedTuple

import anyio.to_thread

from pyfaas import _files
from pyfaas._files import Folder, Stamp
from pyfaas._invoke.attempts import House
from pyfaas._invoke.dispatch import Source
from pyfaas._invoke.outbox import News
from pyfaas._shapes import files
from pyfaas._sources.outside import OutsideSource
from pyfaas._sources.watching import Watcher
from pyfaas._stores import objects
from pyfaas._stores.database import Transaction
from pyfaas._waits import run_async, run_blocking
from pyfaas.errors import HostError
from pyfaas.resources import Bucket

AT_ONCE = 500
SCAN_SECONDS = 1.0  # after the last thing that was told
SCAN_SHARE = 20  # a scan that takes a second is not done again for twenty
FIRST_LOOK_SECONDS, LONGEST_LOOK_SECONDS = 0.02, 1.0  # at what is open for writing
_log = logging.getLogger("pyfaas")


class Seen(NamedTuple):
    """A file that may have changed: what it was like when it was seen first, and when to look again."""

    stamp: Stamp | None
    since: float
    due_at: float
    pause: float = FIRST_LOOK_SECONDS


class BucketSource(OutsideSource):
    """The directory of one bucket."""

    def __init__(self, house: House, bucket: Bucket, hurry: Callable[[Source], None]) -> None:
        super().__init__(house)
        self.bucket = bucket
        self._hurry = partial(hurry, self)
        self._folder = Folder(bucket.directory)
        self._told: deque[str] = deque()
        self._pending: dict[str, Seen] = {}
        self._stamps: set[Stamp] = set()  # of those, and of some that were
        self._whole: set[str] = set()  # what this process has put
        self._scan_at = 0.0
        self._scanned_at = -math.inf
        self._scan_took = 0.0
        self._watcher: Watcher | None = None

    def __str__(self) -> str:
        return f"bucket {self.bucket.name!r}"

    @property
    def is_behind(self) -> bool:  # type: ignore[override]
        """Tell whether something was seen that has not become an event yet."""
        return bool(self._pending or self._told) and self.problem is None

    def open(self) -> None:
        """Begin: from now on nothing is missed. Raises HostError, and ConfigurationError without watchfiles."""
        database = self._house.database
        try:
            os.makedirs(self.bucket.directory, exist_ok=True)
            self._watcher = Watcher(self.bucket.directory, self._hear, self._look_at_all)
            _files.listeners.setdefault(self.bucket.directory, []).append(self._put)
            self._folder.tidy()
            if not run_blocking(database.write(self._is_known, durable=False)):
                run_blocking(database.write(lambda one: objects.forget(one, self.bucket.path)))
                found = ((key, _files.stamp_of(one)) for key, one in self._folder.scan())
                while some := [*islice(found, objects.PAGE)]:
                    run_blocking(database.write(partial(self._baseline, files=some)))
                run_blocking(database.write(lambda one: objects.begin(one, self.bucket.path, self.bucket.directory)))
        except OSError as error:
            self.close()
            raise HostError(f"{self.bucket!r}: {error}") from error

    def _is_known(self, transaction: Transaction) -> bool:
        return objects.is_known(transaction, self.bucket.path, self.bucket.directory)

    def _baseline(self, transaction: Transaction, files: Iterable[tuple[str, Stamp]]) -> None:
        objects.baseline(transaction, self.bucket.path, files)

    def close(self) -> None:
        """Hear of nothing any more."""
        if self._watcher is not None:
            self._watcher.close()
            self._watcher = None
            _files.listeners[self.bucket.directory].remove(self._put)

    def ask(self) -> int:
        """Ask to have all of it held against what was noted; the number of that question."""
        self._scan_at = 0.0
        return super().ask()

    # -- from other threads --------------------------------------------------------------------------------------------

    def _hear(self, keys: Iterable[str]) -> None:
        self._told.extend(keys)
        self._hurry()

    def _put(self, key: str) -> None:
        self._whole.add(key)
        self._hear([key])

    def _look_at_all(self) -> None:
        self._scan_at = 0.0
        self._hurry()

    # -- in the dispatcher's loop --------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Note what has changed and is complete, with its events."""
        now = self._house.database.now
        try:
            if self._scan_at <= now():
                await self._scan()
            while self._told:
                key = self._told.popleft()
                self._pending.setdefault(key, Seen(None, now(), 0.0))
            due = [key for key, seen in self._pending.items() if seen.due_at <= now()]
            for first in range(0, len(due), AT_ONCE):
                await self._look_at(due[first : first + AT_ONCE])
        except BaseException:
            self._scan_at = now()
            raise
        if not self._pending:
            self._stamps.clear()
        self._schedule(now(), bool(due))

    def _schedule(self, now: float, something: bool) -> None:
        """Say when to look again: at what was not settled, and at all, some time after the last thing that was told."""
        if something and self._scan_at > now:  # else somebody has asked for it meanwhile
            rest = max(SCAN_SECONDS, self._scan_took * SCAN_SHARE)
            self._scan_at = max(now + SCAN_SECONDS, self._scanned_at + rest)
        due = min((seen.due_at for seen in self._pending.values()), default=math.inf)
        self.due_at = min(self.due_at, 0.0 if self._told else due, self._scan_at)

    # -- what is there, against what was noted -------------------------------------------------------------------------

    async def _scan(self) -> None:
        """Find what is not as it was noted."""
        self._scan_at, begun = math.inf, time()
        found = await anyio.to_thread.run_sync(self._list)
        after = b""
        while True:
            page = await run_async(self._house.database.write(partial(self._page, after=after), durable=False))
            for key, stamp in page:
                if found.pop(key, None) != stamp:
                    self._told.append(key)
            if len(page) < objects.PAGE:
                break
            after = os.fsencode(page[-1][0])
        self._told.extend(found)  # those are new
        self._scanned_at, self._scan_took = self._house.database.now(), time() - begun

    def _list(self) -> dict[str, Stamp]:
        if not os.path.isdir(self.bucket.directory):
            raise FileNotFoundError(2, "the directory is gone", self.bucket.directory)
        return {key: _files.stamp_of(one) for key, one in self._folder.scan()}

    def _page(self, transaction: Transaction, after: bytes) -> list[tuple[str, Stamp]]:
        return objects.page(transaction, self.bucket.path, after)

    async def _look_at(self, keys: list[str]) -> None:
        """Note those that have changed and are settled, with their events."""
        known = await run_async(
            self._house.database.write(lambda one: objects.known(one, self.bucket.path, keys), durable=False)
        )
        changed = await anyio.to_thread.run_sync(self._changed, known)
        if changed:
            await run_async(self._house.database.write(partial(self._note, changed=changed)))
        for key, _, _ in changed:
            self._pending.pop(key, None)

    def _changed(self, known: dict[str, Stamp | None]) -> list[tuple[str, Stamp | None, str]]:
        """Tell which are others than was noted, and complete: each with its stamp and digest. In a thread."""
        changed: list[tuple[str, Stamp | None, str]] = []
        for key, before in known.items():
            stamp = self._folder.stamp(key) if _files.is_key(key) else None
            if stamp == before:
                if stamp is None:  # a directory that came or went, perhaps with files of which nobody tells
                    self._scan_soon()
                self._pending.pop(key, None)
                self._whole.discard(key)
            elif stamp is None:
                changed.append((key, None, ""))
            elif self._is_settled(key, stamp):
                digest = self._folder.digest(key, stamp)
                if digest is None:
                    self._look_again(key, 0.0)
                else:
                    changed.append((key, stamp, digest))
        return changed

    def _scan_soon(self) -> None:
        self._scan_at = min(self._scan_at, self._scanned_at + self._scan_took * SCAN_SHARE)

    def _is_settled(self, key: str, stamp: Stamp) -> bool:
        """Tell whether it was left alone for long enough, or has just been renamed; if not, look again later."""
        now, seen = self._house.database.now(), self._pending[key]
        if seen.stamp != stamp:
            self._pending[key] = seen = Seen(stamp, now, now)
            if key in self._whole or stamp in self._stamps:  # we have put it; another name had it
                self._whole.discard(key)
                return True
            self._stamps.add(stamp)
        rest = self.bucket.settle - max(now - seen.since, time() - stamp.mtime_ns / 1e9)
        if rest > 0:
            self._look_again(key, rest)
        return rest <= 0

    def _look_again(self, key: str, rest: float) -> None:
        """Wait for what is left, and with each time longer for who has it open."""
        seen = self._pending[key]
        due_at = self._house.database.now() + max(rest, seen.pause)
        self._pending[key] = seen._replace(due_at=due_at, pause=min(seen.pause * 2, LONGEST_LOOK_SECONDS))

    def _note(self, transaction: Transaction, changed: list[tuple[str, Stamp | None, str]]) -> None:
        numbers = objects.note(transaction, self.bucket.path, {key: stamp for key, stamp, _ in changed})
        wall = self._house.outbox.wall()
        news = (self._news(numbers[one[0]], wall, *one) for one in changed if one[0] in numbers)
        self._house.outbox.announce(transaction, self.bucket.path, news)

    def _news(self, sequencer: int, wall: float, key: str, stamp: Stamp | None, digest: str) -> News:
        told: dict[str, Any] = {"name": files.REMOVED if stamp is None else files.CREATED, "key": os.fsencode(key)}
        told |= {"sequencer": sequencer, "version": self._house.database.message_id(sequencer)}
        if stamp is not None:
            told |= {"size": stamp.size, "etag": digest}
        text = key.encode("utf-8", "replace").decode()
        subject = {"name": told["name"], "key": text, "end": text}
        return subject, partial(files.file_event, self.bucket.name, [told], at=wall)
