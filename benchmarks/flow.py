"""Flow: messages, publications and schedules on their way to a function."""

from __future__ import annotations

import statistics

from benchmarks.measure import Chapter, Promise, act, milli, percentile, times

SCHEDULES = 100_000
MAPPINGS = 1_000
_ACTS = "benchmarks.flow_acts"


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure each in processes of its own."""
    chapter = Chapter()
    _consumed(chapter, rounds, "5000" if quick else "20000")
    _read(chapter, rounds, "5000" if quick else "20000")
    _published(chapter, rounds, "40" if quick else "200")
    _ticked(chapter, rounds)
    _backlog(chapter, 100_000 if quick else 10_000_000)
    _idle(chapter)
    return chapter


def _consumed(chapter: Chapter, rounds: int, count: str) -> None:
    found = {
        (kind, size): statistics.median(act(_ACTS, "consume", kind, count, size) for _ in range(rounds))
        for kind in ("file", "memory")
        for size in (1, 10, 100)
    }
    rate = found["file", 10]
    told = "at least 10,000 a second"
    promise = "queue to handler to ack, batches of 10, messages"
    chapter.promises.append(Promise(promise, told, f"{rate:,.0f} a second", rate >= 10_000))
    rows = [[f"{size}", *(f"{found[kind, size]:,.0f}" for kind in ("file", "memory"))] for size in (1, 10, 100)]
    told = f"{int(count):,} messages of the small kind, from the first claim to the last delete, one function."
    chapter.tables.append(
        ("Messages of a queue", ["size of a batch", "a second, file", "a second, memory"], rows, told)
    )
    print(f"  queue: {rate:,.0f} messages a second", flush=True)


def _read(chapter: Chapter, rounds: int, count: str) -> None:
    found = {
        (kind, size): statistics.median(act(_ACTS, "read", kind, count, size) for _ in range(rounds))
        for kind in ("file", "memory")
        for size in (10, 100, 1000)
    }
    rows = [[f"{size}", *(f"{found[kind, size]:,.0f}" for kind in ("file", "memory"))] for size in (10, 100, 1000)]
    told = f"{int(count):,} records of the small kind in four shards, one function, until its cursors are at the end."
    chapter.tables.append(
        ("Records of a stream", ["size of a batch", "a second, file", "a second, memory"], rows, told)
    )
    print(f"  stream: {found['file', 100]:,.0f} records a second", flush=True)


def _published(chapter: Chapter, rounds: int, calls: str) -> None:
    for kind, target, told in (("file", 0.005, "`full`"), ("memory", 0.001, "in memory")):
        found = [seconds for _ in range(rounds) for seconds in act(_ACTS, "publish", kind, calls)]
        p50 = statistics.median(found)
        chapter.promises.append(
            Promise(
                f"publish to handler running, idle runtime, {told}, p50",
                f"at most {milli(target, 0)}",
                f"{milli(p50)} (p99 {milli(percentile(found, 99))})",
                p50 <= target,
            )
        )
        print(f"  publish to handler, {kind}: {milli(p50)}", flush=True)


def _ticked(chapter: Chapter, rounds: int) -> None:
    turns = [act(_ACTS, "ticks", SCHEDULES) for _ in range(rounds)]
    tick, grown = (statistics.median(turn[name] for turn in turns) for name in ("tick", "grown"))
    chapter.promises += [
        Promise(f"{SCHEDULES:,} schedules, a tick of one of them", "under 1 ms", milli(tick, 3), tick < 0.001),
        Promise(
            f"{SCHEDULES:,} schedules, memory", "under 100 MB", f"{grown / 1_048_576:.0f} MB", grown < 100 * 1_048_576
        ),
    ]
    print(f"  schedules: {milli(tick, 3)}, {grown / 1_048_576:.0f} MB", flush=True)


def _backlog(chapter: Chapter, count: int) -> None:
    found = act(_ACTS, "backlog", count)
    worst = max(found["send"], found["claim"])
    chapter.promises.append(
        Promise(
            f"{count:,} messages in a queue, sending and claiming by those of an empty one",
            "at most 2 ×",
            f"{times(found['send'])} and {times(found['claim'])} ({found['bytes']:.0f} bytes each on the disk)",
            worst <= 2,
        )
    )
    print(f"  backlog: {times(found['send'])}, {times(found['claim'])}", flush=True)


def _idle(chapter: Chapter) -> None:
    found = act(_ACTS, "idle", MAPPINGS)
    measured = f"{found['wakes']:.0f} wake-ups in 5 s"
    promise = f"an idle runtime with {MAPPINGS:,} mappings"
    chapter.promises.append(Promise(promise, "no wake-up before the next thing due", measured, found["wakes"] == 0))
    print(f"  idle: {measured}", flush=True)
