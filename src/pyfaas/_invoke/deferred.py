"""
Asynchronous invocation, as callers see it: accepted now, run later, as often as it takes.

    submit ──accept──► the function's queue in the store ──► attempts.py, run by the thread of dispatch.py
    look_up, wait ◄── what came of it

What was accepted is run at least once, whatever dies; its request id is the same each time.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Awaitable, Callable, Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from pyfaas import limits
from pyfaas._clock import Clock, SystemClock
from pyfaas._invoke.attempts import Attempts, House
from pyfaas._invoke.cause import NOBODY, Cause
from pyfaas._invoke.dispatch import Dispatch
from pyfaas._invoke.ids import new_id_in_order
from pyfaas._invoke.outbox import Outbox
from pyfaas._records import Submission, error_of
from pyfaas._stores import estates, log, queue, submissions
from pyfaas._stores.database import Database, Job, Transaction
from pyfaas._stores.queue import Queue
from pyfaas._stores.submissions import Record
from pyfaas._waits import Later, Trip, run_blocking
from pyfaas.context import request_id_text
from pyfaas.errors import ConfigurationError, PayloadTooLarge, StoreUnavailable

if TYPE_CHECKING:
    from pyfaas._pool.policy import Shelf
    from pyfaas._pool.pool import Pool
    from pyfaas.functions import Function


class Deferred:
    """What one runtime has accepted, or found in its store."""

    def __init__(self, database: Database, pool: Pool, shelf_of: Callable[[Any, str | None], Shelf]) -> None:
        self.database = database
        self.dispatch = Dispatch(database, pool, self._others)
        self.outbox = Outbox(database)
        self.house = House(database, self.outbox, pool, shelf_of, self._finished)
        self.on_others: Callable[[], Awaitable[None]] | None = None  # another host may have changed something
        self._served: dict[str, Attempts] = {}
        self._waiting: dict[bytes, list[Later]] = {}
        self._lock = threading.Lock()
        self._closed = False

    def serve(self, functions: Iterable[Function[Any, Any]]) -> None:
        """
        Run what the store holds for these, and what other hosts put there from now on.

        Several of one name (``handler`` is a common one) are not served, for nobody has submitted to them yet. Raises
        StoreUnavailable, and ConfigurationError where somebody has.
        """
        known: dict[str, Function[Any, Any]] = {}
        shared: dict[str, Function[Any, Any]] = {}
        for function in _with_destinations(functions):
            if not _is_same(known.setdefault(function.name, function), function):
                shared[function.name] = function

        def job(transaction: Transaction) -> dict[str, Queue]:
            there = submissions.queues(transaction)
            for name in shared.keys() & there.keys():
                refuse_namesake(known[name], shared[name])
            return {name: there.get(name) or submissions.queue_of(transaction, name) for name in known.keys() - shared}

        found = run_blocking(self.database.write(job, durable=False))
        for name, of in found.items():
            self._attempts(known[name], of)

    def submit(
        self,
        function: Function[Any, Any],
        payload: bytes,
        *,
        tenant: str | None,
        delay: float,
        key: str | None,
        cause: Cause = NOBODY,
    ) -> Trip[str]:
        """Accept an event, and give its request id. Raises PayloadTooLarge, ConfigurationError and StoreUnavailable."""
        if len(payload) > limits.ASYNC_EVENT_BYTES:
            raise PayloadTooLarge(
                f"Request must be smaller than {limits.ASYNC_EVENT_BYTES} bytes for the InvokeFunction operation; "
                f"the event has {len(payload)} bytes of JSON"
            )
        served = self._served.get(function.name)
        if served is None or served.function is not function:
            served = yield from self._serve(function, served)
        request_id, to = new_id_in_order(), served.queue
        noted = f'{{"id": "{request_id.hex()}"}}'
        if delay or tenant is not None or cause is not NOBODY:
            noted = json.dumps({"id": request_id.hex(), "delay": delay, "tenant": tenant, **cause.noted()})
        job: Job[bytes] = submissions.Acceptance(to, request_id, payload, noted, delay)
        if key is not None:

            def job(transaction: Transaction) -> bytes:
                return submissions.accept(transaction, to, request_id, payload, noted, delay=delay, key=key)

        return request_id_text((yield from self.database.write(job)))

    def _attempts(self, function: Function[Any, Any], of: Queue) -> Attempts:
        """Run what is in this queue by this function; one that was declared anew takes the place of the old one."""
        with self._lock:
            former = self._served.get(function.name)
            if former is not None and former.function is function:
                return former
            self._served[function.name] = attempts = Attempts(self.house, function, of, self.dispatch.hurry)
            if former is not None:
                self.dispatch.leave(former)
            self.dispatch.serve(attempts)
        return attempts

    def serve_also(self, function: Function[Any, Any]) -> Trip[None]:
        """Run what comes for a function, if that is not done already. Raises ConfigurationError, StoreUnavailable."""
        served = self._served.get(function.name)
        if served is None or served.function is not function:
            yield from self._serve(function, served)

    def _serve(self, function: Function[Any, Any], other: Attempts | None) -> Trip[Attempts]:
        """Run what comes for this function, from now on."""
        if other is not None:
            refuse_namesake(other.function, function)
        all_of = _with_destinations([function])
        found = yield from self.database.write(lambda one: [submissions.queue_of(one, each.name) for each in all_of])
        first, *_ = [self._attempts(each, queue) for each, queue in zip(all_of, found, strict=True)]
        return first

    def look_up(self, request_id: str) -> Trip[Submission | None]:
        """Tell what is known of a request."""
        return (yield from self._look_up(raw_id_of(request_id)))

    def _look_up(self, raw_id: bytes) -> Trip[Submission | None]:
        record = yield from self.database.write(lambda one: submissions.look_up(one, raw_id), durable=False)
        return None if record is None else _submission(record)

    def wait(self, request_id: str, seconds: float | None) -> Trip[Submission | None]:
        """Wait until a request is finished, or for so long; tell what is known of it then."""
        raw_id = raw_id_of(request_id)
        until = math.inf if seconds is None else monotonic() + seconds
        self.dispatch.start()  # it notices what other hosts finish
        while True:
            later = Later(None if until == math.inf else until - monotonic())
            with self._lock:
                self._waiting.setdefault(raw_id, []).append(later)
            try:
                found = yield from self._look_up(raw_id)
                if found is None or found.finished_at is not None or self._closed or monotonic() >= until:
                    return found
                yield later
            finally:
                self._forget(raw_id, later)

    def _forget(self, raw_id: bytes, later: Later) -> None:
        with self._lock:
            others = [one for one in self._waiting.pop(raw_id, []) if one is not later]
            if others:
                self._waiting[raw_id] = others

    async def _others(self) -> None:
        self._finished(None)
        if self.on_others is not None:
            await self.on_others()

    def _finished(self, request_id: bytes | None) -> None:
        """Let those look again who wait for this request; without one, all."""
        with self._lock:
            woken = [*self._waiting] if request_id is None else [request_id]
            for later in [one for raw_id in woken for one in self._waiting.pop(raw_id, [])]:
                later.grant(later)

    def backlog(self) -> dict[str, queue.Waiting]:
        """Tell what waits, by where."""
        found = run_blocking(self.database.write(queue.count_each, durable=False))
        return {name.replace("async/", "function/", 1): counts for name, counts in found.items()}

    def is_settled(self) -> bool:
        """Tell whether nothing is left to do of what was accepted so far, here or outside, and is due."""
        self.dispatch.look_outside()
        run_blocking(self.database.write(lambda _: None, durable=False))  # who waits for what came before was told
        return self.dispatch.is_idle()

    def close(self, drain: float) -> int:
        """Run what is due for up to ``drain`` seconds; give how many events are lost, which is none with a file."""
        self.dispatch.stop(drain)
        self._closed = True
        self._finished(None)
        lost = self._left() if self.database.path is None else 0
        estates.leave(self.database)
        self.database.close()
        return lost

    def _left(self) -> int:
        try:
            return run_blocking(self.database.write(lambda one: queue.count_all(one) + log.count_unread(one)))
        except StoreUnavailable:
            return 0

    def abandon(self) -> None:
        """In a forked child of the host: the thread, and the store, are the parent's."""
        self._lock = threading.Lock()
        self.dispatch.abandon()


def open_deferred(
    path: str | None, durability: str, clock: Clock | None, pool: Pool, shelf_of: Callable[[Any, str | None], Shelf]
) -> Deferred:
    """Open a store, in memory without a path. Raises StoreUnavailable."""
    database = Database(path, durability, clock or SystemClock())
    estates.register(database)
    return Deferred(database, pool, shelf_of)


def raw_id_of(request_id: str) -> bytes:
    """Read a request id. Raises ConfigurationError."""
    try:
        raw_id = bytes.fromhex(request_id.replace("-", ""))
    except (ValueError, AttributeError, TypeError):
        raw_id = b""
    if len(raw_id) != 16:
        raise ConfigurationError(f"request_id={request_id!r}: must be what submit gave")
    return raw_id


def _submission(record: Record) -> Submission:
    request_id, told = request_id_text(record.request_id), record.error
    return Submission(
        request_id,
        record.function,
        record.state,
        record.attempts,
        record.accepted_at,
        record.finished_at,
        record.value or b"",
        None if told is None else error_of(told, request_id),
        (told or {}).get("condition"),
    )


def _with_destinations(functions: Iterable[Function[Any, Any]]) -> list[Function[Any, Any]]:
    """List them, and those that are told what came of their events, and so on; each once."""
    found: dict[Function[Any, Any], None] = dict.fromkeys(functions)
    waiting = [*found]
    while waiting:
        new = [one for one in waiting.pop().destinations() if one not in found]
        found.update(dict.fromkeys(new))
        waiting += new
    return [*found]


def _is_same(one: Function[Any, Any], other: Function[Any, Any]) -> bool:
    """Tell whether they are one function, perhaps declared anew."""
    return (one.module, one.qualname) == (other.module, other.qualname)


def refuse_namesake(one: Function[Any, Any], other: Function[Any, Any]) -> None:
    """Refuse two functions of one name, unless one of them is the other declared anew. Raises ConfigurationError."""
    if not _is_same(one, other):
        first, second = (f"{function.module}.{function.qualname}" for function in (one, other))
        raise ConfigurationError(
            f"two functions are named {one.name!r} ({first} and {second}): what is submitted is kept under that name, "
            "so give one of them another, @function(name=...)"
        )
