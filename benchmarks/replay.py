"""
What does a keep-alive policy make of a trace? Cold starts, and memory held: a week in two seconds. (pure)

    replay(traces, policy, room) ──► a tally for each function
        call ──► settle      calls that ended come back, sandboxes go, one is made ahead     (what the watch does)
             ──► the sandbox used last, or a new one; room is made for that if need be       (what the ledger does)

The policies are those of production, and are asked the same questions. Functions meet only where memory is short, so
each is brought up to date when it is called, or when room is made: there are no events but arrivals.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.traces import END, Trace
from pyfaas._pool.keepalive import KeepAlive
from pyfaas.limits import MB


@dataclass(eq=False)
class Box:
    """A sandbox, as far as a policy looks at it."""

    born: float
    init_seconds: float
    max_memory: int
    ready: float = 0.0
    began: float = 0.0
    idle_since: float = 0.0
    clock: float = 0.0
    calls: int = 0
    worked: float = 0.0


@dataclass
class Tally:
    """What came of it."""

    calls: int = 0
    cold: int = 0  # calls that waited for a sandbox to be made
    waited: float = 0.0  # for how many seconds, together
    ahead: int = 0  # sandboxes that were made before anybody called
    idle: float = 0.0  # MB times seconds that sandboxes were held and did not work

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.calls + other.calls,
            self.cold + other.cold,
            self.waited + other.waited,
            self.ahead + other.ahead,
            self.idle + other.idle,
        )


@dataclass(eq=False)
class Shelf:
    """One function. ``idle`` ends with the sandbox used last, ``busy`` begins with the one that is done first."""

    trace: Trace
    habits: Any
    idle: list[Box] = field(default_factory=list)
    busy: list[tuple[float, int, Box]] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    seen: float = 0.0  # when a call last began or ended


class House:
    """All functions under one policy; ``room`` in MB bounds what their sandboxes hold together."""

    def __init__(self, traces: Sequence[Trace], policy: KeepAlive, room: float = math.inf) -> None:
        self.shelves = [Shelf(trace, policy.habits()) for trace in traces]
        self.room = room
        self.clock = 0.0
        self.held = 0.0

    def call(self, shelf: Shelf, now: float, duration: float) -> None:
        """Serve one call."""
        self.settle(shelf, now)
        tally = shelf.tally
        tally.calls += 1
        wait = 0.0
        if shelf.idle:
            box = shelf.idle.pop()
            wait = box.ready - now
        else:
            box = self._make(shelf, now)
            wait = box.init_seconds
        if wait > 0:
            tally.cold += 1
            tally.waited += wait
            duration += wait
        box.began = shelf.seen = now
        box.worked += duration
        heapq.heappush(shelf.busy, (now + duration, tally.calls, box))

    def settle(self, shelf: Shelf, now: float) -> None:
        """Bring a function up to date: calls end, sandboxes go, others are made for calls to come."""
        habits = shelf.habits
        while shelf.busy and shelf.busy[0][0] <= now:
            ended, _, box = heapq.heappop(shelf.busy)
            self._expire(shelf, ended, at_work=True)
            box.calls += 1
            box.idle_since = ended
            box.clock = self.clock
            shelf.idle.append(box)
            habits.called(box.began, ended)
            shelf.seen = ended
        self._expire(shelf, now, at_work=bool(shelf.busy))
        if not shelf.idle and not shelf.busy and (at := habits.prewarm_at()) <= now:
            habits.prewarmed()
            box = self._make(shelf, at)
            box.idle_since = at
            box.ready = at + box.init_seconds
            shelf.idle.append(box)
            shelf.tally.ahead += 1
            self._expire(shelf, now, at_work=False)

    def _expire(self, shelf: Shelf, now: float, *, at_work: bool) -> None:
        while shelf.idle and (at := shelf.habits.until(shelf.idle[0].idle_since, at_work)) <= now:
            self._end(shelf, shelf.idle.pop(0), max(at, shelf.seen))

    def _make(self, shelf: Shelf, now: float) -> Box:
        size = shelf.trace.memory
        if self.held + size > self.room:
            self._make_room(size, now)
        self.held += size
        return Box(now, shelf.trace.cold_start, int(size * MB))

    def _make_room(self, size: float, now: float) -> None:
        for shelf in self.shelves:
            self.settle(shelf, now)
        while self.held + size > self.room:
            ranked = [(one.habits.rank(one.idle[0]), number) for number, one in enumerate(self.shelves) if one.idle]
            if not ranked:
                return
            rank, number = min(ranked)
            self.clock = max(self.clock, rank)
            self._end(self.shelves[number], self.shelves[number].idle.pop(0), now)

    def _end(self, shelf: Shelf, box: Box, now: float) -> None:
        self.held -= shelf.trace.memory
        shelf.tally.idle += shelf.trace.memory * (now - box.born - box.worked)

    def close(self) -> None:
        """Count what is still there at the end."""
        for shelf in self.shelves:
            self.settle(shelf, END)
            for box in shelf.idle:
                self._end(shelf, box, END)
            for ends, _, box in shelf.busy:
                self._end(shelf, box, ends)


def replay(traces: Sequence[Trace], policy: KeepAlive, room: float = math.inf) -> list[Tally]:
    """Run a policy over traces; gives a tally for each."""
    house = House(traces, policy, room)
    calls = [
        (at, number, duration)
        for number, trace in enumerate(traces)
        for at, duration in zip(trace.arrivals, trace.durations, strict=True)
    ]
    calls.sort()
    for at, number, duration in calls:
        house.call(house.shelves[number], at, duration)
    house.close()
    return [shelf.tally for shelf in house.shelves]
