"""Doors: requests from outside on their way to a function and back."""

from __future__ import annotations

import statistics

from benchmarks.doors_acts import CLIENTS
from benchmarks.measure import Chapter, Promise, act, milli, percentile, times

_ACTS = "benchmarks.doors_acts"
KINDS = ("in process", "pyfaas", "ProcessPoolExecutor")


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure each in processes of its own."""
    chapter = Chapter()
    _requests(chapter, rounds, quick=quick)
    _dropped(chapter, rounds, "1000" if quick else "10000")
    _committed(chapter, rounds, "40" if quick else "200")
    _connected(chapter, "1000")
    return chapter


def _dropped(chapter: Chapter, rounds: int, count: str) -> None:
    turns = [act(_ACTS, "files", count, "0.5") for _ in range(rounds)]
    ran, accepted = (statistics.median(turn[name] for turn in turns) for name in ("ran", "accepted"))
    twice = max(turn["twice"] for turn in turns)
    chapter.promises.append(
        Promise(
            f"{int(count):,} files dropped at once (in memory; the store is on the disk), until each had its event run",
            "at most 5 s, none twice",
            f"{ran:.1f} s (all accepted after {accepted:.1f} s), {twice:.0f} twice",
            ran <= 5 and not twice,
        )
    )
    print(f"  files: {ran:.1f} s", flush=True)


def _committed(chapter: Chapter, rounds: int, calls: str) -> None:
    found = [seconds for _ in range(rounds) for seconds in act(_ACTS, "rows", calls)]
    p50 = statistics.median(found)
    measured = f"{milli(p50)} (p99 {milli(percentile(found, 99))})"
    chapter.promises.append(Promise("row committed to handler running, p50", "at most 10 ms", measured, p50 <= 0.010))
    print(f"  row to handler: {milli(p50)}", flush=True)


def _connected(chapter: Chapter, count: str) -> None:
    found = act(_ACTS, "idle_sockets", count)
    each, share = found["bytes"] / 1024, found["seconds"] / 10
    chapter.promises.append(
        Promise(
            f"{int(count):,} idle WebSockets",
            "at most 100 KB each, no CPU",
            f"{each:.0f} KB each, {share:.1%} of a processor",
            each <= 100 and share < 0.01,
        )
    )
    print(f"  sockets: {each:.0f} KB each", flush=True)


def _requests(chapter: Chapter, rounds: int, *, quick: bool) -> None:
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
