"""Carries out the steps of a plan, in the worker, before the first byte of user code; standard library only."""

from __future__ import annotations

import os
import resource
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from pyfaas._confine import kernel, landlock, nest, root, seccomp
from pyfaas._confine.plan import Step
from pyfaas._confine.root import Grounds
from pyfaas._confine.view import DEVICES


def _view(
    grounds: Grounds, slot: str, size_mb: int, uid: int, pid_max: int, extra: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    kept = root.is_prepared(slot)
    if not kept:
        root.prepare_slot(slot, size_mb, uid if uid >= 0 else os.geteuid())
    root.enter(grounds, slot, root.Extra(*extra), pid_max)
    if kept:
        root.resize_slot(size_mb)  # it may be that of a standby which died before it was given its function's size
    socket.sethostname("sandbox")


def _resize(_: Grounds, size_mb: int) -> None:
    root.resize_slot(size_mb)


def _no_network(grounds: Grounds) -> None:
    if grounds.network >= 0:
        kernel.setns(grounds.network, kernel.CLONE_NEWNET)  # one for all: to make one takes 0.4 ms
    else:
        kernel.unshare(kernel.CLONE_NEWNET)


def _landlock(
    grounds: Grounds, version: int, network: bool, files: tuple[tuple[str, ...], tuple[str, ...]] | None
) -> None:
    if files is not None:
        reads, writes = files
        files = (*grounds.paths, *DEVICES, "/proc", *reads), (*writes, "/dev/null")
    landlock.restrict(version, network=network, files=files)


def _user(_: Grounds, uid: int) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _prctl(kernel.PR_SET_DUMPABLE, 1)  # its own /proc/self would be root's


def _rlimit(_: Grounds, name: str, value: int) -> None:
    kind = getattr(resource, f"RLIMIT_{name}")
    hard = resource.getrlimit(kind)[1]
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _prctl(option: int, value: int) -> None:
    if kernel.prctl(option, value) != 0:
        raise OSError(f"prctl({option}, {value}) was refused")


_HANDS: dict[str, Callable[..., Any]] = {
    "rlimit": _rlimit,
    "pid_max": lambda _, value: kernel.set_pid_max("/proc", value),
    "view": _view,
    "resize": _resize,
    "no_network": _no_network,
    "user": _user,
    "subreaper": lambda _: _prctl(kernel.PR_SET_CHILD_SUBREAPER, 1),
    "no_new_privileges": lambda _: _prctl(kernel.PR_SET_NO_NEW_PRIVS, 1),
    "drop_capabilities": lambda _: kernel.drop_capabilities(),
    "landlock": _landlock,
    "seccomp": lambda _, *kind: seccomp.load(*kind),
    "nice": lambda _, value: os.nice(value),
    "keep_proc": lambda _: nest.keep_proc(),
    "descend": lambda _: nest.descend(),
    "exit_on_cpu_signal": lambda _: kernel.exit_on_signal(kernel.SIGXCPU),
}


def apply(steps: Iterable[Step], grounds: Grounds) -> None:
    """Do each step, in order. Raises OSError at the first that is refused; then nothing may run here."""
    for name, *arguments in steps:
        _HANDS[name](grounds, *arguments)


_CORES = os.cpu_count() or 1


class CpuBackstop:
    """
    A soft RLIMIT_CPU a little above what the next call may use.

    The limit counts from the birth of the process, so it moves on as calls use time. It stops honest code where the
    watch cannot (a stopped host); a handler can lift it.
    """

    __slots__ = ("_armed_at", "_seconds", "due_at")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._armed_at = -2.0
        self.due_at = 0.0  # of the monotonic clock: before it, too little CPU time can have passed to look again

    def arm(self, now: float) -> None:
        """Allow ``seconds`` and 1 to 3 more, from the CPU time used so far on."""
        self.due_at = now + 1.0 / _CORES
        used = time.process_time()
        if used - self._armed_at >= 1.0:
            self._armed_at = used
            _, hard = resource.getrlimit(resource.RLIMIT_CPU)
            limit = int(used + self._seconds) + 3
            resource.setrlimit(resource.RLIMIT_CPU, (limit if hard < 0 else min(limit, hard), hard))
