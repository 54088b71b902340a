"""Handlers that take all the time there is (cases 1 to 9)."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from attacks import handlers, init_trouble
from attacks.harness import KILL_SECONDS, Arena
from pyfaas import SandboxDied, TimedOut, function, limits
from support import wait_until

TIMEOUT = 0.3


def test_a_busy_loop_is_killed_at_its_time_out(arena: Arena) -> None:
    outcome = arena.attack(handlers.busy_loop, TimedOut, after=TIMEOUT)
    assert outcome.report.status == "timeout"
    assert arena.held("time-out") == ("held by the kernel" if arena.confined else "watched")


def test_a_handler_that_travelled_by_value_is_killed_as_well(arena: Arena) -> None:
    work, done = handlers.WORK, handlers.DONE

    @function(timeout=TIMEOUT)
    def local(event: Any) -> Any:
        while event != work:
            pass
        return done

    arena.attack(local, TimedOut, after=TIMEOUT)


def test_a_sleeper_is_killed_at_its_time_out(arena: Arena) -> None:
    arena.attack(handlers.sleeps, TimedOut, after=TIMEOUT)


def test_ignoring_every_signal_does_not_help(arena: Arena) -> None:
    arena.attack(handlers.ignores_signals, TimedOut, after=TIMEOUT)


@pytest.mark.parametrize("how", ["ctypes", "ctypes, holding the interpreter's lock", "regular expression", "power"])
def test_a_handler_blocked_in_c_is_killed_at_its_time_out(arena: Arena, how: str) -> None:
    arena.attack(handlers.blocks_in_c, TimedOut, event=how, after=TIMEOUT)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTERM, signal.SIGALRM])
def test_a_sandbox_cannot_stop_or_kill_itself_by_signal(arena: Arena, number: signal.Signals) -> None:
    """It is its PID namespace's init: the kernel drops signals from inside whose default would stop or kill it."""
    if arena.confined:
        outcome = arena.attack(handlers.kills_itself, event=int(number))
        assert outcome.value == "survived"
    elif number == signal.SIGSTOP:
        arena.attack(handlers.kills_itself, TimedOut, event=int(number))
    elif number == signal.SIGTSTP:  # nobody could continue it: its process group is an orphan
        arena.attack(handlers.kills_itself, event=int(number))
    else:
        arena.attack(handlers.kills_itself, SandboxDied, event=int(number))


def test_eight_threads_that_burn_cpu_are_killed_at_their_time_out(arena: Arena) -> None:
    arena.attack(handlers.burns_eight_threads, TimedOut, after=TIMEOUT)


@pytest.mark.parametrize("burns", [handlers.burns_cpu_time, handlers.burns_cpu_time_in_children])
def test_cpu_time_is_held_before_the_time_out(arena: Arena, burns: Any) -> None:
    """Eight threads, or a child that nobody waits for: the CPU time of the tree counts."""
    outcome = arena.attack(burns, SandboxDied, within=5.0)
    assert "CPU time limit exceeded" in str(outcome.error)
    assert arena.held("CPU time") == "watched"


def test_an_init_that_never_ends_is_run_again_under_the_time_out_and_killed(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in AWS: 10 s for init (here less), then once more inside the invocation."""
    monkeypatch.setattr(limits, "INIT_SECONDS", 0.4)
    _let_init_loop(arena, 0.4)


@pytest.mark.long
def test_an_init_that_never_ends_has_ten_seconds(own_arena: Arena) -> None:
    assert limits.INIT_SECONDS == 10
    _let_init_loop(own_arena, limits.INIT_SECONDS)


def _let_init_loop(arena: Arena, init_seconds: float) -> None:
    """The first two inits of this function loop; the third is the next invocation."""
    with arena.surroundings(init_trouble.loops, warm=False):
        began_at = time.monotonic()
        outcome = arena.runtime.try_invoke(init_trouble.loops, None)
        elapsed = time.monotonic() - began_at
        assert type(outcome.error) is TimedOut
        assert init_seconds + TIMEOUT <= elapsed <= init_seconds + TIMEOUT + 2 * KILL_SECONDS
        wait_until(arena.settled_but_for_the_neighbour)
        assert arena.pool.statistics().functions["init-loops"].cold_starts == 2


def test_a_result_that_never_ends_is_killed_at_its_time_out(arena: Arena) -> None:
    arena.attack(handlers.result_never_ends, TimedOut, after=TIMEOUT)


@pytest.mark.parametrize("loops", [handlers.loops_in_finally, handlers.loops_at_exit])
def test_a_loop_on_the_way_out_is_killed_at_its_time_out(arena: Arena, loops: Any) -> None:
    """In a ``finally`` that runs because of SystemExit, and in an ``atexit`` function."""
    arena.attack(loops, TimedOut, after=TIMEOUT)


def test_the_watch_keeps_the_time_where_the_caller_cannot(arena: Arena, signals_every_10_ms: Callable[[], int]) -> None:
    """A receive time-out starts anew after every signal that Python handles; the time-out holds all the same."""
    arena.attack(handlers.busy_loop, TimedOut, after=TIMEOUT)
    assert signals_every_10_ms() > 10


@pytest.mark.anyio
async def test_an_async_caller_is_told_as_soon(arena: Arena) -> None:
    began_at = time.monotonic()
    with pytest.raises(TimedOut):
        await arena.runtime.ainvoke(handlers.busy_loop, handlers.ATTACK)
    assert TIMEOUT <= time.monotonic() - began_at <= TIMEOUT + KILL_SECONDS + 0.5  # it was a cold start
    arena.wait_until_settled()


def test_in_a_stream_only_the_event_that_hung_is_lost(arena: Arena) -> None:
    events = [handlers.WORK] * 5 + [handlers.ATTACK] + [handlers.WORK] * 5
    with arena.surroundings(handlers.busy_loop):
        outcomes = list(arena.runtime.try_map(handlers.busy_loop, events))
    assert [type(outcome.error) for outcome in outcomes] == [type(None)] * 5 + [TimedOut] + [type(None)] * 5


def test_a_slow_reader_of_a_stream_loses_no_event(arena: Arena) -> None:
    """Time that the caller takes between two outcomes is nobody's time-out, whether answers lie unread or not."""
    with arena.surroundings(handlers.busy_loop):
        errors = []
        for outcome in arena.runtime.try_map(handlers.busy_loop, _slowly([handlers.WORK] * 100)):
            errors.append(outcome.error)
            if len(errors) in (10, 60):
                time.sleep(TIMEOUT + 0.1)
    assert errors == [None] * 100


def _slowly(events: list[str]) -> Iterator[str]:
    """Take longer than the time-out in the middle."""
    for number, event in enumerate(events):
        if number == 2:
            time.sleep(TIMEOUT + 0.1)
        yield event
