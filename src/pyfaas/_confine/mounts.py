"""
The mount calls that Python lacks: detached copies of directories, attached where a sandbox is to see them.

    copy_tree("/usr", read-only) ──► descriptor ──► attach("/new root/usr")

Numbers are the same on x86-64 and aarch64 where the call is younger than both. Linux 5.12 and newer.
"""

from __future__ import annotations

import ctypes
import os
import stat
from typing import Any

from pyfaas._confine.kernel import check, libc

MOUNT_READ_ONLY, NOSUID, NODEV, NOEXEC, REMOUNT = 1, 2, 4, 8, 32
_PRIVATE_ALL = 0x40000 | 0x4000  # MS_PRIVATE | MS_REC
_DETACH = 2

_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_PIVOT_ROOT = 41 if os.uname().machine == "aarch64" else 155
_HERE, _EMPTY_PATH, _RECURSIVE = -100, 0x1000, 0x8000
_CLONE = 1
_FROM_DESCRIPTOR = 4
READ_ONLY, ATTR_NOSUID, ATTR_NODEV = 1, 2, 4

_mount: Any = getattr(libc, "mount", None)
_umount: Any = getattr(libc, "umount2", None)
_syscall = libc.syscall


class _Attributes(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd")]


def make_private() -> None:
    """Let no mount of this namespace be seen in another one, nor the other way."""
    check(_mount(None, b"/", None, ctypes.c_ulong(_PRIVATE_ALL), None), "mount: make private")


def mount(kind: str, target: str, flags: int, options: str = "") -> None:
    """Mount a new file system of this kind. Raises OSError."""
    done = _mount(kind.encode(), os.fsencode(target), kind.encode(), ctypes.c_ulong(flags), options.encode() or None)
    check(done, f"mount {kind} on {target}")


def copy_tree(path: str, attributes: int = 0) -> int:
    """
    Give a detached copy of what is mounted at and below a path, as a descriptor. Raises OSError.

    ``attributes`` are set on it, and on all that is mounted in it.
    """
    flags = _CLONE | os.O_CLOEXEC | _RECURSIVE
    descriptor = int(_syscall(_OPEN_TREE, _HERE, os.fsencode(path), flags))
    if descriptor < 0:
        check(descriptor, f"open_tree {path}")
    if attributes:
        try:
            _set_attributes(descriptor, "", _EMPTY_PATH | _RECURSIVE, attributes)
        except OSError:
            os.close(descriptor)
            raise
    return descriptor


def restrict(path: str, attributes: int) -> None:
    """Set attributes on the one mount at a path. Raises OSError."""
    _set_attributes(_HERE, path, 0, attributes)


def _set_attributes(descriptor: int, path: str, flags: int, attributes: int) -> None:
    wanted = _Attributes(attr_set=attributes)
    size = ctypes.sizeof(wanted)
    check(_syscall(_MOUNT_SETATTR, descriptor, os.fsencode(path), flags, ctypes.byref(wanted), size), "mount_setattr")


def attach(descriptor: int, target: str) -> None:
    """Mount a detached copy. Raises OSError."""
    done = _syscall(_MOVE_MOUNT, descriptor, b"", _HERE, os.fsencode(target), _FROM_DESCRIPTOR)
    check(done, f"move_mount to {target}")


def unmount(path: str) -> None:
    """Take off what is mounted at a path; what is open there lives on. Raises OSError."""
    check(_umount(os.fsencode(path), _DETACH), f"umount {path}")


def make_root(path: str) -> None:
    """Make a mount the root of this namespace, and let go of the one that was."""
    os.chdir(path)
    check(_syscall(_PIVOT_ROOT, b".", b"."), f"pivot_root {path}")
    check(_umount(b".", _DETACH), "umount the old root")
    os.chdir("/")


def make_target(path: str, descriptor: int) -> None:
    """Make something to mount on: a directory or a file, as the source is one."""
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.makedirs(path, exist_ok=True)
    elif not os.path.exists(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o644))
