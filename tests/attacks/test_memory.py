"""Handlers that take all the memory there is (cases 10 to 12)."""

from __future__ import annotations

import pytest

from attacks import handlers
from attacks.handlers import MB
from attacks.harness import Arena
from pyfaas import HandlerFailed, OutOfMemory


def test_a_huge_allocation_is_out_of_memory(arena: Arena) -> None:
    outcome = arena.attack(handlers.allocates, OutOfMemory, event=600 * MB, within=3.0)
    assert outcome.error.to_lambda() == {"errorType": "Runtime.OutOfMemory", "errorMessage": outcome.error.message}  # type: ignore[union-attr]
    assert outcome.report.max_memory_mb == 128
    assert arena.held("memory") == "watched"


def test_what_would_run_away_before_the_watch_looks_is_refused_by_the_kernel(arena: Arena) -> None:
    outcome = arena.attack(handlers.allocates, HandlerFailed, event=64 << 30, within=3.0)
    assert outcome.error.error_type == "MemoryError"  # type: ignore[union-attr]


def test_a_leak_across_warm_calls_is_found_though_each_call_is_short(arena: Arena) -> None:
    """8 MB a call under 128 MB, one right after the other: no sandbox gets far, and the next one works."""
    with arena.surroundings(handlers.leaks):
        sandboxes: set[str] = set()
        calls = failures = 0
        while len(sandboxes) < 4 and calls < 1_000:
            calls += 1
            outcome = arena.runtime.try_invoke(handlers.leaks, 8 * MB)
            if outcome.error is None:
                sandboxes.add(outcome.value["sandbox"])
                # A look every 50 ms, and a call takes some 2 ms; the kernel would refuse at 1,280 MB.
                assert outcome.value["held"] * 8 <= 800
            else:  # the watch looked while a call was at it
                assert type(outcome.error) is OutOfMemory, repr(outcome.error)
                failures += 1
        assert len(sandboxes) >= 4
        assert failures <= 4


@pytest.mark.parametrize(("children", "size"), [(4, 60 * MB), (12, 20 * MB)])
def test_children_that_are_each_under_the_limit_count_together(arena: Arena, children: int, size: int) -> None:
    arena.attack(handlers.forks_hoarders, OutOfMemory, event={"children": children, "bytes": size}, within=3.0)


def test_children_share_what_they_inherited(arena: Arena) -> None:
    """Ten idle children of an interpreter of 15 MB are not out of memory: shared pages are counted once."""
    event = {"children": 10, "bytes": 0}
    with arena.surroundings(handlers.forks_hoarders_briefly):
        assert arena.runtime.invoke(handlers.forks_hoarders_briefly, event) == 10
