"""Handlers that start from a snapshot; init leaves traces, so that a test can tell where it ran."""

from __future__ import annotations

import os
import random
import socket
import sys
import tempfile
import threading
from typing import Any

from snapshot_restore_py import register_after_restore, register_before_snapshot

from pyfaas import Context, function

IN_SANDBOX = "AWS_LAMBDA_FUNCTION_NAME" in os.environ
INIT = {"pid": os.getpid(), "mark": os.urandom(8).hex()}
HOOKS: list[str] = []
LISTENER: socket.socket | None = None
FILE: Any = None

if IN_SANDBOX:
    LISTENER, _ = socket.socketpair()
    with open("/tmp/left-by-init", "w") as file:
        file.write("0123456789")
    FILE = open("/tmp/left-by-init", "rb+", buffering=0)  # noqa: SIM115
    FILE.read(3)
    print("init was here")


def last_before() -> None:
    HOOKS.append("before 1")


def last_after() -> None:
    HOOKS.append("after 2")


register_before_snapshot(last_before)
register_before_snapshot(HOOKS.append, "before 2")
register_after_restore(HOOKS.append, "after 1")
register_after_restore(last_after)


@function(snap_start=True, timeout=20)
def show(event: Any, context: Context) -> dict[str, Any]:
    return {
        "init": INIT,
        "pid": os.getpid(),
        "hooks": HOOKS,
        "random": random.random(),
        "temporary": next(tempfile._get_candidate_names()),  # type: ignore[attr-defined]
        "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
        "log variables": sorted(name for name in os.environ if "_LOG_" in name),
        "log stream": context.log_stream_name,
        "processes": sorted(name for name in os.listdir("/proc") if name.isdigit()),
    }


@function(snap_start=True, fresh=True, timeout=20)
def anew(event: Any, context: Context) -> dict[str, Any]:
    return show.handler(event, context)  # type: ignore[no-any-return]


@function(snap_start=True, timeout=20)
def meet(event: dict[str, str]) -> dict[str, Any]:
    """Work beside another call until a file is there that no sandbox makes: both hold one at a time."""
    import time

    INIT["seen"] = event["name"]
    with open(f"/tmp/{event['name']}", "w"):
        pass
    time.sleep(0.3)
    return {"tmp": sorted(os.listdir("/tmp")), "seen": INIT["seen"], "pids": os.listdir("/proc").count("1")}


@function(snap_start=True, fresh=True, timeout=20)
def read_on(event: Any) -> str:
    return str(FILE.read(2), "ascii")


@function(snap_start=True, timeout=20)
def write_on(event: str) -> str:
    FILE.write(event.encode())
    with open("/tmp/left-by-init") as file:
        return file.read()


@function(snap_start=True, timeout=20)
def use_connection(event: Any) -> str:
    assert LISTENER is not None
    try:
        LISTENER.send(b"hello?")
    except OSError as error:
        return type(error).__name__
    return "sent"


@function(snap_start=True, timeout=20)
async def asynchronous(event: Any) -> Any:
    import asyncio

    await asyncio.sleep(0)
    return event


@function(snap_start=True, timeout=20)
def end(event: dict[str, Any]) -> Any:
    if event.get("exit") is not None:
        os._exit(event["exit"])
    if event.get("signal") is not None:
        os.kill(os.getpid(), event["signal"])
        import ctypes

        ctypes.string_at(0)
    if event.get("sleep"):
        import time

        time.sleep(event["sleep"])
    if event.get("memory"):
        import time

        held = bytearray(os.urandom(1) * event["memory"])
        time.sleep(10)
        return len(held)
    return os.getpid()


def capabilities() -> str:
    with open("/proc/self/status") as file:
        return next(line.split()[1] for line in file if line.startswith("CapEff"))


def try_mount(kind: str = "tmpfs", flags: int = 0) -> int:
    """Mount something as a handler could; gives errno, 0 where it was done."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(b"none", b"/mnt" if os.path.isdir("/mnt") else b"/tmp", kind.encode(), flags, None)
    return 0 if done == 0 else ctypes.get_errno()


def try_unshare(flags: int) -> int:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    return 0 if libc.unshare(flags) == 0 else ctypes.get_errno()


AT_INIT: dict[str, Any] = {}
if IN_SANDBOX and "PROBE" in os.environ:
    AT_INIT = {
        "capabilities": capabilities(),
        "tmpfs": try_mount(),
        "a user namespace": try_unshare(0x10000000),
        "a network": try_unshare(0x40000000),
    }


@function(snap_start=True, timeout=20, environment={"PROBE": "yes"})
def probe(event: Any) -> dict[str, Any]:
    here = {"capabilities": capabilities(), "tmpfs": try_mount(), "a PID namespace": try_unshare(0x20000000)}
    return {"init": AT_INIT, "call": here}


TROUBLE = os.environ.get("TROUBLE", "")
if TROUBLE == "threads":
    threading.Thread(target=threading.Event().wait, daemon=True).start()
elif TROUBLE == "processes":
    import subprocess

    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
elif TROUBLE == "an event loop":
    import asyncio

    LOOP = asyncio.new_event_loop()
elif TROUBLE == "a pipe":
    PIPE = os.pipe()
elif TROUBLE == "memory that is shared":
    import mmap

    SHARED = mmap.mmap(-1, 4096)
elif TROUBLE == "hook before":
    register_before_snapshot(lambda: 1 / 0)
elif TROUBLE == "hook after":
    register_after_restore(lambda: 1 / 0)
elif TROUBLE == "init":
    raise LookupError("not today")
elif TROUBLE == "exit":
    os._exit(3)


def answer(event: Any) -> Any:
    return event


def troubled(kind: str) -> Any:
    """A function whose init makes trouble of a kind."""
    return function(name=kind.replace(" ", "-"), snap_start=True, environment={"TROUBLE": kind})(answer)
