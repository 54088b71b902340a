"""
Queues as sources: messages become batches, batches become invocations, and what is done is deleted.

    claim ──► filter ──► gather (window) ──► cut (size, 6 MB) ──► invoke ──┬──► delete
                └─► delete                                                 └──► left alone: back after ``visibility``,
                                                                               to the dead letter queue in the end
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import math
from functools import partial
from typing import Any

import anyio

from pyfaas import _shapes, limits
from pyfaas._invoke.attempts import House
from pyfaas._invoke.dispatch import Held, Run, Source, claim, next_due
from pyfaas._invoke.ending import Ending
from pyfaas._sources.batches import FAILED, NO_RECORDS, OK, Batch, Filters, Pollers, cut, failed
from pyfaas._stores import queue
from pyfaas._stores.database import Transaction
from pyfaas._stores.queue import Leased, Message, Rules
from pyfaas._waits import run_async
from pyfaas.errors import PayloadMismatch, PyfaasError
from pyfaas.functions import Function
from pyfaas.triggers import QueueTrigger

CLAIMED_AT_ONCE = 500  # the writer does nothing else meanwhile

_log = logging.getLogger("pyfaas")
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode


class QueueSource(Source):
    """One function's share of a queue."""

    def __init__(
        self, house: House, function: Function[Any, Any], trigger: QueueTrigger, of: queue.Queue, rules: Rules
    ) -> None:
        self.function = function
        self.queue = of
        self.tickets = (of.id,)
        self.trigger = trigger
        self.last_result = NO_RECORDS
        self._house = house
        self._rules = rules
        self._filters = Filters(trigger.filters, "body")
        self._pollers = Pollers(trigger.max_concurrency)
        self._gathered: list[tuple[Message, bytes]] = []
        self._gathering_until = math.inf
        self._starved = False  # there may be more, and all pollers are busy
        self._names: dict[int, str] = {}

    def __str__(self) -> str:
        return f"queue {self.trigger.queue.name!r} for {self.function.name!r}"

    def next_due(self, transaction: Transaction) -> float:
        """Tell when something is due."""
        return next_due(transaction, self.queue)

    def drop(self) -> list[Held]:
        """Let go of what waits for its batch to fill."""
        gathered, self._gathered = self._gathered, []
        self._gathering_until = math.inf
        return [Leased(self.queue, [message for message, _ in gathered])] if gathered else []

    async def look(self, runs: int) -> list[Run]:
        """Claim as much as there are pollers for, and begin the batches that are full, or have waited long enough."""
        now, size = self._house.database.now(), self.trigger.size
        reserved = self.function.options.reserved_concurrency
        most = self._pollers.allowed(now, self.running)
        free = min(runs, (most if not reserved else min(most, reserved)) - self.running)
        self._starved = free <= 0
        if self._starved:
            self.due_at = self._pollers.more_at(now)
            return []
        if self.queue.fifo:
            return await self._in_order(min(free, CLAIMED_AT_ONCE // size))
        count = min(free * size - len(self._gathered), max(CLAIMED_AT_ONCE, size))
        if count > 0:
            for claimed in await self._claim(1, count):
                self._gathered += claimed
        return [self._run_of([batch]) for batch in self._ready(now)]

    async def _in_order(self, runs: int) -> list[Run]:
        """
        Begin with batches of a FIFO queue: what is claimed of a group at once is worked on in one run.

        Where it is too large for one event, one comes after the other.
        """
        claimed = await self._claim(runs, self.trigger.size)
        return [self._run_of(list(cut(messages, self.trigger.size))) for messages in claimed]

    def _run_of(self, batches: list[Batch]) -> Run:
        messages = [message for batch in batches for message in batch.items]
        return Run(self, Leased(self.queue, messages), partial(self._deliver, batches))

    async def _claim(self, times: int, count: int) -> list[list[tuple[Message, bytes]]]:
        """Claim up to ``count`` messages, so many times; give those that are wanted, each with its record."""

        def job(transaction: Transaction) -> list[list[Message]]:
            found = []
            for _ in range(times):
                seconds = self.trigger.queue.visibility
                messages = queue.claim(transaction, self.queue, count, seconds, self._rules).messages
                if not messages:
                    break
                found.append(self._without_circles(transaction, messages))
            for origin in {one.origin for messages in found for one in messages} - self._names.keys() - {None}:
                self._names[origin] = transaction.one("queue_name", queue=origin).partition("/")[2]  # type: ignore[index]
            return found

        wanted: list[list[tuple[Message, bytes]]] = []
        unwanted = []
        for messages in await claim(self._house.database, self, job):
            wanted.append([])
            for message in messages:
                record = self._record(message)
                if self._filters and not self._filters.fits(record, record["body"]):
                    unwanted.append(message)
                else:
                    wanted[-1].append((message, _compact(record).encode()))
        await self._delete(unwanted)
        return [claimed for claimed in wanted if claimed]

    def _without_circles(self, transaction: Transaction, messages: list[Message]) -> list[Message]:
        """Take out what too many functions, one after the other, led to."""
        too_far = [one for one in messages if one.attributes.get("hops", 0) >= limits.HOPS]
        if too_far:
            _log.warning("%s: %d messages that functions send in a circle were stopped", self, len(too_far))
            queue.bury(transaction, self.queue, too_far, self._rules.dead_letter)
        return [one for one in messages if one not in too_far]

    def _ready(self, now: float) -> list[Batch]:
        """Take the batches that begin now; what is left waits for its window to end."""
        batches = list(cut(self._gathered, self.trigger.size))
        last = batches[-1] if batches else None
        if last is not None and len(last.items) < self.trigger.size and self.trigger.window:
            if self._gathering_until == math.inf or len(batches) > 1:
                self._gathering_until = now + self.trigger.window
            if now < self._gathering_until:
                self._gathered = self._gathered[len(self._gathered) - len(last.items) :]
                self.due_at = min(self.due_at, self._gathering_until)
                return batches[:-1]
        self._gathered = []
        self._gathering_until = math.inf
        return batches

    # -- one batch -----------------------------------------------------------------------------------------------------

    async def _deliver(self, batches: list[Batch]) -> None:
        """Invoke the function with one batch after the other, until one does not go well."""
        try:
            for batch in batches:
                if not await self._deliver_one(batch):
                    return
        finally:
            if self._starved:
                self.due_at = 0.0

    async def _deliver_one(self, batch: Batch) -> bool:
        """Invoke the function, and delete what it has dealt with; tell whether that is all of it."""
        ending = await self._invoke(batch)
        if ending is None:
            return False
        ids = [self._house.database.message_id(one.id) for one in batch.items]
        back = self._back(ending, ids)
        self.last_result = FAILED if back is None else OK
        if back is None:
            if not self.trigger.report_failures:
                self._pollers.back_off()
            return False
        await self._delete([one for one, known in zip(batch.items, ids, strict=True) if known not in back])
        return not back

    def _back(self, ending: Ending, ids: list[str]) -> set[str] | None:
        """Tell which messages are to come back; None for all."""
        if ending.error is not None:
            return None
        return failed(ending.value, ids) if self.trigger.report_failures else set()

    async def _invoke(self, batch: Batch) -> Ending | None:
        """Invoke it, again and again where it is refused, until its leases end."""
        database = self._house.database
        until = database.now() + self.trigger.queue.visibility
        pause, hops = 0.05, max(one.attributes.get("hops", 0) for one in batch.items)
        while True:
            try:
                return await self._house.run(self.function, batch.payload, hops=hops)
            except PyfaasError as error:
                self.last_result = f"PROBLEM: {error}"
                if database.now() + pause >= until or isinstance(error, PayloadMismatch):
                    return None
            await anyio.sleep(pause)
            pause = min(pause * 2, 1.0)

    async def _delete(self, messages: list[Message]) -> None:
        if messages:
            database = self._house.database
            await run_async(database.write(lambda one: queue.ack(one, self.queue, messages), durable=False))

    # -- records -------------------------------------------------------------------------------------------------------

    def _record(self, message: Message) -> dict[str, Any]:
        message_id, noted = self._house.database.message_id(message.id), message.attributes
        body = message.body.decode()
        fifo = None
        if self.queue.fifo:
            fifo = {
                "SequenceNumber": _shapes.sequence_number(message.id),
                "MessageGroupId": message.group or "",
                "MessageDeduplicationId": noted.get("token") or hashlib.sha256(message.body).hexdigest(),
            }
        return _shapes.sqs_record(
            self.trigger.queue.name + (".fifo" if self.queue.fifo else ""),
            message_id=message_id,
            receipt_handle=base64.b64encode(f"{message.id}:{message.lease}".encode()).decode(),
            body=body,
            sent_at=message.sent_at,
            first_received_at=message.first_received_at,
            receives=message.receives,
            attributes=noted.get("attributes", {}),
            fifo=fifo,
            dead_letter_of=None if message.origin is None else self._names[message.origin],
        )
