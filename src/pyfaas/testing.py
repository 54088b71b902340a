"""
For tests of functions and of what calls them: the pure parts of triggers, to be asked directly.

    pattern_matches(pattern, event)                     would this rule or filter take this event?
    schedule_times("cron(0 9 ? * MON-FRI *)", start, 5) when is it due?
    Runtime(clock=ManualClock())                        time that passes when the test says so
    settle(runtime)                                     wait until all that is due by that time is done
    events.queue("body"), events.bus({"a": 1}) ...      events to call a handler with, in the form of AWS
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, tzinfo
from time import monotonic, sleep, time
from typing import Any

from pyfaas import _shapes
from pyfaas._invoke.ids import new_id
from pyfaas._language.patterns import compile_pattern
from pyfaas._language.routes import Router
from pyfaas._language.routes import parse as parse_route
from pyfaas._language.schedules import parse, zone_of
from pyfaas._shapes import alarms, files, rows
from pyfaas._sources.auth.hooks import event_of
from pyfaas._sources.http import messages
from pyfaas._sources.http.answers import Response
from pyfaas._sources.http.edges import cf_event
from pyfaas._sources.http.events import Request, version_1, version_2
from pyfaas.context import request_id_text
from pyfaas.doors import edge
from pyfaas.errors import ConfigurationError
from pyfaas.resources import Attributes, text_of
from pyfaas.runtime import Runtime

__all__ = ["ManualClock", "events", "pattern_matches", "schedule_times", "settle"]


def pattern_matches(pattern: dict[str, Any] | str, event: Any) -> bool:
    """
    Tell whether an event fits a pattern of EventBridge's language, an object or its JSON text.

    Raises ConfigurationError for a bad pattern: where it is wrong, and what would be right.
    """
    return compile_pattern(pattern).matches(event)


def schedule_times(expression: str, start: datetime, count: int, timezone: str | tzinfo = "UTC") -> list[datetime]:
    """
    Give the first moments after ``start`` (an aware datetime) at which a schedule is due, in its time zone.

    ``expression`` is in the form of ``rate(5 minutes)``, which counts from ``start``, ``cron(0 9 ? * MON-FRI *)`` or
    ``at(2030-01-31T09:00:00)``. They are at most ``count``, and fewer where the schedule ends before. As with
    EventBridge Scheduler, a local time that does not exist is skipped, and one that comes twice counts once, the first
    time.

    Raises ConfigurationError, naming the field that is wrong.
    """
    if start.tzinfo is None:
        raise ConfigurationError(f"start={start!r}: must have a time zone, such as start.replace(tzinfo=timezone.utc)")
    zone = zone_of(timezone)
    schedule = parse(expression, zone, start)
    found: list[datetime] = []
    due = schedule.next_after(start)
    while due is not None and len(found) < count:
        found.append(due.astimezone(zone))
        due = schedule.next_after(due)
    return found


def settle(runtime: Runtime, timeout: float = 10.0) -> None:
    """
    Wait until a runtime has done all that is due by its clock: what was submitted, sent, published, and scheduled.

    Raises TimeoutError after ``timeout`` seconds.
    """
    until = monotonic() + timeout
    while not runtime.is_settled():
        if monotonic() > until:
            raise TimeoutError(f"{runtime!r} still has something to do after {timeout:g} s")
        sleep(0.002)


class events:  # noqa: N801 - a drawer of functions
    """Events of every source, to call a handler with: ``charge(events.queue({"amount": 12}), None)``."""

    @staticmethod
    def queue(
        *bodies: Any, name: str = "queue", attributes: Attributes | None = None, receives: int = 1
    ) -> dict[str, Any]:
        """Make the event of a batch of a queue, of texts or of what JSON can hold."""
        now = time()
        records = [
            _shapes.sqs_record(
                name,
                message_id=_some_id(),
                receipt_handle=_some_id(),
                body=text_of("body", body),
                sent_at=now,
                first_received_at=now,
                receives=receives,
                attributes=_shapes.typed(attributes or {}),
            )
            for body in bodies
        ]
        return {"Records": records}

    @staticmethod
    def stream(*data: Any, name: str = "stream", key: str = "key") -> dict[str, Any]:
        """Make the event of a batch of a stream, of bytes, texts or of what JSON can hold."""
        records = [
            _shapes.kinesis_record(
                name,
                shard=_shapes.shard_id(0),
                sequence=_shapes.sequence_number(number),
                key=key,
                data=one if isinstance(one, bytes) else text_of("data", one).encode(),
                at=time(),
            )
            for number, one in enumerate(data, 1)
        ]
        return {"Records": records}

    @staticmethod
    def bucket(
        *keys: str, name: str = "bucket", event: str = "ObjectCreated:Put", size: int = 0, etag: str = ""
    ) -> dict[str, Any]:
        """
        Make the event of files that were put, or with ``event="ObjectRemoved:Delete"`` deleted.

        Raises ConfigurationError for another kind of event.
        """
        if event not in files.NAMES:
            raise ConfigurationError(f"event={event!r}: must be one of {', '.join(map(repr, files.NAMES))}")
        told = [
            {
                "name": event,
                "key": os.fsencode(key),
                "size": size,
                "etag": etag or "d41d8cd98f00b204e9800998ecf8427e",
                "sequencer": number,
                "version": _some_id(),
            }
            for number, key in enumerate(keys, 1)
        ]
        return files.file_event(name, told, _some_id(), at=time())

    @staticmethod
    def table(
        new: Mapping[str, Any] | None = None,
        old: Mapping[str, Any] | None = None,
        *,
        keys: Sequence[str] = ("id",),
        name: str = "table",
    ) -> dict[str, Any]:
        """
        Make the event of a change of a table's row: inserted with ``new``, removed with ``old``, modified with both.

        Raises ConfigurationError without any of them, and where a key is not among its columns.
        """
        row = old if new is None else new
        if row is None or not keys or any(key not in row for key in keys):
            raise ConfigurationError(f"keys={keys!r}: must be columns of new, or of old")
        kind = "REMOVE" if new is None else "INSERT" if old is None else "MODIFY"
        change = {"eventName": kind, "Keys": rows.image({key: row[key] for key in keys})}
        images = {"NewImage": new, "OldImage": old}
        change |= {image: rows.image(columns) for image, columns in images.items() if columns is not None}
        number = _shapes.sequence_number(1)
        return {
            "Records": [rows.row_record(name, sequence=number, change=change, at=time(), view="new_and_old_images")]
        }

    @staticmethod
    def http(
        route: str = "$default",
        path: str = "/",
        *,
        body: str | bytes = b"",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        payload: str = "2.0",
        authorizer: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """
        Make the event of a request: ``events.http("GET /orders/{id}", "/orders/7")``.

        Raises ConfigurationError where the path is not of this route.
        """
        wanted = parse_route(route)
        method = "GET" if wanted.method == "ANY" else wanted.method
        router: Router[None] = Router()
        router.add(wanted, None)
        match = router.find(method, path)
        if match is None:
            raise ConfigurationError(f"path={path!r}: is not of the route {route!r}")
        named = [("host", "localhost"), *((name.lower(), value) for name, value in (headers or {}).items())]
        raw = body.encode() if isinstance(body, str) else body
        request = Request(method, path, query, named, raw, "127.0.0.1", "HTTP/1.1", _some_id(), time())
        if payload == "1.0":
            return version_1(request, wanted.key, match.parameters, wanted.path, authorizer)
        return version_2(request, wanted.key, match.parameters, authorizer)

    @staticmethod
    def websocket(
        route: str = "$default", body: str | bytes = "", *, connection_id: str = "local", query: str = ""
    ) -> dict[str, Any]:
        """Make the event of a message, or with ``"$connect"`` and ``"$disconnect"`` of a client that comes or goes."""
        request = Request("GET", "/", query, [("host", "localhost")], b"", "127.0.0.1", "HTTP/1.1", _some_id(), time())
        client = messages.Client(connection_id, request, request.at)
        if route == "$connect":
            return messages.connect_event(client)
        if route == "$disconnect":
            return messages.disconnect_event(client, 1000, "", request_id=_some_id(), at=time())
        return messages.message_event(client, route, body, request_id=_some_id(), at=time())

    @staticmethod
    def edge(
        event: str, uri: str = "/", *, method: str = "GET", headers: Mapping[str, str] | None = None, status: int = 200
    ) -> dict[str, Any]:
        """Make what an edge is asked: of a request, or for ``"...-response"`` of a response of this status."""
        named = [("host", "localhost"), *((name.lower(), value) for name, value in (headers or {}).items())]
        request = Request(method, uri, "", named, b"", "127.0.0.1", "HTTP/1.1", _some_id(), time())
        response = Response(status, [], b"") if event.endswith("-response") else None
        return cf_event(edge(event), request, response)

    @staticmethod
    def auth(hook: str, user: str, attributes: Mapping[str, str], **request: Any) -> dict[str, Any]:
        """Make what a hook of sign-in is asked: ``events.auth("pre_sign_up", "ada", {"email": ...})``."""
        return event_of(hook, user, attributes, request, way=None, client_id="local")

    @staticmethod
    def topic(
        message: Any, *, name: str = "topic", subject: str | None = None, attributes: Attributes | None = None
    ) -> dict[str, Any]:
        """Make the event of a message of a topic."""
        return _shapes.sns_event(
            name,
            _some_id(),
            message_id=_some_id(),
            message=text_of("message", message),
            subject=subject,
            attributes=_shapes.typed(attributes or {}),
            at=time(),
        )

    @staticmethod
    def bus(
        detail: dict[str, Any], *, source: str = "test", detail_type: str = "Test", resources: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Make an event of a bus."""
        return _shapes.bus_event(
            event_id=_some_id(),
            source=source,
            detail_type=detail_type,
            detail=detail,
            resources=[*resources],
            at=time(),
        )

    @staticmethod
    def alarm(
        name: str,
        *,
        state: str = "ALARM",
        previous: str = "OK",
        reason: str = "Threshold Crossed",
        metric: str = "Errors",
    ) -> dict[str, Any]:
        """Make the event of an alarm's change of state."""
        now = time()
        of = alarms.configuration("", metric, {}, "AWS/Lambda", 60, "Sum")
        before = alarms.State(previous, "", None, now - 60)
        return alarms.alarm_event(name, alarms.State(state, reason, {"version": "1.0"}, now), before, of)

    @staticmethod
    def config_rule(
        invoking: Mapping[str, Any], *, name: str = "rule", parameters: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make the event of a rule of AWS Config; ``invoking`` says what has changed: a ``configurationItem``."""
        return alarms.config_rule_event(name, invoking, parameters or {}, token=_some_id(), at=time())

    @staticmethod
    def security_hub(*findings: Mapping[str, Any]) -> dict[str, Any]:
        """Make the event of findings of AWS Security Hub, as it is on a bus."""
        return _shapes.bus_event(
            event_id=_some_id(),
            source="aws.securityhub",
            detail_type="Security Hub Findings - Imported",
            detail={"findings": [dict(one) for one in findings]},
            resources=[_shapes.arn("securityhub", "product/local/pyfaas")],
            at=time(),
        )

    @staticmethod
    def schedule(name: str = "schedule") -> dict[str, Any]:
        """Make the event of a schedule."""
        return _shapes.scheduled_event(name, event_id=_some_id(), at=time())


def _some_id() -> str:
    return request_id_text(new_id())


class ManualClock:
    """
    A clock that goes only when told to: retries, delays and schedules of ``Runtime(clock=...)`` go by it.

    Time-outs of functions do not: what runs in a sandbox runs in real time. ``wall`` is where it begins, in seconds
    since 1970; ``boot`` names the boot that it counts from, another one stands for a machine that was started again.
    """

    def __init__(self, wall: float = 1_800_000_000.0, boot: str = "manual") -> None:
        self.boot = boot
        self._wall = wall
        self._steady = 0.0
        self._calls: list[Callable[[], None]] = []

    def wall(self) -> float:
        """Give seconds since 1970."""
        return self._wall

    def steady(self) -> float:
        """Give seconds since this clock was made."""
        return self._steady

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._wall += seconds
        self._steady += seconds
        self._tell()

    def set_wall(self, seconds: float) -> None:
        """Set the clock on the wall ahead, or back, as people do; no time passes."""
        self._wall += seconds

    def when_moved(self, call: Callable[[], None]) -> None:
        """Have this called whenever time passes, or is set."""
        self._calls.append(call)

    def _tell(self) -> None:
        for call in tuple(self._calls):
            call()
