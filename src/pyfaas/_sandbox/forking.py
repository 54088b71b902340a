"""
The at-fork hooks of what the zygote imports: kept from its own forks, handed over to the workers'. (child side)

``threading``, ``logging`` and ``random`` have every fork of a process renew their locks and seeds: two hundred pages
are written, half a millisecond before a worker's first line. The zygote has one thread and holds no lock, so its
children need the seeds only; but what a handler forks must have it all.

    collect()    before anything else is imported: hooks are noted, not registered
    settle()     in the fork: those that are not about locks are run, and what comes is registered as ever
    hand_over()  when a handler forks for the first time: all are registered
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

_register = os.register_at_fork
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
