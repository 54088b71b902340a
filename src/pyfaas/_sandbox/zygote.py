"""
The zygote: a fresh, single-threaded interpreter that forks every sandbox. (child side; standard library only)

Started by the host on first use, in a session of its own. It moves into a PID namespace of its own, where it is PID 1:
its death takes every sandbox with it, and it dies as soon as the host does.

    host ──control socket (control.py)──► START, SPAWN, REAP, PRELOAD, BRANCH
    host's pidfd readable, or control socket at its end ──► exit

Nothing here reads what a sandbox writes.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.machinery
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from pyfaas._confine import kernel, nest
from pyfaas._confine.grounds import end_slots, prepare, slot_trees
from pyfaas._confine.host import enter_namespaces
from pyfaas._confine.plan import Host
from pyfaas._confine.root import Grounds
from pyfaas._descriptors import receive_descriptors
from pyfaas._sandbox import forking, immortal
from pyfaas._sandbox.control import (
    BRANCH,
    MESSAGE,
    NOT_FORKED,
    REAP,
    REPLY,
    SPAWN,
    START,
    TEMPLATE,
    UNKNOWN,
    how,
)
from pyfaas._sandbox.slots import Slots

_fork = os.fork  # the plain one; a worker's notes what handlers start
_HAS_PIDFD = hasattr(os, "pidfd_open")


def main() -> None:
    """Run: ``python -I -c "..." <package directory> <control descriptor> <host's pidfd or pid>``."""
    control = socket.socket(fileno=int(sys.argv[2]))
    host = int(sys.argv[3])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gc.disable()  # until a worker has its function; a collection would copy the pages that all share
    found = enter_namespaces()
    if found.pid_namespace and os.fork() != 0:
        os._exit(0)  # the namespace begins with the next child: that is the zygote, this was only the way in
    if found.system == "linux" and not found.pid_namespace:
        kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)  # what outlives its worker comes to us, see _end_orphans
    _greet(control)
    Zygote(control, host, found).run()


def _greet(control: socket.socket) -> None:
    """Tell the host how to kill this process."""
    own = [os.pidfd_open(os.getpid())] if _HAS_PIDFD else []
    socket.send_fds(control, [b"z"], own)
    for descriptor in own:  # every sandbox would inherit it
        os.close(descriptor)


def _import_all(modules: list[str], *, needed: bool = False) -> str:
    """Import ahead. What fails will tell so in the sandbox that needs it; ``needed``: give the first such error."""
    for name in modules:
        try:
            importlib.import_module(name)
        except BaseException as error:
            if needed:
                return f"{name!r}: {type(error).__name__}: {error}"
    return "importing them starts threads, which no fork takes along" if needed and forking.has_threads() else ""


def _rehearse(later: list[str]) -> Iterator[None]:
    """Import what is usual, and warm up what every fork does first, in steps."""
    from pyfaas._sandbox.rehearsal import ROUNDS, rehearse

    for name in later:
        _import_all([name])
        yield
    for _ in range(ROUNDS):
        rehearse()
        yield
    gc.collect()
    gc.freeze()


class Zygote:
    """The loop: one message after the other."""

    def __init__(self, control: socket.socket, host: int, found: Host) -> None:
        self.control = control
        self.host = host
        self.found = found
        self.pid = os.getpid()
        self.namespace = -1
        self.directory = ""
        self.grounds = Grounds()
        self.worker: Any = None
        self.chores: list[Iterator[None]] = []  # what is done while nobody waits, a step at a time
        self.branches: set[int] = set()
        self.workers: dict[int, int] = {}  # a sandbox's number -> its pid in our namespace
        self.failed: dict[int, int] = {}  # a sandbox's number -> errno of its fork

    def run(self) -> None:
        """Serve until the host is gone."""
        if self.found.pid_namespace:
            self.namespace = os.open("/proc/thread-self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        if _HAS_PIDFD:
            poll.register(self.host, select.POLLIN)
        while True:
            while self.chores and not poll.poll(0):
                self._go_on_with_chores()
            # Where there is no pidfd, look now and then whether the host is still our parent.
            ready = poll.poll(None if _HAS_PIDFD else 200)
            if any(descriptor == self.host for descriptor, _ in ready) or self._orphaned():
                self._end()
            if ready:
                self._serve_one()

    def _go_on_with_chores(self) -> None:
        try:
            next(self.chores[0])
        except StopIteration:
            del self.chores[0]

    def _orphaned(self) -> bool:
        return not _HAS_PIDFD and os.getppid() != self.host

    def _serve_one(self) -> None:
        try:
            data, descriptors = receive_descriptors(self.control, MESSAGE.size)
        except OSError:  # the host hung up with an answer unread
            data = b""
        if not data:
            self._end()
        kind, number = MESSAGE.unpack(data)
        if kind == SPAWN:
            self._spawn(number, *descriptors)
        elif kind == REAP:
            self._reap(number)
        elif kind == BRANCH:
            self._branch(*descriptors)
        elif kind == TEMPLATE:
            self._pass_on(json.loads(self._read(number)), *descriptors)
        else:
            wanted = json.loads(self._read(number))
            if kind == START:
                self._start(wanted)
            self._preload(wanted)

    def _start(self, wanted: dict[str, Any]) -> None:
        """See what sandboxes can be given, prepare it, and tell, before the imports: the host has work meanwhile."""
        self.directory = wanted["directory"]
        off = wanted["confinement"] == "off"
        self.found, self.grounds = prepare(self.found, wanted["sys_path"], wanted["home"], self.directory, off=off)
        told = json.dumps(self.found).encode()
        self.control.sendall(MESSAGE.pack(START, len(told)) + told)

    def _end(self) -> NoReturn:
        """The host is gone: take every sandbox along, and the directories that it can no longer remove."""
        if self.found.pid_namespace and os.getpid() == 1:  # anywhere else -1 would mean everybody
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGKILL)
        else:
            for pid in (*self.workers.values(), *self.branches):
                os.kill(pid, signal.SIGKILL)  # ours until we wait for it: its number is not another's
            self.workers.clear()
            self.branches.clear()
            self._end_orphans()
        if self.directory:
            end_slots(self.directory)
            Slots(self.directory).close()
        os._exit(0)

    def _read(self, size: int) -> bytes:
        parts = []
        while size:
            part = self.control.recv(size)
            if not part:
                self._end()
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def _preload(self, wanted: dict[str, Any]) -> None:
        """Import ahead what every sandbox, or many, will need."""
        os.environ.clear()
        os.environ.update(wanted["environment"])  # what is the same in every sandbox
        time.tzset()
        sys.path[:] = wanted["sys_path"]
        # Late, because they need the path, and because the host has work to do meanwhile.
        from pyfaas._sandbox import worker

        trouble = _import_all(wanted["modules"], needed=wanted["needed"])
        if self.worker is None:
            self.worker = worker.Worker()
            self.worker.prepare()
            self.chores.append(_rehearse(wanted["later"]))
        self.worker.preload_trouble = trouble
        importlib.machinery.PathFinder.find_spec("pyfaas_looks_everywhere")  # forks know what lies where
        gc.collect()
        gc.freeze()
        self.chores.append(immortal.share())

    def _spawn(self, number: int, wire: int, log: int) -> None:
        try:
            pid = self._fork_into_namespace()
        except OSError as error:
            self.failed[number] = error.errno or 1
        else:
            if pid == 0:
                self._become(lambda: self._become_worker(wire, log))
            self.workers[number] = pid
        finally:
            os.close(wire)
            os.close(log)

    def _fork_into_namespace(self) -> int:
        """Fork a child that is PID 1 of a namespace of its own, where there are such. Raises OSError."""
        if not self.found.pid_namespace:
            return _fork()
        return nest.fork_first(self.namespace)

    def _pass_on(self, wanted: dict[str, Any], wire: int, log: int, template: int) -> None:
        """Make the directories of a template's sandbox, which it may not, and send it there; failing is its end."""
        made: list[int] = []
        try:
            made += slot_trees(wanted["slot"], wanted["size_mb"], wanted["uid"])
            with socket.socket(fileno=template) as there:
                message = MESSAGE.pack(SPAWN, wanted["number"])
                socket.send_fds(there, [message], [wire, log, *made], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError as error:
            self.failed[wanted["number"]] = error.errno or 1
        finally:
            for descriptor in (wire, log, *made):
                os.close(descriptor)

    def _become(self, live: Callable[[], object]) -> NoReturn:
        """In a fork: die with the zygote, let go of what is its own, and be what the fork was for."""
        try:
            if self.found.system == "linux" and not self.found.pid_namespace:
                kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)  # from birth on: the zygote may die any time
                if os.getppid() != self.pid:
                    os._exit(70)
            self.control.close()
            if self.namespace >= 0:
                os.close(self.namespace)
            live()
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(70)

    def _become_worker(self, wire: int, log: int) -> None:
        if _HAS_PIDFD:
            os.close(self.host)
        self.worker.live(wire, log, self.grounds)

    def _branch(self, control: int) -> None:
        """Fork a zygote from this one; one that cannot be is told by its socket's end."""
        self.branches = {pid for pid in self.branches if os.waitpid(pid, os.WNOHANG)[0] == 0}
        with contextlib.suppress(OSError):
            pid = self._fork_into_namespace()
            if pid == 0:
                self._become(lambda: self._become_branch(control))
            self.branches.add(pid)
        os.close(control)

    def _become_branch(self, control: int) -> None:
        """Go on as a zygote that answers at another socket, and leaves the directories to the first one."""
        if self.found.system == "linux" and not self.found.pid_namespace:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
        branch = Zygote(socket.socket(fileno=control), self.host, self.found)
        branch.grounds, branch.worker, branch.chores = self.grounds, self.worker, self.chores
        _greet(branch.control)
        branch.run()

    def _reap(self, number: int) -> None:
        """Tell how a worker ended; the host asks once it knows that it has."""
        told, value = UNKNOWN, 0
        if number in self.failed:
            told, value = NOT_FORKED, self.failed.pop(number)
        elif number in self.workers:
            told, value = how(os.waitpid(self.workers.pop(number), 0)[1])
        if not self.found.pid_namespace:
            self._end_orphans()
        self.control.sendall(REPLY.pack(number, told, value))

    def _end_orphans(self) -> None:
        """Kill what a dead worker left behind, where no namespace has done it: Linux made us its parent."""
        for _ in range(100):
            try:
                with open(f"/proc/self/task/{os.getpid()}/children", "rb") as file:
                    orphans = set(map(int, file.read().split())) - {*self.workers.values(), *self.branches}
            except OSError:
                return
            if not orphans:
                return
            for pid in orphans:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                    os.waitpid(pid, os.WNOHANG)  # its children come to us next
            time.sleep(0.001)
