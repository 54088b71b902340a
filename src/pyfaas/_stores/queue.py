"""
A leased queue: what is taken out comes back, unless whoever took it says in time that it is done.

    send ──► due ──claim──► leased until ... ──ack──► gone
              ▲               │ put_back, or the lease runs out
              └───────────────┘            received too often: to the dead letter queue

All of these are jobs, or parts of one, for the writer of a database. A lease is a number: only who holds it can end it,
so what came too late does no harm. A message that is leased is due when its lease ends; so a host that dies gives back
what it had by dying.

In a FIFO queue messages of one group are claimed in order, and none while some of that group are leased.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pyfaas._stores.database import Transaction
from pyfaas.errors import ConfigurationError

DUPLICATE_SECONDS = 300.0  # AWS's
RETENTION_SECONDS = 345_600.0  # AWS's default: four days


class Queue(NamedTuple):
    """A queue, as a store knows it."""

    id: int
    fifo: bool = False


class Message(NamedTuple):
    """A message that is leased."""

    id: int
    lease: int
    receives: int
    sent_at: float
    first_received_at: float
    group: str | None
    attributes: dict[str, Any]
    body: bytes
    origin: int | None = None  # the queue that it was moved from


class Leased(NamedTuple):
    """Messages that were leased together."""

    queue: Queue
    messages: list[Message]

    def keep(self, transaction: Transaction, seconds: float) -> int:
        """Have the leases end so many seconds from now."""
        return extend(transaction, self.queue, self.messages, seconds)

    def give_back(self, transaction: Transaction) -> int:
        """Give the leases up."""
        return put_back(transaction, self.queue, self.messages)


class Waiting(NamedTuple):
    """How many messages a queue holds: due, leased, delayed."""

    due: int
    leased: int
    delayed: int


class Rules(NamedTuple):
    """
    What becomes of messages that are not done in time.

    After ``most_receives`` (None: any number) one goes to ``dead_letter``, or is dropped where there is none. After
    ``retention`` seconds it is dropped.
    """

    most_receives: int | None = None
    dead_letter: Queue | None = None
    retention: float = RETENTION_SECONDS


class Claimed(NamedTuple):
    """What a claim gave: what is leased now, and what went another way."""

    messages: list[Message]
    dead: list[Message]
    expired: list[Message]


def find_or_make(transaction: Transaction, name: str, *, fifo: bool = False) -> Queue:
    """Give the queue of this name. Raises ConfigurationError where it is of the other kind."""
    for number, is_fifo in transaction.run("find_queue", name=name):
        if bool(is_fifo) != fifo:
            kinds = ("a standard queue", "a FIFO queue")
            raise ConfigurationError(
                f"queue {name!r} is {kinds[is_fifo]} in this store, and is declared as {kinds[fifo]}"
            )
        return Queue(number, fifo)
    return Queue(transaction.one("make_queue", name=name, fifo=fifo), fifo)


def send(
    transaction: Transaction,
    queue: Queue,
    body: bytes,
    *,
    attributes: str | None = None,
    delay: float = 0.0,
    group: str | None = None,
    duplicate_id: str | None = None,
    duplicate_seconds: float = DUPLICATE_SECONDS,
    request_id: bytes | None = None,
) -> int:
    """
    Put a message in; give its number, or that of the one which was sent with this ``duplicate_id`` before.

    ``attributes`` are JSON, an object; made by the caller, for the writer has enough to do. ``request_id``: of what is
    to be run later.
    """
    now = transaction.now
    if duplicate_id is not None:
        transaction.count("forget_duplicates", now=now)
        known = transaction.one("duplicate", queue=queue.id, id=duplicate_id, now=now)
        if known is not None:
            return int(known)
    number = transaction.insert(
        "send",
        queue=queue.id,
        due_at=now + delay,
        now=now,
        group=group,
        attributes=attributes,
        body=body,
        request_id=request_id,
    )
    if queue.fifo:
        transaction.count("open_group", queue=queue.id, group=group, due_at=now + delay)
    if duplicate_id is not None:
        until = now + duplicate_seconds
        transaction.count("note_duplicate", queue=queue.id, id=duplicate_id, message=number, until=until)
    transaction.touch(queue.id, now + delay)
    return number


def claim(transaction: Transaction, queue: Queue, count: int, seconds: float, rules: Rules | None = None) -> Claimed:
    """Lease up to so many messages for so long; what was received too often, or is too old, goes its other way."""
    rules = rules or Rules()
    claimed = Claimed([], [], [])
    while missing := count - len(claimed.messages):
        found = list(_lease(transaction, queue, missing, seconds))
        if not found:
            break
        sorted_out = Claimed([], [], [])
        for message in found:
            if message.sent_at + rules.retention <= transaction.now:
                sorted_out.expired.append(message)
            elif rules.most_receives is not None and message.receives > rules.most_receives:
                sorted_out.dead.append(message)
            else:
                sorted_out.messages.append(message)
        ack(transaction, queue, sorted_out.expired)
        bury(transaction, queue, sorted_out.dead, rules.dead_letter)
        for all_of, new in zip(claimed, sorted_out, strict=True):
            all_of.extend(new)
    return claimed


def _lease(transaction: Transaction, queue: Queue, count: int, seconds: float) -> Iterator[Message]:
    lease = transaction.new_lease()
    values = {"queue": queue.id, "now": transaction.now, "until": transaction.now + seconds, "lease": lease}
    if not queue.fifo:
        yield from _messages(transaction.run("claim", count=count, **values), lease)
        return
    for (group,) in transaction.run("due_groups", queue=queue.id, now=transaction.now, count=count):
        rows = transaction.run("claim_of_group", group=group, count=count, **values)
        count -= len(rows)
        yield from _messages(rows, lease)
        _settle(transaction, queue, group)
        if count <= 0:
            return


def _messages(rows: list[tuple[Any, ...]], lease: int) -> list[Message]:
    rows.sort()
    return [
        Message(number, lease, receives, sent_at, first_at, group, json.loads(noted) if noted else {}, body, origin)
        for number, receives, sent_at, first_at, group, noted, body, origin in rows
    ]


def ack(transaction: Transaction, queue: Queue, messages: Iterable[Message]) -> int:
    """Forget messages; give how many of the leases were still ours."""
    messages = list(messages)
    ours = forget(transaction, messages)
    for group in {one.group for one in messages} if queue.fifo else ():
        _settle(transaction, queue, str(group))
    return len(ours)


def forget(transaction: Transaction, messages: Iterable[Message]) -> set[tuple[int, int]]:
    """Forget messages, wherever they are; give the numbers and leases of those whose leases were still ours."""
    return {*transaction.run_rows("ack_rows", [(one.id, one.lease) for one in messages])}


def put_back(transaction: Transaction, queue: Queue, messages: Iterable[Message], delay: float = 0.0) -> int:
    """Give up leases; the messages are due after ``delay`` seconds. Give how many leases were still ours."""
    due_at = transaction.now + delay
    transaction.touch(queue.id, due_at)
    return _with_leases(transaction, "put_back", queue, messages, due_at=due_at)


def again(transaction: Transaction, message: Message, attributes: Mapping[str, Any], delay: float) -> bool:
    """Give up one lease and note how far the message came; it is due after ``delay``. Tell whether it was ours."""
    due_at, noted = transaction.now + delay, json.dumps(attributes)
    return bool(transaction.count("again", id=message.id, lease=message.lease, due_at=due_at, attributes=noted))


def extend(transaction: Transaction, queue: Queue, messages: Iterable[Message], seconds: float) -> int:
    """Keep leases for so many seconds from now on; give how many were still ours."""
    return _with_leases(transaction, "extend", queue, messages, due_at=transaction.now + seconds)


def bury(transaction: Transaction, queue: Queue, messages: list[Message], to: Queue | None) -> None:
    """Move messages that are leased by us to the dead letters, or drop them where there is no queue for those."""
    if to is None:
        ack(transaction, queue, messages)
    elif messages:
        _with_leases(transaction, "move", queue, messages, to=to.id, now=transaction.now)
        for group in {one.group for one in messages} if to.fifo else ():
            transaction.count("open_group", queue=to.id, group=group, due_at=transaction.now)
        transaction.touch(to.id, transaction.now)


def release(transaction: Transaction, host: int) -> None:
    """Have all be due that a host had leased."""
    for number, fifo in transaction.run("all_queues"):
        of = Queue(number, bool(fifo))
        groups = transaction.run("release", queue=number, host=host, now=transaction.now)
        for group in {group for (group,) in groups} if of.fifo else ():
            _settle(transaction, of, group)


def _with_leases(
    transaction: Transaction, statement: str, queue: Queue, messages: Iterable[Message], **values: Any
) -> int:
    """Do the same to each message whose lease is still ours, and give how many they were."""
    done, groups = 0, set()
    for one in messages:
        done += transaction.count(statement, id=one.id, lease=one.lease, **values)
        groups.add(one.group)
    for group in groups if queue.fifo else ():
        _settle(transaction, queue, str(group))
    return done


def _settle(transaction: Transaction, queue: Queue, group: str) -> None:
    """Say when a group's next messages may be claimed, after some of it were leased, or given back."""
    head = transaction.one("head_of_group", queue=queue.id, group=group)
    if head is None:
        transaction.count("close_group", queue=queue.id, group=group)
        return
    leased = transaction.one("leased_of_group", queue=queue.id, group=group, now=transaction.now)
    due_at = head if leased is None else max(head, leased)  # the first one may be due later than the last lease ends
    transaction.count("set_group", queue=queue.id, group=group, due_at=due_at)
    transaction.touch(queue.id, due_at)


# -- looking, and by hand ----------------------------------------------------------------------------------------------


def next_due(transaction: Transaction, queue: Queue) -> float | None:
    """Tell when the next message may be claimed, in the store's time; None where there is none."""
    name = "next_due_group" if queue.fifo else "next_due"
    due_at: float | None = transaction.one(name, queue=queue.id)
    return due_at


def count(transaction: Transaction, queue: Queue) -> Waiting:
    """Tell how many messages it holds; it looks at each, so of a million it takes a while."""
    return Waiting(*transaction.run("count", queue=queue.id, now=transaction.now)[0])


def count_each(transaction: Transaction) -> dict[str, Waiting]:
    """Tell how many messages each queue holds that holds any, by the queues' names; it looks at each message."""
    return {name: Waiting(*counts) for name, *counts in transaction.run("count_each", now=transaction.now)}


def count_all(transaction: Transaction) -> int:
    """Tell how many messages there are in all queues."""
    return int(transaction.one("count_all"))


def age(transaction: Transaction, queue: Queue) -> float:
    """Tell for how many seconds the message has been there that was due first; 0 without one."""
    sent_at = transaction.one("first_sent", queue=queue.id)
    return 0.0 if sent_at is None else max(transaction.now - float(sent_at), 0.0)


def purge(transaction: Transaction, queue: Queue) -> int:
    """Forget all messages, those that are leased too; give how many they were."""
    transaction.count("purge_groups", queue=queue.id)
    return transaction.count("purge", queue=queue.id)


def redrive(transaction: Transaction, queue: Queue, count: int) -> int:
    """Put up to so many dead letters back to where they came from; give how many they were."""
    moved = transaction.run("redrive", queue=queue.id, now=transaction.now, count=count)
    for to, group in moved:
        if group is not None:  # so both are FIFO queues
            transaction.count("open_group", queue=to, group=group, due_at=transaction.now)
            _settle(transaction, queue, group)
        transaction.touch(to, transaction.now)
    return len(moved)
