"""Carries out the steps of a plan, in the worker, before the first byte of user code; standard library only."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Iterable
from typing import Any

from pyfaas._confine import kernel
from pyfaas._confine.plan import Step


def _rlimit(name: str, value: int) -> None:
    kind = getattr(resource, f"RLIMIT_{name}")
    _, hard = resource.getrlimit(kind)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(kind, (value, value))


def _pid_max(value: int) -> None:
    descriptor = os.open("/proc/sys/kernel/pid_max", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"%d" % value)
    finally:
        os.close(descriptor)


def _prctl(option: int, value: int) -> None:
    if kernel.prctl(option, value) != 0:
        raise OSError(f"prctl({option}, {value}) was refused")


_HANDS: dict[str, Callable[..., Any]] = {
    "rlimit": _rlimit,
    "pid_max": _pid_max,
    "subreaper": lambda: _prctl(kernel.PR_SET_CHILD_SUBREAPER, 1),
    "no_new_privileges": lambda: _prctl(kernel.PR_SET_NO_NEW_PRIVS, 1),
    "drop_capabilities": kernel.drop_capabilities,
    "exit_on_cpu_signal": lambda: kernel.exit_on_signal(kernel.SIGXCPU),
}


def apply(steps: Iterable[Step]) -> None:
    """Do each step, in order. Raises OSError at the first that is refused; then nothing may run here."""
    for name, *arguments in steps:
        _HANDS[name](*arguments)


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
