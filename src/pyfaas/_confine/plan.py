"""
From limits and host to steps, and to a list of what this host can and cannot hold. (pure; apply.py is the hands)

    plan(limits, host) ──► Step, Step, ...     carried out by the worker before the first byte of user code
    hold(host, ...)    ──► Holding, ...        told by runtime.confinement()
"""

from __future__ import annotations

from typing import Any, NamedTuple

from pyfaas import limits

KERNEL, WATCHED, NOT_HELD = "held by the kernel", "watched", "not held"

# The kernel keeps the first 300 numbers of a namespace for its first round, so a limit of N tasks needs this much more.
RESERVED_PIDS = 300


class Host(NamedTuple):
    """What this kernel and this user allow, as the zygote found it."""

    system: str
    root: bool
    pid_namespace: bool
    user_namespace: bool
    pid_max: bool
    refused: str = ""  # why there is no PID namespace


class Limits(NamedTuple):
    """What one function may use."""

    memory_mb: int
    file_mb: int
    cpu_seconds: float
    open_files: int = limits.OPEN_FILES
    processes: int = limits.PROCESSES


class Holding(NamedTuple):
    """One guarantee: how it is held here, by what, and why no better."""

    guarantee: str
    held: str
    by: str
    why: str = ""


Step = tuple[Any, ...]


def plan(wanted: Limits, host: Host) -> list[Step]:
    """Say, in order, what the worker does to itself."""
    # Only a stop for runaways: the watch holds the memory that is resident, 64 plain threads alone need 532 MB of this.
    data = 2 * wanted.memory_mb * limits.MB + 1024 * limits.MB
    steps: list[Step] = [
        ("rlimit", "CORE", 0),
        ("rlimit", "NOFILE", wanted.open_files),
        ("rlimit", "FSIZE", wanted.file_mb * limits.MB),
    ]
    if host.system == "linux":  # macOS accepts RLIMIT_DATA and ignores it
        steps.append(("rlimit", "DATA", data))
    if host.pid_max:
        steps.append(("pid_max", RESERVED_PIDS + wanted.processes))
    elif host.user_namespace:
        # Counted for all sandboxes of the zygote's user namespace together: room for a thousand idle ones.
        steps.append(("rlimit", "NPROC", limits.SANDBOXES + wanted.processes))
    if not host.pid_namespace and host.system == "linux":
        steps.append(("subreaper",))  # and it dies with the zygote, since its birth
    if host.system == "linux":
        steps.append(("no_new_privileges",))
        if host.user_namespace:
            steps.append(("drop_capabilities",))  # those that the user namespace gave
        steps.append(("exit_on_cpu_signal",))
    return steps


def hold(host: Host) -> list[Holding]:
    """Tell how each guarantee is held on this host."""
    linux = host.system == "linux"
    return [
        Holding("time-out", KERNEL if host.pid_namespace else WATCHED, "SIGKILL at the deadline"),
        _whole_tree(host),
        Holding("memory", WATCHED, "resident memory of the tree, every 50 ms", "may exceed by about 250 MB for 50 ms"),
        Holding("CPU time", WATCHED, "CPU time of the tree, every 50 ms; SIGXCPU behind it"),
        _processes(host),
        Holding("open files", KERNEL, "RLIMIT_NOFILE"),
        Holding("file size", KERNEL, "RLIMIT_FSIZE", "each file; the sum of all files is not held yet"),
        Holding("core dumps", KERNEL, "RLIMIT_CORE"),
        Holding("descriptors of the host", KERNEL, "a fresh interpreter, close-on-exec"),
        Holding("environment of the host", KERNEL, "built from nothing", "but see: other processes"),
        Holding("new privileges", KERNEL, "no_new_privs") if linux else Holding("new privileges", NOT_HELD, "nothing"),
        _death_with_host(host),
        Holding("file system", NOT_HELD, "nothing", "not available yet: a handler sees the files of its user"),
        Holding("network", NOT_HELD, "nothing", "not available yet: a handler may connect anywhere"),
        _other_processes(host),
    ]


def _whole_tree(host: Host) -> Holding:
    guarantee = "the whole tree dies"
    if host.pid_namespace:
        return Holding(guarantee, KERNEL, _namespace(host))
    return Holding(guarantee, WATCHED, "a sweep over descendants", f"{host.refused}; the sweep can race")


def _death_with_host(host: Host) -> Holding:
    guarantee = "death with the host"
    if host.pid_namespace:
        return Holding(guarantee, KERNEL, f"{_namespace(host)} and a pidfd of the host")
    by = "parent-death signal, end of file" if host.system == "linux" else "the zygote looks for its parent"
    return Holding(guarantee, WATCHED, by, host.refused)


def _other_processes(host: Host) -> Holding:
    seen = "not available yet: /proc shows them; signals do not reach them" if host.pid_namespace else host.refused
    return Holding("other processes", NOT_HELD, "nothing", seen)


def _namespace(host: Host) -> str:
    return "a PID namespace" + (" in a user namespace" if host.user_namespace else "")


def _processes(host: Host) -> Holding:
    if host.pid_max:
        return Holding("processes", KERNEL, "pid_max of the PID namespace")
    if host.user_namespace:
        return Holding("processes", KERNEL, "RLIMIT_NPROC", "2,024 for all sandboxes together; Linux 6.14 holds each")
    return Holding("processes", NOT_HELD, "nothing", "needs a PID namespace and Linux 6.14, or a user namespace")
