"""Doors: requests from outside on their way to a function and back."""

from __future__ import annotations

import statistics

from benchmarks.doors_acts import CLIENTS
from benchmarks.measure import Chapter, Promise, act, milli, times

KINDS = ("in process", "pyfaas", "ProcessPoolExecutor")


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure each in a process of its own, in turns."""
    chapter = Chapter()
    seconds = "1" if quick else "3"
    turns = [{kind: act("benchmarks.doors_acts", "serve", kind, seconds) for kind in KINDS} for _ in range(rounds)]
    by_inside = statistics.median(turn["pyfaas"]["rate"] / turn["in process"]["rate"] for turn in turns)
    by_pool = statistics.median(turn["ProcessPoolExecutor"]["p99"] / turn["pyfaas"]["p99"] for turn in turns)
    found = {
        kind: {name: statistics.median(turn[kind][name] for turn in turns) for name in ("rate", "p50", "p99")}
        for kind in KINDS
    }
    ours = found["pyfaas"]
    chapter.promises += [
        Promise(
            f"HTTP GET through uvicorn, {CLIENTS} clients, by the same application with the handler in process",
            "at least 0.5 ×",
            f"{times(by_inside)} ({ours['rate']:,.0f} by {found['in process']['rate']:,.0f} a second)",
            by_inside >= 0.5,
        ),
        Promise(
            f"HTTP GET through uvicorn, {CLIENTS} clients, p99, ProcessPoolExecutor's by ours",
            "at least 5 ×",
            f"{times(by_pool)} ({milli(found['ProcessPoolExecutor']['p99'])} by {milli(ours['p99'])})",
            by_pool >= 5,
        ),
    ]
    rows = [
        [kind, f"{found[kind]['rate']:,.0f}", milli(found[kind]["p50"]), milli(found[kind]["p99"])] for kind in KINDS
    ]
    told = f"{CLIENTS} clients in a process of their own, one request after the other each, one uvicorn (h11)."
    chapter.tables.append(("HTTP", ["handler", "requests a second", "p50", "p99"], rows, told))
    print(f"  http: {ours['rate']:,.0f} a second, {times(by_inside)} of in process", flush=True)
    return chapter
