"""
A root directory for sandboxes, assembled once by the zygote and shared, read-only; each sandbox adds what is its own.

    build(paths) ──► a mount namespace that holds nothing but these, as a descriptor        (the zygote)
    enter(grounds, slot, extra) ──► a copy of it with a /tmp and a /proc of one's own     (each worker)

The zygote keeps its own view of the host's files, because what is granted to one function is taken from there.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from pyfaas._confine import kernel, mounts
from pyfaas._confine.view import DEVICES, is_below, without_nested

_INODES_A_MB = 64
_FILES = {
    "passwd": "root:x:0:0:root:/:/bin/false\nnobody:x:65534:65534:nobody:/:/bin/false\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
}
_LINKS = {"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"}


class Grounds(NamedTuple):
    """
    What the zygote prepared for all its sandboxes: namespaces, as descriptors, or -1; what the root was built of.

    ``below_tmp`` is what of that lies where each sandbox has a ``/tmp`` of its own.
    """

    namespace: int = -1
    network: int = -1
    paths: tuple[str, ...] = ()
    below_tmp: tuple[str, ...] = ()

    def close(self) -> None:
        """Let go of them: user code must find no way into them."""
        for descriptor in (self.namespace, self.network):
            if descriptor >= 0:
                os.close(descriptor)


class Extra(NamedTuple):
    """What one function sees beside what all see."""

    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


def build(paths: Iterable[str], scratch: str) -> int:
    """
    Assemble the root in a mount namespace of its own, and come back. ``scratch`` is an empty directory to do it at.

    Raises OSError where this kernel or this user may not.
    """
    ours = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        kernel.unshare(kernel.CLONE_NEWNS)
        mounts.make_private()
        theirs = os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _assemble(scratch, paths, ())
        except BaseException:
            os.close(theirs)
            raise
        return theirs
    finally:
        kernel.setns(ours, kernel.CLONE_NEWNS)
        os.close(ours)


def _assemble(scratch: str, reads: Iterable[str], writes: Iterable[str]) -> None:
    """Make a root of a new, small file system, show these paths in it, and move into it."""
    mounts.mount("tmpfs", scratch, mounts.NOSUID, "mode=0755,size=4m,nr_inodes=20k")
    for name in ("proc", "tmp", "dev", "dev/shm", "etc"):
        os.makedirs(f"{scratch}/{name}", exist_ok=True)
    for path in reads:
        _show(scratch, path)
    for path in writes:
        _show(scratch, path, writable=True)
    for path in DEVICES:
        _show(scratch, path, device=True)
    for name, target in _LINKS.items():
        os.symlink(target, f"{scratch}/dev/{name}")
    for name, text in _FILES.items():
        with open(f"{scratch}/etc/{name}", "w") as file:
            file.write(text)
    mounts.make_root(scratch)
    mounts.restrict("/", mounts.READ_ONLY | mounts.ATTR_NOSUID | mounts.ATTR_NODEV)


def _show(root: str, path: str, *, writable: bool = False, device: bool = False) -> None:
    """Show one path under its own name, and the links that lead to it."""
    real = _copy_links(root, path)
    if real is None:
        return
    descriptor = _copy(real, writable=writable, device=device)
    try:
        mounts.make_target(root + real, descriptor)
        mounts.attach(descriptor, root + real)
    finally:
        os.close(descriptor)


def _copy(path: str, *, writable: bool = False, device: bool = False) -> int:
    attributes = mounts.ATTR_NOSUID
    if not device:
        attributes |= mounts.ATTR_NODEV if writable else mounts.ATTR_NODEV | mounts.READ_ONLY
    return mounts.copy_tree(path, attributes)


def _copy_links(root: str, path: str) -> str | None:
    """Walk a path from the top, making each link that it goes through anew; give where it ends, if it exists."""
    ahead = [part for part in path.split("/") if part][::-1]
    reached = ""
    for _ in range(400):  # the kernel gives up after 40 links
        if not ahead:
            return reached if os.path.exists(reached) else None
        part = ahead.pop()
        if part == "..":
            reached = os.path.dirname(reached)
            continue
        here = f"{reached}/{part}"
        if not os.path.islink(here):
            reached = here
            continue
        target = os.readlink(here)
        if not os.path.lexists(root + here):
            os.makedirs(root + reached, exist_ok=True)
            os.symlink(target, root + here)
        if target.startswith("/"):
            reached = ""
        ahead += [one for one in target.split("/") if one not in ("", ".")][::-1]
    return None


def is_prepared(slot: str) -> bool:
    """Tell whether a sandbox that had this slot before came to the end of ``prepare_slot``."""
    return os.path.isdir(f"{slot}/tmp")


def prepare_slot(slot: str, size_mb: int, owner: int) -> None:
    """Give a slot a file system of its own, that ends when the slot is removed; ``tmp`` is there when all of it is."""
    mounts.mount("tmpfs", slot, mounts.NOSUID | mounts.NODEV, f"mode=0755,{_size(size_mb)}")
    os.mkdir(f"{slot}/proc")
    for name in ("shm", "new"):
        os.mkdir(f"{slot}/{name}")
        os.chmod(f"{slot}/{name}", 0o1777)  # noqa: S103 - a /tmp
        os.chown(f"{slot}/{name}", owner, owner)
    os.rename(f"{slot}/new", f"{slot}/tmp")


def resize_slot(size_mb: int) -> None:
    """Give the slot that was entered another size."""
    mounts.mount("tmpfs", "/tmp", mounts.NOSUID | mounts.NODEV | mounts.REMOUNT, _size(size_mb))


def _size(size_mb: int) -> str:
    return f"size={size_mb}m,nr_inodes={size_mb * _INODES_A_MB}"


def enter(grounds: Grounds, slot: str, extra: Extra, pid_max: int = 0) -> None:
    """
    Leave the host's files for a copy of the root, with the slot at ``/tmp`` and this PID namespace at ``/proc``.

    A function with an ``extra`` gets a root of its own. ``pid_max``: of this PID namespace, 0 for as it is. Raises
    OSError.
    """
    temporary, shared = mounts.copy_tree(f"{slot}/tmp"), mounts.copy_tree(f"{slot}/shm")
    processes = _new_proc(f"{slot}/proc", pid_max)
    hidden = _copies_below_tmp(grounds, extra)
    if extra.reads or extra.writes:
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
        writes = without_nested(extra.writes)
        reads = [path for path in without_nested([*grounds.paths, *extra.reads]) if path not in writes]
        _assemble(slot, reads, writes)
    else:
        kernel.setns(grounds.namespace, kernel.CLONE_NEWNS)
        kernel.unshare(kernel.CLONE_NEWNS | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS)
    mounts.attach(temporary, "/tmp")
    mounts.attach(shared, "/dev/shm")
    mounts.attach(processes, "/proc")
    for path, descriptor in hidden:
        mounts.make_target(path, descriptor)
        mounts.attach(descriptor, path)
    for descriptor in (temporary, shared, processes, *(descriptor for _, descriptor in hidden)):
        os.close(descriptor)
    os.chdir("/tmp")


def _new_proc(place: str, pid_max: int) -> int:
    """
    Make a ``/proc`` of this PID namespace; here, for a user's namespaces may only where another one is in sight.

    Read-only: the kernel lets uid 0 write to ``/proc/sys`` and ``/proc/sysrq-trigger`` without any capability. Its
    number of processes is set through this one, for each ``/proc`` keeps an entry of that name for every namespace
    which ever looked at it there, and walks through all of them: with 900 sandboxes that took half a millisecond.
    """
    mounts.mount("proc", place, mounts.NOSUID | mounts.NODEV | mounts.NOEXEC)
    try:
        if pid_max:
            kernel.set_pid_max(place, pid_max)
        return mounts.copy_tree(place, mounts.READ_ONLY)
    finally:
        mounts.unmount(place)


def _copies_below_tmp(grounds: Grounds, extra: Extra) -> list[tuple[str, int]]:
    """Copy what the new ``/tmp`` will cover, to be shown in it; what may be written last, it may lie in the rest."""
    reads = below_tmp([*grounds.paths, *extra.reads]) if extra.reads else grounds.below_tmp
    copies = [(path, _copy(path)) for path in reads]
    return copies + [(path, _copy(path, writable=True)) for path in below_tmp(extra.writes)]


def below_tmp(paths: Iterable[str]) -> list[str]:
    """Of what is shown, list what lies below ``/tmp``, where links lead to."""
    return [path for path in map(os.path.realpath, without_nested(paths)) if is_below(path, "/tmp")]
