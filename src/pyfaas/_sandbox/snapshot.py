"""
Snap start from inside: a template runs init once, and sandboxes are forked from it. (worker side)

    init ──► run_before_hooks ──► refuse_trouble ──► seal ──► READY
        wait_for_order ──► a fork: settle, confine, HELLO ──► run_after_hooks ──► READY ──► invocations

Hooks are those of AWS's ``snapshot_restore_py``, where the handler's modules imported it. What a fork cannot take along
is found out before the first one; what it can take along only in part (connections, positions in files, seeds) is made
safe.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Collection
from typing import Any

from pyfaas._confine import nest
from pyfaas._descriptors import receive_descriptors
from pyfaas._sandbox import control, forking
from pyfaas.errors import InitFailed

_REOPENED = os.O_ACCMODE | os.O_APPEND | os.O_NONBLOCK


def run_before_hooks() -> None:
    """Run what was registered for before the snapshot, last first. Raises InitFailed."""
    _run(_hooks("get_before_snapshot")[::-1], "Runtime.BeforeSnapshotError")


def run_after_hooks() -> None:
    """Run what was registered for after the restore, first first. Raises InitFailed."""
    _run(_hooks("get_after_restore"), "Runtime.AfterRestoreError")


def _hooks(which: str) -> list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]]:
    library = sys.modules.get("snapshot_restore_py")
    return list(getattr(library, which, list)())


def _run(hooks: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]], failure: str) -> None:
    from pyfaas._sandbox import loader

    for hook, arguments, options in hooks:
        try:
            hook(*arguments, **options)
        except Exception as error:
            told = f"{type(error).__name__}: {loader.message_of(error)}"
            raise InitFailed(told, failure, loader.stack_of(error), "", loader.trace_text(error)) from None


# -- before the first fork ---------------------------------------------------------------------------------------------


def refuse_trouble() -> None:
    """Raise InitFailed if there is something that forks would lose, or share."""
    if told := _trouble():
        raise InitFailed(f"snap_start=True: init {told}", "Runtime.SnapStartError")


def _trouble() -> str:
    if forking.has_threads():
        return "started threads, which no fork takes along: start them in the handler, or in an after-restore hook"
    others = {name for name in os.listdir("/proc") if name.isdigit()} - {"1", str(os.getpid())}
    if others:
        return f"left {len(others)} processes running, which no fork takes along"
    for _, target, mode in _open_files():
        if target.startswith("anon_inode:[eventpoll]"):
            return "made an event loop or a selector, which all forks would share: make it in an after-restore hook"
        if stat.S_ISFIFO(mode):
            return "opened a pipe, which all forks would share: open it in an after-restore hook"
    with open("/proc/self/maps") as maps:
        if any(line.split(None, 2)[1][1:4:2] == "ws" for line in maps):
            return "made memory that is shared with other processes: make it in an after-restore hook"
    return ""


def _open_files() -> list[tuple[int, str, int]]:
    """Give the descriptors above the standard ones, what they lead to, and its mode."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        number = int(name)
        with contextlib.suppress(OSError):
            if number > 2:
                found.append((number, os.readlink(f"/proc/self/fd/{name}"), os.fstat(number).st_mode))
    return found


def _end_connections(ours: Collection[int]) -> None:
    """End what init has connected, as AWS's end in a snapshot: whoever uses one finds it closed."""
    dead, other = socket.socketpair()
    other.close()
    for number, _, mode in _open_files():
        if stat.S_ISSOCK(mode) and number not in ours and number != dead.fileno():
            os.dup2(dead.fileno(), number, inheritable=os.get_inheritable(number))
    dead.close()


# -- forks -------------------------------------------------------------------------------------------------------------


class Template:
    """Forks a sandbox for each order; the orders come where its own frames came before."""

    def __init__(self, wire: socket.socket, below: tuple[str, ...]) -> None:
        self._wire = wire
        self._below = tuple(path for path in below if os.path.exists(path))  # what is shown below /tmp
        self._files: list[tuple[int, str]] = []  # open in init
        self._left: list[str] = []  # in /tmp
        self._namespace = os.open("/proc/thread-self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self._pids: dict[int, int] = {}  # a sandbox's number -> its pid here
        self._failed: dict[int, int] = {}

    def seal(self, log: int) -> None:
        """Make safe what init left open, and note what each fork will have to do."""
        ours = {self._wire.fileno(), self._namespace, log}
        _end_connections(ours)
        self._files = [(number, target) for number, target, mode in _open_files() if stat.S_ISREG(mode)]
        self._files = [one for one in self._files if one[0] not in ours]
        shown = {os.path.relpath(path, "/tmp").split(os.sep)[0] for path in self._below}
        self._left = [name for name in os.listdir("/tmp") if name not in shown]
        if "tempfile" in sys.modules:
            sys.modules["tempfile"]._name_sequence = None  # type: ignore[attr-defined]
        gc.collect()
        gc.freeze()

    def wait_for_order(self) -> tuple[int, int, int, int]:
        """Serve until the host hangs up; comes back in each fork alone, with its socket, its log, and its places."""
        while True:
            data, descriptors = receive_descriptors(self._wire, control.MESSAGE.size)
            if not data:
                os._exit(0)
            kind, number = control.MESSAGE.unpack(data)
            if kind == control.REAP:
                self._tell_end(number)
            elif self._fork(number, descriptors):
                wire, log, temporary, shared = descriptors
                return wire, log, temporary, shared

    def _fork(self, number: int, descriptors: list[int]) -> bool:
        try:
            pid = nest.fork_first(self._namespace)
        except OSError as error:
            self._failed[number] = error.errno or 1
        else:
            if pid == 0:
                return True
            self._pids[number] = pid
        for descriptor in descriptors:
            os.close(descriptor)
        return False

    def _tell_end(self, number: int) -> None:
        told, value = control.UNKNOWN, 0
        if number in self._failed:
            told, value = control.NOT_FORKED, self._failed.pop(number)
        elif number in self._pids:
            told, value = control.how(os.waitpid(self._pids.pop(number), 0)[1])
        self._wire.sendall(control.REPLY.pack(number, told, value))

    def settle(self, temporary: int, shared: int) -> None:
        """In a fork: see what a sandbox sees, and take what init left in ``/tmp`` and open along."""
        place = os.getcwd()
        left = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        os.close(self._namespace)
        self._wire.close()
        nest.settle(temporary, shared, self._below)
        for name in self._left:
            _copy(f"/proc/self/fd/{left}/{name}", f"/tmp/{name}")
        os.close(left)
        for number, target in self._files:
            _open_anew(number, target)
        with contextlib.suppress(OSError):
            os.chdir(place)
        forking.settle()


def _copy(source: str, target: str) -> None:
    with contextlib.suppress(OSError, shutil.Error):  # a socket, or what may not be read
        if os.path.isdir(source) and not os.path.islink(source):
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy2(source, target, follow_symlinks=False)


def _open_anew(number: int, target: str) -> None:
    """Give an open file a position of its own; one in ``/tmp`` becomes that of this sandbox."""
    with contextlib.suppress(OSError):
        flags = fcntl.fcntl(number, fcntl.F_GETFL) & _REOPENED
        position = os.lseek(number, 0, os.SEEK_CUR)
        copy = target.startswith("/tmp/") and os.path.exists(target)
        anew = os.open(target if copy else f"/proc/self/fd/{number}", flags | os.O_CLOEXEC)
        os.lseek(anew, position, os.SEEK_SET)
        os.dup2(anew, number, inheritable=os.get_inheritable(number))
        os.close(anew)
