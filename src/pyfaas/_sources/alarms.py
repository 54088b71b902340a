"""
Alarms as a source: at the end of each period the numbers are taken, judged, and a new state becomes an event.

    counts of the pool, ages in the store ──► the period's datapoint ──► judged ──► another state? its event

The numbers are those of this process, and so is an alarm's state, which begins with INSUFFICIENT_DATA.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from pyfaas._invoke.attempts import House
from pyfaas._invoke.cause import NOBODY
from pyfaas._invoke.dispatch import Held, Run, Source
from pyfaas._invoke.outbox import accept_for
from pyfaas._payload import encode_event
from pyfaas._shapes import alarms as shapes
from pyfaas._shapes.alarms import State
from pyfaas._sources.thresholds import breaches, judged, value
from pyfaas._stores import queue
from pyfaas._stores.database import Transaction
from pyfaas._waits import run_async
from pyfaas.alarms import COMPARISONS, COUNTS, OF_QUEUES, AlarmTrigger
from pyfaas.functions import Function

_FIELDS = {"Invocations": "invocations", "Errors": "errors", "Throttles": "throttles", "Timeouts": "timeouts"}
_OTHER = "Unchecked: Initial alarm creation"


class AlarmSource(Source):
    """One alarm for one function that is told; ``state`` and since when."""

    def __init__(self, house: House, function: Function[Any, Any], trigger: AlarmTrigger) -> None:
        self.function = function
        self.trigger = trigger
        self.last_result = _OTHER
        self._house = house
        self.state = State("INSUFFICIENT_DATA", _OTHER, None, house.outbox.wall())
        self._datapoints: deque[float | None] = deque(maxlen=trigger.periods)
        self._began_at = house.database.now()
        self._last = self._counts()
        name = None if trigger.of is None else trigger.of.name
        self._timings = house.pool.time_calls(name) if trigger.metric == "Duration" else None
        self.due_at = self._began_at + trigger.period

    def __str__(self) -> str:
        return f"alarm {self.trigger.name!r} for {self.function.name!r}"

    def next_due(self, transaction: Transaction) -> float:  # noqa: ARG002 - the store does not tell
        """Look at the end of the period."""
        return self._began_at + self.trigger.period

    async def look(self, runs: int) -> list[Run]:  # noqa: ARG002 - it begins none
        """Judge the periods that are over."""
        now, period = self._house.database.now(), self.trigger.period
        over = int((now - self._began_at) // period)
        self.due_at = self._began_at + period
        if over <= 0:
            return []
        self._datapoints.append(value(self.trigger.statistic, await self._samples()))
        self._datapoints.extend([None] * min(over - 1, self.trigger.periods))  # nobody looked
        self._began_at += over * period
        self.due_at = self._began_at + period
        await self._judge()
        return []

    def drop(self) -> list[Held]:
        """Time no calls any more."""
        if self._timings is not None:
            self._house.pool.time_no_more(self._timings)
        return []

    # -- numbers -------------------------------------------------------------------------------------------------------

    def _counts(self) -> dict[str, int]:
        """Add up what was counted since the runtime opened."""
        told = self._house.pool.statistics().functions
        wanted = [one for name, one in told.items() if self.trigger.of is None or name == self.trigger.of.name]
        fields = {**_FIELDS, "ConcurrentExecutions": "in_flight"}
        return {metric: sum(getattr(one, field) for one in wanted) for metric, field in fields.items()}

    async def _samples(self) -> list[float]:
        """Give what came in this period."""
        metric = self.trigger.metric
        if metric in OF_QUEUES:
            return [await run_async(self._house.database.write(self._of_queue, durable=False))]
        if self._timings is not None:
            return [1000 * self._timings.popleft() for _ in range(len(self._timings))]
        before, self._last = self._last, self._counts()
        if metric not in COUNTS:
            return [float(self._last[metric])]
        number = self._last[metric] - before[metric]
        if not number and not any(self._last[one] - before[one] for one in COUNTS):
            return []  # as AWS, which has no metric of a function that nobody calls
        is_of_calls = metric in ("Errors", "Timeouts") and self.trigger.statistic != "Sum"
        if is_of_calls:  # each call has a number, 0 or 1
            calls = max(self._last["Invocations"] - before["Invocations"], number)
            return [1.0] * number + [0.0] * (calls - number)
        return [float(number)] if self.trigger.statistic == "Sum" else [1.0] * number

    def _of_queue(self, transaction: Transaction) -> float:
        of = self._house.outbox.queue_of(transaction, self.trigger.of)
        if self.trigger.metric == "ApproximateNumberOfMessagesVisible":
            return float(queue.count(transaction, of).due)
        return queue.age(transaction, of)

    # -- what follows --------------------------------------------------------------------------------------------------

    async def _judge(self) -> None:
        name = judged(self.trigger, self._datapoints, self.state.value)
        if name == self.state.value:
            return
        previous, self.state = self.state, self._state(name)
        self.last_result = f"{name}: {self.state.reason}"
        if name in self.trigger.on:
            told = shapes.alarm_event(self.trigger.name, self.state, previous, self._configuration())
            await run_async(self._house.database.write(accept_for(self.function.name, encode_event(told), NOBODY)))

    def _state(self, name: str) -> State:
        trigger, wall = self.trigger, self._house.outbox.wall()
        known = [one for one in self._datapoints if one is not None]
        if not known:
            reason = f"{trigger.periods} datapoints were missing"
        else:
            wrong = sum(breaches(trigger, one) for one in known)
            kind = COMPARISONS[trigger.comparison]
            told = ", ".join(f"{one:g}" for one in known)
            count = wrong if name == "ALARM" else len(known) - wrong
            are = "were" if name == "ALARM" else "were not"
            reason = f"Threshold Crossed: {count} out of the last {len(known)} datapoints [{told}] {are} "
            reason += f"{kind} ({trigger.threshold})"
        start = wall - len(self._datapoints) * trigger.period
        data = shapes.reason_data(
            [*self._datapoints],
            statistic=trigger.statistic,
            period=trigger.period,
            threshold=trigger.threshold,
            at=wall,
            start=start,
        )
        return State(name, reason, data, wall)

    def _configuration(self) -> dict[str, Any]:
        trigger = self.trigger
        is_queue = trigger.metric in OF_QUEUES
        dimensions = {} if trigger.of is None else {"QueueName" if is_queue else "FunctionName": trigger.of.name}
        namespace = "AWS/SQS" if is_queue else "AWS/Lambda"
        return shapes.configuration(
            trigger.description, trigger.metric, dimensions, namespace, trigger.period, trigger.statistic
        )
