"""Buses: ``bus("shop")`` names one; an event goes to all who have a rule that it fits when it is put."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfaas import _port
from pyfaas._payload import encode_event
from pyfaas.errors import ConfigurationError, InvalidEvent
from pyfaas.options import refuse, seconds
from pyfaas.resources.archives import Archive
from pyfaas.resources.handles import Handle, check_name, fields_of
from pyfaas.resources.topics import fed
from pyfaas.triggers import RuleTrigger, checked_pattern

if TYPE_CHECKING:
    from datetime import datetime


class Put(NamedTuple):
    """An event for a bus."""

    source: str
    detail_type: str
    detail: Any
    resources: list[str]
    at: float | None


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
        return [_put_at(**fields_of(one, Put)) for one in told]

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
            check_name("name", name)
        given = {"input": input, "path": path, "template": template, "paths": paths}
        return RuleTrigger(self, text, name or text, _checked_transform(given))

    def archive(self, name: str, *, pattern: Any = None, retention: float | None = None) -> Archive:
        """
        Have events kept that are put from now on, by every runtime that opens, and by those that are open.

        - ``name``: of the archive, which may be that of no other bus's
        - ``pattern``: which events are kept, default all (AWS: EventPattern)
        - ``retention``: seconds for which one is kept, at least 60, default for ever (AWS: RetentionDays)

        Raises ConfigurationError.
        """
        if retention is not None:
            seconds(60, math.inf)("retention", retention)
        text = None if pattern is None else checked_pattern("pattern", pattern)
        kept = Archive(name, bus=self, retention=retention)
        if others := [source for source, target in fed if target == kept.path and source != self.path]:
            raise refuse("name", name, f"another one: {others[0].partition('/')[2]!r} has an archive of this name")
        fed[self.path, kept.path] = {"pattern": text, "retention": retention}
        _port.declared_more()
        return kept


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


_YEAR_10000 = 253_402_300_800


def _put_at(source: Any, detail_type: Any, detail: Any, resources: Any, at: Any) -> Put:
    if at is not None and (isinstance(at, bool) or not isinstance(at, (int, float)) or not 0 <= at < _YEAR_10000):
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
