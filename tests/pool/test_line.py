"""The line of waiting calls: each shelf in its turn, and nobody is lost."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from pyfaas._pool.line import Line


class Shelf:
    """Something that is itself."""


class Call(NamedTuple):
    shelf: Shelf
    number: int


def serve_all(line: Line[Call]) -> list[int]:
    return [line.pop().number for _ in range(len(line))]


def test_shelves_are_served_in_turn_and_calls_of_one_in_order() -> None:
    big, small, other = Shelf(), Shelf(), Shelf()
    line: Line[Call] = Line()
    for number, shelf in enumerate([big, big, big, big, small, big, other, small]):
        line.append(Call(shelf, number))
    assert (len(line), line.of(big), line.of(small)) == (8, 5, 2)
    assert serve_all(line) == [0, 4, 6, 1, 7, 2, 3, 5]
    assert not line
    with pytest.raises(IndexError):
        line.pop()


def test_a_burst_does_not_keep_others_waiting() -> None:
    big, small = Shelf(), Shelf()
    line: Line[Call] = Line()
    for number in range(10_000):
        line.append(Call(big, number))
    line.append(Call(small, -1))
    assert [line.pop().number, line.pop().number] == [0, -1]


def test_who_is_put_back_comes_first_among_its_own() -> None:
    first, second = Shelf(), Shelf()
    line: Line[Call] = Line()
    for number, shelf in enumerate([first, first, second]):
        line.append(Call(shelf, number))
    line.append_first(Call(second, 3))
    assert serve_all(line) == [0, 3, 1, 2]


def test_who_gives_up_leaves_no_trace() -> None:
    first, second = Shelf(), Shelf()
    line: Line[Call] = Line()
    calls = [Call(shelf, number) for number, shelf in enumerate([first, second, first])]
    for call in calls:
        line.append(call)
    line.remove(calls[0])
    line.remove(calls[1])
    assert ([call.number for call in line], len(line), line.of(second)) == ([2], 1, 0)
    with pytest.raises(ValueError, match=r".*"):
        line.remove(calls[1])
    assert serve_all(line) == [2]
