"""The leased queue: against a model of the obvious kind, and rule by rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, multiple, rule

from pyfaas import ConfigurationError
from pyfaas._stores import queue as module
from pyfaas._stores.database import Database, Ticket
from pyfaas._stores.queue import Claimed, Message, Queue, Rules, Waiting
from pyfaas.testing import ManualClock
from stores.tools import do


class Desk:
    """A queue, its store and its clock, to be used by hand."""

    def __init__(self, *, fifo: bool = False) -> None:
        self.clock = ManualClock()
        self.database = Database(None, "full", self.clock)
        self.queue = self.make("orders", fifo=fifo)

    def make(self, name: str, *, fifo: bool = False) -> Queue:
        return do(self.database, lambda transaction: module.find_or_make(transaction, name, fifo=fifo))

    def send(self, *bodies: bytes, **more: Any) -> list[int]:
        return do(self.database, lambda one: [module.send(one, self.queue, body, **more) for body in bodies])

    def claim(
        self, count: int = 10, seconds: float = 30.0, rules: Rules | None = None, of: Queue | None = None
    ) -> Claimed:
        return do(self.database, lambda one: module.claim(one, of or self.queue, count, seconds, rules))

    def bodies(self, count: int = 10, **more: Any) -> list[bytes]:
        return [message.body for message in self.claim(count, **more).messages]

    def ack(self, *messages: Message) -> int:
        return do(self.database, lambda one: module.ack(one, self.queue, messages))

    def put_back(self, *messages: Message, delay: float = 0.0) -> int:
        return do(self.database, lambda one: module.put_back(one, self.queue, messages, delay))

    def extend(self, *messages: Message, seconds: float) -> int:
        return do(self.database, lambda one: module.extend(one, self.queue, messages, seconds))

    def count(self, of: Queue | None = None) -> Waiting:
        return do(self.database, lambda one: module.count(one, of or self.queue))

    def next_due_in(self) -> float | None:
        due_at = do(self.database, lambda one: module.next_due(one, self.queue))
        return None if due_at is None else round(due_at - self.database.now(), 6)


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk()
    yield made
    made.database.close()


@pytest.fixture
def fifo() -> Iterator[Desk]:
    made = Desk(fifo=True)
    yield made
    made.database.close()


# -- standard ----------------------------------------------------------------------------------------------------------


def test_what_was_sent_is_claimed_once_in_about_the_order_in_which_it_came(desk: Desk) -> None:
    desk.send(b"1", b"2", b"3")
    assert desk.count() == Waiting(3, 0, 0)
    assert desk.bodies(2) == [b"1", b"2"]
    assert desk.bodies(2) == [b"3"]
    assert desk.bodies() == []
    assert desk.count() == Waiting(0, 3, 0)


def test_a_message_tells_how_often_it_was_received_and_what_was_sent_with_it(desk: Desk) -> None:
    (number,) = desk.send(b"1", attributes='{"kind": "new"}')
    sent_at = desk.database.now()
    desk.clock.advance(5.0)
    first = desk.claim(seconds=10.0).messages[0]
    desk.clock.advance(10.0)
    again = desk.claim().messages[0]
    assert first[2:-1] == (1, sent_at, sent_at + 5.0, None, {"kind": "new"}, b"1")
    assert again[2:-1] == (2, sent_at, sent_at + 5.0, None, {"kind": "new"}, b"1")
    assert first.id == again.id == number
    assert first.lease != again.lease


def test_a_lease_that_ran_out_is_nobodys(desk: Desk) -> None:
    desk.send(b"1")
    late = desk.claim(seconds=10.0).messages[0]
    assert desk.next_due_in() == 10.0
    desk.clock.advance(10.0)
    again = desk.claim().messages[0]
    assert desk.ack(late) == 0
    assert desk.extend(late, seconds=1000.0) == 0
    assert desk.put_back(late) == 0
    assert desk.ack(again) == 1
    assert desk.count() == Waiting(0, 0, 0)
    assert desk.next_due_in() is None


def test_one_that_ran_out_and_was_not_taken_can_still_be_ended(desk: Desk) -> None:
    desk.send(b"1")
    late = desk.claim(seconds=10.0).messages[0]
    desk.clock.advance(60.0)
    assert desk.ack(late) == 1


def test_a_delay_holds_a_message_back_and_putting_back_gives_it_again(desk: Desk) -> None:
    desk.send(b"1", delay=20.0)
    assert desk.bodies() == []
    assert desk.count() == Waiting(0, 0, 1)
    assert desk.next_due_in() == 20.0
    desk.clock.advance(20.0)
    message = desk.claim().messages[0]
    assert desk.put_back(message, delay=5.0) == 1
    assert desk.bodies() == []
    desk.clock.advance(5.0)
    assert desk.bodies() == [b"1"]


def test_a_lease_may_be_kept_for_longer(desk: Desk) -> None:
    desk.send(b"1")
    message = desk.claim(seconds=10.0).messages[0]
    assert desk.extend(message, seconds=100.0) == 1
    desk.clock.advance(99.0)
    assert desk.bodies() == []
    desk.clock.advance(1.0)
    assert desk.bodies() == [b"1"]


def test_what_is_received_too_often_goes_to_the_dead_letter_queue(desk: Desk) -> None:
    dead = desk.make("dead")
    rules = Rules(most_receives=2, dead_letter=dead)
    desk.send(b"bad", attributes='{"a": 1}')
    desk.send(b"good")
    for _ in range(2):
        assert desk.bodies(seconds=1.0, rules=rules) == [b"bad", b"good"]
        desk.clock.advance(1.0)
    claimed = desk.claim(seconds=1.0, rules=rules)
    assert (claimed.messages, [one.body for one in claimed.dead]) == ([], [b"bad", b"good"])
    assert desk.count() == Waiting(0, 0, 0)
    found = desk.claim(of=dead).messages
    assert [(one.body, one.receives, one.attributes) for one in found] == [(b"bad", 1, {"a": 1}), (b"good", 1, {})]


def test_without_a_dead_letter_queue_it_is_dropped_and_told(desk: Desk) -> None:
    desk.send(b"bad")
    desk.claim(seconds=1.0)
    desk.clock.advance(1.0)
    desk.send(b"good")
    claimed = desk.claim(rules=Rules(most_receives=1))
    assert ([one.body for one in claimed.messages], [one.body for one in claimed.dead]) == ([b"good"], [b"bad"])


def test_what_is_too_old_is_dropped_and_told(desk: Desk) -> None:
    desk.send(b"old")
    desk.clock.advance(60.0)
    desk.send(b"new")
    claimed = desk.claim(1, rules=Rules(retention=60.0))
    assert ([one.body for one in claimed.messages], [one.body for one in claimed.expired]) == ([b"new"], [b"old"])


def test_dead_letters_can_be_sent_back(desk: Desk) -> None:
    dead = desk.make("dead")
    desk.send(b"1", b"2", b"3")
    desk.claim(seconds=0.0)
    desk.claim(rules=Rules(most_receives=1, dead_letter=dead))
    assert desk.count(dead) == Waiting(3, 0, 0)
    assert do(desk.database, lambda one: module.redrive(one, dead, 2)) == 2
    assert [(one.body, one.receives) for one in desk.claim().messages] == [(b"1", 1), (b"2", 1)]
    assert desk.count(dead) == Waiting(1, 0, 0)


def test_the_first_of_a_group_may_be_due_after_the_last_lease_ends(fifo: Desk) -> None:
    """A group that only seems due keeps none that is."""
    fifo.send(b"1", b"2", group="a")
    fifo.send(b"3", group="b")
    first, *_ = fifo.claim(seconds=1.0).messages
    assert fifo.put_back(first, delay=3.0) == 1
    fifo.clock.advance(1.0)
    assert [one.body for one in fifo.claim(1).messages] == [b"3"]
    fifo.clock.advance(2.0)
    assert [one.body for one in fifo.claim().messages] == [b"1", b"2"]


def test_a_purge_leaves_nothing_not_even_what_is_leased(desk: Desk) -> None:
    desk.send(b"1", b"2")
    message = desk.claim(1).messages[0]
    assert do(desk.database, lambda one: module.purge(one, desk.queue)) == 2
    assert desk.ack(message) == 0
    assert desk.count() == Waiting(0, 0, 0)


def test_one_with_a_known_id_is_not_taken_again_for_five_minutes(desk: Desk) -> None:
    first = desk.send(b"1", duplicate_id="x")
    assert desk.send(b"1", duplicate_id="x") == first
    assert desk.send(b"2", duplicate_id="y") != first
    assert desk.bodies() == [b"1", b"2"]
    desk.clock.advance(300.0)
    assert desk.send(b"1", duplicate_id="x") != first


def test_who_sends_or_gives_back_wakes_those_who_wait(desk: Desk) -> None:
    touched: list[dict[Ticket, float]] = []
    desk.database.on_touched = touched.append
    now = desk.database.now()
    desk.send(b"1", delay=2.0)
    desk.send(b"2")
    message = desk.claim().messages[0]
    desk.put_back(message, delay=5.0)
    desk.ack(message)
    desk.count()
    assert touched == [{desk.queue.id: now + wait} for wait in (2.0, 0.0, 5.0)]


def test_a_queue_keeps_its_kind(desk: Desk) -> None:
    assert desk.make("orders") == desk.queue
    with pytest.raises(
        ConfigurationError, match="queue 'orders' is a standard queue in this store, and is declared as a FIFO"
    ):
        desk.make("orders", fifo=True)


# -- FIFO --------------------------------------------------------------------------------------------------------------


def test_a_group_is_served_in_order_and_not_beside_itself(fifo: Desk) -> None:
    fifo.send(b"a1", b"a2", b"a3", group="a")
    fifo.send(b"b1", group="b")
    first = fifo.claim(2).messages
    assert [one.body for one in first] == [b"a1", b"a2"]
    assert fifo.bodies() == [b"b1"], "a3 waits for a1 and a2"
    fifo.ack(first[0])
    assert fifo.bodies() == []
    fifo.ack(first[1])
    assert fifo.bodies() == [b"a3"]


def test_a_group_waits_for_what_was_given_back(fifo: Desk) -> None:
    fifo.send(b"a1", b"a2", group="a")
    first, second = fifo.claim().messages
    fifo.ack(second)
    fifo.put_back(first, delay=10.0)
    fifo.send(b"a3", group="a")
    assert fifo.bodies() == []
    assert fifo.next_due_in() == 10.0
    fifo.clock.advance(10.0)
    assert fifo.bodies() == [b"a1", b"a3"]


def test_a_group_goes_on_when_its_leases_run_out(fifo: Desk) -> None:
    fifo.send(b"a1", b"a2", group="a")
    assert fifo.bodies(1, seconds=10.0) == [b"a1"]
    fifo.clock.advance(10.0)
    assert fifo.bodies() == [b"a1", b"a2"]


def test_a_poisoned_message_of_a_group_makes_way(fifo: Desk) -> None:
    dead = fifo.make("dead", fifo=True)
    rules = Rules(most_receives=1, dead_letter=dead)
    fifo.send(b"bad", b"good", group="a")
    assert fifo.bodies(1, seconds=1.0, rules=rules) == [b"bad"]
    fifo.clock.advance(1.0)
    assert fifo.bodies(rules=rules) == [b"good"]
    assert [(one.body, one.group) for one in fifo.claim(of=dead).messages] == [(b"bad", "a")]


def test_groups_that_are_empty_are_forgotten(fifo: Desk) -> None:
    for name in ("a", "b"):
        fifo.send(b"1", group=name)
    fifo.ack(*fifo.claim().messages)
    assert fifo.next_due_in() is None
    do(fifo.database, lambda one: module.purge(one, fifo.queue))
    fifo.send(b"2", group="a")
    assert fifo.bodies() == [b"2"]


# -- against a model ---------------------------------------------------------------------------------------------------


class QueueMachine(RuleBasedStateMachine):
    """In whatever order: nothing is lost, nothing comes twice while it is leased, and groups keep their order."""

    leased = Bundle("leased")
    fifo = False

    def __init__(self) -> None:
        super().__init__()
        self.desk = Desk(fifo=self.fifo)
        self.due: dict[int, float] = {}  # by number: when it may come (again)
        self.group: dict[int, str | None] = {}
        self.lease: dict[int, int] = {}

    @rule(delay=st.sampled_from([0.0, 5.0]), group=st.sampled_from(["a", "b"]))
    def send(self, delay: float, group: str) -> None:
        name = group if self.fifo else None
        (number,) = self.desk.send(b"x", delay=0.0 if self.fifo else delay, group=name)
        self.due[number] = self.desk.database.now() + (0.0 if self.fifo else delay)
        self.group[number] = name

    @rule(target=leased, count=st.integers(1, 4), seconds=st.sampled_from([1.0, 7.0]))
    def claim(self, count: int, seconds: float) -> Any:
        found = self.desk.claim(count, seconds).messages
        now = self.desk.database.now()
        assert all(self.due[one.id] <= now for one in found)
        claimable = self.claimable(now)
        assert {one.id for one in found} <= claimable
        assert len(found) == min(count, len(claimable)) or self.fifo
        assert bool(found) == bool(claimable)
        for name in {self.group[one.id] for one in found} if self.fifo else ():
            got = [one.id for one in found if self.group[one.id] == name]
            assert got == sorted(number for number in claimable if self.group[number] == name)[: len(got)]
        for one in found:
            self.due[one.id] = now + seconds
            self.lease[one.id] = one.lease
        return multiple(*found)

    def claimable(self, now: float) -> set[int]:
        if not self.fifo:
            return {number for number, due in self.due.items() if due <= now}
        found = set()
        for number in sorted(self.due):
            group = [other for other in self.due if self.group[other] == self.group[number]]
            leased = any(self.lease.get(other) and self.due[other] > now for other in group)
            before = all(self.due[other] <= now for other in group if other <= number)
            if before and not leased:
                found.add(number)
        return found

    def is_ours(self, message: Message) -> bool:
        return message.id in self.due and self.lease.get(message.id) == message.lease

    @rule(message=leased)
    def ack(self, message: Message) -> None:
        ours = self.is_ours(message)
        assert self.desk.ack(message) == ours
        if ours:
            del self.due[message.id], self.lease[message.id], self.group[message.id]

    @rule(message=leased, delay=st.sampled_from([0.0, 3.0]))
    def put_back(self, message: Message, delay: float) -> None:
        ours = self.is_ours(message)
        assert self.desk.put_back(message, delay=delay) == ours
        if ours:
            self.due[message.id] = self.desk.database.now() + delay
            self.lease[message.id] = 0

    @rule(message=leased, seconds=st.sampled_from([0.0, 9.0]))
    def extend(self, message: Message, seconds: float) -> None:
        ours = self.is_ours(message)
        assert self.desk.extend(message, seconds=seconds) == ours
        if ours:
            self.due[message.id] = self.desk.database.now() + seconds

    @rule(seconds=st.sampled_from([0.5, 3.0, 10.0]))
    def pass_by(self, seconds: float) -> None:
        self.desk.clock.advance(seconds)

    @invariant()
    def nothing_is_lost(self) -> None:
        assert sum(self.desk.count()) == len(self.due)

    @invariant()
    def the_next_one_is_known(self) -> None:
        due_in = self.desk.next_due_in()
        now = self.desk.database.now()
        assert (due_in is not None) == bool(self.due)
        assert (due_in is not None and due_in <= 0) == bool(self.claimable(now))

    def teardown(self) -> None:
        self.desk.database.close()


class FifoMachine(QueueMachine):
    fifo = True


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestFifo = FifoMachine.TestCase
TestFifo.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
