"""What tests of several rooms need: waiting for a condition, looking for our processes, running a fresh interpreter."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import anyio

SOURCE = Path(__file__).parent.parent / "src"


def wait_until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Poll until the condition holds; fail after the deadline."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.002)


async def reach(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Do the same in a task: a condition is of another thread or process, so no event of the loop tells of it."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.002)


def open_files() -> dict[int, str]:
    """Give what this process holds open, but for what the watch of some runtime looks into at this moment."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
    return {number: what for number, what in found.items() if not re.match(r"/proc/\d+/|/sys/fs/cgroup/", what)}


def is_alive(pid: int) -> bool:
    """Tell whether a process with this number runs (a zombie does not)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat[stat.rfind(")") + 2] not in "ZX"


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to one process; never to a group or to all, as ``os.kill`` would for 0 and -1."""
    assert pid > 1, f"{pid} is not one process"
    os.kill(pid, number)


def zygotes_of(host: int) -> list[int]:
    """Find the zygotes of this host process: they hold a pidfd of it."""
    found = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            if not any(b"pyfaas._sandbox.zygote" in word for word in command) or len(command) < 3:
                continue
            pidfd = command[-2].decode()
            told = (process / "fdinfo" / pidfd).read_text()
        except (OSError, ValueError):
            continue
        if f"\nPid:\t{host}\n" in told and is_alive(int(process.name)):
            found.append(int(process.name))
    return found


def run_python(
    program: str, *arguments: str, flags: tuple[str, ...] = ("-W", "error"), seconds: float = 30.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter that finds this very pyfaas, and give what it printed."""
    variables = {**os.environ, **environment}
    variables["PYTHONPATH"] = os.pathsep.join([str(SOURCE), variables.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return subprocess.run(
        [sys.executable, *flags, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env=variables,
        check=False,
    )


def output_of(program: str, *arguments: str, flags: tuple[str, ...] = ("-W", "error")) -> str:
    """Run a program in a fresh interpreter; it must end well and say nothing on stderr."""
    done = run_python(program, *arguments, flags=flags)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()
