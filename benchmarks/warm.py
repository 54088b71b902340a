"""
Warm calls, one caller: ``invoke`` beside the bare loop and every pool, ``ainvoke`` beside two bare asyncio loops.

Between calls the caller sleeps (gaps of 1 and 20 ms) as an application does that waits for its next request. A busy
wait would keep this core's clock and caches up, and no worker ever has to be woken from a deep sleep: the figures would
be prettier for everybody, and nobody would meet them. With one worker each no pool has to choose.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from benchmarks.measure import Chapter, Promise, Samples, best, interleave, micro, times
from benchmarks.peers import PEERS
from benchmarks.stage import Stage

GAPS = {0.0: "no gap", 0.001: "1 ms gap", 0.020: "20 ms gap"}
FLOOR_TARGETS = {0.0: 1.5, 0.001: 1.5, 0.020: 2.0}
# A turn is short, so that the contenders meet the same moods of the machine, and there are many.
CALLS = {0.0: 300, 0.001: 100, 0.020: 12}
TURNS = {0.0: 4, 0.001: 2, 0.020: 2}

FLOOR, OURS, BEST_PEER = "bare loop", "pyfaas", 0.35
LOOPS = ["bare asyncio, spinning", "bare asyncio, reader"]
ASYNC, TRIO = "pyfaas ainvoke", "pyfaas ainvoke, trio"
NAMES = {
    FLOOR: "floor",
    OURS: "pyfaas",
    **{name: name for name in PEERS},
    LOOPS[0]: "spinning loop",
    LOOPS[1]: "reader loop",
    ASYNC: "pyfaas, asyncio",
    TRIO: "pyfaas, trio",
}


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure all gaps; one set of processes for all of it."""
    chapter = Chapter()
    with ExitStack() as stack:
        stages = {name: stack.enter_context(Stage(stage)) for name, stage in NAMES.items()}
        for gap, told in GAPS.items():
            samples = _measure(stages, gap, rounds, quick=quick)
            _judge_invoke(chapter, samples, gap, told)
            _judge_ainvoke(chapter, samples, gap, told)
            _tabulate(chapter, samples, told)
            print(f"  {told}: floor {micro(samples[FLOOR].p50)}, pyfaas {micro(samples[OURS].p50)}", flush=True)
    return chapter


def _measure(stages: dict[str, Stage], gap: float, rounds: int, *, quick: bool) -> dict[str, Samples]:
    calls, turns = (CALLS[gap] // 2, 1) if quick else (CALLS[gap], TURNS[gap])

    def turn(stage: Stage) -> Any:
        return lambda: stage.do("block", calls=calls, gap=gap)

    return interleave({name: turn(stage) for name, stage in stages.items()}, rounds * turns)


def _judge_invoke(chapter: Chapter, samples: dict[str, Samples], gap: float, told: str) -> None:
    ours, floor = samples[OURS], samples[FLOOR]
    target, ratio = FLOOR_TARGETS[gap], ours.over(floor)
    rival = best(samples, list(PEERS))
    against, bare = ours.over(samples[rival]), floor.over(samples[rival])
    chapter.promises += [
        Promise(
            f"warm `invoke`, p50, {told}, by the floor",
            f"at most {target} ×",
            f"{times(ratio)} ({micro(ours.p50)} by {micro(floor.p50)})",
            ratio <= target,
        ),
        Promise(
            f"warm `invoke`, p50, {told}, by the best peer",
            f"at most {BEST_PEER} ×",
            f"{times(against)} of {rival} ({micro(samples[rival].p50)}); the floor itself is {times(bare)} of it",
            against <= BEST_PEER,
            "the bare loop itself does not reach this here" if bare > BEST_PEER else "",
        ),
    ]


def _judge_ainvoke(chapter: Chapter, samples: dict[str, Samples], gap: float, told: str) -> None:
    ours, loop = samples[ASYNC], best(samples, LOOPS)
    target, ratio = 1.5, ours.over(samples[loop])
    rival = best(samples, list(PEERS))
    against, trio = ours.over(samples[rival]), samples[TRIO].over(ours)
    chapter.promises += [
        Promise(
            f"warm `ainvoke`, p50, {told}, by the faster bare asyncio loop",
            f"at most {target} ×",
            f"{times(ratio)} ({micro(ours.p50)} by {micro(samples[loop].p50)}, {loop.rpartition(', ')[2]})",
            ratio <= target,
        ),
        Promise(
            f"warm `ainvoke`, p50, {told}, by the best peer's blocking call",
            "below 1 ×",
            f"{times(against)} of {rival}",
            against < 1,
        ),
        Promise(
            f"warm `ainvoke`, p50, {told}, trio by asyncio",
            "at most 1.3 ×",
            f"{times(trio)} ({micro(samples[TRIO].p50)})",
            trio <= 1.3,
        ),
    ]


def _tabulate(chapter: Chapter, samples: dict[str, Samples], told: str) -> None:
    floor = samples[FLOOR]
    rows = [
        [name, micro(one.p50), micro(one.p99), times(one.over(floor)), times(samples[OURS].over(one))]
        for name, one in sorted(samples.items(), key=lambda item: item[1].p50)
    ]
    header = ["contender", "p50", "p99", "by the bare loop", "pyfaas `invoke` by it"]
    chapter.tables.append((f"One caller, {told}", header, rows, f"{len(floor.every)} calls each."))
    chapter.plots.setdefault("one caller, p50 (µs)", {})[told] = {name: one.p50 * 1e6 for name, one in samples.items()}
