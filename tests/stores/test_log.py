"""The log: every reader gets every record of its lanes, in order, and nobody else does while it is at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from pyfaas._stores import log as module
from pyfaas._stores.database import Database, Ticket
from pyfaas._stores.log import Lane, Log, Unread
from pyfaas.testing import ManualClock
from stores.tools import do


class Shelf:
    """A log and one reader of it, in a store of their own."""

    def __init__(self, shards: int = 1, retention: float = 1000.0) -> None:
        self.clock = ManualClock()
        self.database = Database(None, "normal", self.clock)
        self.log: Log = do(self.database, lambda one: module.find_or_make(one, "stream/clicks", shards, retention))

    def declare(self, shards: int) -> Log:
        return do(self.database, lambda one: module.declare(one, "stream/clicks", shards, self.log.retention))

    def follow(self, mapping: int = 1, lanes: int = 1, start: Any = "trim_horizon") -> None:
        do(self.database, lambda one: module.follow(one, self.log, mapping, lanes, start))

    def append(self, *keys: str) -> list[int]:
        return do(self.database, lambda one: module.append(one, self.log, [(key, key.encode(), None) for key in keys]))

    def due(self, mapping: int = 1, seconds: float = 10.0) -> list[Lane]:
        """Lease all lanes that are due."""
        return do(
            self.database, lambda one: [module.lease(one, lane, seconds) for lane in module.due(one, mapping, 100)]
        )

    def read(self, lane: Lane, most: int = 100, size: int = 10**6, upto: int | None = None) -> tuple[list[str], int]:
        records, through = do(self.database, lambda one: module.read(one, lane, self.log, most, size, upto))
        return [record.key for record in records], through

    def move(self, lane: Lane, position: int, **more: Any) -> bool:
        return do(self.database, lambda one: module.move(one, lane, position, more.pop("noted", {}), **more))

    def next_due_in(self, mapping: int = 1) -> float:
        return do(self.database, lambda one: module.next_due(one, mapping)) - self.database.now()

    def trim(self) -> tuple[int, set[str]]:
        return do(self.database, module.trim)


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    made = Shelf()
    yield made
    made.database.close()


def test_a_reader_begins_with_what_is_there_and_goes_on_behind_it(shelf: Shelf) -> None:
    first, second = shelf.append("a", "b")
    shelf.follow()
    (lane,) = shelf.due()
    assert shelf.read(lane) == (["a", "b"], second)
    assert shelf.move(lane, first)
    (lane,) = shelf.due()
    assert shelf.read(lane) == (["b"], second)
    assert shelf.move(lane, second)
    assert shelf.due() == []
    assert shelf.next_due_in() == float("inf")
    shelf.append("c")
    assert shelf.next_due_in() == 0.0


def test_a_reader_may_begin_behind_what_is_there_or_at_a_moment(shelf: Shelf) -> None:
    shelf.append("a")
    shelf.clock.advance(10)
    shelf.append("b")
    shelf.follow(1, start="latest")
    shelf.follow(2, start=shelf.database.now())
    shelf.follow(3, start=shelf.database.now() + 1)
    shelf.append("c")
    assert [shelf.read(lane)[0] for number in (1, 2, 3) for lane in shelf.due(number)] == [["c"], ["b", "c"], ["c"]]


def test_a_lane_is_leased_by_one_until_that_runs_out(shelf: Shelf) -> None:
    (number,) = shelf.append("a")
    shelf.follow()
    (mine,) = shelf.due(seconds=10.0)
    assert shelf.due() == []
    assert shelf.next_due_in() == 10.0
    assert do(shelf.database, lambda one: mine.keep(one, 20.0))
    shelf.clock.advance(20.0)
    (theirs,) = shelf.due()
    assert not do(shelf.database, lambda one: mine.keep(one, 20.0))
    assert not shelf.move(mine, number), "too late"
    assert not do(shelf.database, mine.give_back)
    assert shelf.move(theirs, number)


def test_who_gives_a_lane_back_leaves_it_where_it_was(shelf: Shelf) -> None:
    shelf.append("a")
    shelf.follow()
    (lane,) = shelf.due()
    assert do(shelf.database, lane.give_back)
    (lane,) = shelf.due()
    assert shelf.read(lane)[0] == ["a"]


def test_a_lane_may_rest_and_note_something(shelf: Shelf) -> None:
    shelf.append("a")
    shelf.follow()
    (lane,) = shelf.due()
    assert shelf.move(lane, 0, noted={"attempts": 1}, delay=5.0)
    assert shelf.due() == []
    assert shelf.next_due_in() == 5.0
    shelf.clock.advance(5.0)
    (lane,) = shelf.due()
    assert lane.noted == {"attempts": 1}


def test_a_lane_is_due_when_its_window_ends_though_nothing_came(shelf: Shelf) -> None:
    (number,) = shelf.append("a")
    shelf.follow()
    (lane,) = shelf.due()
    shelf.move(lane, number, ends_at=shelf.database.now() + 30.0)
    assert shelf.due() == []
    assert shelf.next_due_in() == 30.0
    shelf.clock.advance(30.0)
    (lane,) = shelf.due()
    assert shelf.read(lane)[0] == []
    shelf.move(lane, number)
    assert shelf.due() == []


def test_a_part_ends_with_so_many_records_or_bytes_or_at_one_of_them(shelf: Shelf) -> None:
    numbers = shelf.append("aa", "bb", "cc", "dd")
    shelf.follow()
    (lane,) = shelf.due()
    assert shelf.read(lane, most=2) == (["aa", "bb"], numbers[1])
    assert shelf.read(lane, size=3) == (["aa", "bb"], numbers[1])
    assert shelf.read(lane, upto=numbers[2]) == (["aa", "bb", "cc"], numbers[2])
    unread = do(shelf.database, lambda one: module.unread(one, lane, shelf.log, 3))
    assert unread == Unread(3, 6, shelf.database.now())


def test_what_is_older_than_the_retention_is_not_read_and_goes(shelf: Shelf) -> None:
    shelf.append("a")
    shelf.follow()
    shelf.clock.advance(999)
    (number,) = shelf.append("b")
    assert shelf.trim() == (0, set())
    shelf.clock.advance(1)
    (lane,) = shelf.due()
    assert shelf.read(lane) == (["b"], number)
    assert shelf.trim()[0] == 1
    assert do(shelf.database, lambda one: module.count(one, shelf.log)) == (1, 1)


def test_shards_that_are_closed_and_empty_are_forgotten(shelf: Shelf) -> None:
    shelf.append("a")
    shelf.follow()
    shelf.declare(3)
    shelf.append("b")
    assert do(shelf.database, lambda one: module.count(one, shelf.log)) == (2, 4)
    shelf.clock.advance(1000)
    shelf.trim()
    shelf.trim()
    assert do(shelf.database, lambda one: module.count(one, shelf.log)) == (0, 3)
    shelf.append("c")
    assert [shelf.read(lane)[0] for lane in shelf.due()] == [["c"]]


def test_of_another_number_of_shards_the_old_ones_are_read_first(shelf: Shelf) -> None:
    (old,) = shelf.append("a")
    shelf.follow()
    shelf.declare(2)
    shelf.append("a", "b", "c")
    (lane,) = shelf.due()
    assert shelf.read(lane) == (["a"], old)
    assert shelf.due() == [], "while that is leased"
    shelf.move(lane, old, delay=5.0)
    assert sorted(key for lane in shelf.due() for key in shelf.read(lane)[0]) == ["a", "b", "c"]


def test_those_wait_who_read_a_closed_shard_that_rests(shelf: Shelf) -> None:
    shelf.append("a")
    shelf.follow()
    shelf.declare(2)
    shelf.append("b")
    (lane,) = shelf.due()
    shelf.move(lane, 0, delay=5.0)
    assert shelf.due() == []
    assert shelf.next_due_in() == 5.0


def test_with_other_lanes_nothing_is_left_out(shelf: Shelf) -> None:
    keys = [f"k{number}" for number in range(20)]
    shelf.append(*keys)
    shelf.follow(lanes=4)
    lanes = shelf.due()
    parts = [shelf.read(lane)[0] for lane in lanes]
    assert sorted(key for part in parts for key in part) == sorted(keys)
    done = lanes[0]
    shelf.move(done, shelf.read(done)[1])
    shelf.follow(lanes=2)
    assert sorted(key for lane in shelf.due() for key in shelf.read(lane)[0]) == sorted(keys)


def test_who_puts_or_moves_on_wakes_those_who_wait(shelf: Shelf) -> None:
    touched: list[dict[Ticket, float]] = []
    shelf.database.on_touched = touched.append
    now = shelf.database.now()
    (number,) = shelf.append("a")
    shelf.follow()
    (lane,) = shelf.due()
    shelf.move(lane, number, delay=3.0)
    shelf.database.close()
    assert touched == [{module.ticket_of(shelf.log): now}, {module.ticket_of_mapping(1): now + 3.0}]


# -- against a model ---------------------------------------------------------------------------------------------------


class LogMachine(RuleBasedStateMachine):
    """
    In whatever order: each lane hands out its records in order, without a gap, to one reader at a time.

    The model is a list of all that was put, and how far each key was read.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf(shards=2)
        self.put: dict[str, list[int]] = {}
        self.done: dict[str, list[int]] = {}
        self.held: list[tuple[Lane, float]] = []
        self.shelf.follow()

    @rule(keys=st.lists(st.sampled_from("abcdef"), min_size=1, max_size=4))
    def append(self, keys: list[str]) -> None:
        for key, number in zip(keys, self.shelf.append(*keys), strict=True):
            self.put.setdefault(key, []).append(number)

    @rule()
    def lease(self) -> None:
        now = self.shelf.database.now()
        lanes = self.shelf.due(seconds=10.0)
        live = {(lane.shard, lane.lane) for lane, until in self.held if until > now}
        assert not live & {(lane.shard, lane.lane) for lane in lanes}
        self.held += [(lane, now + 10.0) for lane in lanes]

    @rule(number=st.integers(0, 5), most=st.integers(1, 4))
    def finish(self, number: int, most: int) -> None:
        if not self.held:
            return
        lane, until = self.held.pop(number % len(self.held))
        records, through = do(self.shelf.database, lambda one: module.read(one, lane, self.shelf.log, most, 10**6))
        if self.shelf.move(lane, through):
            for record in records:
                self.done.setdefault(record.key, []).append(record.id)
        else:
            assert until <= self.shelf.database.now()

    @rule(number=st.integers(0, 5))
    def give_back(self, number: int) -> None:
        if self.held:
            lane, _ = self.held.pop(number % len(self.held))
            do(self.shelf.database, lane.give_back)

    @rule()
    def wait(self) -> None:
        self.shelf.clock.advance(4.0)

    @rule(shards=st.integers(1, 4))
    def split(self, shards: int) -> None:
        self.shelf.declare(shards)

    @invariant()
    def each_key_is_read_in_order_without_a_gap(self) -> None:
        for key, done in self.done.items():
            assert done == self.put[key][: len(done)]

    def teardown(self) -> None:
        """In the end everything is read."""
        self.shelf.clock.advance(10.0)
        self.held = [(lane, 0.0) for lane in self.shelf.due()]
        while self.held:
            while self.held:
                self.finish(0, 4)
            self.held = [(lane, 0.0) for lane in self.shelf.due()]
        assert self.done == self.put
        self.shelf.database.close()


TestLog = LogMachine.TestCase
