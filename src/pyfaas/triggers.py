"""
What may stand after ``trigger=``, besides a handle itself: which events a function wants, and how.

    orders.batches(size=100, window=1)      receipts.messages(filter={"kind": ["paid"]})
    shop.rule({"source": ["till"]})         schedule("rate(5 minutes)")
    clicks.records(parallelization=4)

These only say what is wanted; ``_sources`` makes running things of them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfaas import _port, limits
from pyfaas._payload import encode_event
from pyfaas.alarms import AlarmTrigger
from pyfaas.doors import AuthTrigger, EdgeTrigger, HttpTrigger, SocketTrigger
from pyfaas.errors import ConfigurationError
from pyfaas.options import one_of, refuse, seconds, whole

if TYPE_CHECKING:
    from datetime import datetime

_FILTERS = 10  # AWS: 5, up to 10 by quota
_FILTER_CHARACTERS = 4_096


class QueueTrigger(NamedTuple):
    """Batches of messages of a queue."""

    queue: Any
    size: int
    window: float
    report_failures: bool
    filters: tuple[str, ...]
    max_concurrency: int | None

    @property
    def source(self) -> str:
        """What the events come from."""
        return f"queue/{self.queue.name}"

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        return "", self._options()

    def changed(self, options: Mapping[str, Any]) -> QueueTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        return changed(self.queue.batches, self._options(), options)  # type: ignore[no-any-return]

    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if name != "queue"}

    def check(self, timeout: float) -> None:
        """Refuse a function that takes longer than the queue waits for it."""
        needed = timeout + self.window
        if needed > self.queue.visibility:
            raise ConfigurationError(
                f"trigger={self.queue!r}: its visibility={self.queue.visibility:g} must be at least the function's "
                f"timeout and the window, {needed:g} s, or each message would come twice"
            )


class TopicTrigger(NamedTuple):
    """Messages of a topic, each an asynchronous invocation."""

    topic: Any
    filter: str | None
    filter_on: str

    @property
    def source(self) -> str:
        """What the events come from."""
        return f"topic/{self.topic.name}"

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        return "", topic_rule(self.filter, self.filter_on)

    def changed(self, options: Mapping[str, Any]) -> TopicTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        return changed(self.topic.messages, {"filter": self.filter, "filter_on": self.filter_on}, options)  # type: ignore[no-any-return]

    def check(self, timeout: float) -> None:
        """Any function will do."""


class RuleTrigger(NamedTuple):
    """Events of a bus that fit a pattern, each an asynchronous invocation."""

    bus: Any
    pattern: str
    name: str
    transform: dict[str, Any] | None

    @property
    def source(self) -> str:
        """What the events come from."""
        return f"bus/{self.bus.name}"

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        return self.name, {"pattern": self.pattern, "transform": self.transform}

    def changed(self, options: Mapping[str, Any]) -> RuleTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        now = {"pattern": self.pattern, "name": self.name, **(self.transform or {})}
        made: RuleTrigger = changed(self.bus.rule, now, options)
        return made._replace(name=self.name)

    def check(self, timeout: float) -> None:
        """Any function will do."""


class ScheduleTrigger(NamedTuple):
    """Times, each an asynchronous invocation; ``start`` and ``end`` in seconds since 1970, ``event`` is JSON."""

    name: str
    expression: str
    timezone: str
    start: float | None
    end: float | None
    flexible: float
    catch_up: str
    event: str | None

    @property
    def source(self) -> str:
        """What the events come from."""
        return f"schedule/{self.name}"

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        return "", {name: value for name, value in self._asdict().items() if name != "name"}

    def changed(self, options: Mapping[str, Any]) -> ScheduleTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        unknown = options.keys() - set(self._fields)
        if unknown or "name" in options:
            right = ", ".join(self._fields[1:])
            raise ConfigurationError(f"change({', '.join(options)}): this trigger has the options {right}")
        made = schedule(**{"expression": self.expression, "timezone": self.timezone, "name": self.name, **options})
        kept = {name: getattr(self, name) for name in self._fields if name not in options}
        return made._replace(**kept)

    def check(self, timeout: float) -> None:
        """Any function will do."""


class StreamTrigger(NamedTuple):
    """Batches of records of a stream, or of changes of a table; of each shard one after the other."""

    stream: Any
    size: int
    window: float
    start: str | datetime
    parallelization: int
    bisect: bool
    retries: int | None
    max_record_age: float | None
    report_failures: bool
    filters: tuple[str, ...]
    tumbling_window: int
    on_failure: Any

    @property
    def source(self) -> str:
        """What the events come from."""
        return self.stream.path  # type: ignore[no-any-return]

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        told = {
            "start": self.start if isinstance(self.start, str) else self.start.timestamp(),
            "on_failure": None if self.on_failure is None else self.on_failure.path,
        }
        return "", {**self._options(), **told}

    def changed(self, options: Mapping[str, Any]) -> StreamTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        return changed(self.stream.records, self._options(), options)  # type: ignore[no-any-return]

    def _options(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if name != "stream"}

    def check(self, timeout: float) -> None:
        """Any function will do."""


class BucketTrigger(NamedTuple):
    """Changes of a bucket's files, each an asynchronous invocation."""

    bucket: Any
    events: tuple[str, ...]
    prefix: str
    suffix: str
    name: str

    @property
    def source(self) -> str:
        """What the events come from."""
        return self.bucket.path  # type: ignore[no-any-return]

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        pattern: dict[str, Any] = {"name": [{"wildcard": one} for one in self.events]}
        if self.prefix:
            pattern["key"] = [{"prefix": self.prefix}]
        if self.suffix:
            pattern["end"] = [{"suffix": self.suffix}]
        return self.name, {"pattern": json.dumps(pattern)}

    def changed(self, options: Mapping[str, Any]) -> BucketTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        now = {"events": self.events, "prefix": self.prefix, "suffix": self.suffix}
        made: BucketTrigger = changed(self.bucket.objects, now, options)
        return made._replace(name=self.name)

    def check(self, timeout: float) -> None:
        """Any function will do."""


Trigger = (
    QueueTrigger
    | TopicTrigger
    | RuleTrigger
    | ScheduleTrigger
    | StreamTrigger
    | BucketTrigger
    | AlarmTrigger
    | HttpTrigger
    | SocketTrigger
    | EdgeTrigger
    | AuthTrigger
)


def schedule(
    expression: str,
    *,
    timezone: str = "UTC",
    start: datetime | None = None,
    end: datetime | None = None,
    flexible: float = 0.0,
    catch_up: str = "one",
    event: Any = None,
    name: str | None = None,
) -> ScheduleTrigger:
    """
    Make a trigger of times on the wall, as EventBridge Scheduler has them.

    - ``expression``: ``rate(5 minutes)``, ``cron(0 9 ? * MON-FRI *)`` (minutes, hours, day of month, month, day of
      week, year) or ``at(2030-01-31T09:00:00)``
    - ``timezone``: the IANA name of that whose local times are meant. One that does not exist is skipped, one that
      comes twice is taken once
    - ``start``, ``end``: datetimes with a time zone; it is due at no other time. A rate counts from ``start``, else
      from the moment when a runtime first heard of it
    - ``flexible``: seconds, up to a day, within which it may be due later, at random (AWS: FlexibleTimeWindow)
    - ``catch_up``: of the times that nobody ran, and that are more than a minute ago, ``"one"`` is made up for,
      ``"all"``, or none with ``"skip"``
    - ``event``: what the function gets, default the event of EventBridge Scheduler; in its texts
      ``<aws.scheduler.scheduled-time>`` and the like are filled in
    - ``name``: tells it from others of the same function; default made of the expression

    Raises ConfigurationError.
    """
    if not _port.in_sandbox:
        from pyfaas._language.schedules import parse

        parse(expression, timezone)
    if not isinstance(timezone, str):
        raise refuse("timezone", timezone, 'the IANA name of one, such as "Europe/Berlin"')
    named: Any = name if name is not None else re.sub(r"[^a-zA-Z0-9]+", "-", expression).strip("-")[:64]
    if not isinstance(named, str) or not _NAME.fullmatch(named):
        raise refuse("name", name, "1 to 64 letters, digits, hyphens, underscores and dots")
    begins, ends = _moment("start", start), _moment("end", end)
    if begins is not None and ends is not None and ends < begins:
        raise refuse("end", end, "after start")
    seconds(0, limits.FLEXIBLE_SECONDS)("flexible", flexible)
    one_of("one", "all", "skip")("catch_up", catch_up)
    text = None if event is None else encode_event(event).decode()
    return ScheduleTrigger(named, expression, timezone, begins, ends, float(flexible), catch_up, text)


_NAME = re.compile(r"[0-9a-zA-Z_.-]{1,64}")


def _moment(field: str, moment: Any) -> float | None:
    if moment is None:
        return None
    if getattr(moment, "tzinfo", None) is None:
        raise refuse(field, moment, "a datetime with a time zone, or None")
    return moment.timestamp()  # type: ignore[no-any-return]


def checked_triggers(given: Any, timeout: float) -> tuple[Trigger, ...]:
    """Accept what ``trigger=`` may be: one or a list of triggers and handles, or None. Raises ConfigurationError."""
    listed = given if isinstance(given, (list, tuple)) and not isinstance(given, Trigger) else [given]
    triggers = tuple(one if isinstance(one, Trigger) else _trigger_of(one) for one in listed if one is not None)
    for trigger in triggers:
        trigger.check(timeout)
    return triggers


def _trigger_of(given: Any) -> Trigger:
    make = getattr(given, "as_trigger", None)
    if make is None or isinstance(given, type):
        raise refuse(
            "trigger",
            given,
            "a handle, orders.batches(...), clicks.records(...), shop.rule(...), schedule(...), http(...), or a list",
        )
    return make()  # type: ignore[no-any-return]


def changed(make: Callable[..., Any], now: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    """Make a trigger as it is now, but for these options. Raises ConfigurationError."""
    try:
        return make(**{**now, **options})
    except TypeError:
        right = ", ".join(now)
        raise ConfigurationError(f"change({', '.join(options)}): this trigger has the options {right}") from None


def topic_rule(pattern: str | None, on: str) -> dict[str, Any]:
    """Say what a topic's mapping wants, as the store keeps it."""
    return {"pattern": None if pattern is None else json.dumps({on: json.loads(pattern)})}


def queue_trigger(
    queue: Any, size: int, window: float, report_failures: bool, filters: Any, max_concurrency: int | None
) -> QueueTrigger:
    """Make one. Raises ConfigurationError."""
    whole(1, limits.BATCH_OF_FIFO if queue.fifo else limits.BATCH)("size", size)
    seconds(0, limits.BATCH_WINDOW_SECONDS)("window", window)
    if queue.fifo and window:
        raise refuse("window", window, "0 for a FIFO queue, as in AWS")
    if type(report_failures) is not bool:
        raise refuse("report_failures", report_failures, "True or False")
    whole(1, limits.SANDBOXES, optional=True)("max_concurrency", max_concurrency)
    return QueueTrigger(queue, size, window, report_failures, checked_filters(filters), max_concurrency)


_FILE_EVENTS = ("ObjectCreated:*", "ObjectCreated:Put", "ObjectRemoved:*", "ObjectRemoved:Delete")


def bucket_trigger(bucket: Any, events: Any, prefix: Any, suffix: Any, name: Any) -> BucketTrigger:
    """Make one. Raises ConfigurationError."""
    listed = (events,) if isinstance(events, str) else events
    if not isinstance(listed, (list, tuple)) or not listed or any(one not in _FILE_EVENTS for one in listed):
        raise refuse("events", events, f"one of {', '.join(map(repr, _FILE_EVENTS))}, or a list of them")
    for field, value in {"prefix": prefix, "suffix": suffix}.items():
        if not isinstance(value, str) or len(value) > 1024:
            raise refuse(field, value, "text of up to 1,024 characters")
    if not isinstance(name, str) or (name and not _NAME.fullmatch(name)):
        raise refuse("name", name, "up to 64 letters, digits, hyphens, underscores and dots")
    return BucketTrigger(bucket, tuple(listed), prefix, suffix, name)


def checked_filters(filters: Any) -> tuple[str, ...]:
    """Accept a list of patterns of which one must fit. Raises ConfigurationError."""
    if isinstance(filters, Mapping) or not isinstance(filters, (list, tuple)) or len(filters) > _FILTERS:
        raise refuse("filters", filters, f"a list of at most {_FILTERS} patterns")
    return tuple(checked_pattern(f"filters[{number}]", one) for number, one in enumerate(filters))


def checked_pattern(field: str, pattern: Any) -> str:
    """Accept a pattern, and give its JSON. Raises ConfigurationError."""
    if not _port.in_sandbox:  # where the host has looked at it
        from pyfaas._language.patterns import compile_pattern

        compile_pattern(pattern, field)
    text = pattern if isinstance(pattern, str) else json.dumps(pattern, separators=(",", ":"))
    if len(text) > _FILTER_CHARACTERS:
        raise refuse(field, f"{len(text):,} characters", f"at most {_FILTER_CHARACTERS:,} characters of JSON")
    return text
