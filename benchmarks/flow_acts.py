"""
What is measured of sources, each in a fresh process: ``python -m benchmarks.flow_acts consume 10000 10``.

Prints what it found as one line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import psutil

from benchmarks.handlers import EVENT
from pyfaas import Runtime, function, queue, schedule, stream, topic
from pyfaas._sources.schedules import next_of, tick
from pyfaas._stores import queue as stored
from pyfaas._stores import schedules
from pyfaas.testing import ManualClock

BODY = json.dumps(EVENT)
IDLE_SECONDS = 5.0


def _directory() -> Any:
    return tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".stores-")


def consume(kind: str, count: str, size: str) -> float:
    """Count messages a second that go through a function in batches, from the first claim to the last delete."""
    orders = queue("orders", visibility=300)
    return _through(kind, int(count), orders.batches(size=int(size)), orders.send_many, "count_all")


def read(kind: str, count: str, size: str) -> float:
    """Count records a second that a function reads from a stream of four shards, until its cursors are at the end."""
    clicks = stream("clicks", shards=4)
    return _through(kind, int(count), clicks.records(size=int(size)), clicks.put_many, "count_unread")


def _through(kind: str, count: int, trigger: Any, fill: Callable[[list[str]], Any], left: str) -> float:
    """Fill a source while it is paused, and time it from then on until that statement tells that nothing is left."""

    @function(trigger=trigger, timeout=60)
    def take(event: dict[str, Any]) -> None:
        """Do nothing."""

    with _directory() as directory:
        store = None if kind == "memory" else Path(directory) / "store.db"
        with Runtime([take], store=store) as runtime:
            take.invoke({})
            (mapping,) = runtime.mappings()
            mapping.pause()
            for _ in range(count // 1000):
                fill([BODY] * 1000)
            began = perf_counter()
            mapping.resume()
            database = runtime._later().database
            while database.put(lambda one: one.one(left), durable=False).block().value:
                sleep(0.005)
            return count / (perf_counter() - began)


def publish(kind: str, calls: str) -> list[float]:
    """Time from ``publish`` to the handler's first line, on an idle runtime."""
    news = topic("news")
    with _directory() as directory:
        told = str(Path(directory) / "told")

        @function(trigger=news, writes=[directory], timeout=30)
        def note(event: dict[str, Any]) -> None:
            now = time.monotonic()
            pipe = os.open(told, os.O_WRONLY)
            os.write(pipe, repr(now).encode())
            os.close(pipe)

        durations = []
        store = None if kind == "memory" else Path(directory) / "store.db"
        os.mkfifo(told)
        os.chmod(told, 0o666)  # a sandbox has a user of its own
        pipe = os.open(told, os.O_RDWR)
        with Runtime([note], store=store):
            for _ in range(int(calls) + 5):
                sleep(0.005)
                began_at = time.monotonic()
                news.publish(BODY)
                durations.append(float(os.read(pipe, 100)) - began_at)
        os.close(pipe)
    return durations[5:]


def ticks(count: str) -> dict[str, float]:
    """Time a tick, with so many schedules in the store, and tell what the process grew by."""

    @function
    def wake(event: Any) -> None:
        """Do nothing."""

    before = psutil.Process().memory_info().rss
    clock = ManualClock()
    with _directory() as directory, Runtime([wake], store=Path(directory) / "store.db", clock=clock) as runtime:
        database = runtime._later().database
        rules = [schedule(f"cron({minute} {hour} * * ? *)").row()[1] for minute in range(60) for hour in range(24)]

        def fill(transaction: Any, first: int, last: int) -> None:
            for number in range(first, last):
                rule = rules[number % len(rules)]
                schedules.put(transaction, "nobody", str(number), rule, clock.wall(), next_of, declared=False)

        for first in range(0, int(count), 5000):
            database.put(lambda one, first=first: fill(one, first, first + 5000)).block()
        durations = []
        for _ in range(50):
            clock._wall += 60  # only the tick itself is timed, not the dispatcher that would do it
            due = database.put(lambda one: len([*schedules.due(one, clock.wall())])).block().value
            began = perf_counter()
            database.put(lambda one: tick(one, clock.wall()), durable=False).block()
            durations.append((perf_counter() - began) / max(due, 1))
        grown = psutil.Process().memory_info().rss - before
    return {"tick": statistics.median(durations), "grown": grown}


def backlog(count: str) -> dict[str, float]:
    """Compare sending and claiming, a hundred at a time, with so many messages in the queue and with none."""
    with _directory() as directory, Runtime([], store=Path(directory) / "store.db") as runtime:
        database = runtime._later().database
        full, empty = (
            database.put(lambda one, name=name: stored.find_or_make(one, name)).block().value
            for name in ("full", "empty")
        )
        body = BODY.encode()

        def send(transaction: Any, into: Any, many: int) -> None:
            for _ in range(many):
                stored.send(transaction, into, body)

        for _ in range(int(count) // 20_000):
            database.put(lambda one: send(one, full, 20_000), durable=False).block()

        def turn(into: Any) -> tuple[float, float]:
            began = perf_counter()
            database.put(lambda one: send(one, into, 100), durable=False).block()
            sent = perf_counter()

            def work(transaction: Any) -> None:
                messages = stored.claim(transaction, into, 100, 60.0).messages
                assert len(messages) == 100
                stored.ack(transaction, into, messages)

            database.put(work, durable=False).block()
            return sent - began, perf_counter() - sent

        turns = [(turn(full), turn(empty)) for _ in range(200)]
        size = os.path.getsize(Path(directory) / "store.db") + os.path.getsize(Path(directory) / "store.db-wal")
    of_full, of_empty = zip(*turns, strict=True)
    return {
        "send": statistics.median(one[0] for one in of_full) / statistics.median(one[0] for one in of_empty),
        "claim": statistics.median(one[1] for one in of_full) / statistics.median(one[1] for one in of_empty),
        "bytes": size / max(int(count), 1),
    }


def idle(count: str) -> dict[str, float]:
    """Count how often a runtime with so many mappings wakes up while nothing is due."""
    handles = [queue(f"queue-{number}") for number in range(int(count))]

    @function(trigger=handles)
    def take(event: Any) -> None:
        """Do nothing."""

    with _directory() as directory, Runtime([take], store=Path(directory) / "store.db") as runtime:
        handles[0].send("x")
        while handles[0].statistics().due or handles[0].statistics().leased:
            sleep(0.01)
        assert len(runtime.mappings()) == int(count)
        sleep(2.0)
        before = resource.getrusage(resource.RUSAGE_SELF)
        sleep(IDLE_SECONDS)
        after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wakes": after.ru_nvcsw - before.ru_nvcsw - 1, "cpu": used / IDLE_SECONDS}  # one is this thread's own


ACTS = {act.__name__: act for act in (consume, read, publish, ticks, backlog, idle)}

if __name__ == "__main__":
    print(json.dumps(ACTS[sys.argv[1]](*sys.argv[2:])))
