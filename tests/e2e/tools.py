"""
What the tests of whole lives share: host programs in processes of their own, and looking at what is left of them.

Every process that a host program starts carries a mark in the environment that it was executed with, sandboxes and what
handlers fork included. So ``Host.processes()`` finds them all, whoever their parent is by now.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

import pyfaas
from pyfaas import Runtime
from support import open_files

SOURCE = str(Path(pyfaas.__file__).parents[1])
TESTS = str(Path(__file__).parents[1])
NAP_SECONDS = 0.003
SINKS = ("ran", "told", "worked", "heard", "looked")  # what the functions of killing.py write


def eventually(check: Callable[[], Any], told: Callable[[], Any] | str = "", seconds: float = 15.0) -> Any:
    """Give what ``check`` gives once it is true; fail when it is not in time."""
    until = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds} s: {told() if callable(told) else told or check}")
        time.sleep(NAP_SECONDS)


class Host:
    """Runs host programs: in a directory, with a directory for temporary files, and with a mark, all of their own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.temporary = directory / "temporary"
        self.temporary.mkdir()
        self.mark = f"/nonexistent/{uuid.uuid4().hex}"
        self.started: list[subprocess.Popen[str]] = []

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV", "PYTHON"))}
        return {
            **kept,
            "PYTHONPATH": os.pathsep.join((SOURCE, TESTS)),
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.temporary),
            "LD_LIBRARY_PATH": self.mark,
            **more,
        }

    def start(self, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start this command; ``python`` stands for the interpreter at hand."""
        words = [sys.executable if word == "python" else word for word in command]
        options.setdefault("env", self.environment())
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(
            words, cwd=self.directory, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
        )
        self.started.append(process)
        return process

    def run(
        self, *command: str, status: int = 0, seconds: float = 60.0, text: str | None = None, **options: Any
    ) -> str:
        """Run it to its end, which must be ``status``, and give what it printed."""
        if text is not None:
            options["stdin"] = subprocess.PIPE
        process = self.start(*command, **options)
        try:
            out, err = process.communicate(text, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{command} did not end within {seconds} s\n{out}\n{err}") from None
        assert process.returncode == status, f"{command} ended with {process.returncode}\n{out}\n{err}"
        if status == 0:
            assert not err, err
        return out

    def script(self, program: str, name: str = "program.py") -> str:
        """Write a program down and give its path."""
        path = self.directory / name
        path.write_text(program)
        return str(path)

    def run_script(self, program: str, *arguments: str, **options: Any) -> str:
        """Run a program from its file."""
        return self.run("python", "-W", "error", self.script(program), *arguments, **options)

    def start_script(self, program: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program from its file."""
        return self.start("python", "-W", "error", self.script(program), *arguments, **options)

    def processes(self) -> list[int]:
        """Give all processes that bear the mark."""
        found = []
        mark = self.mark.encode()
        for name in os.listdir("/proc"):
            if name.isdigit():
                try:
                    if mark in Path("/proc", name, "environ").read_bytes() and not _is_zombie(name):
                        found.append(int(name))
                except OSError:
                    continue
        return found

    def assert_nothing_is_left(self, seconds: float = 5.0, *, files: bool = True) -> None:
        """No process of the program lives any more, and its temporary directory is empty."""
        eventually(lambda: not self.processes(), lambda: [told_of(pid) for pid in self.processes()], seconds)
        if files:
            eventually(lambda: not os.listdir(self.temporary), lambda: os.listdir(self.temporary), seconds)

    def end(self) -> None:
        """End what a failed test left."""
        for pid in self.processes():
            try:
                kill(pid)
            except OSError:
                continue
        for process in self.started:
            process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait(10)


def _is_zombie(pid: str) -> bool:
    return b") Z " in Path("/proc", pid, "stat").read_bytes()


def is_alive(pid: int) -> bool:
    """Tell whether a process still runs; whoever is its parent by now may take its time to reap it."""
    try:
        return not _is_zombie(str(pid))
    except OSError:
        return False


def kill(pid: int) -> None:
    """Kill one process. (A process that is gone may be known as -1, and to ``os.kill`` that means everybody.)"""
    assert pid > 1, pid
    os.kill(pid, signal.SIGKILL)


def told_of(pid: int) -> str:
    """Say what a process is, for messages."""
    try:
        process = psutil.Process(pid)
        return f"{pid} {process.status()} {process.cmdline()[:6]}"
    except psutil.Error:
        return f"{pid} gone"


def line_of(process: subprocess.Popen[str]) -> str:
    """Give the next line that a host program prints."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        _, err = process.communicate(timeout=30)
        raise AssertionError(f"it ended with {process.returncode}: {err}")
    return line.rstrip("\n")


# -- runtimes in this process ------------------------------------------------------------------------------------------


def sandboxes_of(runtime: Runtime) -> list[int]:
    """Give the pids of all sandboxes of a runtime, those that are not reaped included."""
    zygote = runtime._pool and runtime._pool.supply.current
    if zygote is None:
        return []
    return [child.pid for child in psutil.Process(zygote.pid).children()]


def assert_settled(runtime: Runtime, seconds: float = 10.0) -> None:
    """All permits are back, and there are just as many sandboxes as the runtime counts as warm."""

    def is_settled() -> bool:
        now = runtime.statistics()
        free = runtime._pool.ledger.account.free
        return (
            now.in_flight == now.waiting == 0
            and now.live == now.idle
            and free == runtime._pool.ledger.account.size
            and len(sandboxes_of(runtime)) == now.live + now.standby
            and not runtime._pool.running
        )

    def told() -> str:
        pool = runtime._pool
        return (
            f"{runtime!r}: {runtime.statistics()} free={pool.ledger.account.free} running={pool.running} "
            f"processes={[told_of(pid) for pid in sandboxes_of(runtime)]} {runtime._pool.supply.dying}"
        )

    eventually(is_settled, told, seconds)


def descriptors() -> Sequence[str]:
    """Give what this process holds open."""
    return sorted(open_files().values())
