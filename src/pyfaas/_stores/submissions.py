"""
What was accepted to be run later: a message in the queue of its function, and in the end a record in its place.

    accept ──► waiting ──(claimed, run, perhaps again)──► finish: done, or failed ──► forgotten after some days
"""

from __future__ import annotations

import json
from itertools import compress
from typing import Any, NamedTuple

from pyfaas import limits
from pyfaas._stores import queue
from pyfaas._stores.database import Job, Mergeable, Transaction
from pyfaas._stores.queue import Message, Queue

WAITING, RUNNING, DONE, FAILED = "waiting", "running", "done", "failed"
KEY_SECONDS = 86_400.0  # an idempotency key is known for a day
KEPT_SECONDS = 345_600.0  # what came of it is known for four days, as long as AWS's queues keep messages,
KEPT_IF_MANY_SECONDS, MANY = 3_600.0, 100_000  # and of more than so many for an hour
FORGOTTEN_AT_ONCE = 1_000
_PREFIX = "async/"


class Record(NamedTuple):
    """What is known of a request. ``error`` is what ``finish`` was given; moments are of the store's time."""

    request_id: bytes
    function: str
    state: str
    attempts: int
    accepted_at: float
    finished_at: float | None
    value: bytes | None
    error: dict[str, Any] | None


def queue_of(transaction: Transaction, function: str) -> Queue:
    """Give the queue of what is to be run by this function."""
    return queue.find_or_make(transaction, f"{_PREFIX}{function}")


def queues(transaction: Transaction) -> dict[str, Queue]:
    """List the queues that the store has, by their functions' names."""
    found = transaction.run("queues_below", prefix=_PREFIX)
    return {name.removeprefix(_PREFIX): Queue(number, bool(fifo)) for number, name, fifo in found}


def accept(
    transaction: Transaction,
    to: Queue,
    request_id: bytes,
    payload: bytes,
    attributes: str,
    *,
    delay: float = 0.0,
    key: str | None = None,
) -> bytes:
    """Accept an event; give its request id, or the one under which an event with the same key was accepted before."""
    number = queue.send(
        transaction,
        to,
        payload,
        attributes=attributes,
        delay=delay,
        duplicate_id=key,
        duplicate_seconds=KEY_SECONDS,
        request_id=request_id,
    )
    return request_id if key is None else transaction.one("request_of", message=number)


class Acceptance(Mergeable[bytes]):
    """The job of accepting an event that has no key."""

    __slots__ = ("_attributes", "_delay", "_payload", "_request_id", "_to")

    def __init__(self, to: Queue, request_id: bytes, payload: bytes, attributes: str, delay: float) -> None:
        self._to = to
        self._request_id = request_id
        self._payload = payload
        self._attributes = attributes
        self._delay = delay

    @staticmethod
    def all_of(transaction: Transaction, jobs: list[Acceptance]) -> list[bytes]:
        """Accept events; give their request ids."""
        now = transaction.now
        rows = [(one._to.id, now + one._delay, now, one._attributes, one._payload, one._request_id) for one in jobs]
        transaction.insert_rows("send_rows", rows)
        for one in jobs:
            transaction.touch(one._to.id, now + one._delay)
        return [one._request_id for one in jobs]


def look_up(transaction: Transaction, request_id: bytes) -> Record | None:
    """Tell what is known of a request; None if nothing is."""
    for row in transaction.run("finished", request_id=request_id):
        *known, error = row
        return Record._make([*known, json.loads(error) if error else None])
    for name, sent_at, due_at, lease, noted in transaction.run("unfinished", request_id=request_id):
        state = RUNNING if lease and due_at > transaction.now else WAITING
        so_far = json.loads(noted)
        function, attempts = name.removeprefix(_PREFIX), so_far.get("attempts", 0)
        return Record(request_id, function, state, attempts, sent_at, None, None, so_far.get("error"))
    return None


class Finish(Mergeable[bool]):
    """
    The job of noting what came of an event, and of forgetting its message; what it gives: whether that was ours.

    If not, another host has taken it meanwhile, and will tell. ``tell`` is done in the same transaction. A value over
    1 MB is not kept: as large as an event may be.
    """

    __slots__ = ("_message", "_row", "_tell")

    def __init__(
        self,
        function: str,
        message: Message,
        state: str,
        *,
        value: bytes | None = None,
        error: dict[str, Any] | None = None,
        tell: Job[object] | None = None,
    ) -> None:
        self._message = message
        self._tell = tell
        noted = message.attributes
        kept = None if value is not None and len(value) > limits.ASYNC_EVENT_BYTES else value
        told = json.dumps(error) if error else None
        request_id, attempts = bytes.fromhex(noted["id"]), noted.get("attempts", 0)
        self._row = (message.id, request_id, function, state, attempts, message.sent_at), (kept, told)

    @staticmethod
    def all_of(transaction: Transaction, jobs: list[Finish]) -> list[bool]:
        """Note what came of several, and tell whether each was ours."""
        forgotten = queue.forget(transaction, [one._message for one in jobs])
        are_ours = [(one._message.id, one._message.lease) in forgotten for one in jobs]
        ours = list(compress(jobs, are_ours))
        transaction.insert_rows("finish_rows", [(*one._row[0], transaction.now, *one._row[1]) for one in ours])
        for one in ours:
            if one._tell is not None:
                one._tell(transaction)
        return are_ours


def forget(transaction: Transaction) -> int:
    """Forget some of what has been known for long enough; give how many they were."""
    now, count = transaction.now, FORGOTTEN_AT_ONCE
    old = transaction.count("forget_old", before=now - KEPT_SECONDS, count=count)
    return old + transaction.count("forget_more", before=now - KEPT_IF_MANY_SECONDS, kept=MANY, count=count)
