"""
Another process has written to the store: told at once by the kernel, by inotify (Linux) or kqueue (macOS, BSD).

    watch(log) ──► something that is readable after a write to that file; drain() it, close() it

Writes of one's own are told too; ``PRAGMA data_version`` tells whose it was.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Protocol


class Watch(Protocol):
    """Tells of writes to a file."""

    def fileno(self) -> int:
        """Give the descriptor that is readable once there is something to drain."""

    def drain(self) -> None:
        """Read what is there: that something was written is all that it tells."""

    def close(self) -> None:
        """Tell no more."""


def watch(path: str) -> Watch | None:
    """Watch a file for writes; None where this system does not tell of them."""
    with contextlib.suppress(OSError, AttributeError):
        return _Watch(path)
    return None


if sys.platform == "linux":

    class _Watch:
        MODIFIED = 0x2

        def __init__(self, path: str) -> None:
            import ctypes

            libc = ctypes.CDLL(None, use_errno=True)
            self._descriptor = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
            if self._descriptor < 0 or libc.inotify_add_watch(self._descriptor, os.fsencode(path), self.MODIFIED) < 0:
                self.close()
                raise OSError(ctypes.get_errno(), "inotify", path)

        def fileno(self) -> int:
            return self._descriptor

        def drain(self) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._descriptor, 65_536)

        def close(self) -> None:
            if self._descriptor >= 0:
                os.close(self._descriptor)

else:

    class _Watch:
        def __init__(self, path: str) -> None:
            import select

            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._queue = select.kqueue()
            flags, noted = select.KQ_EV_ADD | select.KQ_EV_CLEAR, select.KQ_NOTE_WRITE | select.KQ_NOTE_EXTEND
            wanted = select.kevent(self._file, filter=select.KQ_FILTER_VNODE, flags=flags, fflags=noted)
            self._queue.control([wanted], 0)

        def fileno(self) -> int:
            return self._queue.fileno()

        def drain(self) -> None:
            self._queue.control(None, 8, 0)

        def close(self) -> None:
            self._queue.close()
            os.close(self._file)
