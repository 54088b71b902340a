"""A runtime for each attack, and the check that closing it leaves the host as it was."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from attacks.harness import Arena, below, started_at, threads
from pyfaas import Runtime
from support import open_files, wait_until

if sys.platform != "linux":
    collect_ignore_glob = ["test_*.py"]  # what is left of an attack is looked for in Linux's /proc


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """A runtime for all attacks of a file, one after the other: each finds it as the one before has left it."""
    yield from _arena(tmp_path_factory.mktemp("arena"))


@pytest.fixture
def own_arena(tmp_path: Path) -> Iterator[Arena]:
    """A runtime of this attack's own."""
    yield from _arena(tmp_path)


def _arena(directory: Path) -> Iterator[Arena]:
    """When the runtime is closed, no process, no file and no thread of it is left."""
    files, before = len(open_files()), threads()
    with Runtime() as runtime:
        runtime.confinement()
        arena = Arena(runtime, directory)
        yield arena
        arena.forget()
        processes = {pid: started_at(pid) for pid in below(runtime._pool.supply.zygote().pid)}
        patience = 0.0 if arena.confined else 2.0  # a sweep does not wait for those that it killed
    wait_until(lambda: not any(started and started_at(pid) == started for pid, started in processes.items()), patience)
    wait_until(lambda: threads() == before)
    assert len(open_files()) == files, open_files()


@pytest.fixture
def signals_every_10_ms() -> Iterator[Callable[[], int]]:
    """A timer whose handler is Python code; gives a way to count how often it ran."""
    count = 0

    def handle(number: int, frame: object) -> None:
        nonlocal count
        count += 1

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.010, 0.010)
    try:
        yield lambda: count
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
