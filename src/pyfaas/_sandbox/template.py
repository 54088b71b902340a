"""
The host's handle of a template: a sandbox that has run its function's init, and forks others. (snap start)

    spawn ──► the zygote makes a slot's directories ──► the template forks ──► HELLO, with a pidfd
    reap  ──► the template, which is their parent

A template has run untrusted code. It is told what to fork and asked how that ended; what it says is data, and what it
could lie about is looked up: a pidfd that comes with a HELLO must be of the first process of a namespace of its own,
whose parent is the template. Where it is not, or no answer comes, all of it is killed.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading

from pyfaas._sandbox import control
from pyfaas._sandbox.parent import Zygote, ZygoteDied, pid_of
from pyfaas._sandbox.sandbox import Sandbox
from pyfaas._sandbox.vitals import children_of, memory_of

ANSWER_SECONDS = 0.5
ROGUE_SECONDS = 15.0


class Template(Zygote):
    """A template that runs; ``keeper`` is the worker that it lives below, and whose end is its own."""

    untrusted = True

    def __init__(self, keeper: Sandbox, size_mb: int, said: bytes) -> None:
        self._lock = threading.Lock()
        self._pidfd = -1
        self._process = None
        self._control = keeper.channel.sock
        self._size_mb = size_mb
        self._pids: dict[int, int] = {}  # a sandbox's number -> its pid, of those that said hello
        self._seen: dict[int, float] = {}  # of processes that said none, and since when
        self._pid = _second_of(keeper.pid)
        self.keeper = keeper
        self.said = said  # what init wrote, until a first sandbox tells it
        self.trunk = keeper.zygote
        self.mark = self.trunk.mark
        self.search_path = self.trunk.search_path
        self.host = self.trunk.host

    def spawn(self, number: int, wire: socket.socket, log: int, slot: str = "") -> None:
        """Ask for a sandbox at the other end of this socket. Raises ZygoteDied."""
        if self.keeper.dying:
            raise ZygoteDied("the template was killed")
        if self.said:
            said, self.said = self.said, b""
            with contextlib.suppress(OSError):
                os.write(log, said)
        wanted = {"number": number, "slot": slot, "size_mb": self._size_mb, "uid": self.keeper.uid}
        self.trunk.spawn_from(self._control, wanted, wire, log)

    def vouches_for(self, number: int, pidfd: int) -> bool:
        """Tell whether this is a sandbox that the template forked, and none that is known already."""
        pid = pid_of(pidfd)
        numbers, parent = _names(pid)
        if pid > 0 and numbers[-1:] == ["1"] and parent == self._pid and pid not in self._pids.values():
            self._pids[number] = pid
            return pid_of(pidfd) == pid
        self.distrust()
        return False

    def distrust(self) -> None:
        """After any doubt: kill it, and with it every sandbox that it forked."""
        self.keeper.kill()

    def reap(self, number: int) -> tuple[int, int]:
        """Ask how a sandbox ended that is known to be gone. Raises ZygoteDied; one that does not answer is dead."""
        self._pids.pop(number, None)
        with self._lock:
            try:
                self._control.settimeout(ANSWER_SECONDS)
                self._control.sendall(control.MESSAGE.pack(control.REAP, number))
                answered = -1
                while answered != number:
                    answered, told, value = control.REPLY.unpack(self._read(control.REPLY.size))
            except OSError as error:
                self.distrust()
                raise ZygoteDied(str(error)) from error
        return told, value

    def has_rogues(self, now: float) -> bool:
        """Tell of processes below the template that have been there for long and never said which sandbox they are."""
        known = set(self._pids.values())
        self._seen = {pid: self._seen.get(pid, now) for pid in children_of(self._pid) if pid not in known}
        return any(now - since > ROGUE_SECONDS for since in self._seen.values())

    def memory(self) -> int:
        """Tell what it holds, and whatever it has started beside its sandboxes, in bytes."""
        return memory_of(self._pid, self.keeper.limit_bytes, without=set(self._pids.values()))

    @property
    def pid(self) -> int:
        """Its pid as the host sees it."""
        return self._pid

    def preload(self, modules: object) -> None:
        """What a template has imported, it has."""

    def is_gone(self) -> bool:
        """Tell whether it is dead, or about to be."""
        return self.keeper.dying or super().is_gone()

    def close(self) -> None:
        """End it, and with it every sandbox that it forked."""
        self.keeper.kill()

    def abandon(self) -> None:
        """In a forked child of the host: its keeper closes the copies."""


def _second_of(keeper: int) -> int:
    """Find the template: process 2 of the nest whose first one is the keeper's child; -1 if it is gone."""
    for first in children_of(keeper):
        for pid in children_of(first):
            numbers, _ = _names(pid)
            if numbers[-1:] == ["2"]:
                return pid
    return -1


def _names(pid: int) -> tuple[list[str], int]:
    """Give the numbers of a process in all its namespaces, from ours on, and its parent's in ours."""
    numbers: list[str] = []
    parent = -1
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{pid}/status") as status:
        for line in status:
            if line.startswith("NSpid:"):
                numbers = line.split()[1:]
            elif line.startswith("PPid:"):
                parent = int(line.split()[1])
    return numbers, parent
