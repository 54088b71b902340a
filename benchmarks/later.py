"""Later: events that are accepted and run afterwards, beside the SQLite queues that one would take instead."""

from __future__ import annotations

import statistics

from benchmarks.later_acts import STORES, THREADS
from benchmarks.measure import Chapter, Promise, act, milli, percentile, times

RULES = 10_000


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure accepting, beginning and matching, each in processes of its own, in turns."""
    chapter = Chapter()
    _accepted(chapter, rounds, "0.2" if quick else "1.0")
    _begun(chapter, rounds, "40" if quick else "200")
    _done(chapter, rounds, "400" if quick else "4000")
    _matched(chapter, rounds, "2000" if quick else "20000")
    return chapter


def _accepted(chapter: Chapter, rounds: int, seconds: str) -> None:
    turns = [{store: act("benchmarks.later_acts", "accept", store, seconds) for store in STORES} for _ in range(rounds)]
    alone, together = (
        {store: statistics.median(turn[store][kind] for turn in turns) for store in STORES}
        for kind in ("alone", "together")
    )
    by_huey = statistics.median(turn["pyfaas"]["together"] / turn["huey"]["together"] for turn in turns)
    chapter.promises += [
        Promise(
            "accepted durably, one at a time",
            "at least 2,500 a second",
            f"{alone['pyfaas']:,.0f} a second (`normal`: {alone['pyfaas, normal']:,.0f}; huey: {alone['huey']:,.0f})",
            alone["pyfaas"] >= 2_500,
        ),
        Promise(
            f"accepted durably, from {THREADS} threads",
            "at least 20,000 a second, and 4 × huey's",
            f"{together['pyfaas']:,.0f} a second, {times(by_huey)} huey's",
            together["pyfaas"] >= 20_000 and by_huey >= 4,
        ),
    ]
    order = sorted(STORES, key=lambda store: -together[store])
    rows = [[store, f"{alone[store]:,.0f}", f"{together[store]:,.0f}"] for store in order]
    told = (
        "Each commits an event of the small kind to a SQLite file and syncs it before it comes back; `normal` syncs "
        "now and then only. litequeue has a connection a thread."
    )
    head = ["store", "one at a time, a second", f"{THREADS} threads, a second"]
    chapter.tables.append(("Events accepted", head, rows, told))
    print(f"  accepted: {alone['pyfaas']:,.0f} alone, {together['pyfaas']:,.0f} together", flush=True)


def _begun(chapter: Chapter, rounds: int, calls: str) -> None:
    for kind, target, told in (("file", 0.005, "`full`"), ("memory", 0.001, "in memory")):
        found = [seconds for _ in range(rounds) for seconds in act("benchmarks.later_acts", "begin", kind, calls)]
        p50 = statistics.median(found)
        chapter.promises.append(
            Promise(
                f"submit to handler running, idle runtime, {told}, p50",
                f"at most {milli(target, 0)}",
                f"{milli(p50)} (p99 {milli(percentile(found, 99))})",
                p50 <= target,
            )
        )
        print(f"  submit to handler, {kind}: {milli(p50)}", flush=True)


def _done(chapter: Chapter, rounds: int, count: str) -> None:
    rates = {
        kind: [act("benchmarks.later_acts", "done", kind, count) for _ in range(rounds)] for kind in ("file", "memory")
    }
    file, memory = (statistics.median(rates[kind]) for kind in ("file", "memory"))
    chapter.tables.append(
        (
            "Events submitted and done",
            ["store", "a second"],
            [["file, `full`", f"{file:,.0f}"], ["memory", f"{memory:,.0f}"]],
            f"{int(count):,} events from eight threads, each an invocation, from the first submit to the last end.",
        )
    )
    print(f"  done: {file:,.0f} a second, {memory:,.0f} in memory", flush=True)


def _matched(chapter: Chapter, rounds: int, events: str) -> None:
    turns = [act("benchmarks.later_acts", "match", str(RULES), events) for _ in range(rounds)]
    rate = statistics.median(turn["rate"] for turn in turns)
    chapter.promises.append(
        Promise(
            f"pattern matching, {RULES:,} rules",
            "at least 20,000 events a second",
            f"{rate:,.0f} a second",
            rate >= 20_000,
        )
    )
    print(f"  patterns: {rate:,.0f} events a second", flush=True)
