"""What a tree of processes holds and uses, read from the kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pyfaas._sandbox.vitals import private_bytes, read_vitals, sweep, tree
from support import is_alive, kill, wait_until

MB = 1 << 20


@contextmanager
def process(program: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program that says ``ready`` and then waits."""
    code = f"import os, sys, time\n{program}\nprint('ready', flush=True)\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        try:
            yield child
        finally:
            for pid in tree(child.pid):
                with suppress(ProcessLookupError):
                    kill(pid)


def test_memory_is_what_is_resident() -> None:
    with process("kept = bytearray(b'x') * (100 << 20)") as child:
        assert 100 * MB <= read_vitals(child.pid, 1 << 40).memory_bytes <= 140 * MB
        assert private_bytes(child.pid) >= 100 * MB


def test_memory_that_is_only_reserved_does_not_count() -> None:
    with process("import mmap; kept = mmap.mmap(-1, 1 << 30)") as child:
        assert read_vitals(child.pid, 1 << 40).memory_bytes < 60 * MB


def test_children_of_every_depth_and_thread_count() -> None:
    program = """
import threading
def start():
    if os.fork() == 0:
        if os.fork() == 0:
            kept = bytearray(b'x') * (50 << 20)
            time.sleep(600)
        time.sleep(600)
starter = threading.Thread(target=start)
starter.start()
time.sleep(0)
"""
    with process(program) as child:
        wait_until(lambda: len(tree(child.pid)) == 3)
        wait_until(lambda: read_vitals(child.pid, 1 << 40).memory_bytes > 50 * MB)
        assert read_vitals(child.pid, 1 << 40).processes == 3


def test_pages_that_forks_share_count_once() -> None:
    """Else each of a handler's forks would count the whole interpreter again."""
    program = """
kept = bytearray(b'x') * (60 << 20)
for _ in range(5):
    if os.fork() == 0:
        time.sleep(600)
"""
    with process(program) as child:
        wait_until(lambda: len(tree(child.pid)) == 6)
        assert 60 * MB <= read_vitals(child.pid, 128 * MB).memory_bytes < 128 * MB


def test_cpu_time_is_that_of_all() -> None:
    program = """
started = time.process_time()
if os.fork() == 0:
    while time.process_time() < 0.3: pass
    os._exit(0)
os.wait()
while time.process_time() < 0.2: pass
"""
    with process(program) as child:
        assert 0.4 <= read_vitals(child.pid, 1 << 40).cpu_seconds < 2.0


def test_a_process_that_is_gone_holds_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert read_vitals(child.pid, 1 << 40)[:2] == (0, 0.0)
    assert private_bytes(child.pid) == 0


def test_a_sweep_takes_a_tree_and_a_pid_that_is_none_takes_nobody() -> None:
    """-1 is what a handle says whose process is gone; to ``kill`` it would be every process there is."""
    with process("[time.sleep(600) for _ in range(3) if os.fork() == 0]") as child:
        wait_until(lambda: len(tree(child.pid)) == 4)
        family = tree(child.pid)
        sweep(-1)
        sweep(0)
        assert all(map(is_alive, family))
        sweep(child.pid)
        child.wait(10)
        wait_until(lambda: not any(map(is_alive, family)))


def test_looking_is_quick() -> None:
    """It is done every 50 ms for each long call."""
    began = time.perf_counter()
    for _ in range(100):
        read_vitals(os.getpid(), 1 << 40)
    assert time.perf_counter() - began < 2.0
