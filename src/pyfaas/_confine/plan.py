"""
From limits and host to steps, and to a list of what this host can and cannot hold. (pure; apply.py is the hands)

    plan(limits, host) ──► Step, Step, ...     carried out by the worker before the first byte of user code
    birth(slot, uid, host) ──► the first of them, that are the same for most functions: a standby has them behind it
    hold(host, ...)    ──► Holding, ...        told by runtime.confinement()
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from pyfaas import limits

KERNEL, WATCHED, NOT_HELD = "held by the kernel", "watched", "not held"

# The kernel keeps the first 300 numbers of a namespace for its first round, so a limit of N tasks needs this much more.
RESERVED_PIDS = 300
# Users that exist nowhere else: above what systemd gives to containers, below 2^31.
FIRST_UID, LAST_UID = 0x70000000, 0x7FFFFFFF
_UIDS_A_RUNTIME = 4096


class Host(NamedTuple):
    """What this kernel and this user allow, as the zygote found it."""

    system: str
    root: bool
    pid_namespace: bool = False
    user_namespace: bool = False
    pid_max: bool = False
    refused: str = ""  # why there is no PID namespace
    view: bool = False  # sandboxes get a root directory of their own
    view_refused: str = ""
    own_uids: bool = False
    uids_refused: str = ""
    empty_network: bool = False
    landlock: int = 0  # its version
    seccomp: bool = False
    off: bool = False  # confinement="off"


class Limits(NamedTuple):
    """What one function may use."""

    memory_mb: int
    file_mb: int
    cpu_seconds: float
    network: bool = True
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    slot: str = ""
    uid: int = -1  # of its own; -1: the host's
    born: bool = False  # the steps of its birth were taken
    nice: int = 0
    template: bool = False  # sandboxes will be forked from it, once it has run init


class Holding(NamedTuple):
    """One guarantee: how it is held here, by what, and why no better."""

    guarantee: str
    held: str
    by: str
    why: str = ""


Step = tuple[Any, ...]


def uid_of(host: Host, runtime: int, slot: int) -> int:
    """Give the user that everything in a slot belongs to; ``runtime`` is a number that differs between runtimes."""
    if not host.own_uids:
        return -1
    return (
        FIRST_UID + runtime % ((LAST_UID + 1 - FIRST_UID) // _UIDS_A_RUNTIME) * _UIDS_A_RUNTIME + slot % _UIDS_A_RUNTIME
    )


def birth(slot: str, uid: int, host: Host) -> list[Step]:
    """Say what a standby does to itself before its function is known, if that sees no more than all see."""
    return [*_common_limits(uid, host), _view(host, slot, limits.EPHEMERAL_STORAGE_MB[0], uid)]


def plan(wanted: Limits, host: Host) -> list[Step]:
    """Say, in order, what the worker does to itself."""
    steps: list[Step] = [("keep_proc",)] if wanted.template else []
    if not wanted.born:
        steps += _common_limits(wanted.uid, host, template=wanted.template)
        if host.view:
            extra = (wanted.reads, wanted.writes)
            steps.append(_view(host, wanted.slot, wanted.file_mb, wanted.uid, extra, template=wanted.template))
    elif wanted.file_mb != limits.EPHEMERAL_STORAGE_MB[0]:
        steps.append(("resize", wanted.file_mb))
    steps += _own_limits(wanted, host)
    if host.empty_network and not wanted.network:
        steps.append(("no_network",))
    if wanted.uid >= 0:
        steps.append(("user", wanted.uid))
    if not host.pid_namespace and host.system == "linux":
        steps.append(("subreaper",))  # and it dies with the zygote, since its birth
    if host.system == "linux":
        steps += [("descend",)] if wanted.template else []
        steps.append(("no_new_privileges",))
        if not wanted.template and (host.user_namespace or (host.root and not host.off)):
            steps.append(("drop_capabilities",))
        if host.landlock:
            files = None if host.view else (wanted.reads, (wanted.slot, *wanted.writes))
            steps.append(("landlock", host.landlock, wanted.network, files))
        if host.seccomp:
            kind = "template" if wanted.template else "plain" if host.pid_namespace else "beside others"
            steps.append(("seccomp", kind))
    return steps


def restore(host: Host, *, network: bool) -> list[Step]:
    """Say what is left to do for a sandbox that was forked from a template; the rest it has from there."""
    steps: list[Step] = [("drop_capabilities",)]
    if host.landlock:
        steps.append(("landlock", host.landlock, network, None))
    return [*steps, ("seccomp", "plain")]


def why_no_template(host: Host) -> str:
    """Say why no sandbox can be forked from another one here; empty where it may be tried."""
    if host.off:
        return 'confinement="off"'
    if not host.pid_namespace:
        return host.refused
    if not host.view:
        return f"sandboxes have no root directory of their own: {host.view_refused}"
    return "" if host.seccomp else "there is no system call filter for this processor"


def _common_limits(uid: int, host: Host, *, template: bool = False) -> list[Step]:
    steps: list[Step] = [("rlimit", "CORE", 0), ("rlimit", "NOFILE", limits.OPEN_FILES)]
    if host.system == "linux":
        steps += [("rlimit", "MSGQUEUE", 0), ("exit_on_cpu_signal",)]
    if not host.view and (value := _pid_max(host, template=template)):
        steps.append(("pid_max", value))
    if uid >= 0 and not template:
        steps.append(("rlimit", "NPROC", limits.PROCESSES))
    elif template or (host.user_namespace and not host.pid_max):
        # Counted for all sandboxes of the zygote's user namespace together: room for a thousand idle ones.
        steps.append(("rlimit", "NPROC", limits.SANDBOXES + limits.PROCESSES))
    return steps


def _pid_max(host: Host, *, template: bool) -> int:
    if not host.pid_max or template:  # of a template it would count for all its sandboxes together
        return 0
    return RESERVED_PIDS + limits.PROCESSES


def _view(host: Host, slot: str, size_mb: int, uid: int, extra: Any = ((), ()), *, template: bool = False) -> Step:
    return ("view", slot, size_mb, uid, _pid_max(host, template=template), extra)


def _own_limits(wanted: Limits, host: Host) -> list[Step]:
    steps: list[Step] = [("rlimit", "FSIZE", wanted.file_mb * limits.MB)]
    if wanted.nice:
        steps.append(("nice", wanted.nice))
    if host.system == "linux":  # macOS accepts it and ignores it
        # Only a stop for runaways: the watch holds the memory that is resident, 64 threads alone need 532 MB of this.
        steps.append(("rlimit", "DATA", 2 * wanted.memory_mb * limits.MB + 1024 * limits.MB))
    return steps


def niceness(processors: float | None, cores: int) -> int:
    """Give the scheduling weight of so many processors of all cores: each step of nice is a factor of 1.25."""
    if processors is None:
        return 0
    share = min(processors / cores, 1.0)
    return min(round(-math.log(share) / math.log(1.25)), 19)


SOON = "from the first look on, within 50 ms"


# -- telling -----------------------------------------------------------------------------------------------------------


def hold(host: Host, groups: Iterable[str] = ()) -> list[Holding]:
    """Tell how each guarantee is held on this host; ``groups``: the controllers of which cgroups can be made."""
    groups = set(groups)
    linux = host.system == "linux"
    return [
        Holding("time-out", KERNEL if host.pid_namespace else WATCHED, "SIGKILL at the deadline"),
        _whole_tree(host),
        Holding("memory", WATCHED, "resident memory of the tree, every 50 ms", "may exceed by about 250 MB for 50 ms"),
        _all_memory(groups),
        _processors(groups),
        Holding("CPU time", WATCHED, "CPU time of the tree, every 50 ms; SIGXCPU behind it"),
        _processes(host, groups),
        Holding("open files", KERNEL, "RLIMIT_NOFILE"),
        Holding("file size", KERNEL, "RLIMIT_FSIZE"),
        _storage(host),
        Holding("core dumps", KERNEL, "RLIMIT_CORE"),
        Holding("descriptors of the host", KERNEL, "a fresh interpreter, close-on-exec"),
        _environment(host),
        Holding("new privileges", KERNEL, "no_new_privs") if linux else _nothing("new privileges", "macOS has none"),
        _death_with_host(host),
        _files(host),
        _network(host),
        _other_processes(host),
        _user(host),
        _system_calls(host),
        _sockets(host),
    ]


def missing(holdings: Iterable[Holding]) -> list[Holding]:
    """Pick what is not held."""
    return [one for one in holdings if one.held == NOT_HELD]


def _nothing(guarantee: str, why: str) -> Holding:
    return Holding(guarantee, NOT_HELD, "nothing", why)


def _environment(host: Host) -> Holding:
    why = "" if host.view else "but see: other processes"
    return Holding("environment of the host", KERNEL, "built from nothing", why)


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


def _namespace(host: Host) -> str:
    return "a PID namespace" + (" in a user namespace" if host.user_namespace else "")


def _all_memory(groups: set[str]) -> Holding:
    guarantee = "memory outside of processes"
    if "memory" in groups:
        return Holding(
            guarantee, KERNEL, "a cgroup of memory + ephemeral_storage", "from the first look on, within 50 ms"
        )
    told = "no cgroup may be made here; socket buffers and memory files that nobody maps count for nobody"
    return Holding(guarantee, WATCHED, "the number of open files", told)


def lids(host: Host, processors: float | None) -> Iterator[str]:
    """Give the controllers of which a sandbox needs a group: for what nothing else holds."""
    yield "memory"
    if processors is not None:
        yield "cpu"
    if not host.pid_max:
        yield "pids"


def _processors(groups: set[str]) -> Holding:
    if "cpu" in groups:
        return Holding("cpu=", KERNEL, "quota of a cgroup", SOON)
    return Holding("cpu=", WATCHED, "scheduling weight, CPU time", "no cgroup may be made here")


def _processes(host: Host, groups: set[str]) -> Holding:
    if host.pid_max:
        return Holding("processes", KERNEL, "pid_max of the PID namespace")
    if host.own_uids:
        return Holding("processes", KERNEL, "RLIMIT_NPROC of a user of its own")
    if host.user_namespace:
        return Holding("processes", KERNEL, "RLIMIT_NPROC", "2,024 for all sandboxes together; Linux 6.14 holds each")
    if "pids" in groups:
        return Holding("processes", KERNEL, "a cgroup", SOON)
    return _nothing("processes", "needs a PID namespace and Linux 6.14, a user namespace, or a cgroup")


def _why_no_view(host: Host) -> str:
    if host.off:
        return 'confinement="off"'
    return host.view_refused or host.refused or f"no mount namespaces on {host.system}"


def _storage(host: Host) -> Holding:
    if host.view:
        return Holding("space in /tmp", KERNEL, "a file system of its own, in memory")
    return _nothing("space in /tmp", f"each file is bounded, their sum is not: {_why_no_view(host)}")


def _files(host: Host) -> Holding:
    if host.view:
        return Holding("file system", KERNEL, "a root directory of its own")
    if host.landlock:
        return Holding("file system", KERNEL, f"Landlock {host.landlock}", "names of other files can be seen")
    return _nothing("file system", _why_no_view(host))


def _network(host: Host) -> Holding:
    if host.empty_network:
        return Holding("network=False", KERNEL, "an empty network namespace")
    if host.landlock >= 4:
        return Holding("network=False", KERNEL, f"Landlock {host.landlock}", "TCP alone: UDP is not held")
    return _nothing("network=False", _why_no_view(host))


def _other_processes(host: Host) -> Holding:
    if host.view:
        return Holding("other processes", KERNEL, f"{_namespace(host)} with a /proc of its own")
    if host.landlock >= 6:
        return Holding("other processes", KERNEL, f"Landlock {host.landlock}", "their names can be seen in /proc")
    told = "/proc shows them; signals do not reach them" if host.pid_namespace else host.refused
    return _nothing("other processes", f"{_why_no_view(host)}; {told}")


def _user(host: Host) -> Holding:
    if host.own_uids:
        told = "root without capabilities where a function has writes=, or others may not read what it is granted"
        return Holding("user", KERNEL, "a user of its own for each sandbox, without capabilities", told)
    if host.off or host.system != "linux":
        return _nothing("user", _why_no_view(host))
    if host.root and not host.user_namespace:
        return Holding("user", KERNEL, "root without capabilities", host.uids_refused)
    return Holding("user", KERNEL, "the user of the host, without capabilities", "a user of its own needs root")


def _system_calls(host: Host) -> Holding:
    if host.seccomp:
        return Holding("system calls", KERNEL, "seccomp, a deny list")
    return _nothing("system calls", _why_no_view(host) if host.off else "no filter for this processor or system")


def _sockets(host: Host) -> Holding:
    guarantee = "abstract sockets of the host"
    if host.landlock >= 6:
        return Holding(guarantee, KERNEL, f"Landlock {host.landlock}")
    return _nothing(guarantee, _why_no_view(host) if host.off else "needs Landlock 6 (Linux 6.12), or network=False")
