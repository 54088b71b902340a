"""
Control groups, where this host lets its user make them: a lid on what the watch can only look at. (host side)

    find() ──► Place, Place ...        where groups of a kind may be made: memory, cpu, pids; version 1 or 2 of each
    Groups(places).make(name) ──► Group ──► limit(...), add(pid), kill(), oom_killed(), remove()

Nothing of a call waits for them: to move a process takes the kernel 15 ms now and then. The watch does so when it first
looks at a sandbox, and from then on all that the sandbox starts is in its group too.

A runtime's groups lie in one directory that bears the host's pid and the time of its birth. What a killed host leaves
behind is empty, for its sandboxes die with it; the next one removes it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pyfaas import limits

CONTROLLERS = ("memory", "cpu", "pids")
PERIOD_US = 100_000
TRIES = 10
_PREFIX = "pyfaas-"
_numbers = itertools.count()


class Place(NamedTuple):
    """Where groups may be made that hold these controllers."""

    controllers: tuple[str, ...]
    version: int
    directory: str


# -- finding -----------------------------------------------------------------------------------------------------------


def find() -> list[Place]:
    """Look where this process may make groups; empty where it may not, and on other systems."""
    try:
        with open("/proc/self/mountinfo") as mounts, open("/proc/self/cgroup") as own:
            lines, groups = mounts.read().splitlines(), own.read().splitlines()
    except OSError:
        return []
    return [place for place in places(lines, groups, _hands_out) if os.access(place.directory, os.W_OK)]


def places(mounts: Iterable[str], groups: Iterable[str], hands_out: Callable[[str], set[str]]) -> list[Place]:
    """
    Find the directory of each controller in what ``/proc`` tells. (pure)

    Version 2 keeps processes out of groups that hand out controllers, so there one above is taken; ``hands_out`` tells
    what a directory does. A process has one group of version 2, so it is one for all: of those that hand out most, the
    nearest.
    """
    own = dict(_own_paths(groups))
    found: dict[tuple[str, ...], Place] = {}
    for mount in mounts:
        fields, _, after = mount.partition(" - ")
        root, point = fields.split()[3:5]
        kind, _, options = after.split()[:3]
        if kind == "cgroup":
            held = _sorted(set(options.split(",")) & own.keys())
            if held:
                found[held] = Place(held, 1, _below(point, root, own[held[0]]))
        elif kind == "cgroup2" and "" in own:
            above = _from_here_up(point, _below(point, root, own[""]))
            held, directory = max(((_sorted(hands_out(one)), one) for one in above), key=lambda one: len(one[0]))
            if held:
                found[held] = Place(held, 2, directory)
    return [found[held] for held in sorted(found, key=lambda held: CONTROLLERS.index(held[0]))]


def _sorted(controllers: Iterable[str]) -> tuple[str, ...]:
    return tuple(one for one in CONTROLLERS if one in controllers)


def _from_here_up(point: str, directory: str) -> Iterator[str]:
    while directory.startswith(point):
        yield directory
        directory = os.path.dirname(directory)


def _own_paths(groups: Iterable[str]) -> Iterator[tuple[str, str]]:
    for line in groups:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            yield controller, path


def _below(point: str, root: str, path: str) -> str:
    inside = os.path.relpath(path, root)
    return point if inside == "." or inside.startswith("..") else os.path.join(point, inside)


def _hands_out(directory: str) -> set[str]:
    with contextlib.suppress(OSError), open(f"{directory}/cgroup.subtree_control") as file:
        if os.access(directory, os.W_OK):
            return set(file.read().split())
    return set()


# -- making ------------------------------------------------------------------------------------------------------------


class Groups:
    """The groups of one runtime."""

    def __init__(self, found: Iterable[Place] | None = None) -> None:
        self.places = list(find() if found is None else found)
        self._name = f"{_PREFIX}{os.getpid()}-{_birth_of(os.getpid())}-{next(_numbers)}"
        self.directories: set[str] = set()  # those that were made for all groups of a kind

    @property
    def controllers(self) -> set[str]:
        """What groups can be made of."""
        return {controller for place in self.places for controller in place.controllers}

    def make(self, name: str, wanted: Iterable[str] = CONTROLLERS) -> Group | None:
        """
        Make a group; None where none can be made (then the watch is alone, as elsewhere).

        ``wanted``: the controllers whose lids are needed. Each group takes the kernel half a millisecond to make; and
        without a quota sandboxes stay out of the scheduler's: it takes turns between groups first, and eight threads
        lost a third of their calls to that.
        """
        wanted = set(wanted)
        group = Group([])
        try:
            for place in self.places:
                held = tuple(one for one in place.controllers if one in wanted)
                if held:
                    top = self._top(place, held)
                    os.mkdir(f"{top}/{name}")
                    group.places.append(Place(held, place.version, f"{top}/{name}"))
        except OSError as error:
            group.remove()
            if isinstance(error, FileNotFoundError):
                self.directories.clear()  # somebody tidied up; the next one makes them anew
            else:
                self.places = []
            return None
        return group if group.places else None

    def _top(self, place: Place, held: tuple[str, ...]) -> str:
        """Make the directory for all groups that hold these; version 2 has all groups in one hold the same."""
        top = f"{place.directory}/{self._name}{'-cpu' * (place.version == 2 and 'cpu' in held)}"
        if top not in self.directories:
            _sweep(place.directory)
            os.makedirs(top, exist_ok=True)
            self.directories.add(top)
            if place.version == 2:
                _write(top, "cgroup.subtree_control", " ".join(f"+{controller}" for controller in held))
        return top

    def close(self) -> None:
        """Remove what is left; what is still not empty goes with the next runtime."""
        left = list(self.directories)
        for _ in range(TRIES):
            left = [directory for directory in left if not _remove(directory)]
            if not left:
                return
            time.sleep(0.002)  # the last of its processes are on their way out


class Group:
    """The group of one sandbox."""

    __slots__ = ("places",)

    def __init__(self, found: list[Place]) -> None:
        self.places = found

    def limit(self, memory_bytes: int, processes: int, processors: float | None) -> None:
        """Set the lids: bytes of all memory it causes, tasks, processors by their time. Raises OSError."""
        for controllers, version, directory in self.places:
            if "memory" in controllers:
                _limit_memory(directory, version, memory_bytes)
            if "pids" in controllers:
                _write(directory, "pids.max", str(processes))
            if "cpu" in controllers and processors is not None:
                quota = max(int(processors * PERIOD_US), 1000)
                if version == 1:
                    _write(directory, "cpu.cfs_period_us", str(PERIOD_US))
                    _write(directory, "cpu.cfs_quota_us", str(quota))
                else:
                    _write(directory, "cpu.max", f"{quota} {PERIOD_US}")

    def add(self, pid: int) -> None:
        """Move a process in; what it starts from then on is in too. Raises OSError."""
        for place in self.places:
            _write(place.directory, "cgroup.procs", str(pid))

    def kill(self) -> None:
        """Kill all in it at once, also what forks; version 1 has no means for that, nor has Linux before 5.14."""
        for place in self.places:
            if place.version == 2:
                with contextlib.suppress(OSError):
                    _write(place.directory, "cgroup.kill", "1")

    def oom_killed(self) -> bool:
        """Tell whether the kernel has killed something in it for want of memory."""
        for controllers, version, directory in self.places:
            if "memory" in controllers:
                name = "memory.oom_control" if version == 1 else "memory.events"
                with contextlib.suppress(OSError, ValueError), open(f"{directory}/{name}") as file:
                    return any(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
        return False

    def remove(self) -> bool:
        """Remove it; False if something in it is still on its way out."""
        gone = True
        for place in self.places:
            try:
                os.rmdir(place.directory)
            except FileNotFoundError:
                pass
            except OSError:
                gone = False
        return gone


def _limit_memory(directory: str, version: int, size: int) -> None:
    if version == 1:
        _write(directory, "memory.limit_in_bytes", str(size))
        with contextlib.suppress(OSError):  # not every kernel counts swap
            _write(directory, "memory.memsw.limit_in_bytes", str(size))
        return
    _write(directory, "memory.max", str(size))
    with contextlib.suppress(OSError):
        _write(directory, "memory.swap.max", "0")
    _write(directory, "memory.oom.group", "1")


def lid_bytes(memory_mb: int, storage_mb: int) -> int:
    """Give what a sandbox may cause to be held, in all: its processes, its files, its log."""
    return (memory_mb + storage_mb) * limits.MB + 16 * limits.LOG_BYTES


def _write(directory: str, name: str, text: str) -> None:
    descriptor = os.open(f"{directory}/{name}", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _birth_of(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def _sweep(directory: str) -> None:
    """Remove what hosts that are gone left here."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            pid, birth = [*name.removeprefix(_PREFIX).split("-"), ""][:2]
            if name.startswith(_PREFIX) and pid.isdigit() and _birth_of(int(pid)) != birth:
                _remove(f"{directory}/{name}")


def _remove(directory: str) -> bool:
    try:
        for name in os.listdir(directory):
            if os.path.isdir(f"{directory}/{name}"):
                os.rmdir(f"{directory}/{name}")
        os.rmdir(directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
