"""
Which sandbox gets the invocation, and who must wait? (pure; pool.py is the hands)

The ledger knows every function's shelf of idle sandboxes (of a function that keeps tenants apart, one shelf for each
tenant), every permit and every call that waits; it is told what happened and says what to do. No lock, no clock, no
process in here.

    take(shelf)            ──► a sandbox, or None       the fast path: two look-ups and a pop
    request(shelf, turn)   ──► Assign | Spawn | Wait    + Evict where the house is full
    give_back(sandbox)     ──► Grants for those who waited
    lost(sandbox)          ──► the same
    expired(now)           ──► sandboxes to evict

A permit is the right to have one sandbox at work. They come from a budget: the runtime's ``concurrency``, or a
function's own ``reserved_concurrency``, which is taken out of the runtime's. Functions (and tenants) whose calls wait
for the same budget are served in turn, so a burst on one starves nobody else; idle sandboxes are taken last in, first
out, so that caches stay warm and the surplus shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs

from pyfaas._pool.keepalive import FixedTime, Habits, KeepAlive
from pyfaas._pool.line import Line


@attrs.define(eq=False)
class Budget:
    """Some permits, and the calls that wait for one."""

    size: int
    free: int
    waiting: Line[Call] = attrs.field(factory=Line)


@attrs.define(eq=False)
class Counts:
    """What happened to one function, of all its tenants."""

    invocations: int = 0
    errors: int = 0
    timeouts: int = 0
    cold_starts: int = 0
    throttles: int = 0


@attrs.define(eq=False)
class Shelf:
    """The sandboxes of one function, or of one tenant of it. ``idle`` ends with the one used last."""

    key: Any
    function: Any
    budget: Budget
    habits: Habits
    floor: int = 0  # provisioned: so many stay, however long idle
    tenant: str | None = None
    most_calls: int | None = None  # of one sandbox
    idempotent: bool = False  # its events have keys
    counts: Counts = attrs.field(factory=Counts)
    idle: list[Any] = attrs.field(factory=list)
    live: int = 0
    in_flight: int = 0
    retired: bool = False
    handler: Any = None  # how it travels, once that is known
    slots: list[tuple[str, float]] = attrs.field(factory=list)  # directories that crashed sandboxes left, and when

    def goes_at(self) -> float:
        """Tell when the sandbox that is idle for longest goes; infinity if it stays."""
        if not self.idle or self.live <= self.floor:
            return math.inf
        return self.habits.until(self.idle[0].idle_since, self.in_flight > 0)


@attrs.define(eq=False)
class Call:
    """A call that waits for a permit."""

    shelf: Shelf
    turn: Any


@attrs.frozen
class Assign:
    """Give this idle sandbox to the call; the permit is taken."""

    sandbox: Any


@attrs.frozen
class Spawn:
    """Make a new sandbox for the call, after these were evicted; the permit is taken."""

    evict: tuple[Any, ...] = ()


@attrs.frozen
class Wait:
    """No permit is free."""

    reason: str


@attrs.frozen
class Grant:
    """What a waiting call gets."""

    turn: Any
    action: Assign | Spawn


class Ledger:
    """All that is known, and every decision."""

    def __init__(self, concurrency: int, sandboxes: int, keep_alive: KeepAlive | None = None) -> None:
        self.account = Budget(concurrency, concurrency)
        self.keep_alive = keep_alive or FixedTime()
        self.learns = self.keep_alive.learns
        self.clock = 0.0  # the highest rank that ever went for want of room
        self.most = sandboxes
        self.live = 0
        self.shelves: dict[Any, Shelf] = {}
        self.left_slots: list[str] = []  # directories of shelves that are gone

    # -- functions -----------------------------------------------------------------------------------------------------

    def add(self, function: Any, reserved: int | None, floor: int, *, isolated: bool = False) -> Shelf | None:
        """
        Open a function's shelf. None: the runtime has not so many permits left to reserve.

        ``isolated``: it will hold no sandbox itself; each tenant gets a shelf that shares its permits and counts.
        """
        budget = self.account
        if reserved is not None:
            if reserved > self.account.size:
                return None
            self.account.size -= reserved
            self.account.free -= reserved
            budget = Budget(reserved, reserved)
        key = (function, None) if isolated else function
        shelf = Shelf(key, function, budget, self.keep_alive.habits(), floor)
        self.shelves[shelf.key] = shelf
        return shelf

    def of_tenant(self, home: Shelf, tenant: str) -> Shelf:
        """Find or open the shelf of one tenant of a function."""
        shelf = self.shelves.get((home.function, tenant))
        if shelf is None or shelf.retired:
            habits = self.keep_alive.habits()
            shelf = attrs.evolve(home, key=(home.function, tenant), tenant=tenant, habits=habits, idle=[], slots=[])
            self.shelves[shelf.key] = shelf
        return shelf

    def current(self, shelf: Shelf) -> Shelf:
        """Give the tenant's shelf of today: an empty one may have been dropped since the caller found it."""
        home = self.shelves.get((shelf.function, None))
        if shelf.tenant is None or not shelf.retired or home is None or home.retired:
            return shelf
        return self.of_tenant(home, shelf.tenant)

    def shelves_of(self, function: Any) -> list[Shelf]:
        """Give all shelves of a function."""
        return [shelf for shelf in self.shelves.values() if shelf.function == function]

    def retire(self, shelf: Shelf) -> list[Any]:
        """Close a shelf: its idle sandboxes go now, those at work when they come back."""
        shelf.retired = True
        shelf.floor = 0
        evicted, shelf.idle = shelf.idle, []
        for _ in evicted:
            self.gone(shelf)
        self.forget_if_empty(shelf)
        return evicted

    def forget_if_empty(self, shelf: Shelf) -> None:
        """Drop a shelf that nothing holds, if it is retired or a tenant's: there may be any number of those."""
        if shelf.live or shelf.in_flight or self.shelves.get(shelf.key) is not shelf:
            return
        if not shelf.retired and (shelf.tenant is None or shelf.slots or shelf.habits.prewarm_at() < math.inf):
            return
        if shelf.budget.waiting.of(shelf):
            return
        if shelf.tenant is None and len(self.shelves_of(shelf.function)) > 1:
            return  # its tenants come first
        del self.shelves[shelf.key]
        shelf.retired = True  # whoever has found it already gets a sandbox for one call
        self.left_slots += [slot for slot, _ in shelf.slots]
        if shelf.tenant is None:
            self._return_reserved(shelf)
        elif (home := self.shelves.get((shelf.function, None))) is not None and home.retired:
            self.forget_if_empty(home)

    def _return_reserved(self, shelf: Shelf) -> None:
        if shelf.budget is not self.account:
            self.account.size += shelf.budget.size
            self.account.free += shelf.budget.size

    # -- a call --------------------------------------------------------------------------------------------------------

    def take(self, shelf: Shelf) -> Any:
        """Give an idle sandbox if there is one, a permit is free and nobody waits for it."""
        budget = shelf.budget
        if shelf.idle and budget.free > 0 and not budget.waiting:
            budget.free -= 1
            shelf.in_flight += 1
            return shelf.idle.pop()
        return None

    def request(self, shelf: Shelf, turn: Any) -> Assign | Spawn | Wait:
        """Decide for a new call; one that must wait is in line from now on."""
        budget = shelf.budget
        if budget.waiting or budget.free <= 0:
            budget.waiting.append(Call(shelf, turn))
            kind = "Concurrent" if budget is self.account else "ReservedFunctionConcurrent"
            return Wait(f"{kind}InvocationLimitExceeded")
        return self._admit(shelf)

    def _admit(self, shelf: Shelf) -> Assign | Spawn:
        shelf.budget.free -= 1
        shelf.in_flight += 1
        if shelf.idle:
            return Assign(shelf.idle.pop())
        shelf.live += 1
        self.live += 1
        evict: tuple[Any, ...] = ()
        if self.live > self.most:
            least = self._worth_least()
            if least is not None:
                evict = (least,)
        return Spawn(evict)

    def _worth_least(self) -> Any:
        """Take the idle sandbox of the lowest rank off its shelf; provisioned ones stay if others are there."""
        shelves = [shelf for shelf in self.shelves.values() if shelf.idle]
        shelves = [shelf for shelf in shelves if shelf.live > shelf.floor] or shelves
        if not shelves:
            return None
        rank, _, shelf = min((one.habits.rank(one.idle[0]), at, one) for at, one in enumerate(shelves))
        self.clock = max(self.clock, rank)
        sandbox = shelf.idle.pop(0)
        self.gone(shelf)
        return sandbox

    def cancel(self, turn: Any, budget: Budget) -> bool:
        """Take a call out of the line; False if its turn has come already."""
        for call in budget.waiting:
            if call.turn is turn:
                budget.waiting.remove(call)
                return True
        return False

    def learn(self, shelf: Shelf, sandbox: Any, now: float) -> None:
        """Note that a call ended, of a policy that learns."""
        shelf.habits.called(sandbox.taken_at, now)
        sandbox.clock = self.clock

    def give_back(self, shelf: Shelf, sandbox: Any) -> list[Grant]:
        """A sandbox has done its work and is fit for more."""
        shelf.counts.invocations += 1
        shelf.in_flight -= 1
        shelf.budget.free += 1
        shelf.idle.append(sandbox)
        return list(self._serve(shelf.budget)) if shelf.budget.waiting else []

    def lacks(self, shelf: Shelf) -> bool:
        """Tell whether a provisioned sandbox is missing, and there is room for it."""
        return shelf.live < shelf.floor and not shelf.retired and self.live < self.most

    def lacking(self) -> list[Shelf]:
        """Give the shelves that lack a provisioned sandbox."""
        return [shelf for shelf in self.shelves.values() if self.lacks(shelf)]

    def expected(self, now: float) -> list[Shelf]:
        """Give the shelves that have no sandbox and expect a call; each is given once, room or not."""
        due = [shelf for shelf in self._expecting() if shelf.habits.prewarm_at() <= now]
        for shelf in due:
            shelf.habits.prewarmed()
        return due[: max(self.most - self.live, 0)]

    def _expecting(self) -> list[Shelf]:
        return [one for one in self.shelves.values() if not (one.live or one.retired)] if self.learns else []

    def reserve_for_floor(self, shelf: Shelf) -> bool:
        """Take a permit for loading one more provisioned sandbox; False if there are enough, or no permit is free."""
        if not self.lacks(shelf) or shelf.budget.free <= 0:
            return False
        shelf.live += 1
        self.live += 1
        shelf.in_flight += 1
        shelf.budget.free -= 1
        return True

    def arrived(self, shelf: Shelf, sandbox: Any) -> list[Grant]:
        """A sandbox that no call asked for."""
        shelf.live += 1
        self.live += 1
        shelf.idle.append(sandbox)
        return list(self._serve(shelf.budget)) if shelf.budget.waiting else []

    def lost(self, shelf: Shelf) -> list[Grant]:
        """A sandbox at work is gone; its permit is free."""
        shelf.in_flight -= 1
        shelf.budget.free += 1
        self.gone(shelf)
        grants = list(self._serve(shelf.budget)) if shelf.budget.waiting else []
        if shelf.retired:
            self.forget_if_empty(shelf)
            grants += self.spare()
        return grants

    def gone(self, shelf: Shelf) -> None:
        """One sandbox less."""
        shelf.live -= 1
        self.live -= 1

    def _serve(self, budget: Budget) -> Iterator[Grant]:
        while budget.waiting and budget.free > 0:
            call = budget.waiting.pop()
            yield Grant(call.turn, self._admit(call.shelf))

    def spare(self) -> list[Grant]:
        """Serve those who wait for the account's permits, some of which may have come back from a retired function."""
        return list(self._serve(self.account)) if self.account.waiting else []

    def keep_in_line(self, shelf: Shelf, turn: Any) -> None:
        """See that a call that waits has a place in the line."""
        if all(call.turn is not turn for call in shelf.budget.waiting):
            shelf.budget.waiting.append_first(Call(shelf, turn))

    def recount(self, at_work: Iterable[Shelf]) -> None:
        """Make every count anew from what is there: one permit for each of these shelves, and the idle ones."""
        working = list(at_work)
        shelves = {*self.shelves.values(), *working}
        for shelf in shelves:
            shelf.in_flight = working.count(shelf)
            shelf.live = shelf.in_flight + len(shelf.idle)
            shelf.budget.free = shelf.budget.size
        for shelf in working:
            shelf.budget.free -= 1
        self.account.free = self.account.size - sum(shelf.budget is self.account for shelf in working)
        self.live = sum(shelf.live for shelf in shelves)

    # -- time and pressure ---------------------------------------------------------------------------------------------

    def expired(self, now: float) -> list[Any]:
        """Take off the sandboxes that have been idle for too long."""
        evicted = []
        for shelf in list(self.shelves.values()):
            while shelf.goes_at() <= now:
                evicted.append(shelf.idle.pop(0))
                self.gone(shelf)
            self.forget_if_empty(shelf)
        return evicted

    def old_slots(self, now: float) -> list[str]:
        """Take off the directories of crashed sandboxes that no call came for in as long as one might be kept."""
        old, self.left_slots = self.left_slots, []
        for shelf in self.shelves.values():
            while shelf.slots and shelf.slots[0][1] + self.keep_alive.longest <= now:
                old.append(shelf.slots.pop(0)[0])
        return old

    def used_since_measured(self) -> list[Any]:
        """Give the idle sandboxes that have worked since their memory was looked at; those used last come last."""
        used = []
        for shelf in self.shelves.values():
            for sandbox in reversed(shelf.idle):
                if sandbox.idle_since <= sandbox.measured_at:
                    break
                used.append(sandbox)
        return used

    def remove_idle(self, shelf: Shelf, sandbox: Any) -> bool:
        """Take one idle sandbox off; False if it is not idle any more."""
        if sandbox not in shelf.idle:
            return False
        shelf.idle.remove(sandbox)
        self.gone(shelf)
        return True

    def drop_idle(self, which: Callable[[Any], bool]) -> list[Any]:
        """Take off all idle sandboxes of a kind."""
        dropped = []
        for shelf in list(self.shelves.values()):
            found = [sandbox for sandbox in shelf.idle if which(sandbox)]
            shelf.idle[:] = [sandbox for sandbox in shelf.idle if not which(sandbox)]
            dropped += found
            for _ in found:
                self.gone(shelf)
            self.forget_if_empty(shelf)
        return dropped

    def next_change(self) -> float | None:
        """Tell when the next sandbox, or directory that one left, goes, or one is to be made ahead."""
        changes = [shelf.goes_at() for shelf in self.shelves.values()]
        changes += [shelf.slots[0][1] + self.keep_alive.longest for shelf in self.shelves.values() if shelf.slots]
        changes += [shelf.habits.prewarm_at() for shelf in self._expecting()]
        return min((change for change in changes if change < math.inf), default=None)

    def surplus(self) -> list[Any]:
        """Memory is short: take off the half that is worth less of what may go."""
        idle = [
            (shelf.habits.rank(sandbox), number, shelf, sandbox)
            for number, shelf in enumerate(self.shelves.values())
            for sandbox in shelf.idle[: max(shelf.live - shelf.floor, 0)]
        ]
        idle.sort(key=lambda one: one[:2])
        evicted = []
        for rank, _, shelf, sandbox in idle[: (len(idle) + 1) // 2]:
            shelf.idle.remove(sandbox)
            self.gone(shelf)
            self.clock = max(self.clock, rank)
            evicted.append(sandbox)
        return evicted
