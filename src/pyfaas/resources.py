"""
Handles: ``queue``, ``topic`` and ``bus`` name what events go through; they hold nothing themselves.

    orders = queue("orders")          a handle, in the host and inside a sandbox
    orders.send({"id": 7})            what it is sent to is found by name in the store of the current runtime
    @function(trigger=orders)         and it is a trigger

Like ``Function`` a verb asks ``_port`` which runtime is meant. Handles pickle by what they were made of.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from pyfaas import _port, limits
from pyfaas._payload import encode_event
from pyfaas.errors import ConfigurationError, InvalidEvent, PayloadTooLarge
from pyfaas.options import Check, flag, refuse, seconds, whole
from pyfaas.triggers import QueueTrigger, RuleTrigger, TopicTrigger, checked_pattern, queue_trigger, topic_rule

if TYPE_CHECKING:
    from datetime import datetime

Attributes = Mapping[str, "str | int | float | bytes"]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,80}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,128}")

# Every handle made in this process, by kind and name; one that is made anew replaces the other.
made: dict[tuple[str, str], Handle] = {}


class Sending(NamedTuple):
    """Messages for a queue: their texts, and what holds for each of them."""

    bodies: list[str]
    delay: float | None = None
    attributes: Attributes | None = None
    group: str | None = None
    duplicate_id: str | None = None


class Publication(NamedTuple):
    """A message for a topic."""

    message: str
    subject: str | None
    attributes: Attributes


class Put(NamedTuple):
    """An event for a bus."""

    source: str
    detail_type: str
    detail: Any
    resources: list[str]
    at: float | None


class Handle:
    """What ``queue``, ``topic`` and ``bus`` give. Frozen; equal to another one of its kind and name."""

    kind: ClassVar[str]
    name: str

    @staticmethod
    def told(what: Any) -> Any:
        """Write down, as JSON, what is to be sent: for the way out of a sandbox."""
        raise NotImplementedError

    def heard(self, told: Any) -> Any:
        """Read it again, and look at all of it anew. Raises ConfigurationError, InvalidEvent, PayloadTooLarge."""
        raise NotImplementedError

    def __init__(self, name: Any, **given: Any) -> None:
        _check_name(f"{self.kind} name", name)
        self.__dict__.update(given, name=name)
        made[self.kind, name] = self

    @property
    def path(self) -> str:
        """How the store names it, such as ``queue/orders``."""
        return f"{self.kind}/{self.name}"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: a {self.kind} is frozen")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), dict(self.__dict__))


def _remake(kind: type[Handle], given: dict[str, Any]) -> Handle:
    return made.get((kind.kind, given["name"])) or kind(**given)


# -- queues ------------------------------------------------------------------------------------------------------------


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
        return {**what._asdict(), "attributes": _attributes_told(what.attributes)}

    def heard(self, told: Any) -> Sending:
        """Read it again."""
        fields = _fields(told, Sending)
        bodies = fields.pop("bodies")
        if not isinstance(bodies, list) or not all(isinstance(one, str) for one in bodies):
            raise refuse("bodies", bodies, "a list of texts")
        attributes = _attributes_heard(fields.pop("attributes"))
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
        _check_attributes(attributes)
        texts = [text_of("body", body) for body in bodies]
        for text in texts:
            _check_size("message", text, attributes)
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
    for field, value in given.items():
        _QUEUE_CHECKS[field](field, value)
    if (max_receives is None) != (dead_letter is None):
        raise ConfigurationError(f"max_receives={max_receives!r}, dead_letter={dead_letter!r}: give both, or neither")
    if dead_letter is not None:
        _check_queue("dead_letter", dead_letter, fifo=fifo)
    if dead_letter is not None and dead_letter.name == name:
        raise refuse("dead_letter", dead_letter, "another queue")
    if deduplicate and not fifo:
        raise refuse("deduplicate", deduplicate, "False where fifo=False")
    return Queue(name, **given, dead_letter=dead_letter)


# -- topics ------------------------------------------------------------------------------------------------------------


class Topic(Handle):
    """A topic; see ``topic``."""

    kind = "topic"

    def publish(self, message: Any, *, subject: str | None = None, attributes: Attributes | None = None) -> str:
        """
        Hand a message to every function and queue that has subscribed, and give its id.

        It is with all of them once this returns, or with none. ``message``: text, or anything that JSON can hold;
        ``subject``: up to 100 characters; ``attributes``: up to 10 names with text, numbers or bytes.

        Raises ConfigurationError, InvalidEvent, PayloadTooLarge and StoreUnavailable.
        """
        return _port.current().send(self, _publication(message, subject, attributes))  # type: ignore[no-any-return]

    async def apublish(self, message: Any, *, subject: str | None = None, attributes: Attributes | None = None) -> str:
        """Do the same from async code."""
        return await _port.current().asend(self, _publication(message, subject, attributes))  # type: ignore[no-any-return]

    @staticmethod
    def told(what: Publication) -> dict[str, Any]:
        """Write down what is to be published."""
        return {**what._asdict(), "attributes": _attributes_told(what.attributes)}

    def heard(self, told: Any) -> Publication:
        """Read it again."""
        fields = _fields(told, Publication)
        return _publication(fields["message"], fields["subject"], _attributes_heard(fields["attributes"]))

    def messages(self, *, filter: Any = None, filter_on: str = "attributes") -> TopicTrigger:  # noqa: A002 - SNS's word
        """
        Make a trigger: the function gets each message, one a time, ``{"Records": [...]}`` as of SNS.

        ``filter``: a pattern that the message's attributes must fit, or, with ``filter_on="body"``, its JSON (AWS:
        FilterPolicy, FilterPolicyScope).
        """
        return TopicTrigger(self, *_checked_filter(filter, filter_on))

    def subscribe(
        self,
        to: Queue,
        *,
        filter: Any = None,  # noqa: A002
        filter_on: str = "attributes",
        raw: bool = False,
    ) -> None:
        """
        Have each message put into a queue, too, by every runtime that opens from now on, and by those that are open.

        ``raw``: the message as it was published, with its attributes, not in the envelope of SNS (AWS:
        RawMessageDelivery). Saying it again changes the filter.
        """
        _check_queue("to", to, fifo=False)
        flag("raw", raw)
        wanted, on = _checked_filter(filter, filter_on)
        fed[self.path, to.path] = {**topic_rule(wanted, on), "raw": raw, "delay": to.delay}
        _port.declared_more()

    def as_trigger(self) -> TopicTrigger:
        """What ``trigger=receipts`` means."""
        return self.messages()


# Which queues topics feed, and by what rule: {(topic's path, queue's path): rule}.
fed: dict[tuple[str, str], dict[str, Any]] = {}


def topic(name: str) -> Topic:
    """Name a topic: a handle to publish to, and a trigger (``trigger=receipts`` is ``receipts.messages()``)."""
    return Topic(name)


def _publication(message: Any, subject: Any, attributes: Attributes | None) -> Publication:
    if subject is not None and not (isinstance(subject, str) and 0 < len(subject) <= 100 and subject.isprintable()):
        raise refuse("subject", subject, "1 to 100 printable characters, or None")
    _check_attributes(attributes)
    text = text_of("message", message)
    _check_size("message", text, attributes)
    return Publication(text, subject, attributes or {})


def _checked_filter(pattern: Any, on: str) -> tuple[str | None, str]:
    if on not in ("attributes", "body"):
        raise refuse("filter_on", on, "'attributes' or 'body'")
    return (None if pattern is None else checked_pattern("filter", pattern)), on


# -- buses -------------------------------------------------------------------------------------------------------------


class Bus(Handle):
    """A bus; see ``bus``."""

    kind = "bus"

    def put_event(
        self,
        detail: Any,
        *,
        source: str,
        detail_type: str,
        resources: Sequence[str] = (),
        time: datetime | None = None,
    ) -> str:
        """
        Hand an event to every function that has a rule which it fits, and give its id.

        It is with all of them once this returns, or with none. Raises ConfigurationError, InvalidEvent,
        PayloadTooLarge (over 1 MB) and StoreUnavailable.
        """
        return _port.current().send(self, [_put(detail, source, detail_type, resources, time)])[0]  # type: ignore[no-any-return]

    async def aput_event(
        self,
        detail: Any,
        *,
        source: str,
        detail_type: str,
        resources: Sequence[str] = (),
        time: datetime | None = None,
    ) -> str:
        """Do the same from async code."""
        return (await _port.current().asend(self, [_put(detail, source, detail_type, resources, time)]))[0]  # type: ignore[no-any-return]

    def put_events(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Put several, each a dict of what ``put_event`` takes: all of them or none; give their ids."""
        return _port.current().send(self, [_put(**event) for event in events])  # type: ignore[no-any-return]

    async def aput_events(self, events: Iterable[Mapping[str, Any]]) -> list[str]:
        """Do the same from async code."""
        return await _port.current().asend(self, [_put(**event) for event in events])  # type: ignore[no-any-return]

    @staticmethod
    def told(what: list[Put]) -> list[dict[str, Any]]:
        """Write down what is to be put."""
        return [one._asdict() for one in what]

    def heard(self, told: Any) -> list[Put]:
        """Read it again."""
        if not isinstance(told, list):
            raise refuse("events", told, "a list")
        return [_put_at(**_fields(one, Put)) for one in told]

    def rule(
        self,
        pattern: Any,
        *,
        name: str | None = None,
        input: Any = None,  # noqa: A002 - EventBridge's word
        path: str | None = None,
        template: str | None = None,
        paths: Mapping[str, str] | None = None,
    ) -> RuleTrigger:
        """
        Make a trigger: the function gets each event that fits the pattern.

        - ``pattern``: in EventBridge's language, an object or its JSON text
        - ``name``: tells this rule from others of the same function; default the pattern
        - ``input``: what the function gets instead (AWS: Input)
        - ``path``: which part of the event it gets, such as ``"$.detail"`` (AWS: InputPath)
        - ``template``, ``paths``: the JSON that it gets, with variables: ``template='{"to": <name>}'`` and
          ``paths={"name": "$.detail.user"}`` (AWS: InputTransformer)

        Raises ConfigurationError.
        """
        text = checked_pattern("pattern", pattern)
        if name is not None:
            _check_name("name", name)
        given = {"input": input, "path": path, "template": template, "paths": paths}
        return RuleTrigger(self, text, name or text, _checked_transform(given))


def bus(name: str = "default") -> Bus:
    """Name an event bus, as of EventBridge: a handle to put events on; its rules are triggers."""
    return Bus(name)


def _put(detail: Any, source: Any, detail_type: Any, resources: Any = (), time: Any = None) -> Put:
    for field, value in (("source", source), ("detail_type", detail_type)):
        if not isinstance(value, str) or not 0 < len(value) <= 256:
            raise refuse(field, value, "text of 1 to 256 characters")
    if isinstance(resources, str) or not all(isinstance(one, str) for one in resources):
        raise refuse("resources", resources, "a list of texts")
    if not isinstance(detail, dict):
        raise InvalidEvent(f"detail={detail!r}: must be a dict, as in EventBridge")
    encode_event(detail)
    if time is not None and getattr(time, "tzinfo", None) is None:
        raise refuse("time", time, "a datetime with a time zone, or None for now")
    return Put(source, detail_type, detail, list(resources), None if time is None else time.timestamp())


def _put_at(source: Any, detail_type: Any, detail: Any, resources: Any, at: Any) -> Put:
    if at is not None and (isinstance(at, bool) or not isinstance(at, (int, float))):
        raise refuse("time", at, "seconds since 1970, or None")
    return _put(detail, source, detail_type, resources)._replace(at=at)


def _checked_transform(given: dict[str, Any]) -> dict[str, Any] | None:
    transform = {name: value for name, value in given.items() if value is not None}
    if not transform:
        return None
    if len(transform.keys() - {"paths"}) != 1 or ("paths" in transform and "template" not in transform):
        raise ConfigurationError(f"{', '.join(transform)}: give one of input, path, and template with its paths")
    if not _port.in_sandbox:
        from pyfaas._language.transform import compile_transform

        encode_event(transform)
        compile_transform(transform)
    return transform


# -- where what came of an invocation goes -----------------------------------------------------------------------------


def check_dead_letter(field: str, value: Any) -> None:
    """Accept a queue or a topic. Raises ConfigurationError."""
    if not isinstance(value, (Queue, Topic)) or (isinstance(value, Queue) and value.fifo):
        raise refuse(field, value, "a queue with fifo=False, a topic, or None")


def check_destination(field: str, value: Any) -> None:
    """Accept a queue, a topic or a bus. Raises ConfigurationError."""
    if not isinstance(value, (Queue, Topic, Bus)) or (isinstance(value, Queue) and value.fifo):
        raise refuse(field, value, "a function, a queue with fifo=False, a topic, a bus, or None")


# -- what all of them check --------------------------------------------------------------------------------------------


def _check_name(field: str, value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise refuse(field, value, "1 to 80 letters, digits, hyphens and underscores")


def _check_queue(field: str, value: Any, *, fifo: bool) -> None:
    if not isinstance(value, Queue) or value.fifo != fifo:
        raise refuse(field, value, f"a queue with fifo={fifo}")


def text_of(field: str, value: Any) -> str:
    """Give a text as it is, and anything else as JSON."""
    if not isinstance(value, str):
        return encode_event(value).decode()
    if not value:
        raise InvalidEvent(f"{field}='': must not be empty, as in AWS")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidEvent(f"{field}={value[:50]!r}: must not hold lone surrogates") from None
    return value


def _fields(told: Any, kind: type[Any]) -> dict[str, Any]:
    """Take just the fields of a kind, all of them."""
    if not isinstance(told, dict) or told.keys() != set(kind._fields):
        raise ConfigurationError(f"a call from a sandbox says {told!r}"[:200])
    return dict(told)


def _attributes_told(attributes: Attributes | None) -> Any:
    if attributes is None:
        return None
    import base64

    return {
        name: {"bytes": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
        for name, value in attributes.items()
    }


def _attributes_heard(told: Any) -> Any:
    if not isinstance(told, dict):
        return told  # whatever it is, it will be looked at
    import base64

    heard = {}
    for name, value in told.items():
        is_bytes = isinstance(value, dict) and isinstance(value.get("bytes"), str)
        heard[name] = base64.b64decode(value["bytes"]) if is_bytes else value
    return heard


def _check_size(what: str, text: str, attributes: Attributes | None) -> None:
    size = len(text) if text.isascii() else len(text.encode())
    for name, value in (attributes or {}).items():
        size += len(name) + len(value if isinstance(value, (str, bytes)) else str(value))
    if size > limits.MESSAGE_BYTES:
        raise PayloadTooLarge(f"the {what} has {size:,} bytes with its attributes: at most {limits.MESSAGE_BYTES:,}")


def _check_attributes(attributes: Any) -> None:
    if attributes is None:
        return
    if not isinstance(attributes, Mapping) or len(attributes) > limits.MESSAGE_ATTRIBUTES:
        raise refuse("attributes", attributes, f"a dict of at most {limits.MESSAGE_ATTRIBUTES} names to values")
    for name, value in attributes.items():
        if not isinstance(name, str) or not 0 < len(name) <= 256:
            raise refuse("attributes", name, "names of 1 to 256 characters")
        if isinstance(value, bool) or not isinstance(value, (str, int, float, bytes)):
            raise refuse(f"attributes[{name!r}]", value, "text, a number or bytes")
        json.dumps(value if not isinstance(value, bytes) else "", allow_nan=False)
