"""Keep-alive policies with real sandboxes: which one goes, which one is made before anybody calls."""

from __future__ import annotations

import time
from typing import Any

import pytest

import handlers
from pyfaas import FixedTime, GreedyDual, HybridHistogram, Runtime, TimedOut, function
from pyfaas._pool.rounds import Rounds
from support import wait_until


def test_a_sandbox_that_is_kept_for_ever_is_watched_all_the_same() -> None:
    @function(timeout=0.2)
    def hang(event: Any) -> None:
        import time

        time.sleep(event)

    with Runtime(keep_alive=float("inf")) as runtime:
        runtime.invoke(hang, 0)
        wait_until(lambda: bool(runtime._pool.watch and runtime._pool.watch.parked))
        with pytest.raises(TimedOut):
            runtime.invoke(hang, 30)
        wait_until(lambda: runtime.function_statistics(hang).live == 0)


def test_seconds_are_short_for_a_fixed_time() -> None:
    with Runtime(keep_alive=FixedTime(0.05)) as runtime:
        assert runtime.invoke(handlers.echo, 1) == 1
        wait_until(lambda: runtime.function_statistics(handlers.echo).live == 0)


def test_a_function_that_is_called_regularly_has_its_sandbox_made_ahead_and_let_go() -> None:
    policy = HybridHistogram(bin_seconds=0.02, samples=3, variation=0, worth=float("inf"))
    with Runtime(keep_alive=policy) as runtime:
        for _ in range(5):
            time.sleep(0.25)  # what is learned
            evicted = runtime.statistics().evicted
            runtime.invoke(handlers.echo, 1)

        made = runtime.function_statistics(handlers.echo).cold_starts
        wait_until(lambda: runtime.statistics().evicted >= evicted + 2)  # the one that was called, and one after it
        wait_until(lambda: runtime.function_statistics(handlers.echo).live == 0)
        assert runtime.function_statistics(handlers.echo).cold_starts == made, "nobody waited for it"
        assert runtime.invoke(handlers.echo, 2) == 2


def test_under_pressure_greedy_dual_keeps_what_starts_slowly() -> None:
    class Late:
        def __reduce__(self) -> Any:
            return (time.sleep, (0.3,))

    late = Late()

    @function
    def slow(event: Any) -> bool:
        return late is None

    with Runtime(keep_alive=GreedyDual()) as runtime:
        runtime.invoke(slow, 1)
        runtime.invoke(handlers.echo, 1)
        runtime.invoke(handlers.echo, 2)
        Rounds(runtime._pool).relieve()
        assert runtime.function_statistics(slow).live == 1
        assert runtime.function_statistics(handlers.echo).live == 0
