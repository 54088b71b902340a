"""What came of many requests, noted together: each only where its lease is still ours."""

from __future__ import annotations

import json

import pytest

from pyfaas import limits
from pyfaas._stores import queue, submissions
from pyfaas._stores.database import Database, Job, Transaction
from pyfaas._stores.queue import Message
from pyfaas._stores.submissions import DONE, FAILED, Finish
from pyfaas.testing import ManualClock
from stores.tools import do


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def database(clock: ManualClock) -> Database:
    return Database(None, "full", clock)


def request_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


def accept(database: Database, count: int) -> None:
    def job(transaction: Transaction) -> None:
        to = submissions.queue_of(transaction, "note")
        for number in range(count):
            noted = json.dumps({"id": request_id(number).hex(), "attempts": 1})
            submissions.accept(transaction, to, request_id(number), b"%d" % number, noted)

    do(database, job)


def claim(database: Database, count: int) -> list[Message]:
    def job(transaction: Transaction) -> list[Message]:
        return queue.claim(transaction, submissions.queue_of(transaction, "note"), count, 30.0).messages

    return do(database, job)


def state(database: Database, number: int) -> tuple[str, bytes | None]:
    found = do(database, lambda one: submissions.look_up(one, request_id(number)))
    assert found is not None
    return found.state, found.value


@pytest.mark.parametrize("count", [1, 2, 33, 100])
def test_many_are_noted_at_once_and_their_messages_forgotten(database: Database, count: int) -> None:
    accept(database, count)
    jobs = [Finish("note", one, DONE, value=b"=" + one.body) for one in claim(database, count)]
    assert do(database, lambda one: Finish.all_of(one, jobs)) == [True] * count
    assert [state(database, number) for number in range(count)] == [("done", b"=%d" % n) for n in range(count)]
    assert do(database, queue.count_all) == 0


def test_what_another_has_leased_meanwhile_is_left_to_it_and_the_rest_is_noted(
    database: Database, clock: ManualClock
) -> None:
    accept(database, 4)
    ours = claim(database, 2) + claim(database, 2)
    told: list[int] = []
    clock.advance(31)
    theirs = {one.id: one for one in claim(database, 1) + claim(database, 2)}
    assert len(theirs) == 3
    (kept,) = [one for one in ours if one.id not in theirs]

    def telling(number: int) -> Job[None]:
        return lambda _: told.append(number)

    jobs = [Finish("note", one, FAILED, error={"n": 1}, tell=telling(one.id)) for one in ours]
    # The same message with both leases, in one transaction: what is still ours of it is the newer one.
    newer = theirs[ours[0].id] if ours[0].id in theirs else theirs[ours[1].id]
    jobs.append(Finish("note", newer, DONE, tell=telling(-newer.id)))
    assert do(database, lambda one: Finish.all_of(one, jobs)) == [*(one is kept for one in ours), True]
    assert told == [kept.id, -newer.id]
    assert do(database, queue.count_all) == 2


def test_a_value_that_is_too_large_is_not_kept(database: Database) -> None:
    accept(database, 1)
    (message,) = claim(database, 1)
    assert do(database, Finish("note", message, DONE, value=b"x" * (limits.ASYNC_EVENT_BYTES + 1)))
    assert state(database, 0) == ("done", None)
