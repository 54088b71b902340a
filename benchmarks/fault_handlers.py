"""
What goes wrong, as handlers: plain ones for the pools, and the same declared for pyfaas.

A handler that would run for ever writes heartbeats to a file, by which the host sees that it runs, wherever it runs;
it gives up after 20 s, so that nothing is left of a pool that did not stop it.
"""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from pyfaas import Function, function

PLACE = os.environ.get("PYFAAS_FAULTS_PLACE", "/nowhere")
MEMORY_MB, EATEN_MB = 200, 800
GIVE_UP_SECONDS = 20.0


def echo(event: Any) -> Any:
    """Give it back."""
    return event


def nap(seconds: float) -> float:
    """Be a neighbour who is at work."""
    time.sleep(seconds)
    return seconds


def heartbeat(path: str) -> None:
    """Run on and on."""
    until = time.monotonic() + GIVE_UP_SECONDS
    while time.monotonic() < until:
        with open(path, "ab") as file:
            file.write(b".")
        time.sleep(0.01)


def leave_a_grandchild(path: str) -> None:
    """Start a process that leaves the family, and hang."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            heartbeat(path)
        os._exit(0)
    time.sleep(GIVE_UP_SECONDS)


def eat(_: Any) -> int:
    """Hold far more memory than it should."""
    held = [bytearray(os.urandom(1024)) * 1024 for _ in range(EATEN_MB)]
    time.sleep(0.5)
    return len(held)


def crash(_: Any) -> None:
    """Die as native code does."""
    ctypes.string_at(0)


class Trap:
    """What comes back runs code where it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.path,)


def return_a_trap(path: str) -> Any:
    """Give back what runs code in the host."""
    return Trap(path)


def tell_secret(name: str) -> str | None:
    """Read a variable of the host."""
    return os.environ.get(name)


def read_file(path: str) -> str:
    """Read a file of the host."""
    with open(path) as file:
        return file.read()


PLAIN = (echo, nap, heartbeat, leave_a_grandchild, eat, crash, return_a_trap, tell_secret, read_file)


def declare(timeout: float) -> dict[str, Function[Any, Any]]:
    """Give the same handlers as functions; those that write heartbeats may write there."""
    writing = (heartbeat, leave_a_grandchild)
    return {
        one.__name__: function(timeout=timeout, memory=MEMORY_MB, writes=[PLACE] if one in writing else [])(one)
        for one in PLAIN
    }
