"""6 MB there and back: against the four JSON calls (two to write, two to read) that nobody can spare."""

from __future__ import annotations

import statistics
from contextlib import ExitStack

from benchmarks.measure import Chapter, Promise, milli, percentile, times
from benchmarks.stage import Stage

KINDS = ("one string", "dicts", "floats")
TARGET = 1.3


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure each kind."""
    chapter = Chapter()
    calls = 1 if quick else 4
    rows = []
    with ExitStack() as stack:
        ours = stack.enter_context(Stage("pyfaas"))
        bare = stack.enter_context(Stage("floor, large"))
        for kind in KINDS:
            mine: list[list[float]] = []
            floor: list[list[float]] = []
            for _ in range(rounds):
                floor += bare.do("large", kind=kind, calls=calls)
                mine += ours.do("large", kind=kind, calls=calls)
            ratio, lowest = (statistics.median(took / json for json, took in pairs) for pairs in (mine, floor))
            json, took = (percentile([pair[which] for pair in mine], 50) for which in (0, 1))
            chapter.promises.append(
                Promise(
                    f"6 MB event and result, {kind}",
                    f"at most {TARGET} × its four JSON calls",
                    f"{times(ratio)} ({milli(took, 1)} by {milli(json, 1)}); the bare loop: {times(lowest)}",
                    ratio <= TARGET,
                )
            )
            worst = percentile([pair[1] for pair in mine], 99)
            rows.append([kind, milli(json, 1), milli(took, 1), milli(worst, 1), times(ratio), times(lowest)])
            print(f"  6 MB, {kind}: {times(ratio)}, bare loop {times(lowest)}", flush=True)
    header = ["payload", "four JSON calls", "`invoke`, p50", "p99", "ratio", "the bare loop's ratio"]
    told = "The bare loop here sends a length and the same JSON over a socket pair to a forked child, and nothing else."
    chapter.tables.append(("6 MB there and back", header, rows, told))
    return chapter
