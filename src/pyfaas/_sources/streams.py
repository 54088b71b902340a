"""
Streams, and changes of tables, as sources: a lane is read one batch after the other, by whoever has leased it.

    lane is due ──lease──► read ──► filter ──► cut (size, 6 MB) ──► invoke ──► move on, or back   (which: progress.py)
                    └─ not yet: its batch fills                        └── on_failure is told, in the same transaction

Nothing is held here between two batches: how far a lane has come is in the store, for whoever reads on.
"""

from __future__ import annotations

import json
import logging
import math
from functools import partial
from typing import Any, NamedTuple

from pyfaas import _shapes, limits
from pyfaas._invoke.attempts import House
from pyfaas._invoke.cause import Cause
from pyfaas._invoke.dispatch import LEASE_SECONDS, Run, Source, claim
from pyfaas._invoke.ids import new_id
from pyfaas._payload import encode_event
from pyfaas._sources.batches import FAILED, NO_RECORDS, OK, cut, failed
from pyfaas._sources.dress import KinesisDress, TableDress
from pyfaas._sources.progress import RETRIES_EXHAUSTED, TOO_OLD, Progress, Step, after, after_refusal, progress_of
from pyfaas._stores import log
from pyfaas._stores.database import Job, Transaction
from pyfaas._stores.log import Lane, Log, Record
from pyfaas._waits import run_async
from pyfaas.context import request_id_text
from pyfaas.errors import ConfigurationError, PayloadMismatch, PyfaasError
from pyfaas.functions import Function
from pyfaas.resources import Publication, Queue, Sending, Table
from pyfaas.triggers import StreamTrigger

READ_BYTES = limits.REQUEST_BYTES * 3 // 4  # in base64 that is a whole event
READ_AT_ONCE = 8 * READ_BYTES  # the writer does nothing else meanwhile
_LOOKS_A_WINDOW = 20
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_log = logging.getLogger("pyfaas")


class Tumbling(NamedTuple):
    """The window that a batch belongs to, where there are such."""

    begins_at: float
    ends_at: float
    is_final: bool


class Claimed(NamedTuple):
    """
    What was read of a lane: all of its records up to the one at ``through``.

    ``too_old``: they are only to be given up.
    """

    lane: Lane
    progress: Progress
    records: list[Record]
    through: int
    tumbling: Tumbling | None = None
    too_old: bool = False


class StreamSource(Source):
    """One function's reading of a stream; ``iterator_age``: how old the last record was when it was handed over."""

    keeps_leases = True

    def __init__(
        self, house: House, function: Function[Any, Any], trigger: StreamTrigger, mapping: int, of: Log
    ) -> None:
        self.function = function
        self.trigger = trigger
        self.tickets = (log.ticket_of(of), log.ticket_of_mapping(mapping))
        self.last_result = NO_RECORDS
        self.iterator_age: float | None = None
        self._house = house
        self._mapping = mapping
        self._of = of
        self._dress: KinesisDress | TableDress = (
            TableDress(trigger) if isinstance(trigger.stream, Table) else KinesisDress(trigger)
        )
        self._rest_until = -math.inf
        self._starved = False

    def __str__(self) -> str:
        return f"{self.trigger.stream.kind} {self.trigger.stream.name!r} for {self.function.name!r}"

    def next_due(self, transaction: Transaction) -> float:
        """Tell when a lane is due."""
        return log.next_due(transaction, self._mapping)

    async def look(self, runs: int) -> list[Run]:
        """Lease what is due, and begin with a batch of each."""
        database, reserved = self._house.database, self.function.options.reserved_concurrency
        if database.now() < self._rest_until:
            self.due_at = self._rest_until
            return []
        room = runs if not reserved else min(runs, reserved - self.running)
        self._starved = room <= 0
        if self._starved:
            self.due_at = math.inf  # until a run ends
            return []
        claimed = await claim(database, self, lambda one: self._claim(one, room))
        return [Run(self, one.lane, partial(self._deliver, one)) for one in claimed]

    # -- in the writer's thread ----------------------------------------------------------------------------------------

    def _claim(self, transaction: Transaction, room: int) -> list[Claimed]:
        taken: list[Claimed] = []
        size = 0
        for lane in log.due(transaction, self._mapping, limits.SHARDS):
            if len(taken) == room or size >= READ_AT_ONCE:
                break
            found = self._take(transaction, lane)
            if found is not None:
                taken.append(found._replace(lane=log.lease(transaction, lane, LEASE_SECONDS)))
                size += sum(len(record.data) for record in found.records)
        return taken

    def _take(self, transaction: Transaction, lane: Lane) -> Claimed | None:
        """Read the next batch of a lane; None where it is not full yet, or there is nothing of this lane."""
        progress = progress_of(lane.noted)
        if self._is_filling(transaction, lane, progress):
            return None
        if log.next_arrival(transaction, lane.shard, lane.position) <= transaction.now - self._of.retention:
            _log.warning("%s: records were kept for no longer, and had not been read", self)
        upto = progress.ends[0] if progress.ends else None
        records: list[Record] = []
        through = lane.position
        if not progress.early:
            records, through = log.read(transaction, lane, self._of, self.trigger.size, READ_BYTES, upto)
        found = Claimed(lane, progress, records, through)
        if old := self._too_old(transaction, records):
            return found._replace(records=old, through=old[-1].id, too_old=True)
        if self.trigger.tumbling_window:
            found = self._in_window(transaction, found)
        if found.records or (found.tumbling is not None and found.tumbling.is_final):
            return found
        ours = log.lease(transaction, lane, 0.0)
        log.move(transaction, ours, through, progress.behind(through).noted(), ends_at=self._ends_at(progress))
        return None

    def _is_filling(self, transaction: Transaction, lane: Lane, progress: Progress) -> bool:
        """Tell whether to wait for more; and if so, look again some times until its window is over."""
        window = self.trigger.window
        ends_at = self._ends_at(progress)
        if not window or progress.ends or (ends_at is not None and ends_at <= transaction.now):
            return False
        waiting = log.unread(transaction, lane, self._of, self.trigger.size)
        until = waiting.since + window
        is_full = waiting.records >= self.trigger.size or waiting.size >= READ_BYTES
        if is_full or waiting.records == 0 or until <= transaction.now:
            return False
        self._rest_until = min(until, transaction.now + window / _LOOKS_A_WINDOW)
        return True

    def _too_old(self, transaction: Transaction, records: list[Record]) -> list[Record]:
        age = self.trigger.max_record_age
        return [] if age is None else [one for one in records if one.at + age < transaction.now]

    def _in_window(self, transaction: Transaction, found: Claimed) -> Claimed:
        """Leave out what belongs to a later window, and tell whether the window is over with this batch."""
        length, progress = self.trigger.tumbling_window, found.progress
        begins_at = progress.window
        if begins_at is None:
            if not found.records:
                return found
            begins_at = found.records[0].at // length * length
        ends_at = begins_at + length
        later = next((number for number, one in enumerate(found.records) if one.at >= ends_at), None)
        records, through = found.records[:later], found.through
        if later is not None:
            through = found.records[later].id - 1
        is_over = ends_at <= transaction.now and log.next_arrival(transaction, found.lane.shard, through) >= ends_at
        tumbling = Tumbling(begins_at, ends_at, progress.early or is_over)
        return found._replace(records=records, through=through, tumbling=tumbling)

    def _ends_at(self, progress: Progress) -> float | None:
        """Tell when a lane's window is to be ended; None without an open one."""
        if progress.window is None or not self.trigger.tumbling_window:
            return None
        return 0.0 if progress.early else progress.window + self.trigger.tumbling_window

    # -- one batch -----------------------------------------------------------------------------------------------------

    async def _deliver(self, claimed: Claimed) -> None:
        try:
            if claimed.too_old:
                progress, through = claimed.progress, claimed.through
                step = Step(through, progress.behind(through), given_up=0, attempts=progress.attempts)
                await self._move(claimed, step, TOO_OLD)
            else:
                await self._invoke(claimed)
        finally:
            if self._starved:
                self.due_at = 0.0

    async def _invoke(self, claimed: Claimed) -> None:
        """Invoke the function with a batch, and move the cursor."""
        items = [(one, record) for one in claimed.records if (record := self._wanted(claimed.lane, one)) is not None]
        batches = cut(items, self.trigger.size, self._fields(claimed))
        batch = next(batches, None)
        if batch is not None and next(batches, None) is not None:  # the rest comes with the next one
            claimed = claimed._replace(through=batch.items[-1].id)
            if claimed.tumbling is not None and claimed.tumbling.is_final:
                claimed = claimed._replace(tumbling=claimed.tumbling._replace(is_final=False))
                batch = next(cut(items, self.trigger.size, self._fields(claimed)))
        claimed = claimed._replace(records=[] if batch is None else batch.items)
        if batch is not None:
            self.iterator_age = self._house.database.now() - batch.items[-1].at
            await self._run(claimed, batch.payload)
        elif claimed.tumbling is not None and claimed.tumbling.is_final:
            await self._run(claimed, b'{"Records":[],' + self._fields(claimed)[1:])
        else:
            await self._move(claimed, Step(claimed.through, claimed.progress.behind(claimed.through)))

    async def _run(self, claimed: Claimed, payload: bytes) -> None:
        request_id, at = new_id(), {"before": claimed.lane.position, "through": claimed.through}
        hops = max((one.attributes.get("hops", 0) for one in claimed.records), default=0)
        first_failed: int | None
        try:
            ending = await self._house.run(self.function, payload, request_id=request_id, hops=hops)
        except PyfaasError as error:
            self.last_result = f"PROBLEM: {error}"
            if not isinstance(error, PayloadMismatch):
                await self._move(claimed, after_refusal(progress=claimed.progress, **at))
                return
            has_raised, state, first_failed = True, None, 0
        else:
            has_raised = ending.error is not None
            state, first_failed = (None, 0) if has_raised else self._verdict(claimed, ending.value)
            self.last_result = OK if first_failed is None else FAILED
        step = after(
            [one.id for one in claimed.records],
            first_failed,
            progress=self._tumbled(claimed, state),
            retries=self.trigger.retries,
            bisect=self.trigger.bisect,
            **at,
        )
        is_over = first_failed is None or step.given_up is not None
        if is_over and claimed.tumbling is not None and claimed.tumbling.is_final:
            step = step._replace(progress=step.progress._replace(window=None, state=None, early=False))
        await self._move(claimed, step, RETRIES_EXHAUSTED, "Unhandled" if has_raised else None, request_id)

    def _verdict(self, claimed: Claimed, value: Any) -> tuple[Any, int | None]:
        """Tell which state a function gave, and which is the first of its records that is not done."""
        state = None
        if claimed.tumbling is not None:
            state = value.get("state") if isinstance(value, dict) else None
            try:
                encode_event({"state": state})
            except PyfaasError:  # no event could hold it
                state = None
            if state is None and not claimed.tumbling.is_final:
                return None, 0  # as in AWS
        if not self.trigger.report_failures:
            return state, None
        names = [_shapes.sequence_number(one.id) for one in claimed.records]
        back = failed(value, names)
        return state, 0 if back is None else min(map(names.index, back), default=None)

    def _tumbled(self, claimed: Claimed, state: Any) -> Progress:
        """Keep what a function returned as the state of its window."""
        progress = claimed.progress
        if claimed.tumbling is None:
            return progress._replace(window=None, state=None, early=False)
        progress = progress._replace(window=claimed.tumbling.begins_at)
        if state is None:
            return progress
        return progress._replace(state=state, early=len(encode_event(state)) > limits.WINDOW_STATE_BYTES)

    async def _move(
        self, claimed: Claimed, step: Step, condition: str = "", error: str | None = None, request_id: bytes = b""
    ) -> None:
        """Move the cursor; if records are given up, tell of them in the same transaction."""
        tell: Job[Any] | None = None
        given_up = [] if step.given_up is None else claimed.records[step.given_up :]
        if given_up:
            tell = self._telling(claimed, given_up, condition, error, request_id or new_id(), step.attempts)
            _log.warning("%s: %d records were given up (%s)", self, len(given_up), condition)

        def job(transaction: Transaction) -> None:
            noted, ends_at = step.progress.noted(), self._ends_at(step.progress)
            is_ours = log.move(transaction, claimed.lane, step.position, noted, delay=step.delay, ends_at=ends_at)
            if is_ours and tell is not None:
                try:
                    tell(transaction)
                except ConfigurationError as problem:  # a queue of the other kind
                    _log.warning("%s: nobody could be told of them: %s", self, problem)

        await run_async(self._house.database.write(job, durable=False))

    # -- what is said --------------------------------------------------------------------------------------------------

    def _wanted(self, lane: Lane, record: Record) -> bytes | None:
        """Give a record as it is in an event; None if it is passed over."""
        if record.attributes.get("hops", 0) >= limits.HOPS:
            _log.warning("%s: a record that functions put in a circle was stopped", self)
            return None
        told = self._dress.record(lane, record)
        return None if told is None else _compact(told).encode()

    def _fields(self, claimed: Claimed) -> bytes:
        """Give, as JSON, what stands beside the records in an event."""
        tumbling = claimed.tumbling
        if tumbling is None:
            return b""
        state = claimed.progress.state
        told = _shapes.tumbling_fields(
            self._dress.arn,
            shard=_shapes.shard_id(claimed.lane.number),
            begins_at=tumbling.begins_at,
            ends_at=tumbling.ends_at,
            state={} if state is None else state,
            is_final=tumbling.is_final,
            is_early=claimed.progress.early,
        )
        return _compact(told).encode()

    def _telling(
        self,
        claimed: Claimed,
        records: list[Record],
        condition: str,
        error: str | None,
        request_id: bytes,
        attempts: int,
    ) -> Job[Any] | None:
        """Give the part of a transaction that tells of what was given up."""
        to = self.trigger.on_failure
        hops = max(one.attributes.get("hops", 0) for one in records) + 1
        if to is None or (hops > limits.HOPS and not isinstance(to, Queue)):
            return None
        first, final = records[0], records[-1]
        told = _shapes.given_up_record(
            function=self.function.name,
            request_id=request_id_text(request_id),
            condition=condition,
            attempts=attempts,
            error=error,
            arn=self._dress.arn,
            info=self._dress.info,
            shard=_shapes.shard_id(claimed.lane.number),
            sequences=(_shapes.sequence_number(first.id), _shapes.sequence_number(final.id)),
            arrivals=(first.at, final.at),
            size=len(records),
            at=self._house.outbox.wall(),
        )
        text = encode_event(told).decode()
        what = Sending([text]) if isinstance(to, Queue) else Publication(text, None, {})
        return self._house.outbox.job(to, what, Cause(hops, request_id))
