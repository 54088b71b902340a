"""A sandbox may die at any step of an exchange: its own call bears it, and no neighbour notices."""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e2e import handlers
from e2e.crashing import crash, dies_in_init, victim
from e2e.tools import assert_settled, eventually
from pyfaas import BadResponse, InitFailed, Outcome, Runtime, SandboxDied
from pyfaas._sandbox import protocol

LARGE = "x" * 2_000_000

INSIDE = (
    "in the handler",
    "by a fault",
    "hanging up",
    "in the answer's header",
    "in the answer",
    "in a large answer",
    "after the answer",
    "after two answers",
    "with an answer that is not JSON",
    "some time after the answer",
)
STEPS = (*INSIDE, "in the init", "killed at any moment", "killed in a large event", "killed while idle", "in a stream")
ANSWERED = ("after the answer", "after two answers", "some time after the answer")


@contextmanager
def killed_in(runtime: Runtime, seconds: float) -> Iterator[None]:
    """Kill the victim's sandbox from outside, some time from now; leave once it is dead."""
    killed = []

    def kill() -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        for sandbox in tuple(runtime._pool.running):
            pid = sandbox.pid  # once: it is -1 as soon as the sandbox is closed, and -1 would be every process
            if sandbox.shelf is not None and sandbox.shelf.function is victim and pid > 0:
                try:
                    os.kill(pid, 9)
                except OSError:
                    continue
                killed.append(sandbox)

    thread = threading.Thread(target=kill)
    thread.start()
    yield
    thread.join()
    for sandbox in killed:  # struck just after it was given back, it would take the event of the next call along
        eventually(sandbox.is_gone)


def kill_idle(runtime: Runtime) -> None:
    for sandbox in tuple(runtime._pool.ledger.shelves[victim].idle):
        pid = sandbox.pid
        assert pid > 0  # -1 would be every process
        os.kill(pid, 9)
        eventually(sandbox.is_gone)


def assert_died(outcome: Outcome, step: str) -> None:
    expected = (SandboxDied, BadResponse, InitFailed)
    assert isinstance(outcome.error, expected), f"{step}: {outcome}"


def inject(runtime: Runtime, step: str, value: int) -> int:
    """Let a sandbox die at this step, check what its caller sees, and tell how many died."""
    if step in INSIDE:
        outcome = runtime.try_invoke(crash, {"step": step, "value": value})
        if outcome.ok:
            assert step in ANSWERED, outcome
            assert outcome.value == value
        elif step not in ANSWERED:
            assert_died(outcome, step)
        else:  # the death of the call before, which had its answer, may still be found out by this one
            assert_died(outcome, step)
        return 1
    if step == "in the init":
        assert_died(runtime.try_invoke(dies_in_init, 1), step)
        return 1
    if step == "in a stream":
        events: list[dict[str, Any]] = [{"step": INSIDE[n % 7] if n % 5 == 2 else "", "value": n} for n in range(25)]
        runtime._pool.retire(crash)  # one that is to die after an answer would be taken for the first of these
        outcomes = list(runtime.try_map(crash, events))
        for sent, outcome in zip(events, outcomes, strict=True):
            if sent["step"] in ("", *ANSWERED) and outcome.ok:
                assert outcome.value == sent["value"]
            else:
                assert sent["step"], outcome
                assert_died(outcome, sent["step"])
        return 5
    event: Any = LARGE if step == "killed in a large event" else value
    if step == "killed while idle":
        runtime.invoke(victim, event)
        kill_idle(runtime)
        assert runtime.invoke(victim, event) == event  # it takes another one, unseen
        return 1
    with killed_in(runtime, random.random() * (0.02 if event is LARGE else 0.002)):
        outcome = runtime.try_invoke(victim, event)
    if outcome.ok:
        assert outcome.value == event
    else:
        assert_died(outcome, step)
    return 1


@contextmanager
def neighbours(runtime: Runtime) -> Iterator[Counter[str]]:
    """Others who use the same runtime all the time, and must never see anything but their own answers."""
    stop = threading.Event()
    counts: Counter[str] = Counter()
    failed: list[BaseException] = []

    def repeat(name: str, work: Callable[[int], None]) -> Callable[[], None]:
        def run() -> None:
            number = 0
            try:
                while not stop.is_set():
                    work(number)
                    number += 1
                    counts[name] += 1
                    stop.wait(0.001)
            except BaseException as error:
                failed.append(error)

        return run

    def call(number: int) -> None:
        event = {"number": number, "thread": threading.get_ident()}
        assert runtime.invoke(handlers.echo, event) == event

    def stream(number: int) -> None:
        assert list(runtime.map(handlers.async_echo, range(number, number + 40))) == list(range(number, number + 40))

    works = [repeat("call", call), repeat("call too", call), repeat("stream", stream)]
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield counts
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert failed == []


@pytest.mark.parametrize("count", [110, pytest.param(10_000, marks=pytest.mark.long)])
def test_crashes_at_every_step_hurt_no_neighbour(runtime: Runtime, count: int) -> None:
    injected = 0
    with neighbours(runtime) as counts:
        while injected < count:
            for step in STEPS:
                injected += inject(runtime, step, injected)
    assert all(counts[name] > 5 for name in ("call", "call too", "stream")), counts
    assert_settled(runtime)
    assert runtime.invoke(handlers.echo, 1) == 1


def test_the_death_of_the_zygote_costs_the_calls_that_run_and_nothing_after(runtime: Runtime) -> None:
    for _ in range(5):
        runtime.invoke(handlers.echo, 1)
        outcomes: list[Outcome] = []
        thread = threading.Thread(target=lambda: outcomes.append(runtime.try_invoke(handlers.nap, 10)))  # noqa: B023
        thread.start()
        while not any(s.peer.phase == protocol.OPEN for s in tuple(runtime._pool.running)):
            time.sleep(0.001)
        zygote = runtime._pool.zygote().pid
        assert zygote > 0  # -1 would be every process
        os.kill(zygote, 9)
        thread.join(20)
        assert isinstance(outcomes[0].error, SandboxDied)
        assert runtime.invoke(handlers.echo, 2) == 2
        assert list(runtime.map(handlers.echo, range(50))) == list(range(50))
        assert_settled(runtime)
