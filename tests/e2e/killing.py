"""
A host with everything that a store holds, of which something is killed at a step: ``python -m e2e.killing ...``.

    submit ──► note ──on_success──► results ──► collect          orders ──► work ──publish──► news ──► hear
    clicks ──► look

It accepts numbers and tells of each on stdout once it is accepted; each function writes a line for each number into
the ledger, a directory that LEDGER names. Arguments: the store, the first number, how many, the victim, the step, and
which time. A step is a statement of the store (``claim``), its commit (``claim committed``), or ``run``: a handler is
in the middle.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

from e2e.tools import SINKS
from pyfaas import Runtime, function, queue, stream, topic
from pyfaas._invoke import retries
from pyfaas._stores.database import Database, Transaction
from support import zygotes_of

RUNNING_SECONDS = 0.01
ledger = os.environ["LEDGER"]
results, orders = queue("results", visibility=1), queue("orders", visibility=1)
news, clicks = topic("news"), stream("clicks")
options: Any = {"timeout": 1, "writes": [ledger], "environment": {"LEDGER": ledger}}


def write(sink: str, numbers: list[int]) -> None:
    lines = os.open(f"{ledger}/{sink}", os.O_WRONLY | os.O_APPEND)
    os.write(lines, b"".join(b"%d\n" % number for number in numbers))
    os.close(lines)
    time.sleep(RUNNING_SECONDS)


@function(on_success=results, **options)
def note(event: int) -> None:
    write("ran", [event])


@function(trigger=results.batches(size=5), **options)
def collect(event: Any) -> None:
    write("told", [json.loads(one["body"])["requestPayload"] for one in event["Records"]])


@function(trigger=orders.batches(size=5), allow=[news.publish], **options)
def work(event: Any) -> None:
    numbers = [int(one["body"]) for one in event["Records"]]
    write("worked", numbers)
    for number in numbers:
        news.publish(str(number))


@function(trigger=news, **options)
def hear(event: Any) -> None:
    write("heard", [int(event["Records"][0]["Sns"]["Message"])])


@function(trigger=clicks.records(size=5), **options)
def look(event: Any) -> None:
    write("looked", [int(one["kinesis"]["partitionKey"]) for one in event["Records"]])


# -- killing -----------------------------------------------------------------------------------------------------------


def pids(victim: str) -> list[int]:
    """Find who may be the victim."""
    if victim == "host":
        return [os.getpid()]
    zygotes = zygotes_of(os.getpid())
    if victim == "zygote":
        return zygotes
    with contextlib.suppress(psutil.NoSuchProcess):
        return [sandbox.pid for zygote in zygotes for sandbox in psutil.Process(zygote).children(recursive=True)]
    return []


class Killer:
    """Kills once: when a step has been reached so many times."""

    def __init__(self, victim: str, step: str, times: int) -> None:
        self._victim = victim
        self._step = step
        self._times = times
        self._lock = threading.Lock()

    def reached(self, step: str) -> None:
        with self._lock:
            if step != self._step:
                return
            self._times -= 1
            if self._times > 0:
                return
            found = pids(self._victim)
            if found:  # else the next time
                self._step = ""
                os.kill(random.choice(found), signal.SIGKILL)
                os.write(1, b"killed\n")


def arm(killer: Killer) -> None:
    """Have each statement, and each commit, tell that it was reached."""
    seen: set[str] = set()

    def telling(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Transaction, statement: str, *rows: Any, **values: Any) -> Any:
            found = original(self, statement, *rows, **values)
            seen.add(statement)
            killer.reached(statement)
            return found

        return run

    for verb in ("run", "one", "each", "insert", "insert_rows", "run_rows", "count"):
        setattr(Transaction, verb, telling(getattr(Transaction, verb)))
    commit = Database._commit

    def committed(self: Database, answers: Any) -> Any:
        seen.clear()
        touched = commit(self, answers)
        for statement in tuple(seen):
            killer.reached(f"{statement} committed")
        return touched

    Database._commit = committed  # type: ignore[method-assign]


def watch_runs(killer: Killer) -> None:
    """Tell when a handler is in the middle: it has just written its line."""
    sizes = [0] * len(SINKS)
    while True:
        found = [os.path.getsize(f"{ledger}/{sink}") for sink in SINKS]
        if found != sizes:
            killer.reached("run")
        sizes = found
        time.sleep(0.001)


def main(store: str, first: str, count: str, victim: str, step: str, times: str) -> None:
    retries.FUNCTION_WAIT_SECONDS = 0.1
    with Runtime([note, collect, work, hear, look], store=store) as runtime:
        runtime.invoke(note, -1)  # so that there is somebody to be killed
        if step:
            killer = Killer(victim, step, int(times))
            arm(killer)
            if step == "run":
                threading.Thread(target=watch_runs, args=(killer,), daemon=True).start()
        for number in range(int(first), int(first) + int(count)):
            runtime.submit(note, number)
            os.write(1, b"ran %d\n" % number)
            orders.send(str(number))
            os.write(1, b"worked %d\n" % number)
            clicks.put("x", key=str(number))
            os.write(1, b"looked %d\n" % number)
        os.write(1, b"accepted\n")
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
