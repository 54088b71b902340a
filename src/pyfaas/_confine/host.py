"""
What this kernel and this user allow, found out by trying, once, in the zygote. (child side; standard library only)

    enter_namespaces() ──► Host      while the interpreter has just started: a PID namespace for the next child
    look_around(found) ──► Host      in the zygote itself: what else its sandboxes can be given
"""

from __future__ import annotations

import os
import sys

from pyfaas._confine import kernel, landlock, mounts, seccomp
from pyfaas._confine.plan import FIRST_UID, LAST_UID, Host


def enter_namespaces() -> Host:
    """Ask for a PID namespace for the next child, as root or through a user namespace."""
    uid, gid = os.geteuid(), os.getegid()
    found = Host(sys.platform, uid == 0)
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        return found._replace(refused=f"no PID namespaces on {sys.platform}")
    try:
        kernel.unshare(kernel.CLONE_NEWPID)
    except OSError as error:
        refused = str(error)
    else:
        return found._replace(pid_namespace=True)
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWPID)
        for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    except OSError as error:
        return found._replace(refused=f"{refused}; with a user namespace: {error}")
    return found._replace(pid_namespace=True, user_namespace=True)


def look_around(found: Host, *, off: bool) -> Host:
    """See what else there is; with ``off`` what limits need, and no more."""
    if found.system != "linux":
        return found._replace(off=off)
    found = found._replace(off=off, pid_max=found.pid_namespace and _pid_max_is_ours())
    if off:
        return found
    return found._replace(
        landlock=landlock.abi(),
        seccomp=seccomp.AVAILABLE,
        own_uids=found.root and not found.user_namespace and _has_uids(),
    )


def _pid_max_is_ours() -> bool:
    """Tell whether the namespace has a pid_max of its own (Linux 6.14): try on ours, with the value that it has."""
    major, minor, *_ = (int("".join(filter(str.isdigit, part)) or 0) for part in os.uname().release.split(".")[:2])
    if (major, minor) < (6, 14):
        return False
    try:
        descriptor = os.open("/proc/sys/kernel/pid_max", os.O_RDWR)
        try:
            os.write(descriptor, os.read(descriptor, 32))
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True


def _has_uids() -> bool:
    """Tell whether the numbers that sandboxes would get exist here, and whether root may change to them."""
    try:
        with open("/proc/self/uid_map") as file:
            ranges = [tuple(map(int, line.split())) for line in file]
        with open("/proc/self/status") as file:
            effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    except (OSError, ValueError, StopIteration):
        return False
    may_change = effective >> 6 & 0b11 == 0b11  # CAP_SETGID, CAP_SETUID
    return may_change and any(start <= FIRST_UID and start + count > LAST_UID for start, _, count in ranges)


def may_leave_network() -> bool:
    """Tell whether a sandbox may make a network of its own. A user cannot come back from one, so a child tries."""
    child = os.fork()
    if child == 0:
        try:
            kernel.unshare(kernel.CLONE_NEWNET)
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def make_empty_network() -> int:
    """Make a network without a way out, not even to itself, and come back; as root. Raises OSError."""
    ours = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.unshare(kernel.CLONE_NEWNET)
        theirs = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        kernel.setns(ours, kernel.CLONE_NEWNET)
        return theirs
    finally:
        os.close(ours)


def separate_mounts() -> None:
    """Give the zygote mounts of its own, so that those of its sandboxes are not the host's. Raises OSError."""
    kernel.unshare(kernel.CLONE_NEWNS)
    mounts.make_private()
