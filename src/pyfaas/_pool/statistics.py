"""What ``runtime.statistics()`` and ``function.statistics()`` give: frozen counts, taken under the pool's lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from pyfaas._pool.policy import Counts, Shelf


@attrs.frozen
class FunctionStatistics:
    """
    One function's counts since the runtime opened.

    ``invocations`` that ran (``errors`` and ``timeouts`` of them), ``cold_starts``, ``throttles``; and of its
    sandboxes now: ``live``, of which ``idle`` and ``in_flight``; ``waiting`` calls.
    """

    name: str
    invocations: int
    errors: int
    timeouts: int
    cold_starts: int
    throttles: int
    live: int
    idle: int
    in_flight: int
    waiting: int


@attrs.frozen
class RuntimeStatistics:
    """
    A runtime's counts: ``concurrency`` permits, sandboxes ``live``, ``idle``, ``in_flight``, calls ``waiting``.

    ``standby`` blank ones; ``spawned``, ``evicted`` and ``died`` since it opened; ``functions`` by name (a name that is
    declared twice is told once, with the function used last).
    """

    concurrency: int
    live: int
    idle: int
    in_flight: int
    waiting: int
    standby: int
    spawned: int
    evicted: int
    died: int
    functions: dict[str, FunctionStatistics]


def count(function: Any, shelves: Sequence[Shelf]) -> FunctionStatistics:
    """Count one function, whose shelves these are; under the pool's lock."""
    counts = shelves[0].counts if shelves else Counts()
    return FunctionStatistics(
        name=function.name,
        live=sum(shelf.live for shelf in shelves),
        idle=sum(len(shelf.idle) for shelf in shelves),
        in_flight=sum(shelf.in_flight for shelf in shelves),
        waiting=sum(shelf.budget.waiting.of(shelf) for shelf in shelves),
        **attrs.asdict(counts),
    )
