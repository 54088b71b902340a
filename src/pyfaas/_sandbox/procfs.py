"""
Files of /proc, read without giving up the interpreter's lock. (host side; Linux)

What the kernel tells of a process takes it a microsecond or two. ``os.open``, ``os.read`` and ``os.close`` each give up
the lock for that, and must then wait until whoever took it gives it back: where the watch looks at 32 busy sandboxes,
it and the thread that serves their callers put each other to sleep a thousand times a second, and that thread serves
a twentieth less. So the C library's own functions are called here, by what holds the lock.

Only what the kernel answers at once may be read so: never smaps, which waits for the memory of the process it is about.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import Any

_PAGE_BYTES = 4096  # the kernel gives a list in parts of at most a page


def read_quietly(path: str) -> bytes:
    """Read a file of /proc; nothing if what it is about is gone."""
    global _open, _read, _close
    if _open is None:
        _open, _read, _close = _functions()
    descriptor = _open(path.encode(), os.O_RDONLY | os.O_CLOEXEC)
    if descriptor < 0:
        return b""
    try:
        told = part = _read(descriptor)
        while len(part) > _PAGE_BYTES // 2:
            part = _read(descriptor)
            told += part
        return told
    finally:
        _close(descriptor)


_open: Callable[[bytes, int], int] | None = None
_read: Callable[[int], bytes]
_close: Callable[[int], Any]


def _functions() -> tuple[Callable[[bytes, int], int], Callable[[int], bytes], Callable[[int], Any]]:
    """Load the C library, when it is first asked for: that takes some milliseconds, and many never need it."""
    try:
        import ctypes

        libc = ctypes.PyDLL(None)
        libc.open, libc.read, libc.close  # noqa: B018 - are they there?
    except (ImportError, OSError, AttributeError):  # a Python without them
        return _open_plainly, _read_plainly, os.close
    page = ctypes.c_char * _PAGE_BYTES
    libc.read.restype = ctypes.c_ssize_t

    def read(descriptor: int) -> bytes:
        room = page()  # its own: several threads may look at once
        size = libc.read(descriptor, room, _PAGE_BYTES)
        return room.raw[:size] if size > 0 else b""

    return libc.open, read, libc.close


def _open_plainly(path: bytes, flags: int) -> int:
    try:
        return os.open(path, flags)
    except OSError:
        return -1


def _read_plainly(descriptor: int) -> bytes:
    with contextlib.suppress(OSError):
        return os.read(descriptor, _PAGE_BYTES)
    return b""
