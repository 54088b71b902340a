"""What is known of a bucket's files: noted once, many at a time, with numbers in order."""

from __future__ import annotations

import os

import pytest

from pyfaas._files import Stamp
from pyfaas._stores import objects
from pyfaas._stores.database import Database
from pyfaas.testing import ManualClock
from stores.tools import do

A, B = Stamp(1, 10, 100), Stamp(2, 20, 200)


@pytest.fixture
def database() -> Database:
    return Database(None, "full", ManualClock())


def note(database: Database, **changed: Stamp | None) -> dict[str, int]:
    return do(database, lambda one: objects.note(one, "bucket/b", changed))


def test_each_change_has_the_next_number(database: Database) -> None:
    assert note(database, x=A, y=A) == {"x": 1, "y": 2}
    assert note(database, y=B) == {"y": 3}
    assert do(database, lambda one: objects.note(one, "bucket/other", {"x": A})) == {"x": 4}


def test_what_is_known_has_none(database: Database) -> None:
    note(database, x=A, y=A)
    assert note(database, x=A, y=B, z=None) == {"y": 3}
    assert note(database) == {}
    assert note(database, x=A) == {}


def test_what_is_gone_is_forgotten(database: Database) -> None:
    note(database, x=A, y=A)
    assert note(database, x=None) == {"x": 3}
    assert do(database, lambda one: objects.known(one, "bucket/b", ["x", "y"])) == {"x": None, "y": A}
    assert note(database, x=None) == {}
    assert note(database, x=A) == {"x": 4}


def test_many_with_names_of_any_bytes_are_noted_and_known_again(database: Database) -> None:
    keys = [os.fsdecode(f"dir/ä {number}".encode() + b"\xff") for number in range(500)]
    changed = {key: Stamp(number, number, number) for number, key in enumerate(keys)}
    numbers = do(database, lambda one: objects.note(one, "bucket/b", changed))
    assert numbers == {key: number for number, key in enumerate(keys, 1)}
    assert do(database, lambda one: objects.known(one, "bucket/b", keys)) == changed
    assert {*do(database, lambda one: objects.page(one, "bucket/b", b""))} == {*changed.items()}
    assert do(database, lambda one: objects.note(one, "bucket/b", changed)) == {}
