"""
What is sent, published or put: one job for the writer, so it is with all who want it, or with none.

    queue   ──► a message in it
    topic   ──► for each mapping that its attributes or its body fit: a message in a queue, or an event of a function
    bus     ──► for each rule that it fits: an event of a function
    stream  ──► a record at the end of one of its shards

The writer looks the mappings up when it commits, so nobody is left out who had subscribed before.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from typing import Any, TypeAlias

from pyfaas import _shapes, limits
from pyfaas._invoke.cause import NOBODY, Cause
from pyfaas._invoke.ids import new_id, new_id_in_order
from pyfaas._language.transform import Change, compile_transform
from pyfaas._payload import encode_event
from pyfaas._stores import log, queue, replays, submissions
from pyfaas._stores.database import Database, Job, Transaction
from pyfaas._stores.mappings import Mapping, Routes
from pyfaas._stores.submissions import Acceptance
from pyfaas._waits import Trip
from pyfaas.context import request_id_text
from pyfaas.errors import PayloadTooLarge
from pyfaas.resources import Archive, Bus, Handle, Publication, Put, Putting, Queue, Recorded, Sending, Stream, Topic

Deliver = Callable[[Mapping], bytes]
# What something tells of itself, and what makes its event for the mapping of this id.
News: TypeAlias = "tuple[dict[str, Any], Callable[[str], dict[str, Any]]]"


class Outbox:
    """Where everything goes that leaves a caller, or a function, of one runtime."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._routes = Routes()

    def send(self, to: Handle, what: Any, cause: Cause = NOBODY) -> Trip[Any]:
        """Accept it, and give its id; of several messages or events their ids. Raises StoreUnavailable."""
        return (yield from self._database.write(self.job(to, what, cause)))

    def job(self, to: Handle, what: Any, cause: Cause = NOBODY) -> Job[Any]:
        """Give the part of a transaction that accepts it. Raises PayloadTooLarge."""
        if isinstance(to, Queue):
            return self._sending(to, what, cause)
        if isinstance(to, Topic):
            return self._publication(to, what, cause)
        if isinstance(to, Stream):
            return self._putting(to, what, cause)
        assert isinstance(to, Bus)  # noqa: S101 - there is no other kind
        return self._events(to, what, cause)

    def ask(self, of: Handle, verb: str, argument: Any = None) -> Trip[Any]:
        """
        Look after a queue, a stream or an archive. Raises ConfigurationError and StoreUnavailable.

        ``count`` what is in it; of a queue ``purge`` all messages, or ``redrive`` so many; ``replay`` an archive, list
        its ``replays``, or ``cancel`` one.
        """
        return (yield from self._database.write(lambda one: self._asked(one, of, verb, argument)))

    def _asked(self, transaction: Transaction, of: Handle, verb: str, argument: Any) -> Any:
        if isinstance(of, Recorded):
            return log.count(transaction, log.find_or_make(transaction, of.path, of.shards, of.retention))
        if isinstance(of, Archive):
            if verb == "count":
                return replays.count(transaction, of.path, of.retention)
            if verb == "replays":
                return replays.every(transaction, of.path)
            if verb == "cancel":
                return replays.cancel(transaction, of.path, argument)
            replays.begin(transaction, of.path, of.bus.path, of.retention, argument)
            return argument.name
        assert isinstance(of, Queue)  # noqa: S101 - no other handle asks
        verbs: dict[str, Callable[[Transaction, queue.Queue], Any]] = {
            "count": queue.count,
            "purge": queue.purge,
            "redrive": lambda one, store: queue.redrive(one, store, -1 if argument is None else argument),
        }
        return verbs[verb](transaction, self.queue_of(transaction, of))

    def wall(self) -> float:
        """Tell what time it is on the wall."""
        return self._database.clock.wall()

    def queue_of(self, transaction: Transaction, of: Queue) -> queue.Queue:
        """Give the store's queue for a handle. Raises ConfigurationError where it is of the other kind there."""
        return queue.find_or_make(transaction, of.path, fifo=of.fifo)

    # -- queues --------------------------------------------------------------------------------------------------------

    def _sending(self, to: Queue, what: Sending, cause: Cause) -> Job[list[str]]:
        delay = to.delay if what.delay is None else what.delay
        attributes = _shapes.typed(what.attributes) if what.attributes else {}

        def job(transaction: Transaction) -> list[str]:
            into = self.queue_of(transaction, to)
            ids = []
            for body in what.bodies:
                token = what.duplicate_id
                if token is None and to.deduplicate:
                    token = hashlib.sha256(body.encode()).hexdigest()
                number = queue.send(
                    transaction,
                    into,
                    body.encode(),
                    attributes=noted_of(attributes, cause, token),
                    delay=delay,
                    group=what.group,
                    duplicate_id=token,
                )
                ids.append(self._database.message_id(number))
            return ids

        return job

    # -- streams -------------------------------------------------------------------------------------------------------

    def _putting(self, to: Stream, what: list[Putting], cause: Cause) -> Job[list[str]]:
        noted = noted_of({}, cause)

        def job(transaction: Transaction) -> list[str]:
            into = log.find_or_make(transaction, to.path, to.shards, to.retention)
            numbers = log.append(transaction, into, [(one.key, one.data, noted) for one in what])
            return [_shapes.sequence_number(number) for number in numbers]

        return job

    # -- topics --------------------------------------------------------------------------------------------------------

    def _publication(self, to: Topic, what: Publication, cause: Cause) -> Job[str]:
        message_id, attributes = request_id_text(new_id()), _shapes.typed(what.attributes)
        told: dict[str, Any] = {
            "message_id": message_id,
            "message": what.message,
            "subject": what.subject,
            "attributes": attributes,
            "at": self._database.clock.wall(),
        }
        plain = {name: value for name, value in what.attributes.items() if not isinstance(value, bytes)}
        subject = {"attributes": plain, "body": _parsed(what.message)}

        def for_function(row: Mapping) -> bytes:
            return encode_event(_shapes.sns_event(to.name, self._database.message_id(row.id), **told))

        def for_queue(row: Mapping) -> bytes:
            if row.rule.get("raw"):
                return what.message.encode()
            return encode_event(_shapes.sns_notification(to.name, self._database.message_id(row.id), **told))

        def job(transaction: Transaction) -> str:
            for row in self._routes.of(transaction, to.path, subject):
                kind, _, name = row.target.partition("/")
                if kind == "function":
                    accept_for(name, for_function(row), cause)(transaction)
                else:
                    into = queue.find_or_make(transaction, row.target)
                    noted = noted_of(attributes if row.rule.get("raw") else {}, cause)
                    queue.send(transaction, into, for_queue(row), attributes=noted, delay=row.rule["delay"])
            return message_id

        return job

    # -- buses ---------------------------------------------------------------------------------------------------------

    def _events(self, to: Bus, what: list[Put], cause: Cause) -> Job[list[str]]:
        wall = self._database.clock.wall()
        events = [(request_id_text(new_id()), one) for one in what]
        made = [
            _shapes.bus_event(
                event_id=event_id,
                source=one.source,
                detail_type=one.detail_type,
                detail=one.detail,
                resources=one.resources,
                at=wall if one.at is None else one.at,
            )
            for event_id, one in events
        ]
        payloads = [encode_event(event) for event in made]
        for payload in payloads:
            if len(payload) > limits.ASYNC_EVENT_BYTES:
                raise PayloadTooLarge(f"the event has {len(payload):,} bytes: at most {limits.ASYNC_EVENT_BYTES:,}")

        def job(transaction: Transaction) -> list[str]:
            for event, payload in zip(made, payloads, strict=True):
                for row in self._routes.of(transaction, to.path, event):
                    if row.target.startswith("archive/"):
                        kept = (event["id"], payload)
                        replays.keep(transaction, row.target, row.rule["retention"], kept)
                    else:
                        accept_for(_function_of(row), _for_rule(row, event, wall) or payload, cause)(transaction)
            return [event_id for event_id, _ in events]

        return job

    # -- what comes from outside ---------------------------------------------------------------------------------------

    def announce(self, transaction: Transaction, source: str, news: Iterable[News]) -> None:
        """Have each function run that wants what one of these tells of itself, with the event made for its mapping."""
        wanted: list[Acceptance] = []
        queues: dict[str, queue.Queue] = {}
        for subject, event_for in news:
            for row in self._routes.of(transaction, source, subject):
                name = _function_of(row)
                to = queues.get(name) or queues.setdefault(name, submissions.queue_of(transaction, name))
                request_id, noted = _request(NOBODY)
                payload = encode_event(event_for(self._database.message_id(row.id)))
                wanted.append(Acceptance(to, request_id, payload, noted, 0.0))
        Acceptance.all_of(transaction, wanted)

    def put_again(self, transaction: Transaction, to: str, event: dict[str, Any], rules: list[str] | None) -> None:
        """Hand an event of an archive to the functions that have rules which it fits, or to those of these rules."""
        wall = self.wall()
        for row in self._routes.of(transaction, to, event):
            if not row.target.startswith("archive/") and (rules is None or row.name in rules):
                accept_for(_function_of(row), _for_rule(row, event, wall) or encode_event(event), NOBODY)(transaction)


def noted_of(attributes: _shapes.Typed, cause: Cause, token: str | None = None) -> str | None:
    """Write down what is kept beside a message's body."""
    noted = cause.noted()
    if attributes:
        noted["attributes"] = attributes
    if token is not None:
        noted["token"] = token
    return json.dumps(noted) if noted else None


def accept_for(function: str, payload: bytes, cause: Cause) -> Job[bytes]:
    """Give the part of a transaction that has a function run with this, later."""
    request_id, noted = _request(cause)

    def job(transaction: Transaction) -> bytes:
        to = submissions.queue_of(transaction, function)
        return submissions.accept(transaction, to, request_id, payload, noted)

    return job


def _request(cause: Cause) -> tuple[bytes, str]:
    """Make the id of a request, and what is kept beside its event."""
    request_id = new_id_in_order()
    return request_id, json.dumps({"id": request_id.hex(), **cause.noted()})


def _parsed(text: str) -> Any:
    """Give what a text is as JSON, where it is an object; None of any other."""
    if not text.startswith("{"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _function_of(row: Mapping) -> str:
    return row.target.partition("/")[2]


def _for_rule(row: Mapping, event: dict[str, Any], at: float) -> bytes | None:
    """Make of an event what a rule gives its function; None where that is the event."""
    if not row.rule.get("transform"):
        return None
    rule = row.name
    reserved = {
        "aws.events.rule-name": rule,
        "aws.events.rule-arn": _shapes.arn("events", f"rule/{row.source.partition('/')[2]}/{rule}"),
        "aws.events.event.ingestion-time": f"{datetime.fromtimestamp(at, timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
    }
    return _change_of(json.dumps(row.rule["transform"]))(event, reserved).encode()


@functools.lru_cache(maxsize=4096)
def _change_of(transform: str) -> Change:
    return compile_transform(json.loads(transform))
