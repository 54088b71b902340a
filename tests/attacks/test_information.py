"""What a handler may try to find out, to reach and to leave behind: files, processes, sockets, networks, the kernel."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attacks import handlers
from attacks.harness import Arena
from pyfaas import Runtime, function
from pyfaas._confine.plan import KERNEL, NOT_HELD

SECRET = "the secret of this host"


@pytest.fixture
def runtime(arena: Arena) -> Runtime:
    return arena.runtime


def need(arena: Arena, guarantee: str) -> None:
    """Go on where the kernel holds it; where it does not, the runtime must say so, and there is nothing to try."""
    if arena.held(guarantee) != KERNEL:
        assert arena.held(guarantee) == NOT_HELD
        pytest.skip(f"{guarantee}: not held on this host, and said so")


def attempt(arena: Arena, *sources: str, declared: Any = handlers.attempts) -> list[Any]:
    """Evaluate in a sandbox; give values, or the names of what was raised. All that must hold around it, holds."""
    with arena.surroundings(handlers.attempts):
        return list(arena.runtime.invoke(declared, list(sources)))


@pytest.fixture
def secret_file() -> Iterator[str]:
    """A file of the host that everybody may read."""
    descriptor, path = tempfile.mkstemp(dir="/var/tmp")
    os.write(descriptor, SECRET.encode())
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)
    yield path
    os.unlink(path)


class TestFiles:
    def test_of_the_host_are_not_there(self, arena: Arena, secret_file: str) -> None:
        need(arena, "file system")
        found = attempt(
            arena,
            f"open({secret_file!r}).read()",
            f"os.listdir({os.path.dirname(secret_file)!r})",
            "open('/etc/shadow').read()",
            "os.listdir('/home')",
            "os.listdir('/root/.ssh')",
            f"open('/proc/self/root' + {secret_file!r}).read()",
            f"open('/tmp/../' + {secret_file!r}).read()",
        )
        assert SECRET not in found
        assert all(str(one).endswith("Error") for one in found), found

    def test_of_code_cannot_be_written(self, arena: Arena) -> None:
        need(arena, "file system")
        for place in (os.path.dirname(handlers.__file__), os.path.dirname(os.__file__), "/usr/lib", "/etc", "/"):
            assert attempt(arena, f"open({place!r} + '/pyfaas-was-here', 'w')") in (["OSError"], ["PermissionError"])
            assert not os.path.exists(os.path.join(place, "pyfaas-was-here"))

    def test_fill_no_more_than_is_granted(self, arena: Arena) -> None:
        need(arena, "space in /tmp")
        before = os.statvfs(tempfile.gettempdir()).f_bavail
        assert attempt(arena, "fill('/tmp')", declared=handlers.attempts_with_much_memory)[0] <= 513
        assert attempt(arena, "fill('/dev/shm')", declared=handlers.attempts_with_much_memory)[0] <= 513
        assert attempt(arena, "many_files('/tmp')")[0] <= 512 * 64
        assert os.statvfs(tempfile.gettempdir()).f_bavail > before - 200_000

    def test_that_are_granted_are_read_and_written(self, arena: Arena, tmp_path: Path) -> None:
        (tmp_path / "shown").mkdir()
        (tmp_path / "shown" / "file").write_text("for you")
        (tmp_path / "drop").mkdir()

        @function(reads=[tmp_path / "shown"], writes=[tmp_path / "drop"])
        def use(event: list[str]) -> list[str]:
            read, written = event
            with open(os.path.join(written, "answer"), "w") as file:
                file.write("from me")
            try:
                with open(os.path.join(read, "no"), "w"):
                    refused = "nothing"
            except OSError as error:
                refused = type(error).__name__
            with open(os.path.join(read, "file")) as file:
                return [file.read(), refused]

        told = arena.runtime.invoke(use, [str(tmp_path / "shown"), str(tmp_path / "drop")])
        assert told[0] == "for you"
        assert told[1] in ("OSError", "PermissionError")
        assert (tmp_path / "drop" / "answer").read_text() == "from me"

    def test_in_a_directory_of_code_may_be_granted_for_writing(self, arena: Arena) -> None:
        """The data of a project often lies in it."""
        place = Path(handlers.PLACE)
        inner = Path(tempfile.mkdtemp(dir=place))

        @function(reads=[place], writes=[inner])
        def use(event: str) -> None:
            with open(event, "w") as file:
                file.write("written")

        arena.runtime.invoke(use, str(inner / "file"))
        assert (inner / "file").read_text() == "written"

    def test_that_do_not_exist_cannot_be_granted(self, arena: Arena) -> None:
        @function(reads=["/not/there"])
        def use(event: Any) -> None: ...

        with pytest.raises(ValueError, match=r"reads=\['/not/there'\] of 'use': '/not/there' does not exist"):
            arena.runtime.invoke(use, 1)

    def test_refused_are_told_with_the_option_that_would_grant_them(self, arena: Arena) -> None:
        need(arena, "file system")

        @function
        def look(event: str) -> None:
            open(event).close()

        outcome = arena.runtime.try_invoke(look, "/data/of/the/host/file")
        assert outcome.error is not None
        assert outcome.error.error_type == "FileNotFoundError"  # type: ignore[attr-defined]
        assert "reads=['/data/of/the/host']" in outcome.log


class TestProcesses:
    def test_of_others_are_not_seen(self, arena: Arena) -> None:
        need(arena, "other processes")
        (found,) = attempt(arena, "[int(name) for name in os.listdir('/proc') if name.isdigit()]")
        assert found == [1] or not arena.host.view, "their numbers may be seen where it is Landlock that holds this"
        os.environ["PYFAAS_SECRET"] = SECRET
        try:
            paths = ("/proc/1/environ", "/proc/self/environ", f"/proc/{os.getpid()}/environ")
            seen = attempt(arena, *(f"open({path!r}).read()" for path in paths))
            assert not any(SECRET in one for one in seen)
        finally:
            del os.environ["PYFAAS_SECRET"]

    def test_are_neither_traced_nor_read(self, arena: Arena) -> None:
        need(arena, "system calls")
        found = attempt(arena, "call('ptrace', 16, 1, 0, 0)", "call('process_vm_readv', 1, 0, 0, 0, 0, 0)")
        assert found == ["PermissionError"] * 2

    def test_get_no_real_time_priority(self, arena: Arena) -> None:
        need(arena, "user")
        assert attempt(arena, "os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))") == ["PermissionError"]
        assert attempt(arena, "os.setpriority(os.PRIO_PROCESS, 0, -5)") == ["PermissionError"]

    def test_have_no_capabilities_and_gain_none(self, arena: Arena) -> None:
        need(arena, "user")
        (told,) = attempt(arena, "open('/proc/self/status').read()")
        lines = dict(line.split(":\t") for line in told.splitlines() if ":\t" in line)
        assert {lines[name] for name in ("CapEff", "CapPrm", "CapInh", "CapAmb")} == {"0" * 16}
        assert lines["NoNewPrivs"] == "1"


class TestTheKernel:
    @pytest.mark.parametrize(
        "name", ["mount", "unshare", "setns", "bpf", "keyctl", "perf_event_open", "chroot", "kexec_load"]
    )
    def test_is_not_asked_for(self, arena: Arena, name: str) -> None:
        need(arena, "system calls")
        assert attempt(arena, f"call({name!r}, 0, 0, 0, 0)") == ["PermissionError"]

    @pytest.mark.parametrize("declared", [handlers.attempts, handlers.attempts_that_may_write], ids=["", "may write"])
    def test_is_not_set_right(self, arena: Arena, declared: Any) -> None:
        """The second may be uid 0, though without capabilities; the kernel takes its word in /proc all the same."""
        need(arena, "other processes")
        paths = (
            "sys/kernel/core_pattern",
            "sys/kernel/hostname",
            "sys/vm/drop_caches",
            "sysrq-trigger",
            "1/oom_score_adj",
        )
        found = attempt(arena, *(f"os.open('/proc/{path}', os.O_WRONLY)" for path in paths), declared=declared)
        assert all(one in ("OSError", "PermissionError", "FileNotFoundError") for one in found), found

    def test_shares_no_memory_that_nobody_counts(self, arena: Arena) -> None:
        need(arena, "system calls")
        assert attempt(arena, "call('shmget', 0, 1 << 20, 0o1600)", "call('msgget', 0, 0o1600)") == ["OSError"] * 2


class TestTheNetwork:
    def test_is_not_there_where_it_was_declined(self, arena: Arena) -> None:
        need(arena, "network=False")
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            found = arena.runtime.invoke(
                handlers.attempts_without_network,
                [
                    f"socket.create_connection(('127.0.0.1', {port}), 1)",
                    "socket.create_connection(('169.254.169.254', 80), 1)",
                    "socket.getaddrinfo('example.com', 80)",
                    "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 53))",
                ],
            )
        if not arena.host.empty_network:
            found = found[:2]  # Landlock knows of TCP alone, and the runtime says so
        assert all(one in ("OSError", "gaierror", "PermissionError") for one in found), found

    def test_is_there_otherwise(self, arena: Arena) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            source = f"bool(socket.create_connection(('127.0.0.1', {port}), 1))"
            assert arena.runtime.invoke(handlers.attempts, [source]) == [True]

    def test_declined_is_told_with_the_option_that_would_grant_it(self, arena: Arena) -> None:
        need(arena, "network=False")

        @function(network=False)
        def connect(event: Any) -> None:
            socket.create_connection(("10.0.0.1", 80), 1)

        assert "network=True" in arena.runtime.try_invoke(connect, 1).log

    def test_knows_no_abstract_sockets_of_the_host(self, arena: Arena) -> None:
        need(arena, "abstract sockets of the host")
        with socket.socket(socket.AF_UNIX) as server:
            name = f"\0pyfaas-{os.getpid()}"
            server.bind(name)
            server.listen()
            source = f"socket.socket(socket.AF_UNIX).connect({name!r})"
            assert arena.runtime.invoke(handlers.attempts, [source]) == ["PermissionError"]
