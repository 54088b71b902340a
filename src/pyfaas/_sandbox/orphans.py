"""
Reaping between calls: what the handler's children left behind, never the children that the handler still waits for.

The worker is PID 1 of its namespace, so everything orphaned in it becomes its child. Zombies that its own ``fork``,
``posix_spawn`` or ``subprocess`` returned belong to the handler; the others are orphans, and nobody else can reap them.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from pyfaas._sandbox import forking

REAP_SECONDS = 0.1


class Orphans:
    """Knows the handler's own children by number, and reaps the rest now and then."""

    __slots__ = ("_next_at", "own")

    def __init__(self) -> None:
        self.own: set[int] = set()
        self._next_at = 0.0

    def watch_own_children(self) -> None:
        """Note what the ways of starting a process return."""
        import _posixsubprocess

        for module, name in (
            (os, "fork"),
            (os, "forkpty"),
            (os, "posix_spawn"),
            (os, "posix_spawnp"),
            (_posixsubprocess, "fork_exec"),
        ):
            if hasattr(module, name):
                setattr(module, name, self._noting(getattr(module, name)))
        subprocess = sys.modules.get("subprocess")
        if hasattr(subprocess, "_fork_exec"):
            subprocess._fork_exec = _posixsubprocess.fork_exec  # type: ignore[union-attr]

    def _noting(self, start: Callable[..., Any]) -> Callable[..., Any]:
        def noting(*arguments: Any, **options: Any) -> Any:
            forking.hand_over()
            result = start(*arguments, **options)
            pid = result[0] if isinstance(result, tuple) else result
            if pid:
                self.own.add(pid)
            return result

        return noting

    def reap(self) -> None:
        """Reap orphans, at most ten times a second; a look costs a system call."""
        now = time.monotonic()
        if now < self._next_at:
            return
        self._next_at = now + REAP_SECONDS
        try:
            while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if found.si_pid in self.own:
                    self._reap_behind()
                    return
                os.waitpid(found.si_pid, os.WNOHANG)
        except OSError:  # no children at all
            self.own.clear()

    def _reap_behind(self) -> None:
        """Go through all children: a zombie that is the handler's own hides the others from ``waitid``."""
        self.own = {pid for pid in self.own if _is_child(pid)}
        for pid in _children():
            if pid not in self.own:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except OSError:
        return False
    return True


def _children() -> list[int]:
    """Give the numbers of this process's children in its own namespace (/proc counts in the host's)."""
    numbers = []
    with contextlib.suppress(OSError):
        with open("/proc/thread-self/children") as file:
            outer = file.read().split()
        for pid in outer:
            with open(f"/proc/{pid}/status") as file:
                line = next((line for line in file if line.startswith("NSpid:")), "NSpid: 0")
            numbers.append(int(line.split()[-1]))
    return numbers
