"""
Sources that are fed from elsewhere than the store: a directory, somebody's database.

    told, or asked ──► look ──► one run at a time: work() ──► what came is in the store, or a problem: again in a second

The work may wait for a disk or a lock, so it is done in a run beside those of all other sources.
"""

from __future__ import annotations

import logging
import math

from pyfaas._invoke.attempts import House
from pyfaas._invoke.dispatch import Run, Source
from pyfaas._stores.database import Transaction
from pyfaas.errors import ConfigurationError, HostError

AGAIN_SECONDS = 1.0  # after something went wrong
_log = logging.getLogger("pyfaas")


class Nothing:
    """What such a run holds of the store."""

    def keep(self, transaction: Transaction, seconds: float) -> None: ...

    def give_back(self, transaction: Transaction) -> None: ...


class OutsideSource(Source):
    """One of them; ``problem``: why nothing comes from there just now, or None."""

    is_outside = True

    def __init__(self, house: House) -> None:
        self.problem: str | None = None
        self._house = house
        self._works_begun = self._works_ended = 0
        self._is_wanted_again = False

    async def work(self) -> None:
        """Bring what is new into the store, and set ``due_at``. Raises OSError, ConfigurationError and HostError."""
        raise NotImplementedError

    def open(self) -> None:
        """See that from now on nothing is missed. Raises ConfigurationError and HostError."""
        raise NotImplementedError

    def next_due(self, transaction: Transaction) -> float:  # noqa: ARG002 - the store does not tell
        """Look when something is told."""
        return math.inf

    def ask(self) -> int:
        """Ask for work that begins now and misses nothing; the number of that question."""
        return self._works_begun

    def is_answered(self, question: int) -> bool:
        """Tell whether that is done."""
        return self._works_ended > question

    async def look(self, runs: int) -> list[Run]:
        """Begin to work; if that goes on already, do so once more when it ends."""
        self.due_at = math.inf
        if self.running or not runs:
            self._is_wanted_again = True
            return []
        return [Run(self, Nothing(), self._work)]

    async def _work(self) -> None:
        self._works_begun += 1
        self._is_wanted_again = False
        try:
            await self.work()
            self.problem = None
        except (OSError, ConfigurationError, HostError) as error:
            if self.problem != str(error):
                _log.warning("%s waits: %s", self, error)
            self.problem = str(error)
            self.due_at = self._house.database.now() + AGAIN_SECONDS
        finally:
            self._works_ended = self._works_begun
        if self._is_wanted_again:
            self.due_at = 0.0
