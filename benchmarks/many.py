"""Many: sandboxes with everything on, a thousand of them; calls that come at once; neighbours that share permits."""

from __future__ import annotations

import statistics

from benchmarks import keepalive
from benchmarks.measure import Chapter, Promise, act, milli, percentile, times

MB = 1_048_576


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure all of it, each in processes of its own."""
    chapter = Chapter()
    _confined(chapter, rounds, 500 if quick else 3000)
    _preloaded(chapter, rounds, 10 if quick else 40)
    _snapped(chapter, rounds, 16 if quick else 40)
    _thousand(chapter, 100 if quick else 1000)
    _sleepers(chapter, 100 if quick else 500)
    _burst(chapter, 1000 if quick else 10_000)
    chapter.promises.append(keepalive.promise())
    return chapter


def _confined(chapter: Chapter, rounds: int, calls: int) -> None:
    turns = [act("benchmarks.many_acts", "confined", calls) for _ in range(rounds)]
    ratio = statistics.median(statistics.median(one["on"]) / statistics.median(one["off"]) for one in turns)
    chapter.promises.append(
        Promise("warm `invoke` with everything on by confinement off", "at most 1.05 ×", times(ratio), ratio <= 1.05)
    )
    print(f"  warm, confined by off: {times(ratio)}", flush=True)


def _preloaded(chapter: Chapter, rounds: int, calls: int) -> None:
    starts = [seconds for _ in range(rounds) for seconds in act("benchmarks.many_acts", "preloaded", calls)]
    for percent, target in ((50, 0.003), (99, 0.010)):
        measured = percentile(starts, percent)
        promise = f"a new sandbox for each call, one standing by, everything on, NumPy preloaded, p{percent}"
        told = f"at most {milli(target, 0)}"
        chapter.promises.append(Promise(promise, told, milli(measured), measured <= target))
    print(f"  NumPy preloaded: {milli(percentile(starts, 50))}, p99 {milli(percentile(starts, 99))}", flush=True)


def _snapped(chapter: Chapter, rounds: int, calls: int) -> None:
    turns = [act("benchmarks.many_acts", "snapped", calls) for _ in range(rounds)]
    alone, together = ([seconds for one in turns for seconds in one[kind]] for kind in ("alone", "together"))
    p50 = statistics.median(alone)
    chapter.promises.append(
        Promise(
            "snap start of a handler whose init takes 300 ms, one standing by, to its first value",
            "at most 4 ms",
            f"{milli(p50)}, p99 {milli(percentile(alone, 99))}; eight at once: {milli(statistics.median(together))}",
            p50 <= 0.004,
        )
    )
    print(f"  snap start: {milli(p50)}, eight at once {milli(statistics.median(together))}", flush=True)


def _thousand(chapter: Chapter, count: int) -> None:
    found = act("benchmarks.many_acts", "thousand", count)
    private = statistics.median(found["private"]) / MB
    tables = statistics.median(found["page tables"]) / 1024
    p99 = percentile(found["spawns"], 99)
    chapter.promises += [
        Promise(
            f"{found['live']:,} live sandboxes, all on, all answering in turn: private memory of each",
            "at most 2 MB",
            f"{private:.2f} MB, and {tables:.0f} KB of page tables; {found['mounts']} mounts in its view; "
            f"one turn of all took {milli(found['turn'], 0)}",
            private <= 2,
        ),
        Promise(
            "spawning them, two at a time",
            "at least 350 a second, p99 at most 10 ms",
            f"{found['rate']:.0f} a second, p50 {milli(percentile(found['spawns'], 50))}, p99 {milli(p99)}",
            found["rate"] >= 350 and p99 <= 0.010,
        ),
    ]
    print(f"  {found['live']} sandboxes: {private:.2f} MB each, {found['rate']:.0f} a second", flush=True)


def _sleepers(chapter: Chapter, count: int) -> None:
    found = act("benchmarks.many_acts", "sleepers", count)
    measured = f"{found['warm']:.2f} s (with no sandbox there before: {found['cold']:.2f} s)"
    chapter.promises.append(
        Promise(
            f"{count} invocations at once that each sleep 1 s, warm",
            "at most 2.5 s",
            measured,
            found["warm"] <= 2.5,
        )
    )
    print(f"  {count} sleepers: {measured}", flush=True)


def _burst(chapter: Chapter, count: int) -> None:
    found = act("benchmarks.many_acts", "burst", count)
    ratio = found["smallest"] / found["fair"]
    most, least = found["sizes"]
    measured = f"{times(ratio)} ({found['smallest']:.2f} s by {found['fair']:.2f} s, of {found['whole']:.2f} s in all)"
    chapter.promises.append(
        Promise(
            f"a burst of {count:,} invocations on 100 functions ({most:,} of the busiest, {least} of the smallest), "
            "16 permits: p99 wait of the smallest by its fair share",
            "at most 3 ×",
            measured,
            ratio <= 3,
        )
    )
    print(f"  burst: {measured}", flush=True)
