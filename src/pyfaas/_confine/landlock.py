"""
Landlock: what a process may open, connect to and signal, from then on; no privilege is needed.

Where a sandbox has a root of its own, the files are left to that, and Landlock holds what it cannot: abstract Unix
sockets and signals (ABI 6), TCP (ABI 4). Where it has none, Landlock holds the files too: what may not be opened can
still be seen to exist.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterable

from pyfaas._confine import kernel

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION = 1
_BENEATH = 1

_EXECUTE, _WRITE, _READ, _READ_DIRECTORY = 1, 2, 4, 8
_TRUNCATE, _DEVICE_IOCTL, _REFER = 1 << 14, 1 << 15, 1 << 13
_ALL_OF_ABI_1 = (1 << 13) - 1
_TCP = 0b11  # bind and connect
_SCOPES = 0b11  # abstract Unix sockets, signals

_syscall = kernel.libc.syscall


class _Ruleset(ctypes.Structure):
    _fields_ = [("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scopes", ctypes.c_uint64)]


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("directory", ctypes.c_int32)]


def abi() -> int:
    """Tell which version of Landlock this kernel speaks; 0 for none."""
    return max(int(_syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)), 0)


def file_rights(version: int) -> int:
    """Give all rights over files that this version handles."""
    rights = _ALL_OF_ABI_1
    for since, right in ((2, _REFER), (3, _TRUNCATE), (5, _DEVICE_IOCTL)):
        if version >= since:
            rights |= right
    return rights


def restrict(version: int, *, network: bool, files: tuple[Iterable[str], Iterable[str]] | None) -> None:
    """
    Put this process and all that it starts behind the rules, for ever; after no_new_privs. Raises OSError.

    ``files``: what may be read and run, and what may be written too; None leaves files alone.
    """
    wanted = _Ruleset()
    if files is not None:
        wanted.files = file_rights(version)
    if not network and version >= 4:
        wanted.network = _TCP
    if version >= 6:
        wanted.scopes = _SCOPES
    if not (wanted.files or wanted.network or wanted.scopes):
        return
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = int(_syscall(_CREATE_RULESET, ctypes.byref(wanted), ctypes.c_size_t(size), 0))
    if ruleset < 0:
        kernel.check(ruleset, "landlock_create_ruleset")
    try:
        if files is not None:
            reads, writes = files
            for path in reads:
                _allow(ruleset, path, (_EXECUTE | _READ | _READ_DIRECTORY) & wanted.files, wanted.files)
            for path in writes:
                _allow(ruleset, path, wanted.files & ~_DEVICE_IOCTL, wanted.files)
        kernel.check(_syscall(_RESTRICT_SELF, ruleset, 0), "landlock_restrict_self")
    finally:
        os.close(ruleset)


_FILE_RIGHTS = _EXECUTE | _WRITE | _READ | _TRUNCATE | _DEVICE_IOCTL


def _allow(ruleset: int, path: str, rights: int, handled: int) -> None:
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EACCES):
            return  # what is not there needs no rule
        raise
    try:
        if not os.path.isdir(f"/proc/self/fd/{place}"):
            rights &= _FILE_RIGHTS
        rule = _Beneath(allowed=rights & handled, directory=place)
        kernel.check(_syscall(_ADD_RULE, ruleset, _BENEATH, ctypes.byref(rule), 0), f"landlock_add_rule {path}")
    finally:
        os.close(place)
