"""
What is measured with many sandboxes, each in a fresh process: ``python -m benchmarks.many_acts thousand``.

Prints what it found as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

from benchmarks import many_handlers as handlers
from benchmarks.handlers import EVENT, echo
from benchmarks.many_neighbours import neighbours
from benchmarks.measure import percentile
from benchmarks.ours import private_bytes
from pyfaas import Runtime

SPAWNERS = 2
PERMITS = 16
AT_ONCE = 8


def preloaded(calls: int) -> list[float]:
    """Time cold starts of a function that names NumPy in ``preload=``."""
    from benchmarks.many_numpy import total

    with Runtime() as runtime:
        durations = []
        for _ in range(calls + 3):
            sleep(0.010)
            began = perf_counter()
            runtime.invoke(total, EVENT)
            durations.append(perf_counter() - began)
    return durations[3:]


def confined(calls: int) -> dict[str, list[float]]:
    """Time warm calls in turn, with everything on and with confinement off."""
    found: dict[str, list[float]] = {"on": [], "off": []}
    with Runtime() as on, Runtime(confinement="off") as off:
        for number in range(calls):
            for name, runtime in (("on", on), ("off", off)):
                began = perf_counter()
                runtime.invoke(echo, EVENT)
                if number > calls // 10:
                    found[name].append(perf_counter() - began)
    return found


def thousand(count: int) -> dict[str, Any]:
    """Make so many sandboxes, have all answer in turn, and look at what they hold."""
    with Runtime() as runtime:
        runtime.invoke(handlers.whose, EVENT, tenant="first")
        sleep(0.5)
        spawns, rate = _spawn(runtime, count)
        began = perf_counter()
        for number in range(count):
            assert runtime.invoke(handlers.whose, EVENT, tenant=f"tenant {number}") == f"tenant {number}"
        turn = perf_counter() - began
        idle = [sandbox.pid for shelf in runtime._pool.ledger.shelves.values() for sandbox in shelf.idle]
        return {
            "live": runtime.statistics().live,
            "spawns": spawns,
            "rate": rate,
            "turn": turn,
            "private": [private_bytes(pid) for pid in idle],
            "page tables": [_page_tables(pid) for pid in idle],
            "mounts": len(Path(f"/proc/{idle[0]}/mountinfo").read_text("utf-8").splitlines()),
        }


def _spawn(runtime: Runtime, count: int) -> tuple[list[float], float]:
    durations: list[float] = []

    def spawn(numbers: range) -> None:
        for number in numbers:
            began = perf_counter()
            runtime.invoke(handlers.whose, EVENT, tenant=f"tenant {number}")
            durations.append(perf_counter() - began)

    threads = [threading.Thread(target=spawn, args=(range(first, count, SPAWNERS),)) for first in range(SPAWNERS)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return durations, count / (perf_counter() - began)


def _page_tables(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines():
        if line.startswith("VmPTE:"):
            return int(line.split()[1]) * 1024
    return 0


def snapped(count: int) -> dict[str, list[float]]:
    """Start so many sandboxes from a template, one now and then; and as many more, eight at once."""
    from benchmarks.many_slow import snapped as function

    def call(_: int = 0) -> float:
        began = perf_counter()
        runtime.invoke(function, EVENT)
        return perf_counter() - began

    with Runtime([function]) as runtime:
        alone = []
        for _ in range(count + 3):
            sleep(0.03)
            alone.append(call())
        del alone[:3]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            together = [seconds for _ in range(count // AT_ONCE) for seconds in threads.map(call, range(AT_ONCE))]
        return {"alone": alone, "together": together}


def sleepers(count: int) -> dict[str, float]:
    """Invoke so many at once that each sleep 1 s: first with no sandbox there, then with all of them warm."""

    async def all_at_once(runtime: Runtime) -> float:
        began = perf_counter()
        await asyncio.gather(*(runtime.ainvoke(handlers.nap, {"seconds": 1.0}) for _ in range(count)))
        return perf_counter() - began

    async def both() -> dict[str, float]:
        async with Runtime() as runtime:
            return {"cold": await all_at_once(runtime), "warm": await all_at_once(runtime)}

    return asyncio.run(both())


def burst(count: int) -> dict[str, Any]:
    """Let calls of a hundred functions come all at once, and tell how long those of the smallest waited."""
    sizes = _sizes(count, len(neighbours))
    calls = [number for number, size in enumerate(sizes) for _ in range(size)]
    random.Random(7).shuffle(calls)
    waits: dict[int, list[float]] = {number: [] for number in range(len(sizes))}

    async def call(runtime: Runtime, number: int, began: float) -> None:
        await runtime.ainvoke(neighbours[number], EVENT)
        waits[number].append(perf_counter() - began)

    async def all_at_once() -> float:
        async with Runtime(concurrency=PERMITS, when_full="wait") as runtime:
            for function in neighbours:
                await runtime.ainvoke(function, EVENT)
            began = perf_counter()
            await asyncio.gather(*(call(runtime, number, began) for number in calls))
            return perf_counter() - began

    whole = asyncio.run(all_at_once())
    smallest = sizes.index(min(sizes))
    # If every function had the same share for as long as it has calls left: what was served until the smallest is done.
    share = sum(min(size, sizes[smallest]) for size in sizes) / count
    return {
        "whole": whole,
        "sizes": [max(sizes), min(sizes)],
        "fair": share * whole,
        "smallest": percentile(waits[smallest], 99),
        "largest": percentile(waits[sizes.index(max(sizes))], 99),
    }


def _sizes(count: int, functions: int) -> list[int]:
    weights = [1 / rank for rank in range(1, functions + 1)]
    sizes = [round(count * weight / sum(weights)) for weight in weights]
    sizes[0] += count - sum(sizes)
    return sizes


ACTS = {act.__name__: act for act in (preloaded, confined, snapped, thousand, sleepers, burst)}

if __name__ == "__main__":
    print(json.dumps(ACTS[sys.argv[1]](int(sys.argv[2]))))
