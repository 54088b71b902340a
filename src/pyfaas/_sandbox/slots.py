"""
Slots: the directories that handlers see as their working directory, HOME and TMPDIR. (host side)

A slot belongs to one function and outlives a crashed sandbox: the next one of the same function finds its files. What
is removed is removed through directory descriptors only, never by a path that a handler could have bent, and by
renaming deep directories up instead of walking down, for a handler can nest deeper than any path or stack is long.
"""

from __future__ import annotations

import contextlib
import os
import stat

_DIRECTORY = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)


class Slots:
    """The slots of one runtime, below one directory that only this user may enter."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.number = int.from_bytes(os.urandom(2), "little")
        self._count = 0

    def make(self) -> str:
        """Make an empty slot."""
        self._count += 1
        path = os.path.join(self.root, f"slot-{self._count}")
        os.mkdir(path, 0o700)
        return path

    @staticmethod
    def number_of(path: str) -> int:
        """Tell which of the slots it is."""
        return int(path.rpartition("-")[2])

    def remove(self, path: str) -> None:
        """Remove a slot whose sandbox is gone."""
        descriptor = os.open(self.root, _DIRECTORY)
        try:
            _remove_tree(descriptor, os.path.basename(path))
        except OSError:
            # What resists (an immutable file, a mount) stays until the runtime's directory goes.
            pass
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Remove all of it."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self.root):
                self.remove(os.path.join(self.root, name))
        try:
            os.rmdir(self.root)
        except OSError:  # handlers put things beside their slots, or it is gone
            import shutil  # every fork of the zygote would carry what it loads

            shutil.rmtree(self.root, ignore_errors=True)


def _remove_tree(parent: int, name: str) -> None:
    """Empty and remove one directory: sub-directories move up into it until none is left below them."""
    top = _open(parent, name)
    try:
        moved, prefix = 0, f".pyfaas-{os.urandom(8).hex()}"  # a name that the handler cannot have taken already
        while directories := _unlink_files(top):
            for inner in directories:
                below = _open(top, inner)
                try:
                    for deeper in _unlink_files(below):
                        _make_writable(below, deeper)
                        os.rename(deeper, f"{prefix}-{moved}", src_dir_fd=below, dst_dir_fd=top)
                        moved += 1
                finally:
                    os.close(below)
                os.rmdir(inner, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _make_writable(parent: int, name: str) -> None:
    """Give the directory the bits that moving and emptying it needs; the handler may have taken them."""
    with contextlib.suppress(OSError, NotImplementedError):
        if not stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            os.chmod(name, 0o700, dir_fd=parent)


def _open(parent: int, name: str) -> int:
    _make_writable(parent, name)
    return os.open(name, _DIRECTORY, dir_fd=parent)


def _unlink_files(directory: int) -> list[str]:
    """Remove all but directories, whose names it gives."""
    directories = []
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if is_directory:
            directories.append(name)
        else:
            os.unlink(name, dir_fd=directory)
    return directories
