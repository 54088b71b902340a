"""
What is measured of stores, each in a fresh process: ``python -m benchmarks.later_acts accept huey 0.5``.

Prints what it found as one line of JSON.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from time import monotonic, perf_counter, sleep

from benchmarks.handlers import EVENT
from benchmarks.later_handlers import begun, keep
from benchmarks.measure import percentile
from pyfaas import Runtime
from pyfaas._language.patterns import compile_pattern
from pyfaas._language.rules import Rules

THREADS = 32
PAYLOAD = json.dumps(EVENT)
Put = Callable[[], object]


def _pyfaas(directory: Path, durability: str) -> tuple[Put, Callable[[], None]]:
    """Accept events that are due in a quarter of an hour, so that nothing but accepting is measured."""
    runtime = Runtime([keep], store=directory / "store.db", durability=durability).open()
    return lambda: runtime.submit(keep, EVENT, delay=900), lambda: runtime.close(drain=0)


def _huey(directory: Path) -> tuple[Put, Callable[[], None]]:
    from huey.storage import SqliteStorage

    storage = SqliteStorage(filename=str(directory / "huey.db"), fsync=True)
    data = PAYLOAD.encode()
    return lambda: storage.enqueue(data), storage.close


def _litequeue(directory: Path) -> tuple[Put, Callable[[], None]]:
    """One connection a thread: it shares none between threads."""
    from litequeue import LiteQueue

    path, own = str(directory / "lite.db"), threading.local()
    LiteQueue(path).close()

    def put() -> None:
        if not hasattr(own, "queue"):
            own.queue = LiteQueue(path)
            own.queue.conn.execute("PRAGMA synchronous=FULL")
        own.queue.put(PAYLOAD)

    return put, lambda: None


def _persist_queue(directory: Path) -> tuple[Put, Callable[[], None]]:
    import persistqueue

    queue = persistqueue.SQLiteQueue(str(directory), auto_commit=True, multithreading=True)
    return lambda: queue.put(EVENT), queue.close


STORES: dict[str, Callable[[Path], tuple[Put, Callable[[], None]]]] = {
    "pyfaas": lambda directory: _pyfaas(directory, "full"),
    "pyfaas, normal": lambda directory: _pyfaas(directory, "normal"),
    "huey": _huey,
    "litequeue": _litequeue,
    "persist-queue": _persist_queue,
}


def accept(store: str, seconds: str) -> dict[str, float]:
    """Count what is accepted in a second, one at a time and from many threads."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".stores-") as directory:
        put, close = STORES[store](Path(directory))
        put()
        found = {"alone": _rate(put, 1, float(seconds)), "together": _rate(put, THREADS, float(seconds))}
        close()
    return found


def _rate(put: Put, threads: int, seconds: float) -> float:
    counts = [0] * threads
    end = perf_counter() + seconds

    def work(number: int) -> None:
        while perf_counter() < end:
            put()
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    began = perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (perf_counter() - began)


def begin(kind: str, calls: str) -> list[float]:
    """Time from ``submit`` to the handler's first line, on an idle runtime."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".stores-") as directory:
        store = None if kind == "memory" else Path(directory) / "store.db"
        durations = []
        with Runtime([begun], store=store) as runtime:
            for _ in range(int(calls) + 5):
                sleep(0.005)
                began_at = monotonic()
                told = runtime.wait(runtime.submit(begun, EVENT), 10)
                assert told is not None
                durations.append(told.value - began_at)
    return durations[5:]


def done(kind: str, count: str) -> float:
    """Count events that are accepted, run and noted in a second, from the first submit to the last end."""
    with tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".stores-") as directory:
        store = None if kind == "memory" else Path(directory) / "store.db"
        with Runtime([keep], store=store) as runtime:
            runtime.wait(runtime.submit(keep, EVENT))
            began = perf_counter()

            def work() -> None:
                ids.extend(runtime.submit(keep, EVENT) for _ in range(int(count) // 8))

            ids: list[str] = []
            threads = [threading.Thread(target=work) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            for request_id in ids:
                runtime.wait(request_id, 60)
            return len(ids) / (perf_counter() - began)


def match(rules: str, events: str) -> dict[str, float]:
    """Count events a second against so many rules, of which each is for one customer."""
    wanted: Rules[int] = Rules()
    for number in range(int(rules)):
        pattern = {
            "source": ["shop"],
            "detail-type": ["order placed", "order changed"],
            "detail": {"customer": [f"customer {number}"], "price": [{"numeric": [">", number % 50]}]},
        }
        wanted.add(number, compile_pattern(pattern))
    chance = random.Random(7)
    made = [
        {
            "version": "0",
            "id": f"{chance.getrandbits(64):x}",
            "source": "shop",
            "detail-type": "order placed",
            "time": "2026-11-21T12:00:00Z",
            "detail": {
                "customer": f"customer {chance.randrange(int(rules))}",
                "price": chance.randrange(100),
                "items": [{"sku": f"{chance.randrange(1000)}", "count": chance.randrange(1, 5)} for _ in range(3)],
            },
        }
        for _ in range(1000)
    ]
    durations, found = [], 0
    for number in range(int(events)):
        began = perf_counter()
        found += len(wanted.matching(made[number % len(made)]))
        durations.append(perf_counter() - began)
    return {"rate": len(durations) / sum(durations), "p99": percentile(durations, 99), "found": found}


ACTS = {act.__name__: act for act in (accept, begin, done, match)}

if __name__ == "__main__":
    print(json.dumps(ACTS[sys.argv[1]](*sys.argv[2:])))
