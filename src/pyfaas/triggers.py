"""
What may stand after ``trigger=``, besides a handle itself: which events a function wants, and how.

    orders.batches(size=100, window=1)      receipts.messages(filter={"kind": ["paid"]})
    shop.rule({"source": ["till"]})         schedule("rate(5 minutes)")

These only say what is wanted; ``_sources`` makes running things of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from pyfaas import _port, limits
from pyfaas.errors import ConfigurationError
from pyfaas.options import refuse, seconds, whole

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


Trigger = QueueTrigger | TopicTrigger | RuleTrigger


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
        raise refuse("trigger", given, "a queue, a topic, orders.batches(...), shop.rule(...), or a list of such")
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
