"""Sandboxes, hosts and zygotes that die at every step of the exchange (cases 45 to 47)."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from attacks import handlers, init_trouble
from attacks.harness import KILL_SECONDS, TESTS, Arena, Namespace, all_pids, below, started_at, stat_of
from pyfaas import InitFailed, Outcome, SandboxDied, TimedOut
from support import SOURCE, is_alive, wait_until

DEATHS = {
    "os._exit(0)": "without providing a reason",
    "os._exit(7)": "exit status 7",
    "SystemExit": "exit status 4",
    "segfault": "signal: segmentation fault",
    "abort": "signal: ",
    "illegal instruction": "signal: illegal instruction",
}
HARD = ("os._exit(0)", "os._exit(7)", "segfault")

send_signal = signal.pidfd_send_signal  # a number may be another's by now, or -1; a pidfd may not

# -- a sandbox ends itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DEATHS)
def test_a_death_in_the_handler_is_told_with_its_reason(arena: Arena, how: str) -> None:
    outcome = arena.attack(handlers.dies, SandboxDied, event={"at": "in the handler", "how": how}, within=KILL_SECONDS)
    assert DEATHS[how] in str(outcome.error)
    assert outcome.error.error_type == "Runtime.ExitError"  # type: ignore[union-attr]


@pytest.mark.parametrize("how", HARD)
@pytest.mark.parametrize(
    "at",
    [
        "while the result is encoded",
        "while the error is told",
        "in the middle of the answer",
        "in the payload of the answer",
        "in a thread",
    ],
)
def test_a_death_on_the_way_to_the_answer_is_a_death(arena: Arena, at: str, how: str) -> None:
    outcome = arena.attack(handlers.dies, SandboxDied, event={"at": at, "how": how}, within=KILL_SECONDS)
    assert DEATHS[how] in str(outcome.error)


@pytest.mark.parametrize("how", DEATHS)
def test_the_death_of_a_child_is_the_handlers_own_business(arena: Arena, how: str) -> None:
    outcome = arena.attack(handlers.dies, event={"at": "in a child", "how": how}, within=KILL_SECONDS)
    assert outcome.value == "the child died"


@pytest.mark.parametrize("how", HARD)
def test_a_death_between_calls_is_not_seen(arena: Arena, tmp_path: Path, how: str) -> None:
    """The next call finds its bytes undelivered and takes another sandbox."""
    when = tmp_path / "when"
    with arena.surroundings(handlers.dies):
        sandbox = arena.idle_sandbox(handlers.dies)
        event = {"at": "between calls", "how": how, "when": str(when)}
        assert arena.runtime.invoke(handlers.dies, event) == "not yet"
        when.touch()
        wait_until(sandbox.is_gone)
        assert arena.runtime.invoke(handlers.dies, handlers.WORK) == handlers.DONE
        assert arena.idle_sandbox(handlers.dies) is not sandbox


@pytest.mark.parametrize("how", init_trouble.DEATHS)
def test_a_death_during_init_is_told_and_the_next_sandbox_is_tried(arena: Arena, how: str) -> None:
    """The first init of each of these functions dies, the second one is the next invocation."""
    function = init_trouble.dies[how]
    with arena.surroundings(function, warm=False):
        began_at = time.monotonic()
        outcome = arena.runtime.try_invoke(function, None)
        assert type(outcome.error) in (SandboxDied, InitFailed), outcome
        assert time.monotonic() - began_at < 2 * KILL_SECONDS
        wait_until(arena.settled_but_for_the_neighbour)


# -- a sandbox is killed from outside ----------------------------------------------------------------------------------


def test_an_idle_sandbox_that_was_killed_is_replaced_unseen(arena: Arena) -> None:
    with arena.surroundings(handlers.dies):
        sandbox = arena.idle_sandbox(handlers.dies)
        send_signal(sandbox.pidfd, signal.SIGKILL)
        wait_until(sandbox.is_gone)
        assert arena.runtime.invoke(handlers.dies, handlers.WORK) == handlers.DONE


def test_a_sandbox_killed_before_it_read_its_event_is_a_death(arena: Arena) -> None:
    """The bytes were delivered, so whether they were read cannot be told: never repeated."""
    with arena.surroundings(handlers.dies):
        sandbox = arena.idle_sandbox(handlers.dies)
        send_signal(sandbox.pidfd, signal.SIGSTOP)
        wait_until(lambda: stat_of(sandbox.pid)[:1] == ["T"])
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(arena.runtime.try_invoke, handlers.dies, handlers.WORK)
            wait_until(lambda: sandbox in arena.pool.running and sandbox.peer.waiting)
            wait_until(lambda: not call.done())
            send_signal(sandbox.pidfd, signal.SIGKILL)
            outcome = call.result(10)
        assert outcome.error is None or type(outcome.error) is SandboxDied
        if outcome.error is None:  # it was killed before a byte was sent
            assert arena.idle_sandbox(handlers.dies) is not sandbox


def test_a_sandbox_killed_in_its_handler_is_a_death(arena: Arena) -> None:
    with arena.surroundings(handlers.sleeps_long):
        with ThreadPoolExecutor(1) as threads:
            call = threads.submit(arena.runtime.try_invoke, handlers.sleeps_long, handlers.ATTACK)
            sandbox = arena.running_sandbox(handlers.sleeps_long)
            arena.remember(sandbox)
            send_signal(sandbox.pidfd, signal.SIGKILL)
            outcome = call.result(10)
        assert type(outcome.error) is SandboxDied
        assert "signal: killed" in str(outcome.error)
        arena.assert_gone(sandbox)


def test_a_sandbox_stopped_from_outside_is_killed_at_its_time_out(arena: Arena) -> None:
    with arena.surroundings(handlers.busy_loop):
        sandbox = arena.idle_sandbox(handlers.busy_loop)
        arena.remember(sandbox)
        send_signal(sandbox.pidfd, signal.SIGSTOP)
        began_at = time.monotonic()
        outcome = arena.runtime.try_invoke(handlers.busy_loop, handlers.WORK)
        assert type(outcome.error) is TimedOut
        assert 0.3 <= time.monotonic() - began_at <= 0.3 + KILL_SECONDS
        arena.assert_gone(sandbox)


@pytest.mark.parametrize("count", [24, pytest.param(10_000, marks=pytest.mark.long)])
def test_deaths_at_every_step_in_a_row_hurt_no_neighbour(arena: Arena, count: int) -> None:
    """Between each two of them works an innocent call of the same function."""
    steps = [
        {"at": at, "how": how}
        for how in HARD
        for at in ("in the handler", "while the result is encoded", "while the error is told", "in a thread")
    ]
    with arena.surroundings(handlers.dies):
        for number in range(count):
            outcome = arena.runtime.try_invoke(handlers.dies, steps[number % len(steps)])
            assert type(outcome.error) is SandboxDied, (steps[number % len(steps)], outcome)
            if number % 5 == 0:
                assert arena.runtime.invoke(handlers.dies, handlers.WORK) == handlers.DONE


@pytest.mark.parametrize("count", [210, pytest.param(3_000, marks=pytest.mark.long)])
def test_in_a_stream_a_death_costs_its_own_event_only(arena: Arena, count: int) -> None:
    deadly = {"at": "in the handler", "how": "os._exit(7)"}
    events: list[Any] = [deadly if number % 7 == 3 else handlers.WORK for number in range(count)]
    with arena.surroundings(handlers.dies):
        outcomes = list(arena.runtime.try_map(handlers.dies, events))
    assert [type(outcome.error) for outcome in outcomes] == [
        SandboxDied if event is deadly else type(None) for event in events
    ]


def test_a_sandbox_killed_between_two_events_of_a_stream_is_replaced_unseen(arena: Arena) -> None:
    """Nothing had reached it: its events go elsewhere."""

    def events() -> Iterator[str]:
        yield handlers.WORK
        for sandbox in tuple(arena.pool.running):
            if sandbox.shelf.function is handlers.dies:
                send_signal(sandbox.pidfd, signal.SIGKILL)
                wait_until(sandbox.is_gone)
        yield from [handlers.WORK] * 5

    with arena.surroundings(handlers.dies):
        assert list(arena.runtime.map(handlers.dies, events())) == [handlers.DONE] * 6


# -- the host is killed ------------------------------------------------------------------------------------------------

HOST = """
    import sys, threading, time
    sys.path.insert(0, {tests!r})
    from attacks import handlers
    from pyfaas import Runtime

    runtime = Runtime().open()
    runtime.invoke(handlers.daemonises, "attack")
    runtime.invoke(handlers.busy_loop, "work")
    for function in (handlers.sleeps_long, handlers.spins_long, handlers.forks_hoarders):
        event = {{"children": 3, "bytes": 0}}
        threading.Thread(target=runtime.try_invoke, args=(function, event), daemon=True).start()
    while len(runtime._pool.running) < 3 or not all(one.pid > 0 for one in runtime._pool.running):
        time.sleep(0.001)
    print(runtime._pool.supply.zygote().pid, flush=True)
    time.sleep(3600)
"""


@pytest.fixture
def host(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A host of its own, with idle sandboxes, busy ones, sleeping ones, and daemons in them."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(SOURCE), os.environ.get("PYTHONPATH", "")]),
        "TMPDIR": str(tmp_path),
    }
    program = textwrap.dedent(HOST.format(tests=str(TESTS)))
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        yield process
        process.kill()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_one_second_after_the_host_was_killed_nothing_of_it_lives(
    arena: Arena, host: subprocess.Popen[str], number: signal.Signals
) -> None:
    """Zygote, idle and busy sandboxes, forks, daemons in sessions of their own."""
    assert host.stdout is not None
    zygote = int(host.stdout.readline())
    # Five sandboxes, the daemon, three forked children; a standby may be on its way.
    wait_until(lambda: len(below(zygote)) >= 5 + 1 + 3)
    processes = {pid: started_at(pid) for pid in (zygote, *below(zygote))}
    namespaces = [Namespace(pid) for pid in processes] if arena.confined else []
    host.send_signal(number)
    killed_at = time.monotonic()
    wait_until(lambda: not any(started and started_at(pid) == started for pid, started in processes.items()), 1.0)
    assert time.monotonic() - killed_at <= 1.0
    assert not arena.confined or len({namespace.name for namespace in namespaces}) >= 6  # zygote's and sandboxes'
    assert [pid for namespace in namespaces for pid in namespace.living()] == []
    for namespace in namespaces:
        namespace.close()


AT_WORK = """
from pyfaas import Runtime, function
import threading

def nap(event):
    import os, time
    if os.fork() == 0:
        os.setsid()
        time.sleep(3600)
    time.sleep(event)

if __name__ == "__main__":
    nap = function(timeout=60)(nap)
    runtime = Runtime().open()
    for _ in range(3):
        threading.Thread(target=runtime.try_invoke, args=(nap, 30.0), daemon=True).start()
    while True:
        runtime.try_invoke(nap, 0.002)
"""


def _bear(mark: str) -> list[int]:
    """Give the processes that are alive and bear a mark in their command line, which forks inherit."""
    found = []
    for pid in all_pids():
        with contextlib.suppress(OSError):
            if mark in Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace") and started_at(pid):
                found.append(pid)
    return found


@pytest.mark.parametrize("rounds", [4, pytest.param(300, marks=pytest.mark.long)])
def test_a_host_killed_at_any_moment_leaves_nothing(tmp_path: Path, rounds: int) -> None:
    """From the interpreter's start to calls in flight: one second later nobody lives, and no directory is kept open."""
    link = tmp_path / "the-source"
    link.symlink_to(SOURCE)
    program = tmp_path / "at_work.py"
    program.write_text(AT_WORK)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(link), os.environ.get("PYTHONPATH", "")])}
    for number in range(rounds):
        with subprocess.Popen(
            [sys.executable, str(program)], env={**environment, "TMPDIR": str(tmp_path)}, stderr=subprocess.DEVNULL
        ) as host:
            time.sleep(0.6 * (number + 0.5) / rounds)  # the moment, nothing to wait for
            host.kill()
        wait_until(lambda: not _bear(str(link)), 1.0)


# -- the zygote is killed ----------------------------------------------------------------------------------------------


def _kill_zygote(arena: Arena) -> int:
    """By its pidfd: a pid of -1, once it is gone, would mean every process there is."""
    zygote = arena.pool.supply.zygote()
    pid = zygote.pid
    send_signal(zygote._pidfd, signal.SIGKILL)
    return pid


def test_calls_in_flight_when_the_zygote_is_killed_get_sandbox_died(own_arena: Arena) -> None:
    arena = own_arena
    count = 4
    with ThreadPoolExecutor(count) as threads:
        calls = [threads.submit(arena.runtime.try_invoke, handlers.sleeps_long, handlers.ATTACK) for _ in range(count)]
        wait_until(lambda: sum(sandbox.pid > 0 for sandbox in tuple(arena.pool.running)) == count)
        killed_at = time.monotonic()
        zygote = _kill_zygote(arena)
        outcomes: list[Outcome] = [call.result(10) for call in calls]
        assert time.monotonic() - killed_at < KILL_SECONDS
    assert [type(outcome.error) for outcome in outcomes] == [SandboxDied] * count
    assert not is_alive(zygote)
    began_at = time.monotonic()
    assert arena.runtime.invoke(handlers.sleeps_long, handlers.WORK) == handlers.DONE
    assert time.monotonic() - began_at < 2.0  # a promise of 100 ms stands in the benchmarks
    arena.wait_until_settled()


def test_idle_sandboxes_are_replaced_unseen_after_the_zygote_was_killed(own_arena: Arena) -> None:
    arena = own_arena
    idle = [arena.warm(function) for function in (handlers.dies, handlers.busy_loop, handlers.sleeps)]
    zygote = _kill_zygote(arena)
    wait_until(lambda: not is_alive(zygote) and all(sandbox.is_gone() for sandbox in idle))
    for function in (handlers.dies, handlers.busy_loop, handlers.sleeps):
        assert arena.runtime.invoke(function, handlers.WORK) == handlers.DONE
    assert arena.pool.supply.zygote().pid != zygote
    arena.wait_until_settled()


def test_a_stream_goes_on_after_the_zygote_was_killed(own_arena: Arena) -> None:
    arena = own_arena
    stream = arena.runtime.try_map(handlers.dies, [handlers.WORK] * 300)
    outcomes = [next(stream) for _ in range(3)]
    zygote = _kill_zygote(arena)
    wait_until(lambda: not is_alive(zygote))
    outcomes += stream
    assert len(outcomes) == 300
    died = [outcome for outcome in outcomes if outcome.error is not None]
    assert {type(outcome.error) for outcome in died} <= {SandboxDied}
    assert len(died) <= 4  # the event that each of its sandboxes was at
    arena.wait_until_settled()


def test_a_fork_that_the_killed_zygote_never_made_is_made_by_the_next(own_arena: Arena) -> None:
    """The request lies unread with a zygote that is stopped, then killed: it is repeated, the caller has its value."""
    arena = own_arena
    arena.runtime.invoke(handlers.neighbour, {})
    arena.wait_until_settled()
    _use_up_standby(arena)
    zygote = arena.pool.supply.zygote()
    send_signal(zygote._pidfd, signal.SIGSTOP)
    wait_until(lambda: stat_of(zygote.pid)[:1] == ["T"])
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(arena.runtime.try_invoke, handlers.busy_loop, handlers.WORK)
        wait_until(lambda: any(sandbox.shelf.function is handlers.busy_loop for sandbox in tuple(arena.pool.running)))
        send_signal(zygote._pidfd, signal.SIGKILL)
        assert call.result(10).value == handlers.DONE
    arena.wait_until_settled()


def _use_up_standby(arena: Arena) -> None:
    with arena.pool.supply._lock:
        zygote = arena.pool.supply.zygote()
        standby, zygote.spare = zygote.spare, None
    if standby is not None:
        arena.pool.supply.retire(standby)
    arena.wait_until_settled()


@pytest.mark.parametrize("rounds", [15, pytest.param(700, marks=pytest.mark.long)])
def test_a_zygote_killed_at_any_moment_of_a_fork_loses_no_call_that_had_not_begun(
    own_arena: Arena, rounds: int
) -> None:
    """Cold calls and kills race; every call has its value, or died with its sandbox, and the next one works."""
    arena = own_arena
    for number in range(rounds):
        arena.runtime.invoke(handlers.neighbour, {})
        arena.pool.retire(handlers.dies)
        started = threading.Event()

        def call(started: threading.Event = started) -> Outcome:
            started.set()
            return arena.runtime.try_invoke(handlers.dies, handlers.WORK)

        with ThreadPoolExecutor(1) as threads:
            arena.pool.supply.zygote()
            future = threads.submit(call)
            started.wait()
            _spin(number % 50 * 0.0003)
            zygote = _kill_zygote(arena)
            outcome = future.result(20)
        assert outcome.error is None or type(outcome.error) is SandboxDied, repr(outcome.error)
        wait_until(partial(_is_dead, zygote))
        assert arena.runtime.invoke(handlers.dies, handlers.WORK) == handlers.DONE
    arena.runtime.invoke(handlers.neighbour, {})  # the pool may still take its dead sandbox for an idle one
    arena.wait_until_settled()


def _is_dead(pid: int) -> bool:
    return not is_alive(pid)


def _spin(seconds: float) -> None:
    """Let a moment pass, another one in each round."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass
