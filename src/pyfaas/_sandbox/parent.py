"""
The host's handle of the zygote: starts it, asks it for sandboxes and for how they ended.

One per runtime. All talk with it is under one lock and short: a spawn is one message without an answer (the worker
itself says HELLO), a reap is asked for once the process is known to be gone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable
from typing import Any

from pyfaas._confine.plan import Host
from pyfaas._descriptors import receive_descriptors, socket_pair
from pyfaas._sandbox import control
from pyfaas.context import REGION
from pyfaas.errors import HostError

START_SECONDS = 20.0
REAP_SECONDS = 5.0
_PACKAGE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv[1]); from pyfaas._sandbox import forking; forking.collect(); "
    "from pyfaas._sandbox.zygote import main; main()"  # runs under -I
)

# Imported once for all forks: what the first cannot do without, and, once nobody waits, what many modules import.
NEEDED = ("pyfaas._sandbox.worker", "pyfaas.resources", "pyfaas.functions")
USUAL = ("subprocess", "logging", "typing", "dataclasses")


# Held while descriptors are made, and by every fork of the host: a copy of the other side's end, taken at that moment,
# would keep open a socket whose end somebody waits for. What holds descriptors is noted, for a forked child to close.
making = threading.RLock()
holders: set[Any] = set()


def _abandon_all() -> None:
    for holder in holders:
        holder.abandon()
    holders.clear()
    making.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=making.acquire, after_in_parent=making.release, after_in_child=_abandon_all)


class ZygoteDied(Exception):
    """The zygote is gone, and its sandboxes with it; start another one."""


class Zygote:
    """A zygote that runs."""

    untrusted = False  # it has run none but our code
    spare: Any = None  # a sandbox that it forked ahead of the next call which needs one
    spare_wanted = False

    def __init__(self, directory: str, modules: Iterable[str] = (), confinement: str = "best") -> None:
        self._lock = threading.Lock()
        self._pidfd = -1
        self._process: subprocess.Popen[bytes] | None = None
        self._directory = directory
        self._modules = set(modules)
        self._confinement = confinement
        self.mark = os.urandom(8).hex()  # of all its sandboxes' log streams
        self.search_path = search_path()  # as the root of all sandboxes is built of it
        with making:
            self._control, theirs = socket_pair()
            holders.add(self)
            try:
                self._process = self._start(theirs)
            except BaseException:
                self._control.close()
                holders.discard(self)
                raise
            finally:
                theirs.close()
        try:
            self.host = self._greet()
            if self.host.pid_namespace:
                self._process.wait()  # it was only the way into the namespace
        except BaseException:
            self._process.kill()
            self._process.wait()
            self.close()
            raise

    def _start(self, theirs: socket.socket) -> subprocess.Popen[bytes]:
        has_pidfd = hasattr(os, "pidfd_open")
        passed = [_above_standard(theirs.fileno())]
        if has_pidfd:
            host = os.pidfd_open(os.getpid())
            passed.append(_above_standard(host))
            os.close(host)
        flags = ["-I", *(["-" + "O" * sys.flags.optimize] if sys.flags.optimize else [])]
        if sys.dont_write_bytecode:
            flags.append("-B")
        # The interpreter may need its library path to start at all; nothing else of the host's environment goes along.
        needed = ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
        environment = {name: os.environ[name] for name in needed if name in os.environ}
        environment |= {"PATH": os.defpath, "LANG": "C.UTF-8", "LC_CTYPE": "C.UTF-8"}
        command = [
            sys.executable,
            *flags,
            "-c",
            _PROGRAM,
            _PACKAGE,
            *map(str, passed if has_pidfd else [*passed, os.getpid()]),
        ]
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                pass_fds=passed,
                start_new_session=True,
            )
        except OSError as error:
            raise HostError(f"cannot start a Python interpreter ({sys.executable!r}) for sandboxes: {error}") from error
        finally:
            for descriptor in passed:
                os.close(descriptor)

    def _greet(self) -> Host:
        """Say where modules are; hear what this host can do."""
        self._control.settimeout(START_SECONDS)
        try:
            _, descriptors = receive_descriptors(self._control, 1)
            self._pidfd = descriptors[0] if descriptors else -1
            self._send(control.START, [*NEEDED, *self._modules], later=USUAL)
            _, size = control.MESSAGE.unpack(self._read(control.MESSAGE.size))
            return Host(*json.loads(self._read(size)))
        except (OSError, ValueError, ZygoteDied) as error:
            raise HostError(f"the process that makes sandboxes did not start ({sys.executable!r}): {error}") from error

    def _send(self, kind: int, modules: Iterable[str], later: Iterable[str] = (), *, needed: bool = False) -> None:
        """Say what to import ahead: ``later``, once nobody waits; ``needed``: what fails is a fault of the function."""
        wanted = json.dumps(
            {
                "sys_path": search_path(),
                "home": home_directory(),
                "confinement": self._confinement,
                "modules": list(modules),
                "needed": needed,
                "later": list(later),
                "directory": self._directory,
                "environment": base_environment(),
            }
        ).encode()
        self._control.sendall(control.MESSAGE.pack(kind, len(wanted)) + wanted)

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._control.recv(size - len(data))
            if not part:
                raise ZygoteDied("it ended")
            data += part
        return data

    def preload(self, modules: Iterable[str]) -> None:
        """Import these ahead of all sandboxes from now on."""
        with self._lock:
            new = set(modules) - self._modules
            if new:
                self._modules |= new
                with contextlib.suppress(OSError):
                    self._send(control.PRELOAD, new)

    def fork_branch(self, theirs: socket.socket) -> None:
        """Ask for a fork of it that listens at the other end of this socket. Raises ZygoteDied."""
        self._pass(control.BRANCH, 0, theirs.fileno())

    def spawn(self, number: int, wire: socket.socket, log: int, slot: str = "") -> None:  # noqa: ARG002
        """Ask for a sandbox at the other end of this socket; it is told of its slot later. Raises ZygoteDied."""
        self._pass(control.SPAWN, number, wire.fileno(), log)

    def spawn_from(self, template: socket.socket, wanted: dict[str, Any], wire: socket.socket, log: int) -> None:
        """Ask for the directories of a template's sandbox, and to send it on to there. Raises ZygoteDied."""
        told = json.dumps(wanted).encode()
        self._pass(control.TEMPLATE, len(told), wire.fileno(), log, template.fileno(), rest=told)

    def vouches_for(self, number: int, pidfd: int) -> bool:  # noqa: ARG002
        """Tell whether what came with a HELLO is the sandbox itself."""
        return True

    def distrust(self) -> None:
        """After any doubt."""

    def _pass(self, kind: int, number: int, *descriptors: int, rest: bytes = b"") -> None:
        try:
            with self._lock:
                socket.send_fds(self._control, [control.MESSAGE.pack(kind, number)], descriptors)
                if rest:
                    self._control.sendall(rest)
        except OSError as error:
            raise ZygoteDied(str(error)) from error

    def reap(self, number: int) -> tuple[int, int]:
        """Ask how a sandbox ended that is known to be gone: what is told, and its value. Raises ZygoteDied."""
        with self._lock:
            try:
                self._control.settimeout(REAP_SECONDS)
                self._control.sendall(control.MESSAGE.pack(control.REAP, number))
                answered = -1
                while answered != number:  # the answer to a question that was given up may come first
                    answered, told, value = control.REPLY.unpack(self._read(control.REPLY.size))
            except OSError as error:
                raise ZygoteDied(str(error)) from error
        return told, value

    @property
    def pid(self) -> int:
        """The zygote's pid as the host sees it, or -1 once it is gone."""
        if self._pidfd >= 0:
            return pid_of(self._pidfd)
        return -1 if self._process is None else self._process.pid

    def is_gone(self) -> bool:
        """Tell whether it has hung up: so it does in dying, a moment before those below it are dead."""
        poll = select.poll()
        poll.register(self._control, 0)
        return bool(poll.poll(0))

    def close(self) -> None:
        """End it, and with it every sandbox, for good: back when all are gone."""
        # Killed before the socket ends, for at that end it would remove the directories, which another may use on.
        if self._pidfd >= 0:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            poll = select.poll()
            poll.register(self._pidfd, select.POLLIN)
            poll.poll(2000)
            # Where the host is PID 1 of a container, or a subreaper, the zygote became its child.
            with contextlib.suppress(OSError):
                os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            pidfd, self._pidfd = self._pidfd, -1
            os.close(pidfd)
        self._control.close()
        holders.discard(self)
        # The way into the namespace has ended long ago, and is waited for; without one it is the zygote itself.
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def abandon(self) -> None:
        """In a forked child of the host: close the copies, touch nothing else."""
        self._lock = threading.Lock()
        self._control.close()
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._pidfd = -1


def _above_standard(descriptor: int) -> int:
    """Copy a descriptor to where the standard streams of a child do not take its place (a daemon closed its own)."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)


def base_environment() -> dict[str, str]:
    """Build what every sandbox's environment has, from nothing: what a process needs, and AWS Lambda's constants."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return {
        "PATH": os.pathsep.join((os.path.dirname(sys.executable), "/usr/local/bin", "/usr/bin", "/bin")),
        "LANG": "C.UTF-8",
        "LC_CTYPE": "C.UTF-8",
        "TZ": ":UTC",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EXECUTION_ENV": f"AWS_Lambda_python{version}",
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "LAMBDA_RUNTIME_DIR": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    }


def search_path() -> list[str]:
    """Give ``sys.path`` so that it means the same from another directory."""
    return [os.path.abspath(entry) for entry in sys.path]


def home_directory() -> str:
    """Give the home of the user that runs the host: of it, sandboxes are shown code alone."""
    return os.path.realpath(os.path.expanduser("~"))


def pid_of(pidfd: int) -> int:
    """Give the pid behind a pidfd, as seen from here; -1 if it is gone. Linux only."""
    try:
        with open(f"/proc/self/fdinfo/{pidfd}", "rb") as file:
            for line in file:
                if line.startswith(b"Pid:"):
                    return int(line[4:])
    except OSError:
        pass
    return -1
