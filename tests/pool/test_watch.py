"""The watch: it owns every deadline, looks at long calls, and sleeps when nothing runs."""

from __future__ import annotations

import threading
import time
from typing import Any

import handlers
from pyfaas import Function, OutOfMemory, Runtime, SandboxDied, TimedOut, function
from support import is_alive, wait_until


def parked(runtime: Runtime) -> bool:
    return bool(runtime._pool.watch.parked)


def test_it_starts_with_the_first_call_and_ends_with_the_runtime() -> None:
    def watches() -> int:
        return sum(thread.name == "pyfaas-watch" for thread in threading.enumerate())

    before = watches()
    with Runtime() as runtime:
        assert watches() == before
        runtime.invoke(handlers.echo, 1)
        assert watches() == before + 1
    assert watches() == before


def test_an_idle_runtime_wakes_up_no_more(runtime: Runtime) -> None:
    """No tick, no poll: nothing before the next expiry, which is minutes away."""
    runtime.invoke(handlers.echo, 1)
    wait_until(lambda: runtime.statistics().standby == 1)
    wait_until(lambda: parked(runtime))
    wakeups = runtime._pool.watch.wakeups
    time.sleep(0.4)  # eight ticks, if it ticked
    assert runtime._pool.watch.wakeups == wakeups
    assert runtime.invoke(handlers.echo, 2) == 2


def test_after_a_rest_calls_are_watched_again(runtime: Runtime) -> None:
    runtime.invoke(handlers.echo, 1)
    wait_until(lambda: parked(runtime))
    assert isinstance(runtime.try_invoke(handlers.hang, None).error, TimedOut)


def test_memory_of_a_call_that_runs_is_held(runtime: Runtime) -> None:
    def grow(event: Any) -> None:
        import time

        kept = bytearray(b"x") * (250 << 20)
        time.sleep(30)
        del kept

    declared: Function[Any, Any] = function(memory=128, timeout=60)(grow)
    began = time.monotonic()
    assert isinstance(runtime.try_invoke(declared, None).error, OutOfMemory)
    assert time.monotonic() - began < 10


def test_memory_that_a_call_leaves_behind_costs_its_sandbox(runtime: Runtime) -> None:
    """A call that is over is not taken back; the sandbox is."""

    def keep(event: int) -> int:
        import sys
        import time

        sys.__dict__.setdefault("kept", []).append(bytearray(b"x") * (event << 20))
        time.sleep(0.06 if event else 0)
        return len(sys.__dict__["kept"])

    declared = function(keep)
    assert runtime.invoke(declared, 0) == 1
    outcome = runtime.try_invoke(declared, 300)
    assert outcome.ok or isinstance(outcome.error, OutOfMemory)
    wait_until(lambda: runtime.function_statistics(declared).live == 0)
    assert runtime.invoke(declared, 0) == 1


def test_memory_of_children_counts(runtime: Runtime) -> None:
    def grow(event: Any) -> None:
        import os
        import time

        for _ in range(4):
            if os.fork() == 0:
                kept = bytearray(b"x") * (50 << 20)
                time.sleep(30)
                del kept
        time.sleep(30)

    declared: Function[Any, Any] = function(memory=128, timeout=60)(grow)
    assert isinstance(runtime.try_invoke(declared, None).error, OutOfMemory)


def test_cpu_time_of_all_threads_and_children_counts(runtime: Runtime) -> None:
    def burn(event: Any) -> None:
        import os
        import time

        if os.fork() == 0:
            while True:
                pass
        time.sleep(30)

    declared: Function[Any, Any] = function(cpu_seconds=0.3, timeout=30)(burn)
    error = runtime.try_invoke(declared, None).error
    assert isinstance(error, SandboxDied)
    assert "CPU time limit exceeded" in error.message


def test_cpu_time_is_counted_for_each_call_anew(runtime: Runtime) -> None:
    def burn(event: float) -> float:
        import time

        until = time.process_time() + event
        while time.process_time() < until:
            pass
        return event

    declared: Function[Any, Any] = function(cpu_seconds=0.6, timeout=30)(burn)
    assert [runtime.invoke(declared, 0.2) for _ in range(5)] == [0.2] * 5


def test_a_deadline_holds_where_the_caller_reads_nothing(runtime: Runtime) -> None:
    """A stream that nobody takes from: the watch ends what runs too long."""
    declared: Function[Any, Any] = function(timeout=0.3)(handlers.do_as_told)
    stream = runtime.try_map(declared, [{"what": "return", "number": 1}, {"what": "hang", "number": 2}])
    next(stream)
    (sandbox,) = runtime._pool.running
    pid = sandbox.pid
    assert is_alive(pid)
    wait_until(lambda: not is_alive(pid), 15)
    assert isinstance(next(stream).error, TimedOut)


def test_a_sandbox_that_another_thread_has_just_closed_holds_nothing(runtime: Runtime) -> None:
    runtime.invoke(handlers.echo, 1)
    (sandbox,) = runtime._pool.ledger.shelves[handlers.echo].idle
    wait_until(lambda: sandbox.measured_at > 0)
    runtime.close()
    assert not sandbox.is_open
    assert sandbox.measure(time.monotonic()) == 0
    assert sandbox.is_gone()
