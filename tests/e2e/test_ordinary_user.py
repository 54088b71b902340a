"""Without root, and where the kernel grants no namespaces at all: the same trips, held by other means."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.tools import Host

NOBODY = 65534
NEEDED = ("pyfaas", "anyio", "attr", "attrs", "cloudpickle", "psutil", "idna", "sniffio", "exceptiongroup")
NEEDED_FILES = ("typing_extensions",)

SMOKE = """
import asyncio, os, subprocess, sys, time
from pyfaas import FunctionError, OutOfMemory, Runtime, SandboxDied, TimedOut, function

@function(timeout=10)
def whoami(event):
    return {"uid": os.getuid(), "pid": os.getpid(), "files": os.listdir(os.environ["HOME"])}

@function(timeout=10)
def echo(event):
    return event

@function(timeout=0.5, writes=[sys.argv[1]])
def tree(event):
    # Children of every kind: beside the worker, orphaned, in sessions of their own.
    for _ in range(3):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                open(os.path.join(event["report"], f"{event['then']} {os.getpid()}"), "w").close()
                time.sleep(1000)
            os._exit(0)
    subprocess.Popen(["/bin/sleep", "1000"], start_new_session=True, env={"LD_LIBRARY_PATH": event["mark"]})
    if event["then"] == "hang":
        time.sleep(1000)
    if event["then"] == "exit":
        os._exit(3)
    if event["then"] == "fault":
        import ctypes
        ctypes.string_at(0)
    return "left them"

@function(timeout=10)
def eat(event):
    kept = []
    while True:
        kept.append(bytearray(8_000_000))

report = sys.argv[1]
marked = {"report": report, "mark": os.environ["LD_LIBRARY_PATH"]}
with Runtime() as runtime:
    first = whoami.invoke(0)
    assert first["uid"] == os.getuid()
    assert whoami.invoke(0)["pid"] == first["pid"]
    assert list(echo.map(range(300))) == list(range(300))
    assert isinstance(tree.try_invoke({"then": "hang", **marked}).error, TimedOut)
    for then in ("exit", "fault"):
        assert isinstance(tree.try_invoke({"then": then, **marked}).error, SandboxDied)
    assert isinstance(eat.try_invoke(0).error, OutOfMemory)

    async def main():
        assert await echo.ainvoke(1) == 1
        assert [value async for value in echo.amap([1, 2])] == [1, 2]

    asyncio.run(main())
    held = {one.guarantee: one.held for one in runtime.confinement()}
    print(held["the whole tree dies"], "|", held["death with the host"])
    if sys.argv[2:] == ["killed"]:
        print("ready", flush=True)
        tree.invoke({"then": "hang", **marked})
        os.kill(os.getpid(), 9)
    now = runtime.statistics()
    assert now.in_flight == 0, now
"""

KERNEL = "held by the kernel"


def assert_grandchildren_ran(report: str) -> None:
    """At least those of the sandbox that lived on until its time-out."""
    assert sum(name.startswith("hang") for name in os.listdir(report)) == 3, os.listdir(report)


def ran_as_uid(command: list[str], uid: int, **options: Any) -> subprocess.CompletedProcess[str]:
    common: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": [], "capture_output": True, "text": True}
    return subprocess.run(command, check=False, timeout=60, **common, **options)


@pytest.fixture(scope="module")
def readable() -> Iterator[tuple[str, str]]:
    """An interpreter that anybody may run, and a directory with pyfaas and its dependencies that anybody may read."""
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else; every other test runs as an ordinary user here")
    directory = tempfile.mkdtemp(prefix="pyfaas-readable-")
    try:
        for name in NEEDED:
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None:
                shutil.copytree(Path(spec.origin).parent, Path(directory, name))
        for name in NEEDED_FILES:
            spec = importlib.util.find_spec(name)
            if spec is not None and spec.origin is not None:
                shutil.copy(spec.origin, directory)
        subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
        yield _interpreter(directory), directory
    finally:
        shutil.rmtree(directory)


def _interpreter(directory: str) -> str:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}", "/usr/bin/python3"):
        check = "import sys, pyfaas.runtime, psutil; assert sys.version_info >= (3, 10)"
        try:
            done = ran_as_uid([candidate, "-c", check], NOBODY, env={"PYTHONPATH": directory}, cwd="/")
        except OSError:
            continue
        if done.returncode == 0:
            return candidate
    pytest.skip("no interpreter that an ordinary user may run")


@pytest.fixture
def host_of_nobody(host: Host, tmp_path: Path) -> Iterator[Host]:
    """A host whose directory an ordinary user may use, below one that all may pass through."""
    directory = Path(tempfile.mkdtemp(prefix="pyfaas-nobody-"))
    open_host = Host(directory)
    (directory / "report").mkdir()
    subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(directory)], check=True)
    try:
        yield open_host
    finally:
        open_host.end()
        shutil.rmtree(directory)


def without_namespaces(uid: int) -> None:
    """
    Between fork and exec: enter a user namespace that grants no further one, and no PID namespace either.

    After the exec nothing is left of the capabilities that the new namespace gave, unless its uid is 0.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if libc.unshare(0x10000000) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{uid} {outer_gid} 1")
    for kind in ("user", "pid"):
        Path(f"/proc/sys/user/max_{kind}_namespaces").write_text("0")


LAUNCH = "import os, sys; from e2e.test_ordinary_user import without_namespaces; "
LAUNCH += "without_namespaces(int(sys.argv[1])); "
LAUNCH += (
    "os.execv(sys.executable, [sys.executable, '-W', 'error', '-W', 'ignore:this host does not hold', *sys.argv[2:]])"
)


@pytest.fixture(params=[0, 1000], ids=["as root of nothing", "as nobody special"])
def bare(request: pytest.FixtureRequest, host: Host) -> tuple[str, ...]:
    """The command that runs a program where no namespace can be had."""
    (host.directory / "report").mkdir()
    command = ("python", "-c", LAUNCH, str(request.param))
    probe = host.start(*command, "-c", "import os; print(os.getuid())")
    out, err = probe.communicate(timeout=30)
    if probe.returncode != 0:
        pytest.skip(f"this machine does not let a test make such a namespace: {err.splitlines()[-1]}")
    assert out == f"{request.param}\n"
    return command


class TestAnOrdinaryUser:
    def test_has_the_same_trips(self, host_of_nobody: Host, readable: tuple[str, str]) -> None:
        python, path = readable
        host = host_of_nobody
        report = str(host.directory / "report")
        out = host.run(
            *(python, "-W", "error", host.script(SMOKE), report),
            env=host.environment(PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1"),
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        assert out == f"{KERNEL} | {KERNEL}\n" or out.startswith("watched"), out
        assert_grandchildren_ran(report)
        host.assert_nothing_is_left(2.0)

    def test_leaves_nothing_when_killed(self, host_of_nobody: Host, readable: tuple[str, str]) -> None:
        python, path = readable
        host = host_of_nobody
        process = host.start(
            *(python, "-W", "error", host.script(SMOKE), str(host.directory / "report"), "killed"),
            env=host.environment(PYTHONPATH=path, PYTHONDONTWRITEBYTECODE="1"),
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        out, err = process.communicate(timeout=60)
        assert "ready" in out, err
        host.assert_nothing_is_left(2.0)


class TestWithoutAnyNamespace:
    def test_the_trips_are_the_same_and_confinement_tells(self, host: Host, bare: tuple[str, ...]) -> None:
        report = str(host.directory / "report")
        out = host.run(*bare, host.script(SMOKE), report)
        assert out == "watched | watched\n"
        assert_grandchildren_ran(report)
        host.assert_nothing_is_left(2.0)

    def test_nothing_is_left_when_the_host_is_killed(self, host: Host, bare: tuple[str, ...]) -> None:
        process = host.start(*bare, host.script(SMOKE), str(host.directory / "report"), "killed")
        out, err = process.communicate(timeout=60)
        assert "ready" in out, err
        host.assert_nothing_is_left(2.0)
