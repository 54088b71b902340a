"""
The at-fork hooks of what the zygote imports: kept from its own forks, handed over to the workers'. (child side)

``threading``, ``logging`` and ``random`` have every fork of a process renew their locks and seeds: two hundred pages
are written, half a millisecond before a worker's first line. The zygote has one thread and holds no lock, so its
children need the seeds only; but what a handler forks must have it all.

    collect()    before anything else is imported: hooks are noted, not registered
    settle()     in the fork: those that are not about locks are run, and what comes is registered as ever
    has_threads()  before a process becomes one to fork from
    hand_over()  when a handler forks for the first time: all are registered
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

_register = os.register_at_fork
_fork = os.fork  # the plain one; a worker's notes what handlers start
_noted: list[dict[str, Callable[[], Any]]] = []
# Locks, and the worker's own hook, which is for what handlers fork.
_NOT_NOW = ("threading", "logging", "pyfaas._sandbox.worker")


def collect() -> None:
    """Note the hooks from here on."""

    def note(**hooks: Callable[[], Any]) -> None:
        _noted.append(hooks)

    os.register_at_fork = note  # type: ignore[assignment]


def settle() -> None:
    """In a fork of the zygote: renew the seeds."""
    os.register_at_fork = _register
    for hooks in _noted:
        seed = hooks.get("after_in_child")
        if seed is not None and getattr(seed, "__module__", "") not in _NOT_NOW:
            seed()


def hand_over() -> None:
    """Before a worker forks: register what was noted; the second time there is nothing left."""
    while _noted:
        _register(**_noted.pop(0))


def has_threads() -> bool:
    """Tell of threads that a fork would lose; those of BLAS libraries end by themselves at a fork, and begin anew."""
    if _count_threads() > 1:
        child = _fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    return _count_threads() > 1


def _count_threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # macOS tells of Python's own alone
        threading = sys.modules.get("threading")
        return threading.active_count() if threading is not None else 1
