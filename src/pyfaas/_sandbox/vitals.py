"""
What a sandbox uses right now, as the kernel tells the host: resident memory and CPU time of the whole tree. (host side)

On Linux from /proc: ``children`` of every thread, all descendants hang below the worker because it is their
namespace's PID 1 (or their subreaper). Shared pages are counted in proportion (Pss), or a handler's forks would count
the interpreter once each. Elsewhere from psutil.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Container
from time import monotonic
from typing import NamedTuple

_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
_TICK = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_LINUX = sys.platform == "linux"
# The watch minds others too. Pss takes 0.1 ms a process, and as long as it likes where the process is busy forking.
EXACT_SECONDS = 0.010


class Vitals(NamedTuple):
    """Resident bytes and CPU seconds, of the whole tree."""

    memory_bytes: int
    cpu_seconds: float
    processes: int


def read_vitals(pid: int, limit_bytes: int) -> Vitals:
    """Read them; shared memory is looked at closely where several share it, or the rough look is over the limit."""
    if not _LINUX:
        return _read_with_psutil(pid)
    pids = tree(pid)
    return Vitals(memory_of(pids, limit_bytes), sum(map(_cpu_seconds, pids)), len(pids))


def read_memory(pid: int, limit_bytes: int) -> int:
    """Read the resident memory alone: after a short call there is seldom more than one process to look at."""
    if not _LINUX:
        return _read_with_psutil(pid).memory_bytes
    return memory_of(tree(pid), limit_bytes)


def memory_of(pids: list[int], limit_bytes: int) -> int:
    """
    Add up what they hold; shared pages in proportion, if it matters.

    The largest are looked at first; those for which there is no time are taken to share as much as the others do.
    """
    resident = sorted(((_resident(pid), pid) for pid in pids), reverse=True)
    rough = sum(size for size, _ in resident)
    if rough <= limit_bytes and len(pids) == 1:
        return rough
    exact = seen = 0
    until = monotonic() + EXACT_SECONDS
    for size, pid in resident:
        exact += _proportional(pid)
        seen += size
        if monotonic() > until:
            break
    return exact * rough // max(seen, 1)


def tree(pid: int, without: Container[int] = ()) -> list[int]:
    """Give the process and all of its descendants, but for some and theirs."""
    pids = [pid]
    for parent in pids:  # grows while it is walked
        pids += [child for child in children_of(parent) if child not in without]
        if len(pids) > 10_000:
            break
    return pids


def children_of(pid: int) -> list[int]:
    """Give the children of all its threads; none if it is gone."""
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    return [int(child) for task in tasks for child in _read(f"/proc/{pid}/task/{task}/children").split()]


def _read(path: str) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 65_536)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


def _stat(pid: int) -> list[bytes]:
    """Give the fields of ``stat`` from the state on, the name left out; none if it is gone."""
    stat = _read(f"/proc/{pid}/stat")
    return stat[stat.rfind(b")") + 2 :].split()


def _resident(pid: int) -> int:
    fields = _read(f"/proc/{pid}/statm").split()
    return int(fields[1]) * _PAGE if len(fields) > 1 else 0


def _proportional(pid: int) -> int:
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return _resident(pid)


def _cpu_seconds(pid: int) -> float:
    """CPU time of the process and of the children that it has waited for."""
    return sum(map(int, _stat(pid)[11:15])) / _TICK


def private_bytes(pid: int) -> int:
    """Give the memory that one process shares with nobody. Linux only; 0 where it cannot be read."""
    total = 0
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith((b"Private_Clean:", b"Private_Dirty:")):
            total += int(line.split()[1]) * 1024
    return total


def _read_with_psutil(pid: int) -> Vitals:
    import psutil

    memory, cpu, count = 0, 0.0, 0
    try:
        worker = psutil.Process(pid)
        processes = [worker, *worker.children(recursive=True)]
    except psutil.Error:
        return Vitals(0, 0.0, 0)
    for process in processes:
        try:
            memory += process.memory_info().rss
            times = process.cpu_times()
        except psutil.Error:
            continue
        cpu += times.user + times.system
        count += 1
    return Vitals(memory, cpu, count)


def stop_below(pid: int) -> None:
    """
    Stop all descendants of a process; those that they start meanwhile are for the next time. Linux only.

    To kill them would make room for more. By the time of the signal a number may be another process's, but not with the
    same start and a parent from this tree.
    """
    family = [(pid, _parent_and_start(pid)[1])]
    for parent, parent_start in family:  # grows while it is walked
        for child in children_of(parent):
            its_parent, start = _parent_and_start(child)
            if its_parent == parent and _parent_and_start(parent)[1] == parent_start:
                family.append((child, start))
        if parent != pid:
            _stop(parent, parent_start)


def _parent_and_start(pid: int) -> tuple[int, int]:
    """Give the parent and when the process was started, in ticks since boot; zeros if it is gone."""
    fields = _stat(pid)
    return (int(fields[1]), int(fields[19])) if fields else (0, 0)


def _stop(pid: int, start: int) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.pidfd_open(pid)
        try:
            if _parent_and_start(pid)[1] == start:
                signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
        finally:
            os.close(descriptor)


def sweep(pid: int) -> None:
    """
    Kill a process and all of its descendants where no namespace does it: stop it first, then kill until none is new.

    A tree that forks faster than this looks can outrun it; ``confinement()`` says so.
    """
    import psutil

    if pid <= 0:  # gone before it was looked up
        return
    try:
        worker = psutil.Process(pid)
        worker.suspend()
        for _ in range(10):
            children = worker.children(recursive=True)
            if not children:
                break
            for child in children:
                try:
                    child.kill()
                except psutil.Error:
                    continue
        os.kill(pid, signal.SIGKILL)
    except (psutil.Error, OSError):
        return
