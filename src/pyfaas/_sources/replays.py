"""
Replays of archives as a source: some events at a time are put on their bus once more, in one transaction.

    a replay runs ──► its next events, each with its "replay-name" ──► the functions whose rules they fit ──► moved on

They are not archived again.
"""

from __future__ import annotations

import json
import math

from pyfaas._invoke.attempts import House
from pyfaas._invoke.dispatch import Run, Source
from pyfaas._stores import replays
from pyfaas._stores.database import Transaction
from pyfaas._waits import run_async


class Replayer(Source):
    """All replays of a store, one after the other."""

    tickets = (replays.TICKET,)

    def __init__(self, house: House) -> None:
        self._house = house

    def __str__(self) -> str:
        return "replays"

    async def look(self, runs: int) -> list[Run]:  # noqa: ARG002 - it begins none
        """Put the next events."""
        self.due_at = math.inf  # before it is known that there are none: who asks then is heard
        if await run_async(self._house.database.write(self._put_some)):
            self.due_at = 0.0
        return []

    def next_due(self, transaction: Transaction) -> float:
        """Tell when to look: at once, or never."""
        return 0.0 if replays.is_any(transaction) else math.inf

    def _put_some(self, transaction: Transaction) -> bool:
        part = replays.part(transaction)
        if part is None:
            return False
        for record in part.records:
            event = {**json.loads(record.data), "replay-name": part.name}
            self._house.outbox.put_again(transaction, part.bus, event, part.rules)
        replays.move(transaction, part)
        return True
