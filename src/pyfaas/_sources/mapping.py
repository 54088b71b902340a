"""What connects a source to a function, as users see it: ``runtime.mappings()``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyfaas._sources.batches import NO_RECORDS
from pyfaas._stores.mappings import Mapping
from pyfaas.errors import ConfigurationError
from pyfaas.triggers import Trigger

if TYPE_CHECKING:
    from pyfaas._sources.opened import Sources

REPLACE_NOTE = (
    "a row that REPLACE overwrites has its REMOVE only if the writer has set PRAGMA recursive_triggers=ON, as the "
    "connections of table.connect() do"
)


class EventSourceMapping:
    """
    What connects a source of events to a function, or a topic to a queue; ``runtime.mappings()`` gives them.

    ``uuid`` names it; ``source`` and ``target`` are in the form of ``"queue/orders"`` and ``"function/charge"``,
    ``name`` that of a rule; ``trigger`` is what was declared, None in a runtime that does not have the function.
    """

    def __init__(self, opened: Sources, row: Mapping, trigger: Trigger | None) -> None:
        self._opened = opened
        self._row = row
        self.uuid = opened.deferred.database.message_id(row.id)
        self.source = row.source
        self.target = row.target
        self.name = row.name
        self.trigger = trigger

    @property
    def state(self) -> str:
        """In AWS's words: ``"Enabled"``, ``"Disabled"``, and ``"Disabling"`` while the last of it still runs."""
        if self._opened.is_enabled(self._row.id):
            return "Enabled"
        source = self._opened.source_of(self._row.id)
        return "Disabling" if source is not None and source.running else "Disabled"

    @property
    def last_result(self) -> str:
        """What came of the last batch, in AWS's words; of a queue, a stream or a table in this runtime."""
        if problem := self._opened.problem_of(self.trigger):
            return f"PROBLEM: {problem}"
        source = self._opened.source_of(self._row.id)
        return NO_RECORDS if source is None else source.last_result

    @property
    def alarm_state(self) -> str | None:
        """In which state an alarm is in this runtime: ``"OK"``, ``"ALARM"`` or ``"INSUFFICIENT_DATA"``."""
        state = getattr(self._opened.source_of(self._row.id), "state", None)
        return None if state is None else str(state.value)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is to be known of such a source, for whoever looks after it."""
        return (REPLACE_NOTE,) if self.source.startswith("table/") else ()

    @property
    def iterator_age(self) -> float | None:
        """For how many seconds the last record of a stream had been there when this runtime handed it over."""
        return getattr(self._opened.source_of(self._row.id), "iterator_age", None)

    def pause(self) -> None:
        """Take no more events, in any host; what runs goes on. It stays so until ``resume``, in later runs too."""
        self._opened.enable(self._row, enabled=False)

    def resume(self) -> None:
        """Go on."""
        self._opened.enable(self._row, enabled=True)

    def change(self, **options: Any) -> None:
        """
        Change what the trigger was declared with, such as ``size=100``, until this runtime is closed.

        Raises ConfigurationError, also where this runtime does not have the function.
        """
        if self.trigger is None:
            raise ConfigurationError(f"{self!r} is not of this runtime: it cannot be changed here")
        self.trigger = self._opened.change(self._row, self.trigger.changed(options))

    def remove(self) -> None:
        """Forget it, in every host, until a runtime is opened that declares it."""
        self._opened.remove(self._row)

    def __repr__(self) -> str:
        return f"<EventSourceMapping {self.source} -> {self.target} {self.state}>"
