"""
Another process has written to the store: told at once by the kernel, where it does so (Linux: inotify).

    watch(log) ──► a descriptor that is readable after a write to that file; drain() it

Writes of one's own are told too; ``PRAGMA data_version`` tells whose it was.
"""

from __future__ import annotations

import contextlib
import os
import sys

_MODIFIED = 0x2
_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


def watch(path: str) -> int:
    """Watch a file for writes; give a descriptor, or -1 where this system does not tell of them."""
    if sys.platform != "linux":
        return -1
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = int(libc.inotify_init1(_FLAGS))
    if descriptor >= 0 and libc.inotify_add_watch(descriptor, os.fsencode(path), _MODIFIED) < 0:
        os.close(descriptor)
        return -1
    return descriptor


def drain(descriptor: int) -> None:
    """Read what is there: that something was written is all that it tells."""
    with contextlib.suppress(BlockingIOError):
        os.read(descriptor, 65_536)
