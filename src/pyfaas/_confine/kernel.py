"""
The system calls that Python lacks, through ctypes; loaded once in the zygote, inherited by every fork.

Numbers are from the kernel's headers and the same on x86-64 and aarch64.
"""

from __future__ import annotations

import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_CHILD_SUBREAPER = 36
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
CAP_SYS_ADMIN = 21
CAPABILITY_VERSION_3 = 0x20080522
SIGXCPU = 24

libc = ctypes.CDLL(None, use_errno=True)

# Looked up once, here: a first look-up in a fork would cost it time and a private page.
_prctl = getattr(libc, "prctl", None)
_unshare = getattr(libc, "unshare", None)
_setns = getattr(libc, "setns", None)
_signal = libc.signal
_exit = ctypes.cast(libc._exit, ctypes.c_void_p)
_signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
_signal.restype = ctypes.c_void_p


class _CapabilityHeader(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _CapabilityData(ctypes.Structure):
    _fields_ = [("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32)]


def check(result: int, call: str) -> None:
    """Raise OSError, with what was called, unless the call answered 0."""
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{call}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Leave the namespaces that the flags name. Raises OSError."""
    if _unshare is None:
        raise OSError(0, f"unshare: not on {sys.platform}")
    check(_unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    """Enter the namespace behind the descriptor. Raises OSError."""
    if _setns is None:
        raise OSError(0, f"setns: not on {sys.platform}")
    check(_setns(descriptor, kind), "setns")


def prctl(option: int, first: int = 0, second: int = 0) -> int:
    """Call prctl and give what it answered, or -1."""
    return -1 if _prctl is None else int(_prctl(option, first, second, 0, 0))


def prctl_pointer(option: int, first: int, pointer: int) -> int:
    """Call prctl with the address of something, and give what it answered, or -1."""
    if _prctl is None:
        return -1
    return int(_prctl(option, ctypes.c_ulong(first), ctypes.c_void_p(pointer), 0, 0))


def drop_capabilities(keep: int = -1) -> None:
    """Give up every capability for good, or all but one (below 32). Raises OSError."""
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    number = 0
    while number == keep or prctl(PR_CAPBSET_DROP, number) == 0:  # ends at the first that this kernel does not know
        number += 1
    kept = 1 << keep if keep >= 0 else 0
    header = _CapabilityHeader(CAPABILITY_VERSION_3, 0)
    data = (_CapabilityData * 2)(_CapabilityData(kept, kept, 0))
    check(libc.capset(ctypes.byref(header), ctypes.byref(data)), "capset")


def set_pid_max(proc: str, value: int) -> None:
    """Limit the numbers of the PID namespace that is mounted there. Raises OSError."""
    descriptor = os.open(f"{proc}/sys/kernel/pid_max", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, b"%d" % value)
    finally:
        os.close(descriptor)


def exit_on_signal(number: int) -> None:
    """End this process by _exit(number) at the signal, in C: PID 1 drops signals without a handler, Python's wait."""
    _signal(number, _exit)
