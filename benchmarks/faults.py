"""
The same faults on pyfaas and on every pool that one would take instead: ``python -m benchmarks.faults``.

Each fault is done for real, each time in a fresh process that has one pool; what happens is observed from outside of it
and nothing is taken from a manual. Prints the table, and writes it to docs/reference/faults.md and into the README.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import fault_handlers as handlers
from benchmarks.fault_pools import POOLS
from benchmarks.measure import ROOT, environment

TIMEOUT, PATIENCE, LIMIT = 1.0, 10.0, 40.0
SECRET = "PYFAAS_FAULTS_SECRET"
HELD, NOT_HELD, PARTLY = "yes", "no", "partly"


class Finding(NamedTuple):
    """Whether a pool held, and what was seen."""

    held: str
    seen: str


class Fault(NamedTuple):
    """One thing that goes wrong."""

    title: str
    what: str
    done: Callable[[Any, Path], Finding]


# -- what is done, in the process that has the pool --------------------------------------------------------------------


def _error_of(pool: Any, handler: Any, event: Any, seconds: float) -> str:
    """Give the name of what the call raised, or nothing if it gave a value."""
    try:
        pool.call(handler, event, seconds)
    except BaseException as error:  # noqa: BLE001 - of any library's own
        return type(error).__name__
    return ""


def _beats(path: Path) -> bool:
    """Tell whether somebody writes heartbeats."""
    before = path.stat().st_size if path.exists() else 0
    time.sleep(0.5)
    return path.exists() and path.stat().st_size > before


def _stops(pool: Any, handler: Any, path: Path) -> Finding:
    began = time.perf_counter()
    error = _error_of(pool, handler, str(path), TIMEOUT) or "a value"
    told = f"the caller got {error} after {time.perf_counter() - began:.1f} s"
    time.sleep(1.0)
    if _beats(path):
        return Finding(NOT_HELD, f"{told}; the work went on")
    return Finding(HELD, f"{told}; the work had stopped") if path.exists() else Finding(NOT_HELD, "it never began")


def _hang(pool: Any, place: Path) -> Finding:
    return _stops(pool, handlers.heartbeat, place / "beats")


def _tree(pool: Any, place: Path) -> Finding:
    return _stops(pool, handlers.leave_a_grandchild, place / "beats")


def _memory(pool: Any, _: Path) -> Finding:
    error = _error_of(pool, handlers.eat, None, PATIENCE)
    if not error:
        return Finding(NOT_HELD, f"it held {handlers.EATEN_MB} MB and came back with a value")
    return Finding(HELD, f"{error}, and {_next(pool)}")


def _next(pool: Any) -> str:
    error = _error_of(pool, handlers.echo, 1, PATIENCE)
    return f"the next call got {error}" if error else "the next call got its value"


def _crash(pool: Any, _: Path) -> Finding:
    neighbour: list[str] = []
    _error_of(pool, handlers.echo, 1, PATIENCE)
    thread = threading.Thread(
        target=lambda: neighbour.append(_error_of(pool, handlers.nap, 1.5, PATIENCE)), daemon=True
    )
    thread.start()
    time.sleep(0.5)
    error = _error_of(pool, handlers.crash, None, PATIENCE)
    thread.join(PATIENCE + 1)
    beside = "its neighbour was unharmed" if neighbour == [""] else f"its neighbour got {(neighbour or ['nothing'])[0]}"
    after = _next(pool)
    was_told = bool(error) and "Time" not in error
    fine = [was_told, "unharmed" in beside, "its value" in after]
    told = f"the caller {f'got {error}' if was_told else 'waited in vain'}; {beside}; {after}"
    return Finding(HELD if all(fine) else PARTLY if "its value" in after and "unharmed" in beside else NOT_HELD, told)


def _return_path(pool: Any, place: Path) -> Finding:
    trap = place / "trap"
    error = _error_of(pool, handlers.return_a_trap, str(trap), PATIENCE)
    if trap.exists():
        return Finding(NOT_HELD, "code of the result ran in the host")
    return Finding(HELD, f"{error}: nothing ran in the host")


def _secret(pool: Any, _: Path) -> Finding:
    found = pool.call(handlers.tell_secret, SECRET, PATIENCE)
    return Finding(NOT_HELD, "it read a variable of the host") if found else Finding(HELD, "it saw no such variable")


def _file(pool: Any, place: Path) -> Finding:
    file = place.parent / "credentials"
    file.write_text("aws_secret_access_key = ...")
    error = _error_of(pool, handlers.read_file, str(file), PATIENCE)
    return Finding(HELD, f"it got {error}") if error else Finding(NOT_HELD, "it read the file")


def _host(pool: Any, place: Path) -> Finding:
    """Have work that goes on; whoever started this process kills it meanwhile and looks."""
    _error_of(pool, handlers.heartbeat, str(place / "beats"), handlers.GIVE_UP_SECONDS)
    return Finding(NOT_HELD, "the host was not killed")


FAULTS = {
    "hang": Fault("stops a hang", "a handler works on and on; its time-out is 1 s", _hang),
    "tree": Fault("and all it started", "its grandchild in another session works on and on", _tree),
    "memory": Fault(
        "memory limit", f"a handler holds {handlers.EATEN_MB} MB where {handlers.MEMORY_MB} were allowed", _memory
    ),
    "crash": Fault("survives a crash", "a handler is killed by a signal while a neighbour is at work", _crash),
    "return": Fault("safe results", "a result runs code where it is unpickled", _return_path),
    "secret": Fault("hides variables", "a handler reads a variable of the host's environment", _secret),
    "file": Fault("hides files", "a handler reads a file that nobody meant for it", _file),
    "host": Fault("dies with the host", "the host is killed with SIGKILL while a handler works", _host),
}


# -- who has it done ---------------------------------------------------------------------------------------------------


def try_it(pool: str, fault: str) -> Finding:
    """Do one fault to one pool, in a fresh process, and clean up after it."""
    with tempfile.TemporaryDirectory(prefix="pyfaas-faults-", dir="/var/tmp", ignore_cleanup_errors=True) as above:
        place = Path(above) / "place"
        place.mkdir()
        place.chmod(0o777)
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.faults", "one", pool, fault],
            cwd=ROOT,
            env={**environment(), "PYFAAS_FAULTS_PLACE": str(place), SECRET: "hunter2"},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        try:
            return _kill_and_look(process, place) if fault == "host" else _hear(process)
        finally:
            _end(process)


def _hear(process: subprocess.Popen[str]) -> Finding:
    assert process.stdout is not None
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.append(process.stdout.readline()), daemon=True)  # type: ignore[union-attr]
    reader.start()
    reader.join(LIMIT)
    if not lines:
        return Finding(NOT_HELD, f"the pool hung for {LIMIT:.0f} s")
    return Finding(*json.loads(lines[0])) if lines[0] else Finding(NOT_HELD, "the host died of it")


def _kill_and_look(process: subprocess.Popen[str], place: Path) -> Finding:
    until = time.monotonic() + PATIENCE
    while not (place / "beats").exists():
        if time.monotonic() > until:
            return Finding(NOT_HELD, "it never began")
        time.sleep(0.01)
    process.kill()
    process.wait()
    time.sleep(2.0)
    return Finding(NOT_HELD, "the work went on") if _beats(place / "beats") else Finding(HELD, "the work had stopped")


def _end(process: subprocess.Popen[str]) -> None:
    """End the host of the pool and what is left of its session; what left that gives up by itself."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _one(pool: str, fault: str) -> None:
    contender = POOLS[pool]()
    error = _error_of(contender, handlers.echo, 1, PATIENCE)  # what does not even run has not failed at anything
    place = Path(handlers.PLACE)
    print(json.dumps(Finding("–", error) if error else FAULTS[fault].done(contender, place)), flush=True)
    os._exit(0)  # some pools would wait here for what hangs


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        _one(*sys.argv[2:])
    else:
        from benchmarks.faults_report import main

        main(sys.argv[1:])
