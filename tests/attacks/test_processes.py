"""Handlers that start more than they may, or that want to outlive their sandbox (cases 20, 21, 23 to 25)."""

from __future__ import annotations

from typing import Any

import pytest

from attacks import handlers
from attacks.harness import Arena
from pyfaas import SandboxDied, TimedOut, limits
from pyfaas._confine.plan import KERNEL, NOT_HELD, RESERVED_PIDS
from support import wait_until


def _bounded(arena: Arena) -> bool:
    """Whether this host bounds the number of processes; where not, ``confinement()`` must say so and why."""
    held = next(one for one in arena.runtime.confinement() if one.guarantee == "processes")
    if held.held == NOT_HELD:
        assert held.why
        assert not arena.host.pid_max
        return False
    assert held.held == KERNEL
    return True


def test_a_fork_bomb_is_bounded_and_ends_with_its_time_out(arena: Arena) -> None:
    if _bounded(arena):
        arena.attack(handlers.fork_bomb, TimedOut, after=0.5, within=0.5 + 4.0, lingering=5.0)


@pytest.mark.long  # with a thousand sessions each gets as much of the processors as the host does
def test_a_fork_bomb_of_sessions_ends_in_the_end(arena: Arena) -> None:
    if _bounded(arena):
        arena.attack(handlers.fork_bomb_of_sessions, TimedOut, after=0.5, within=60.0, lingering=180.0)


@pytest.mark.long  # what leaves zombies is refused just so
def test_forking_is_refused_beyond_the_limit(arena: Arena) -> None:
    if _bounded(arena):
        outcome = arena.attack(handlers.forks_until_refused)
        assert outcome.value["refused"] == "BlockingIOError"
        # Where RLIMIT_NPROC holds it, it counts the sandboxes of one zygote together.
        most = limits.PROCESSES + (RESERVED_PIDS if arena.host.pid_max else limits.SANDBOXES)
        assert 500 <= outcome.value["children"] <= most


@pytest.mark.parametrize(
    ("daemonises", "error"),
    [(handlers.daemonises_and_hangs, TimedOut), (handlers.daemonises_and_exits, SandboxDied)],
)
def test_a_daemon_in_a_session_of_its_own_ends_with_its_sandbox(arena: Arena, daemonises: Any, error: Any) -> None:
    outcome = arena.attack(daemonises, error)
    assert "the daemon is up" in outcome.log
    assert arena.held("the whole tree dies") == (KERNEL if arena.confined else "watched")


def test_a_program_that_ignores_signals_ends_with_its_sandbox(arena: Arena) -> None:
    outcome = arena.attack(handlers.starts_a_program_and_hangs, TimedOut, after=0.5)
    assert "the program is up" in outcome.log


def test_a_daemon_lives_between_calls_and_ends_with_its_idle_sandbox(arena: Arena) -> None:
    """Background processes are not frozen; retiring the sandbox ends them."""
    arena.runtime.invoke(handlers.neighbour, {})
    with arena.beside_a_neighbour():
        assert arena.runtime.invoke(handlers.daemonises, handlers.ATTACK) == "daemonised"
        arena.remember(arena.idle_sandbox(handlers.daemonises))
        assert arena.runtime.invoke(handlers.daemonises, handlers.WORK) == handlers.DONE
        if arena.confined:
            wait_until(lambda: len(arena.living()) == 2)  # the one between the two ends when it comes to it
        arena.pool.retire(handlers.daemonises)
        wait_until(lambda: not arena.living())
        assert arena.runtime.invoke(handlers.daemonises, handlers.WORK) == handlers.DONE
    arena.wait_until_settled()


@pytest.mark.parametrize("opens", [handlers.opens_files, handlers.opens_sockets])
def test_open_files_run_out_in_the_sandbox_only(arena: Arena, opens: Any) -> None:
    outcome = arena.attack(opens)
    assert outcome.value["refused"] == "Too many open files"
    assert 900 <= outcome.value["opened"] < limits.OPEN_FILES


def test_threads_run_out_in_the_sandbox_only(arena: Arena) -> None:
    if _bounded(arena):
        outcome = arena.attack(handlers.starts_threads, event="and lets go")
        assert outcome.value["refused"] == "RuntimeError"
        most = limits.PROCESSES + (RESERVED_PIDS if arena.host.pid_max else limits.SANDBOXES)
        assert 500 <= outcome.value["threads"] <= most


def test_a_thread_bomb_ends_with_its_time_out(arena: Arena) -> None:
    if _bounded(arena):
        arena.attack(handlers.thread_bomb, TimedOut, after=0.5, within=0.5 + 4.0, lingering=60.0)


def test_zombies_run_out_in_the_sandbox_only(arena: Arena) -> None:
    """Children that the handler started are its own: they wait for its ``wait``, up to the limit of processes."""
    if _bounded(arena):
        outcome = arena.attack(handlers.leaves_zombies, event=3_000)
        assert 500 <= outcome.value["zombies"] <= 3_000
        assert outcome.value["refused"] == "BlockingIOError" or outcome.value["zombies"] == 3_000


def test_thousands_of_orphans_are_reaped_between_calls(arena: Arena) -> None:
    """Zombies that nobody can wait for would fill the sandbox's table of processes within these calls."""
    with arena.surroundings(handlers.leaves_orphans):
        sandbox = arena.idle_sandbox(handlers.leaves_orphans)
        total = 0
        for _ in range(5):
            value = arena.runtime.invoke(handlers.leaves_orphans, 300)
            assert value == {"orphans": 300, "refused": ""}
            total += value["orphans"]

            def nearly_none() -> bool:
                arena.runtime.invoke(handlers.leaves_orphans, handlers.WORK)  # reaping follows an answer
                return arena.zombies_in(sandbox) < 300

            wait_until(nearly_none)
        assert total == 1_500 > limits.PROCESSES + RESERVED_PIDS
        assert arena.idle_sandbox(handlers.leaves_orphans) is sandbox
