"""Archives: ``shop.archive("orders")`` keeps what is put on a bus, so that it can be put there once more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfaas import _port
from pyfaas.options import refuse
from pyfaas.resources.handles import Handle, check_name

if TYPE_CHECKING:
    from pyfaas._records import Replay


class Replaying(NamedTuple):
    """What is to be replayed; moments are seconds since 1970, ``rules`` names, None for all."""

    name: str
    start: float
    end: float
    rules: list[str] | None


class Archive(Handle):
    """What is kept of a bus; see ``Bus.archive``."""

    kind = "archive"
    bus: Any
    retention: float | None

    def replay(
        self, start: datetime, end: datetime, *, rules: Sequence[str] | None = None, name: str | None = None
    ) -> str:
        """
        Put the events that came from ``start`` to ``end`` on their bus once more, in their order, and give its name.

        It goes on in the background, and in a later runtime if this one is closed. Each event says ``"replay-name"``
        and is else as it was; functions get it that have a rule which it fits now, or of these only those whose rules
        are named. AWS calls it StartReplay.

        Raises ConfigurationError, also where there is a replay of this name, and StoreUnavailable.
        """
        for field, moment in (("start", start), ("end", end)):
            if getattr(moment, "tzinfo", None) is None:
                raise refuse(field, moment, "a datetime with a time zone")
        if end < start:
            raise refuse("end", end, "not before start")
        if rules is not None and (isinstance(rules, str) or not all(isinstance(one, str) for one in rules)):
            raise refuse("rules", rules, "a list of names of rules, or None for all")
        if name is None:
            name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}-{os.urandom(4).hex()}"
        check_name("name", name)
        named = None if rules is None else [*rules]
        what = Replaying(name, start.timestamp(), end.timestamp(), named)
        return _port.current().ask(self, "replay", what)  # type: ignore[no-any-return]

    def replays(self) -> list[Replay]:
        """List the replays: ``name``, ``state``, ``start``, ``end`` and how many events were ``replayed``."""
        return _port.current().ask(self, "replays")  # type: ignore[no-any-return]

    def cancel(self, name: str) -> bool:
        """Stop a replay; tell whether it was running."""
        return _port.current().ask(self, "cancel", name)  # type: ignore[no-any-return]

    def count(self) -> int:
        """Count the events that it holds."""
        return _port.current().ask(self, "count")  # type: ignore[no-any-return]
