"""
Another process has written to a file: told at once by the kernel, by inotify (Linux) or kqueue (macOS, BSD).

    watch(log) ──► something that is readable after a write to that file; drain() it, close() it

Writes of one's own are told too; ``PRAGMA data_version`` tells whose it was.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from typing import Protocol


class Watch(Protocol):
    """Tells of writes to files, and of their end."""

    def fileno(self) -> int:
        """Give the descriptor that is readable once there is something to drain."""

    def follow(self, paths: Iterable[str]) -> bool:
        """See that these are watched, as far as they are there; tell whether some were not until now."""

    def drain(self) -> None:
        """Read what is there: that something was written is all that it tells."""

    def close(self) -> None:
        """Tell no more."""


def watch(*paths: str) -> Watch | None:
    """Watch files for writes; None where this system does not tell of them, or one of them is not there."""
    with contextlib.suppress(OSError, AttributeError):
        made = _Watch()
        made.follow(paths)
        if len(made) == len(paths):
            return made
        made.close()
    return None


if sys.platform == "linux":

    class _Watch:
        WRITTEN_OR_GONE = 0x2 | 0x4 | 0x400 | 0x800  # modified, attributes (links to it), deleted, moved

        def __init__(self) -> None:
            import ctypes

            self._libc = ctypes.CDLL(None, use_errno=True)
            self._watched: set[int] = set()
            self._descriptor = int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
            if self._descriptor < 0:
                raise OSError(ctypes.get_errno(), "inotify")

        def __len__(self) -> int:
            return len(self._watched)

        def fileno(self) -> int:
            return self._descriptor

        def follow(self, paths: Iterable[str]) -> bool:
            # The same number for the same file; another one for another file that has come in its place.
            add, mask = self._libc.inotify_add_watch, self.WRITTEN_OR_GONE
            found = {add(self._descriptor, os.fsencode(path), mask) for path in paths} - {-1}
            is_news = not found <= self._watched
            self._watched |= found
            return is_news

        def drain(self) -> None:
            with contextlib.suppress(BlockingIOError):
                os.read(self._descriptor, 65_536)

        def close(self) -> None:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1

else:

    class _Watch:
        def __init__(self) -> None:
            import select

            self._files: dict[tuple[int, int], int] = {}
            self._queue = select.kqueue()

        def __len__(self) -> int:
            return len(self._files)

        def fileno(self) -> int:
            return self._queue.fileno()

        def follow(self, paths: Iterable[str]) -> bool:
            before = len(self._files)
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    self._follow(path)
            return len(self._files) > before

        def _follow(self, path: str) -> None:
            import select

            found = os.stat(path)
            if (found.st_dev, found.st_ino) in self._files:
                return
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._files[found.st_dev, found.st_ino] = file
            noted = select.KQ_NOTE_WRITE | select.KQ_NOTE_EXTEND | select.KQ_NOTE_DELETE | select.KQ_NOTE_RENAME
            flags = select.KQ_EV_ADD | select.KQ_EV_CLEAR
            self._queue.control([select.kevent(file, filter=select.KQ_FILTER_VNODE, flags=flags, fflags=noted)], 0)

        def drain(self) -> None:
            self._queue.control(None, 8, 0)

        def close(self) -> None:
            self._queue.close()
            for file in self._files.values():
                os.close(file)
            self._files.clear()
