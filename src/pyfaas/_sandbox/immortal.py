"""
Objects that nobody counts any more, so that all forks go on sharing them. (child side; standard library only)

CPython keeps the count of references in the object, so a fork that only looks at what it has from its parent writes to
the page beneath, and gets a copy of its own. From 3.12 on an object with a certain count is immortal, and not counted
(PEP 683): None and the small integers are born so. Here all that a process has before it is forked from is given that
count. It would have lived as long as the process anyhow, and neither that nor its forks tidy up when they end.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import types
from collections.abc import Iterator
from typing import Any

BATCH = 1024  # a few milliseconds, with what they hold
# The others count elsewhere, or not like this.
_MINE = (
    sys.implementation.name == "cpython"
    and (3, 12) <= sys.version_info < (3, 14)
    and not sys.abiflags  # neither without the global lock ("t") nor for debugging ("d")
)
_NEVER = sys.getrefcount(None)
# What code holds without telling the collector.
_IN_CODE = ("co_consts", "co_names", "co_name", "co_qualname", "co_filename", "co_linetable", "co_exceptiontable")


def share() -> Iterator[None]:
    """Make immortal what there is now, in steps of some milliseconds. Nothing happens where there is no such thing."""
    if not (_MINE and _is_where_it_should_be()):
        return
    gc.unfreeze()
    tracked = gc.get_objects()
    gc.freeze()
    for roots in _batches(tracked):
        for thing in roots:
            _immortalize(thing)
        ahead = [roots]  # these also where they were immortal before: they may hold what is not
        while ahead:
            ahead += _batches([thing for thing in _held_by(ahead.pop()) if _immortalize(thing)])
            yield


def _batches(things: list[Any]) -> list[list[Any]]:
    return [things[at : at + BATCH] for at in range(0, len(things), BATCH)]


def _held_by(things: list[Any]) -> list[Any]:
    found = gc.get_referents(*things)
    for code in things:
        if type(code) is types.CodeType:
            found += [getattr(code, name) for name in _IN_CODE]
    return found


def _immortalize(thing: object) -> bool:
    """Have an object counted no more; tell whether it was until now."""
    count = ctypes.c_ssize_t.from_address(id(thing))
    if count.value >= _NEVER:
        return False
    count.value = _NEVER
    return True


def _is_where_it_should_be() -> bool:
    """Whether the count is the first that an object holds, and that of None is what makes immortal."""
    probe: list[None] = []
    at = ctypes.c_ssize_t.from_address
    return at(id(probe)).value == sys.getrefcount(probe) - 1 and at(id(None)).value == _NEVER
