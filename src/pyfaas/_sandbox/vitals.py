"""
What a sandbox uses right now, as the kernel tells the host: resident memory and CPU time of the whole tree. (host side)

On Linux from /proc: ``stat`` of a process, and ``children`` of each of its threads; all descendants hang below the
worker because it is their namespace's PID 1 (or their subreaper). Shared pages are counted in proportion (Pss), or a
handler's forks would count the interpreter once each. Elsewhere from psutil.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Container
from time import monotonic
from typing import NamedTuple, TypeAlias

from pyfaas._sandbox.procfs import read_quietly

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
    family = _family(pid)
    cpu_ticks = sum(sum(map(int, stat[_TIMES])) for _, stat in family)
    return Vitals(_memory_of(family, limit_bytes), cpu_ticks / _TICK, len(family))


def memory_of(pid: int, limit_bytes: int, without: Container[int]) -> int:
    """Read the resident memory alone, without some of the descendants and theirs. Linux only."""
    return _memory_of(_family(pid, without), limit_bytes)


def _memory_of(family: list[_Member], limit_bytes: int) -> int:
    """
    Add up what they hold; shared pages in proportion, if it matters.

    The largest are looked at first; those for which there is no time are taken to share as much as the others do.
    """
    resident = sorted(((_resident(stat), pid) for pid, stat in family), reverse=True)
    rough = sum(size for size, _ in resident)
    if rough <= limit_bytes and len(family) == 1:
        return rough
    exact = seen = 0
    until = monotonic() + EXACT_SECONDS
    for size, pid in resident:
        exact += _proportional(pid)
        seen += size
        if monotonic() > until:
            break
    return exact * rough // max(seen, 1)


def tree(pid: int) -> list[int]:
    """Give the process and all of its descendants."""
    return [member for member, _ in _family(pid)]


def _family(pid: int, without: Container[int] = ()) -> list[_Member]:
    """Look at the process and all of its descendants, but for some and theirs."""
    family = [(pid, _stat(pid))]
    for parent, stat in family:  # grows while it is walked
        family += [(child, _stat(child)) for child in _children_of(parent, stat) if child not in without]
        if len(family) > 10_000:
            break
    return family


def children_of(pid: int) -> list[int]:
    """Give the children of all its threads; none if it is gone."""
    return _children_of(pid, _stat(pid))


def _children_of(pid: int, stat: list[bytes]) -> list[int]:
    if not stat:
        return []
    tasks = [str(pid)]
    if stat[_THREADS] != b"1":
        with contextlib.suppress(OSError):
            tasks = os.listdir(f"/proc/{pid}/task")
    return [int(child) for task in tasks for child in read_quietly(f"/proc/{pid}/task/{task}/children").split()]


def _stat(pid: int) -> list[bytes]:
    """Give the fields of ``stat`` from the state on, the name left out; none if it is gone."""
    stat = read_quietly(f"/proc/{pid}/stat")
    return stat[stat.rfind(b")") + 2 :].split()


# Where they are in it; the times are its own and those of the children that it has waited for.
_PARENT, _TIMES, _THREADS, _START, _RESIDENT = 1, slice(11, 15), 17, 19, 21
_Member: TypeAlias = "tuple[int, list[bytes]]"  # a process, and its fields


def _resident(stat: list[bytes]) -> int:
    return int(stat[_RESIDENT]) * _PAGE if stat else 0


def _proportional(pid: int) -> int:
    return _rollup(pid, b"Pss:") or _resident(_stat(pid))


def private_bytes(pid: int) -> int:
    """Give the memory that one process shares with nobody. Linux only; 0 where it cannot be read."""
    return _rollup(pid, b"Private_Clean:", b"Private_Dirty:")


def _rollup(pid: int, *wanted: bytes) -> int:
    """Add up lines of ``smaps_rollup``; 0 where it cannot be read."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb", buffering=0) as file:
            told = file.read(65_536)
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in (told or b"").splitlines() if line.startswith(wanted))


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
    stat = _stat(pid)
    return (int(stat[_PARENT]), int(stat[_START])) if stat else (0, 0)


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
