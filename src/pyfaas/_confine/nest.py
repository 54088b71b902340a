"""
Namespaces below namespaces, for a process that has run untrusted code and forks sandboxes. (child side)

    worker, PID 1 of its namespace ──► stands by until all below it has ended
      └─ PID 1 of the nest ──────────► stands by, and reaps
           └─ the template, PID 2: has CAP_SYS_ADMIN over the nest and over nothing else, behind a filter
                └─ a sandbox, PID 1 of a namespace of its own, with its own /proc and /tmp; drops the rest

The nest belongs to a user namespace of its own: what the template may do, it may do to what lies in it. Its filter lets
through the calls that are made here, with the flags that they have here. What stands by runs none of its code.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NoReturn

from pyfaas._confine import kernel, mounts

PROC_FLAGS = mounts.NOSUID | mounts.NODEV | mounts.NOEXEC | mounts.MOUNT_READ_ONLY
SANDBOX_NAMESPACES = kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC
_fork = os.fork  # the plain one; a worker's notes what handlers start
_DESCRIPTORS = 65_536

_proc = -1


def keep_proc() -> None:
    """Hold on to the ``/proc`` of the zygote: a sandbox's own cannot be written to, and ``descend`` must."""
    global _proc
    _proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def descend() -> None:
    """Make a nest and come back in its template; what called does not. Raises OSError where that is not allowed."""
    uid, gid = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
        descriptor = os.open(f"self/{name}", os.O_WRONLY | os.O_CLOEXEC, dir_fd=_proc)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)
    kernel.unshare(kernel.CLONE_NEWPID | kernel.CLONE_NEWNS)
    told, tell = os.pipe()
    child = _fork()
    if child:
        os.close(tell)
        failed = os.read(told, 4)  # its end where all went well
        if failed:
            os.waitpid(child, 0)
            os.close(told)
            code = int.from_bytes(failed, "little")
            raise OSError(code, f"a nest for sandboxes: {os.strerror(code)}")
        _stand_by(child)
    try:
        os.close(told)
        mount_proc()
        child = _fork()
    except OSError as error:
        os.write(tell, (error.errno or 1).to_bytes(4, "little"))
        os._exit(1)
    if child:
        _stand_by(child)
    os.close(tell)
    os.close(_proc)
    kernel.drop_capabilities(keep=kernel.CAP_SYS_ADMIN)


def _stand_by(child: int) -> NoReturn:
    """Wait for the child without a descriptor or a capability, reap what else ends, and end as it did."""
    try:
        kernel.drop_capabilities()
        os.closerange(0, _DESCRIPTORS)
        while True:
            pid, status = os.wait()
            if pid == child:
                os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))
    finally:
        os._exit(70)


def mount_proc() -> None:
    """Cover ``/proc`` by one of this PID namespace."""
    mounts.mount("proc", "/proc", PROC_FLAGS)


def fork_first(namespace: int) -> int:
    """Fork a child that is PID 1 of a namespace of its own; ``namespace`` is the one to be in again. Raises OSError."""
    kernel.unshare(kernel.CLONE_NEWPID)
    pid = -1
    try:
        pid = _fork()
    finally:
        if pid:
            kernel.setns(namespace, kernel.CLONE_NEWPID)
    return pid


def settle(temporary: int, shared: int, below: Iterable[str]) -> None:
    """
    In a sandbox: see its own processes, and its own directories at ``/tmp`` and ``/dev/shm``.

    ``below``: what is shown below ``/tmp``, and would be covered. Raises OSError.
    """
    kernel.unshare(SANDBOX_NAMESPACES)
    kept = [(path, mounts.copy_tree(path)) for path in below]
    mounts.attach(temporary, "/tmp")
    mounts.attach(shared, "/dev/shm")
    mount_proc()
    for path, descriptor in kept:
        mounts.make_target(path, descriptor)
        mounts.attach(descriptor, path)
    for descriptor in (temporary, shared, *(descriptor for _, descriptor in kept)):
        os.close(descriptor)
    os.chdir("/tmp")
