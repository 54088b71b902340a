"""What a runtime takes while nothing happens, and how fast it acts when something hangs."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.measure import Chapter, Promise, kernel_hz, milli, percentile
from benchmarks.stage import Stage

MB = 1_048_576


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure memory, time-outs and idleness."""
    chapter = Chapter()
    _memory(chapter, 4 if quick else 16)
    _late(chapter, rounds, 4 if quick else 20)
    _idle(chapter, 2.0 if quick else 5.0)
    return chapter


def _memory(chapter: Chapter, sandboxes: int) -> None:
    with Stage("pyfaas") as stage:
        first = stage.do("memory", sandboxes=sandboxes, at_rest=False)
    with Stage("pyfaas") as stage:
        private = stage.do("memory", sandboxes=sandboxes, at_rest=True)
    median, most = statistics.median(private) / MB, max(private) / MB
    measured = (
        f"{median:.2f} MB (most of {len(private)}: {most:.2f} MB; "
        f"if so many are the first of a process, called at once: {statistics.median(first) / MB:.2f} MB)"
    )
    chapter.promises.append(Promise("private memory of an idle warm sandbox", "at most 2 MB", measured, 0 < most <= 2))
    print(f"  memory {measured}", flush=True)


def _late(chapter: Chapter, rounds: int, calls: int) -> None:
    target = 0.030 if kernel_hz() == 100 else 0.020
    with ExitStack() as stack:
        stages = {
            "`invoke`": stack.enter_context(Stage("pyfaas")),
            "`ainvoke`": stack.enter_context(Stage("pyfaas, asyncio")),
        }
        found: dict[str, list[list[float]]] = {name: [] for name in stages}
        for _ in range(rounds):
            for name, stage in stages.items():
                found[name] += stage.do("late", calls=calls)
    for name, pairs in found.items():
        late, usable = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        early = min(late)
        chapter.promises += [
            Promise(
                f"time-out, {name}: the caller has its error after the deadline, p99",
                f"at most {milli(target, 0)}",
                f"{milli(percentile(late, 99))} (p50 {milli(percentile(late, 50))}, earliest {milli(early)})",
                percentile(late, 99) <= target and early >= 0,
            ),
            Promise(
                f"time-out, {name}: its slot gives the next value after the deadline, p99",
                "at most 50 ms",
                f"{milli(percentile(usable, 99))} (p50 {milli(percentile(usable, 50))}, {len(pairs)} time-outs)",
                percentile(usable, 99) <= 0.050,
            ),
        ]
        print(f"  time-out, {name}: {milli(percentile(late, 99))} late, p99", flush=True)


def _idle(chapter: Chapter, seconds: float) -> None:
    """Watch from outside, by the kernel's books: who was switched to, and who used the CPU for how long."""
    with Stage("pyfaas") as stage:
        pids = [stage.pid, *stage.do("idle")]
        before = stage.do("wakeups")
        time.sleep(0.5)
        began = {pid: _books(pid) for pid in pids}
        time.sleep(seconds)
        ended = {pid: _books(pid) for pid in pids}
        wakeups = stage.do("wakeups") - before
    cpu = sum(ended[pid][0] - began[pid][0] for pid in pids)
    turns = sum(ended[pid][1] - began[pid][1] for pid in pids)
    chapter.promises.append(
        Promise(
            f"idle runtime, {seconds:.0f} s: process, zygote and sandboxes",
            "no wake-up before the next expiry, no CPU",
            f"{wakeups} wake-ups of the watch; {cpu / 1e6:.3f} ms of CPU, {turns} turns on it, by the kernel's books",
            wakeups == 0 and cpu == 0,
        )
    )
    print(f"  idle: {wakeups} wake-ups, {cpu / 1e6:.3f} ms", flush=True)


def _books(pid: int) -> tuple[int, int]:
    """Give nanoseconds on a CPU and turns there, of all threads."""
    cpu = turns = 0
    for file in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        on, _, count = map(int, file.read_text().split())
        cpu, turns = cpu + on, turns + count
    return cpu, turns
