"""Queues: ``queue("orders")`` names one; its messages are in the store of whoever sends to it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pyfaas import _port, limits
from pyfaas._payload import packed, unpacked
from pyfaas.errors import ConfigurationError
from pyfaas.options import Check, check_each, flag, refuse, seconds, whole
from pyfaas.resources.handles import (
    Attributes,
    Handle,
    check_attributes,
    check_size,
    fields_of,
    text_of,
)
from pyfaas.triggers import QueueTrigger, queue_trigger

_TOKEN = re.compile(r"[\x21-\x7e]{1,128}")


class Sending(NamedTuple):
    """Messages for a queue: their texts, and what holds for each of them."""

    bodies: list[str]
    delay: float | None = None
    attributes: Attributes | None = None
    group: str | None = None
    duplicate_id: str | None = None


class Queue(Handle):
    """A queue; see ``queue``."""

    kind = "queue"
    fifo: bool
    visibility: float
    delay: float
    retention: float
    max_receives: int | None
    dead_letter: Queue | None
    deduplicate: bool

    def send(
        self,
        body: Any,
        *,
        delay: float | None = None,
        attributes: Attributes | None = None,
        group: str | None = None,
        duplicate_id: str | None = None,
    ) -> str:
        """
        Put a message into the queue, and give its id; it is accepted once this returns, durably with a ``store``.

        - ``body``: text, or anything that JSON can hold, which is then written as JSON; up to 1 MB
        - ``delay``: seconds before it may be received, 0 to 900; default the queue's
        - ``attributes``: up to 10 names with text, numbers or bytes
        - ``group``, ``duplicate_id``: for a FIFO queue (AWS: MessageGroupId, MessageDeduplicationId). What is sent with
          a ``duplicate_id`` of the last 5 minutes is accepted and not delivered again; the id is that of the first

        Raises ConfigurationError, InvalidEvent, PayloadTooLarge and StoreUnavailable.
        """
        sending = self._sending([body], delay, attributes, group, duplicate_id)
        return _port.current().send(self, sending)[0]  # type: ignore[no-any-return]

    async def asend(
        self,
        body: Any,
        *,
        delay: float | None = None,
        attributes: Attributes | None = None,
        group: str | None = None,
        duplicate_id: str | None = None,
    ) -> str:
        """Do the same from async code."""
        sending = self._sending([body], delay, attributes, group, duplicate_id)
        return (await _port.current().asend(self, sending))[0]  # type: ignore[no-any-return]

    def send_many(
        self,
        bodies: Iterable[Any],
        *,
        delay: float | None = None,
        attributes: Attributes | None = None,
        group: str | None = None,
    ) -> list[str]:
        """Put messages into the queue, all or none of them; give their ids."""
        return _port.current().send(self, self._sending(list(bodies), delay, attributes, group, None))  # type: ignore[no-any-return]

    async def asend_many(
        self,
        bodies: Iterable[Any],
        *,
        delay: float | None = None,
        attributes: Attributes | None = None,
        group: str | None = None,
    ) -> list[str]:
        """Do the same from async code."""
        return await _port.current().asend(self, self._sending(list(bodies), delay, attributes, group, None))  # type: ignore[no-any-return]

    @staticmethod
    def told(what: Sending) -> dict[str, Any]:
        """Write down what is to be sent."""
        return {**what._asdict(), "attributes": packed(what.attributes)}

    def heard(self, told: Any) -> Sending:
        """Read it again."""
        fields = fields_of(told, Sending)
        bodies = fields.pop("bodies")
        if not isinstance(bodies, list) or not all(isinstance(one, str) for one in bodies):
            raise refuse("bodies", bodies, "a list of texts")
        attributes = unpacked(fields.pop("attributes"))
        return self._sending(bodies, fields["delay"], attributes, fields["group"], fields["duplicate_id"])

    def batches(
        self,
        size: int = 10,
        *,
        window: float = 0.0,
        report_failures: bool = False,
        filters: Sequence[Any] = (),
        max_concurrency: int | None = None,
    ) -> QueueTrigger:
        """
        Make a trigger: the function gets messages in batches, ``{"Records": [...]}`` as of SQS.

        A batch whose function returns is deleted. One whose function fails comes back when the queue's ``visibility``
        is over, until ``max_receives`` sends it to the ``dead_letter`` queue.

        - ``size``: up to so many messages, 1 to 10,000, of a FIFO queue 10 (AWS: BatchSize)
        - ``window``: seconds to wait for a batch to fill, 0 to 300 (AWS: MaximumBatchingWindowInSeconds)
        - ``report_failures``: the function may return ``{"batchItemFailures": [{"itemIdentifier": messageId}]}``, and
          only these come back (AWS: ReportBatchItemFailures)
        - ``filters``: up to 10 patterns; messages that fit none of them are deleted
        - ``max_concurrency``: at most so many batches at once
        """
        return queue_trigger(self, size, window, report_failures, filters, max_concurrency)

    def as_trigger(self) -> QueueTrigger:
        """What ``trigger=orders`` means."""
        return self.batches()

    def redrive(self, count: int | None = None) -> int:
        """
        Put messages of a dead letter queue back to the queues that they came from, the oldest first; give how many.

        ``count``: at most so many, default all.
        """
        return _port.current().ask(self, "redrive", count)  # type: ignore[no-any-return]

    def purge(self) -> int:
        """Delete all messages, those too that are being worked on; give how many they were."""
        return _port.current().ask(self, "purge")  # type: ignore[no-any-return]

    def statistics(self) -> Any:
        """Count its messages: ``due``, ``leased`` (being worked on) and ``delayed``."""
        return _port.current().ask(self, "count")

    def _sending(
        self,
        bodies: list[Any],
        delay: float | None,
        attributes: Attributes | None,
        group: str | None,
        duplicate_id: str | None,
    ) -> Sending:
        if delay is not None:
            _DELAY("delay", delay)
        if self.fifo:
            self._check_fifo(delay, group, duplicate_id)
        elif group is not None or duplicate_id is not None:
            field, value = ("group", group) if group is not None else ("duplicate_id", duplicate_id)
            raise refuse(field, value, f"None: {self.name!r} was not declared with fifo=True")
        check_attributes(attributes)
        texts = [text_of("body", body) for body in bodies]
        for text in texts:
            check_size("message", text, attributes)
        return Sending(texts, delay, attributes, group, duplicate_id)

    def _check_fifo(self, delay: float | None, group: Any, duplicate_id: Any) -> None:
        if delay is not None:
            raise refuse("delay", delay, "None: in a FIFO queue all messages have the queue's delay, as in AWS")
        for field, value in (("group", group), ("duplicate_id", duplicate_id)):
            optional = field == "duplicate_id" and value is None
            if not optional and not (isinstance(value, str) and _TOKEN.fullmatch(value)):
                raise refuse(field, value, "1 to 128 printable ASCII characters without spaces, for a FIFO queue")


_DELAY = seconds(0, limits.DELAY_SECONDS)
_QUEUE_CHECKS: dict[str, Check] = {
    "fifo": flag,
    "visibility": seconds(0, limits.VISIBILITY_SECONDS),
    "delay": _DELAY,
    "retention": seconds(*limits.RETENTION_SECONDS),
    "max_receives": whole(1, limits.RECEIVES, optional=True),
    "deduplicate": flag,
}


def queue(
    name: str,
    *,
    fifo: bool = False,
    visibility: float = 30.0,
    delay: float = 0.0,
    retention: float = 345_600.0,
    max_receives: int | None = None,
    dead_letter: Queue | None = None,
    deduplicate: bool = False,
) -> Queue:
    """
    Name a queue: a handle to send to, and a trigger (``trigger=orders`` is ``trigger=orders.batches()``).

    It is kept in the runtime's ``store``, each message until a function has dealt with it.

    - ``fifo``: messages of one group are delivered in order, and one batch of a group at a time
    - ``visibility``: seconds that a batch is hidden from others while it is worked on, 0 to 43,200; at least the
      time-out of the functions that receive from it (AWS: VisibilityTimeout)
    - ``delay``: seconds before a message may be received, 0 to 900 (AWS: DelaySeconds)
    - ``retention``: seconds after which a message is dropped, 60 to 1,209,600; default four days (AWS:
      MessageRetentionPeriod)
    - ``max_receives``, ``dead_letter``: a message that was received so often, 1 to 1,000, goes to that queue (AWS:
      RedrivePolicy)
    - ``deduplicate``: of a FIFO queue, the body tells whether a message was sent before (AWS:
      ContentBasedDeduplication)

    Raises ConfigurationError.
    """
    given = {
        "fifo": fifo,
        "visibility": visibility,
        "delay": delay,
        "retention": retention,
        "max_receives": max_receives,
        "deduplicate": deduplicate,
    }
    check_each(_QUEUE_CHECKS, given)
    if (max_receives is None) != (dead_letter is None):
        raise ConfigurationError(f"max_receives={max_receives!r}, dead_letter={dead_letter!r}: give both, or neither")
    if dead_letter is not None:
        check_queue("dead_letter", dead_letter, fifo=fifo)
    if dead_letter is not None and dead_letter.name == name:
        raise refuse("dead_letter", dead_letter, "another queue")
    if deduplicate and not fifo:
        raise refuse("deduplicate", deduplicate, "False where fifo=False")
    return Queue(name, **given, dead_letter=dead_letter)


def check_queue(field: str, value: Any, *, fifo: bool) -> None:
    """Accept a queue of this kind. Raises ConfigurationError."""
    if not isinstance(value, Queue) or value.fifo != fifo:
        raise refuse(field, value, f"a queue with fifo={fifo}")
