"""
The line of calls that wait for a permit: each shelf in its turn, and within a shelf first come, first served. (pure)

A burst on one function, or of one tenant, waits behind itself and not in front of everybody else: whoever has few calls
waits for as many turns as it has calls, times the number of those who wait. Every step takes the same time however many
calls wait, but ``remove`` and looking at all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, Generic, Protocol, TypeVar


class _Waiting(Protocol):
    @property
    def shelf(self) -> Any: ...


T = TypeVar("T", bound=_Waiting)


class Line(Generic[T]):
    """Calls in the order in which they will be served, if nobody else comes."""

    __slots__ = ("_by_shelf", "_count")

    def __init__(self) -> None:
        self._by_shelf: dict[int, deque[T]] = {}  # in the order of their next turns; none is empty
        self._count = 0

    def append(self, call: T) -> None:
        """Let a call wait behind those of its shelf; a shelf that is new here has its turn after the others."""
        self._by_shelf.setdefault(id(call.shelf), deque()).append(call)
        self._count += 1

    def append_first(self, call: T) -> None:
        """Let a call wait before those of its shelf: it had its place already."""
        self._by_shelf.setdefault(id(call.shelf), deque()).appendleft(call)
        self._count += 1

    def pop(self) -> T:
        """Take the one whose turn it is; its shelf's next turn comes after all others. Raises IndexError."""
        if not self._by_shelf:
            raise IndexError("nobody waits")
        shelf = next(iter(self._by_shelf))
        calls = self._by_shelf.pop(shelf)
        call = calls.popleft()
        if calls:
            self._by_shelf[shelf] = calls
        self._count -= 1
        return call

    def remove(self, call: T) -> None:
        """Take out a call that gave up. Raises ValueError."""
        shelf = id(call.shelf)
        calls = self._by_shelf.get(shelf, deque())
        calls.remove(call)
        if not calls:
            del self._by_shelf[shelf]
        self._count -= 1

    def of(self, shelf: object) -> int:
        """Tell how many calls of a shelf wait."""
        return len(self._by_shelf.get(id(shelf), ()))

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[T]:
        """Go through all, those of one shelf after those of another."""
        for calls in self._by_shelf.values():
            yield from calls
