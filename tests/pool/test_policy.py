"""The ledger as a state machine: calls come, wait, give up, end; sandboxes idle, expire, die; permits never leak."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pyfaas._pool.histogram import HybridHistogram
from pyfaas._pool.keepalive import FixedTime, GreedyDual
from pyfaas._pool.policy import Assign, Budget, Grant, Ledger, Shelf, Spawn, Wait

KEEP_ALIVE = 10.0


@attrs.define(eq=False)
class Box:
    """What the ledger needs to know of a sandbox."""

    shelf: Shelf
    idle_since: float = 0.0
    taken_at: float = 0.0
    clock: float = 0.0
    calls: int = 1
    init_seconds: float = 0.0
    max_memory: int = 0


@attrs.define(eq=False)
class Ticket:
    """A call, by identity."""

    shelf: Shelf


class Queues:
    """Who waits for one budget: a queue for each shelf, and the shelves in the order of their turns."""

    def __init__(self) -> None:
        self.queues: list[list[Ticket]] = []

    def all(self) -> list[Ticket]:
        return [ticket for queue in self.queues for ticket in queue]

    def join(self, ticket: Ticket) -> None:
        for queue in self.queues:
            if queue[0].shelf is ticket.shelf:
                queue.append(ticket)
                return
        self.queues.append([ticket])

    def serve(self) -> Ticket:
        queue = self.queues.pop(0)
        ticket = queue.pop(0)
        self.queues += [queue] if queue else []
        return ticket

    def leave(self, ticket: Ticket) -> None:
        for queue in self.queues:
            if ticket in queue:
                queue.remove(ticket)
        self.queues = [queue for queue in self.queues if queue]


class Accounts(RuleBasedStateMachine):
    """Everything that a pool tells its ledger, in any order, against the plainest books one can keep."""

    @initialize(concurrency=st.integers(1, 5), spare=st.integers(0, 2))
    def begin(self, concurrency: int, spare: int) -> None:
        self.now = 0.0
        self.concurrency = concurrency
        self.ledger = Ledger(concurrency, concurrency + spare, FixedTime(KEEP_ALIVE))
        self.shelves: list[Shelf] = []
        self.homes: list[Shelf] = []  # of functions that keep tenants apart
        self.working: list[Box] = []
        self.lines: dict[int, Queues] = {}
        self.count = 0

    def _line(self, budget: Budget) -> Queues:
        return self.lines.setdefault(id(budget), Queues())

    def _start(self, shelf: Shelf, action: Assign | Spawn, last: Any) -> None:
        """A call got its turn."""
        if isinstance(action, Assign):
            assert action.sandbox is last, "the sandbox used last is taken first"
            self.working.append(action.sandbox)
        else:
            assert last is None, "no sandbox is made where one is idle"
            for evicted in action.evict:
                assert evicted not in self.working
            self.working.append(Box(shelf))

    def _serve(self, grants: list[Grant]) -> None:
        for grant in grants:
            ticket: Ticket = grant.turn
            assert self._line(ticket.shelf.budget).serve() is ticket, "each in its turn"
            if isinstance(grant.action, Assign):
                assert grant.action.sandbox.shelf is ticket.shelf, "nobody gets another function's sandbox"
                assert grant.action.sandbox not in self.working
                self.working.append(grant.action.sandbox)
            else:
                self.working.append(Box(ticket.shelf))

    # -- what happens --------------------------------------------------------------------------------------------------

    @rule(reserved=st.none() | st.integers(0, 3), floor=st.integers(0, 2), isolated=st.booleans())
    def declare(self, reserved: int | None, floor: int, isolated: bool) -> None:
        self.count += 1
        free = self.ledger.account.size
        # Permits are reserved from those that are free of work, or a call at work would have none.
        if reserved is not None and reserved > self.ledger.account.free:
            return
        floor = 0 if isolated else min(floor, self.concurrency)
        shelf = self.ledger.add(f"function {self.count}", reserved, floor, isolated=isolated)
        assert (shelf is None) == (reserved is not None and reserved > free)
        if shelf is not None:
            (self.homes if isolated else self.shelves).append(shelf)
            assert self.ledger.account.size == free - (reserved or 0), "reserved permits are taken from the account's"

    @precondition(lambda self: any(not home.retired for home in self.homes))
    @rule(data=st.data(), tenant=st.sampled_from("ab"))
    def a_tenant_comes(self, data: st.DataObject, tenant: str) -> None:
        home = data.draw(st.sampled_from([home for home in self.homes if not home.retired]))
        shelf = self.ledger.of_tenant(home, tenant)
        assert (shelf.function, shelf.tenant, shelf.budget) == (home.function, tenant, home.budget)
        if shelf not in self.shelves:
            assert not any(one.function == home.function and one.tenant == tenant and one.live for one in self.shelves)
            self.shelves.append(shelf)

    @precondition(lambda self: self.shelves)
    @rule(data=st.data())
    def call(self, data: st.DataObject) -> None:
        shelf = self.ledger.current(data.draw(st.sampled_from(self.shelves)))
        if shelf not in self.shelves:
            self.shelves.append(shelf)
        if shelf.retired:
            return
        last = shelf.idle[-1] if shelf.idle else None
        may = shelf.budget.free > 0 and not shelf.budget.waiting
        if data.draw(st.booleans()):
            sandbox = self.ledger.take(shelf)
            assert (sandbox is not None) == (may and last is not None)
            if sandbox is not None:
                self._start(shelf, Assign(sandbox), last)
            return
        ticket = Ticket(shelf)
        action = self.ledger.request(shelf, ticket)
        if isinstance(action, Wait):
            assert not may
            own = shelf.budget is not self.ledger.account
            assert action.reason == f"{'ReservedFunction' * own}ConcurrentInvocationLimitExceeded"
            self._line(shelf.budget).join(ticket)
        else:
            assert may
            self._start(shelf, action, last)

    @precondition(lambda self: self.working)
    @rule(data=st.data(), dies=st.booleans())
    def end(self, data: st.DataObject, dies: bool) -> None:
        box = data.draw(st.sampled_from(self.working))
        self.working.remove(box)
        box.idle_since = self.now
        if dies or box.shelf.retired:
            self._serve(self.ledger.lost(box.shelf))
        else:
            self._serve(self.ledger.give_back(box.shelf, box))

    @precondition(lambda self: any(line.all() for line in self.lines.values()))
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        ticket = data.draw(st.sampled_from([ticket for line in self.lines.values() for ticket in line.all()]))
        budget = ticket.shelf.budget
        assert self.ledger.cancel(ticket, budget)
        assert not self.ledger.cancel(ticket, budget), "a turn is given up once"
        self._line(budget).leave(ticket)

    @precondition(lambda self: self.shelves)
    @rule(data=st.data(), asked=st.booleans())
    def provision(self, data: st.DataObject, asked: bool) -> None:
        """Load what the floor lacks: with a permit while a runtime opens, without one when the watch does it."""
        shelf = data.draw(st.sampled_from(self.shelves))
        missing = not shelf.retired and shelf.live < shelf.floor and self.ledger.live < self.ledger.most
        assert self.ledger.lacks(shelf) == missing
        if asked:
            may = missing and shelf.budget.free > 0
            assert self.ledger.reserve_for_floor(shelf) == may
            if may:
                self.working.append(Box(shelf))
        elif missing:
            self._serve(self.ledger.arrived(shelf, Box(shelf, self.now)))

    @rule(data=st.data())
    def the_zygote_dies(self, data: st.DataObject) -> None:
        idle = [box for shelf in self.shelves for box in shelf.idle]
        doomed = [box for box in idle if data.draw(st.booleans())]
        assert self.ledger.drop_idle(lambda box: box in doomed) == doomed
        self._serve(self.ledger.spare())

    @rule(seconds=st.floats(0.1, 20))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        before = {id(shelf): shelf.live for shelf in self.shelves}
        due = self.ledger.next_change()
        evicted = self.ledger.expired(self.now)
        self._serve(self.ledger.spare())
        assert bool(evicted) == (due is not None and due <= self.now)
        for box in evicted:
            assert self.now - box.idle_since >= KEEP_ALIVE
        for shelf in self.shelves:
            assert shelf.live >= min(shelf.floor, before[id(shelf)]), "the provisioned floor is kept"
            if shelf.live > shelf.floor:
                assert all(self.now - box.idle_since < KEEP_ALIVE for box in shelf.idle)

    @rule()
    def memory_is_short(self) -> None:
        before = {id(shelf): shelf.live for shelf in self.shelves}
        idle = sum(len(shelf.idle) for shelf in self.shelves)
        evicted = self.ledger.surplus()
        assert len(evicted) <= (idle + 1) // 2
        for shelf in self.shelves:
            assert shelf.live >= min(shelf.floor, before[id(shelf)])

    @precondition(lambda self: any(not shelf.retired for shelf in self.shelves))
    @rule(data=st.data())
    def redeclare(self, data: st.DataObject) -> None:
        function = data.draw(st.sampled_from([shelf for shelf in self.shelves if not shelf.retired])).function
        for shelf in self.ledger.shelves_of(function):
            idle = list(shelf.idle)
            assert self.ledger.retire(shelf) == idle
        self._serve(self.ledger.spare())

    # -- what holds ----------------------------------------------------------------------------------------------------

    @invariant()
    def permits_are_conserved(self) -> None:
        known = {id(shelf.budget): shelf.budget for shelf in self.ledger.shelves.values()}
        known[id(self.ledger.account)] = self.ledger.account
        assert sum(budget.size for budget in known.values()) == self.concurrency
        for budget in known.values():
            at_work = sum(box.shelf.budget is budget for box in self.working)
            assert budget.free == budget.size - at_work
            assert budget.free >= 0

    @invariant()
    def it_is_never_over_the_limits(self) -> None:
        assert len(self.working) <= self.concurrency
        assert self.ledger.live <= self.ledger.most

    @invariant()
    def nobody_waits_while_a_permit_is_free(self) -> None:
        for shelf in self.shelves:
            budget = shelf.budget
            assert [call.turn for call in budget.waiting] == self._line(budget).all()
            assert not (budget.waiting and budget.free > 0)

    @invariant()
    def every_sandbox_is_at_work_or_idle_and_counted_once(self) -> None:
        for shelf in self.shelves:
            at_work = sum(box.shelf is shelf for box in self.working)
            assert shelf.in_flight == at_work
            assert shelf.live == at_work + len(shelf.idle)
            assert not any(box in self.working for box in shelf.idle)
            assert [box.idle_since for box in shelf.idle] == sorted(box.idle_since for box in shelf.idle)
        assert self.ledger.live == sum(shelf.live for shelf in self.shelves)

    @invariant()
    def what_is_retired_is_forgotten_once_nothing_holds_it(self) -> None:
        for shelf in self.shelves:
            if shelf.retired and not shelf.live and not shelf.budget.waiting.of(shelf):
                self.ledger.forget_if_empty(shelf)  # a call that gave up may have been the last to hold it
                self._serve(self.ledger.spare())
                assert shelf not in self.ledger.shelves.values()
        for home in self.homes:
            if home.retired and not any(one.function == home.function and one.live for one in self.shelves):
                waiting = any(call.shelf.function == home.function for call in home.budget.waiting)
                assert waiting or not self.ledger.shelves_of(home.function)


TestAccounts: Any = Accounts.TestCase
TestAccounts.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


# -- single decisions --------------------------------------------------------------------------------------------------


def open_shelf(ledger: Ledger, name: str = "f", reserved: int | None = None, floor: int = 0) -> Shelf:
    shelf = ledger.add(name, reserved, floor)
    assert shelf is not None
    return shelf


def idle(ledger: Ledger, shelf: Shelf, *since: float) -> list[Box]:
    """Let sandboxes of this shelf come to rest at these times."""
    boxes = [Box(shelf, at) for at in since]
    for _ in boxes:
        assert isinstance(ledger.request(shelf, object()), Spawn)
    for box in boxes:
        ledger.give_back(shelf, box)
    return boxes


def test_when_the_house_is_full_the_longest_idle_makes_room() -> None:
    ledger = Ledger(3, 3)
    first, second = open_shelf(ledger, "first"), open_shelf(ledger, "second")
    old, _ = idle(ledger, first, 1.0, 3.0)
    idle(ledger, second, 2.0)
    third = open_shelf(ledger, "third")
    assert ledger.request(third, object()) == Spawn((old,))
    assert ledger.live == 3


def test_a_provisioned_sandbox_makes_room_last() -> None:
    ledger = Ledger(3, 2)
    kept, other = open_shelf(ledger, "kept", floor=1), open_shelf(ledger, "other")
    (old,) = idle(ledger, kept, 1.0)
    (young,) = idle(ledger, other, 2.0)
    third = open_shelf(ledger, "third")
    assert ledger.request(third, object()) == Spawn((young,))
    assert ledger.request(third, object()) == Spawn((old,))


def test_reserving_more_than_there_is_opens_no_shelf() -> None:
    ledger = Ledger(3, 3)
    open_shelf(ledger, "first", reserved=2)
    assert ledger.add("second", 2, 0) is None
    assert ledger.account.size == 1


def test_reserved_permits_come_back_with_the_last_sandbox_of_a_retired_function() -> None:
    ledger = Ledger(3, 3)
    shelf = open_shelf(ledger, reserved=2)
    assert isinstance(ledger.request(shelf, object()), Spawn)
    assert ledger.retire(shelf) == []
    assert ledger.account.size == 1
    ledger.lost(shelf)
    assert (ledger.account.size, ledger.account.free) == (3, 3)


def test_permits_that_come_back_from_a_retired_function_serve_who_waits() -> None:
    ledger = Ledger(1, 1)
    shelf = open_shelf(ledger, "reserves all", reserved=1)
    other = open_shelf(ledger, "waits")
    assert isinstance(ledger.request(shelf, object()), Spawn)
    turn = object()
    assert isinstance(ledger.request(other, turn), Wait)
    ledger.retire(shelf)
    assert ledger.lost(shelf) == [Grant(turn, Spawn())]


@pytest.mark.parametrize("floor", [0, 1, 2])
def test_expiry_leaves_the_provisioned_floor(floor: int) -> None:
    ledger = Ledger(3, 3, FixedTime(10))
    shelf = open_shelf(ledger, floor=floor)
    boxes = idle(ledger, shelf, 1.0, 2.0, 3.0)
    assert ledger.next_change() == 11.0
    assert ledger.expired(100.0) == boxes[: 3 - floor]
    assert ledger.next_change() is None


def test_memory_pressure_takes_the_longer_idle_half_of_all_functions() -> None:
    ledger = Ledger(9, 9)
    first, second = open_shelf(ledger, "first"), open_shelf(ledger, "second")
    a, c, e = idle(ledger, first, 1.0, 3.0, 5.0)
    b, _ = idle(ledger, second, 2.0, 4.0)
    assert ledger.surplus() == [a, b, c]
    assert first.idle == [e]


# -- with other policies than a fixed time -----------------------------------------------------------------------------


def expects_a_call(ledger: Ledger) -> Shelf:
    """Open a shelf that is called every 10 s and rests now, since 100.0; its sandbox has gone."""
    shelf = open_shelf(ledger)
    (box,) = idle(ledger, shelf, 10.0)
    for ended in range(10, 110, 10):
        box.taken_at = box.idle_since = float(ended)
        ledger.learn(shelf, box, float(ended))
    assert ledger.expired(100.0) == [box]
    return shelf


def often() -> HybridHistogram:
    return HybridHistogram(bin_seconds=1, samples=3, margin=0.1)


def test_a_function_that_expects_a_call_is_given_once_when_it_is_time() -> None:
    ledger = Ledger(3, 3, often())
    shelf = expects_a_call(ledger)
    assert ledger.next_change() == 109.0
    assert ledger.expected(108.9) == []
    assert ledger.expected(109.0) == [shelf]
    assert ledger.expected(110.0) == []
    box = Box(shelf, 109.0)
    assert ledger.arrived(shelf, box) == []
    assert ledger.next_change() == pytest.approx(112.1)
    assert ledger.expired(112.2) == [box]
    assert ledger.next_change() is None


def test_nothing_is_made_ahead_where_a_sandbox_is_there_or_no_room() -> None:
    ledger = Ledger(3, 1, often())
    shelf = expects_a_call(ledger)
    other = open_shelf(ledger, "other")
    idle(ledger, other, 101.0)
    assert ledger.expected(120.0) == []
    assert ledger.next_change() != 109.0, "else the watch would never sleep"
    assert shelf.live == 0


def test_a_tenant_that_expects_a_call_keeps_its_place_and_what_it_learned() -> None:
    ledger = Ledger(3, 3, often())
    home = ledger.add("function", None, 0, isolated=True)
    assert home is not None
    shelf = ledger.of_tenant(home, "a")
    (box,) = idle(ledger, shelf, 10.0)
    for ended in range(10, 110, 10):
        box.taken_at = box.idle_since = float(ended)
        ledger.learn(shelf, box, float(ended))
    assert ledger.expired(100.0) == [box]
    assert ledger.of_tenant(home, "a") is shelf
    assert ledger.expected(109.0) == [shelf]
    ledger.expired(109.0)
    assert ledger.of_tenant(home, "a") is not shelf


def test_where_memory_is_short_what_is_quickly_made_goes_first() -> None:
    ledger = Ledger(9, 9, GreedyDual())
    first, second = open_shelf(ledger, "slow to start"), open_shelf(ledger, "quick")
    (slow,) = idle(ledger, first, 1.0)
    (quick,) = idle(ledger, second, 2.0)
    slow.init_seconds, quick.init_seconds = 2.0, 0.01
    assert ledger.surplus() == [quick]
    assert ledger.clock == 0.01
    ledger.learn(first, slow, 3.0)
    assert slow.clock == 0.01, "worth is measured from what had to go"


def test_by_their_worth_one_makes_room_in_a_full_house() -> None:
    ledger = Ledger(9, 2, GreedyDual())
    first, second, third = (open_shelf(ledger, name) for name in ("slow to start", "quick", "third"))
    (slow,) = idle(ledger, first, 1.0)
    (quick,) = idle(ledger, second, 2.0)
    slow.init_seconds, quick.init_seconds = 2.0, 0.01
    assert ledger.request(third, object()) == Spawn((quick,))
