"""Handlers that hold what is nobody's resident memory, or that reach for what is not theirs."""

from __future__ import annotations

import ctypes
import errno
import gc
import mmap
import os
import resource
import signal
import socket
import sys
import threading
import time
from typing import Any

from attacks.handlers import AGES, MB, attacker
from pyfaas import Context, function

held: list[Any] = []


@attacker(timeout=20)
def maps_shared(event: int) -> None:
    """Shared anonymous memory: RLIMIT_DATA does not count it."""
    memory = mmap.mmap(-1, event)
    held.append(memory)
    for at in range(0, event, 4096):
        memory[at] = 1
    time.sleep(AGES)


@attacker(timeout=20)
def fills_memory_files(event: int) -> int:
    """Memory files that nobody maps: they are in no process's resident memory."""
    for _ in range(event // (16 * MB)):
        descriptor = os.memfd_create("hoard")
        held.append(descriptor)
        for _ in range(16):
            os.write(descriptor, b"x" * MB)
        time.sleep(0.01)
    total = sum(os.fstat(descriptor).st_size for descriptor in held)
    for descriptor in held:
        os.close(descriptor)
    held.clear()
    return total


@attacker(timeout=20)
def fills_sockets(event: Any) -> dict[str, int]:
    """Buffers of sockets: the kernel's memory, filled for as long as there are descriptors."""
    pairs, size = [], 0
    try:
        while True:
            pairs.append(socket.socketpair())
            pairs[-1][0].setblocking(False)
            with_room = True
            while with_room:
                try:
                    size += pairs[-1][0].send(b"x" * 65_536)
                except BlockingIOError:
                    with_room = False
    except OSError as error:
        if error.errno != errno.EMFILE:
            raise
    count = len(pairs)
    for pair in pairs:
        for one in pair:
            one.close()
    return {"pairs": count, "bytes": size}


@attacker(timeout=20, memory=512)
def stacks(event: int) -> int:
    """Threads with stacks of 8 MB, of which each uses little: no innocent may suffer."""
    threading.stack_size(8 * MB)
    gate = threading.Event()
    threads = [threading.Thread(target=gate.wait) for _ in range(event)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    return len(threads)


@attacker(timeout=5)
def recurses(event: str) -> Any:
    if event == "python":

        def deeper() -> Any:
            return deeper()

        return deeper()
    if event == "python without a limit":
        sys.setrecursionlimit(2**31 - 1)

        def deepest(number: int) -> int:
            return deepest(number + 1) + 1

        return deepest(0)
    nest: Any = None
    for _ in range(10_000_000):
        nest = [nest]
    sys.setrecursionlimit(2**31 - 1)
    return nest == [nest]


@attacker()
def makes_sysv(event: Any) -> list[int]:
    """SysV shared memory outlives its processes; message queues are the kernel's memory."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = (
        (libc.shmget, (0, 100 * MB, 0o1600)),
        (libc.semget, (0, 10, 0o1600)),
        (libc.msgget, (0, 0o1600)),
        (libc.mq_open, (b"/pyfaas", os.O_CREAT | os.O_RDWR, 0o600, None)),
    )
    return [0 if make(*arguments) >= 0 else ctypes.get_errno() for make, arguments in made]


# -- reaching out ------------------------------------------------------------------------------------------------------


def _told(attempt: Any) -> str:
    try:
        attempt()
    except OSError as error:
        return type(error).__name__
    return "done"


@attacker(timeout=5)
def kills_others(event: list[int]) -> list[str]:
    """Kill those pids of the host."""
    return [_told(lambda pid=pid: os.kill(pid, signal.SIGKILL)) for pid in event]


@attacker(timeout=5)
def kills_all(event: Any) -> str:
    """Kill whatever can be seen."""
    return _told(lambda: os.kill(-1, signal.SIGKILL))


@attacker(timeout=5)
def limits_others(event: list[int]) -> list[str]:
    """Have the kernel kill them, by a limit of CPU time."""
    return [_told(lambda pid=pid: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1))) for pid in event]


@attacker(timeout=5)
def wants_priority(event: Any) -> list[str]:
    parameter = os.sched_param(1)
    return [
        _told(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, parameter)),
        _told(lambda: os.sched_setscheduler(0, os.SCHED_RR, parameter)),
        _told(lambda: os.nice(-5)),
        _told(lambda: os.setpriority(os.PRIO_PROCESS, 0, -20)),
    ]


@function(tenant_isolated=True, timeout=20)
def leaves_or_looks(event: dict[str, str], context: Context) -> list[str]:
    """Leave a secret wherever there is room, or look for it there."""
    places = {"/tmp/secret": None, "/dev/shm/secret": None}
    mark = bytes.fromhex(event["mark"])  # so that the event itself does not hold it
    if event["do"] == "leave":
        secret = bytes(255 - byte for byte in mark)
        held.append(secret)
        os.environ["LEFT"] = secret.hex()
        for place in places:
            with open(place, "wb") as file:
                file.write(secret)
        return ["left"]
    found = [place for place in places if os.path.exists(place)]
    found += ["environment"] if "LEFT" in os.environ else []
    found += ["globals"] if held else []
    looked_for = bytes(255 - byte for byte in mark)
    for one in gc.get_objects():
        if one is not looked_for and isinstance(one, (bytes, list)) and one and one != [looked_for]:
            found += ["objects"] if looked_for in one and isinstance(one, list) else []
    return found


@function(fresh=True, timeout=20)
def plants_links(event: str) -> list[str]:
    """Leave links to somebody else's files, and a process that goes on exchanging directories for links."""
    for number in range(50):
        os.makedirs(f"/tmp/deep/{number}/below")
        os.symlink(event, f"/tmp/deep/{number}/below/link")
        os.symlink(event, f"/tmp/link-{number}")
        try:
            os.link(f"{event}/file", f"/tmp/hard-{number}")
        except OSError:
            pass
    os.makedirs("/tmp/race")
    if os.fork() == 0:
        os.setsid()
        while True:
            try:
                os.rename("/tmp/race", "/tmp/away")
                os.symlink(event, "/tmp/race")
                os.unlink("/tmp/race")
                os.rename("/tmp/away", "/tmp/race")
            except OSError:
                pass
    return sorted(os.listdir("/tmp"))
