"""
How many cold starts does a keep-alive policy spare, and what memory does that take? ``python -m benchmarks.keepalive``

Runs the policies of production over the traces of traces.py, prints what came of it, and writes
docs/reference/keepalive.md and its plot. ``promise()`` gives the one line for the table of promises.
"""

from __future__ import annotations

import functools
import itertools
import math
import multiprocessing
import os
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.measure import ROOT, Promise
from benchmarks.replay import Tally, replay
from benchmarks.traces import DAYS, END, FUNCTIONS, MIXTURE, SEEDS, Trace, fingerprint, week
from pyfaas._pool.histogram import HybridHistogram
from pyfaas._pool.keepalive import FixedTime, GreedyDual, KeepAlive

FIXED_MINUTES = (1, 2, 3, 5, 7, 10, 15, 20, 30, 60, 120, 240)
HYBRID_MINUTES = (3, 5, 7, 10, 15, 20, 30, 60)
PAPER_MINUTES = (2, 5, 10, 20, 60)
GREEDY_GB = (12, 16, 20, 24, 32, 40)
REFERENCE = 10  # minutes: what the others are held against
AROUND = (10, 15, 20, 30)  # minutes of a hybrid histogram that holds as much memory
TARGET = 0.30

FIXED = "fixed time"
HYBRID = "hybrid histogram"
PAPER = "hybrid histogram, the paper's windows"
GREEDY = "greedy dual"

_week = functools.cache(week)


@dataclass(frozen=True)
class Contender:
    """A policy with one setting; ``room`` is in MB for the functions of one seed."""

    name: str
    setting: str
    policy: KeepAlive
    room: float = math.inf


@dataclass(frozen=True)
class Outcome:
    """What a contender did: a tally for each shape and for all, and the worst quarter's share of cold calls."""

    contender: Contender
    tallies: dict[str, Tally]
    third_quartile: float

    def memory(self, shape: str = "all") -> float:
        """Give the mean GB that idle sandboxes of the functions of one seed held."""
        return self.tallies[shape].idle / END / 1024 / len(SEEDS)


def contenders() -> list[Contender]:
    """Give every policy with every setting."""
    return [
        *(_fixed(minutes) for minutes in FIXED_MINUTES),
        *(_hybrid(minutes) for minutes in HYBRID_MINUTES),
        *(_paper(minutes) for minutes in PAPER_MINUTES),
        *(Contender(GREEDY, f"{size} GB", GreedyDual(), 1024 * size) for size in GREEDY_GB),
    ]


def _fixed(minutes: int) -> Contender:
    return Contender(FIXED, f"{minutes} min", FixedTime(60 * minutes))


def _hybrid(minutes: int) -> Contender:
    return Contender(HYBRID, f"{minutes} min", HybridHistogram(60 * minutes))


def _paper(minutes: int) -> Contender:
    return Contender(PAPER, f"{minutes} min", HybridHistogram(60 * minutes, worth=math.inf))


def run(those: Sequence[Contender]) -> list[Outcome]:
    """Let each of them have each week, on all cores."""
    for seed in SEEDS:
        _week(seed)  # before the fork, so that it is done once
    jobs = [(contender, seed) for contender in those for seed in SEEDS]
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        done = pool.starmap(_replay, jobs, chunksize=1)
    tallies = {contender: [] for contender in those}  # of all functions of all seeds, in their order
    for (contender, _), more in zip(jobs, done, strict=True):
        tallies[contender] += more
    return [_outcome(contender, its) for contender, its in tallies.items()]


def _replay(contender: Contender, seed: int) -> list[Tally]:
    return replay(_week(seed), contender.policy, contender.room)


def _outcome(contender: Contender, tallies: list[Tally]) -> Outcome:
    shapes = [trace.shape for trace in _traces()]
    by_shape = {
        shape: sum((tally for tally, its in zip(tallies, shapes, strict=True) if its == shape), Tally())
        for shape in MIXTURE
    }
    by_shape["all"] = sum(tallies, Tally())
    shares = [tally.cold / tally.calls for tally in tallies if tally.calls]
    return Outcome(contender, by_shape, statistics.quantiles(shares, n=4)[2])


def _traces() -> list[Trace]:
    return [trace for seed in SEEDS for trace in _week(seed)]


# -- comparing ---------------------------------------------------------------------------------------------------------

Measure = Callable[[Tally], float]


def cold(tally: Tally) -> float:
    """Count cold starts."""
    return tally.cold


def waited(tally: Tally) -> float:
    """Count the seconds that callers waited for them."""
    return tally.waited


def at_memory(curve: Sequence[Outcome], memory: float, measure: Measure = cold, shape: str = "all") -> float:
    """Read a curve where it holds so much memory, on the straight line between two settings; NaN beyond its ends."""
    points = sorted((one.memory(shape), measure(one.tallies[shape])) for one in curve)
    for (less, many), (more, few) in itertools.pairwise(points):
        if less <= memory <= more:
            return many + (few - many) * (memory - less) / (more - less)
    return math.nan


def fewer(curve: Sequence[Outcome], one: Outcome, measure: Measure = cold, shape: str = "all") -> float:
    """Tell by what share one is below a curve, at its own memory."""
    return 1 - measure(one.tallies[shape]) / at_memory(curve, one.memory(shape), measure, shape)


def select(outcomes: Sequence[Outcome], name: str) -> list[Outcome]:
    """Give all settings of a policy."""
    return [one for one in outcomes if one.contender.name == name]


def reference(outcomes: Sequence[Outcome]) -> Outcome:
    """Give the fixed time that the others are held against."""
    return next(one for one in outcomes if one.contender == _fixed(REFERENCE))


def promise(outcomes: Sequence[Outcome] | None = None) -> Promise:
    """Hold the hybrid histogram against a fixed time at just the memory of the latter; runs what it needs itself."""
    if outcomes is None:
        outcomes = run([_fixed(REFERENCE), *(_hybrid(minutes) for minutes in AROUND)])
    fixed = reference(outcomes)
    now, then = at_memory(select(outcomes, HYBRID), fixed.memory()), fixed.tallies["all"].cold
    share, calls = 1 - now / then, fixed.tallies["all"].calls
    return Promise(
        "cold starts, hybrid histogram by 10 minutes fixed, at the same memory, simulated",
        f"at least {TARGET:.0%} fewer",
        f"{share:.0%} fewer ({now:,.0f} by {then:,} of {calls:,} calls, at {fixed.memory():.1f} GB)",
        share >= TARGET,
    )


# -- telling -----------------------------------------------------------------------------------------------------------

INTRODUCTION = f"""\
# Keep-alive policies

How many calls meet a cold start, and how much memory idle sandboxes hold meanwhile. `python -m benchmarks.keepalive`
makes this page anew: it runs the policies of production, not copies of them, over {len(SEEDS)} × {FUNCTIONS} functions
for {DAYS} simulated days each. The traces are made from seeds (`benchmarks/traces.py`), with the shapes that were
published of the Azure Functions trace of 2019; they were committed before the policies, and stay.

Memory is the mean that idle sandboxes of {FUNCTIONS} functions hold together. A cold start is a call that waits for a
sandbox, be it for one that was made ahead and is not ready yet. The first days, when a histogram has yet to learn,
count too. What is not simulated: starts that slow each other down, and the 50 ms of the watch.
"""
SHAPES = """\
Each policy at the setting whose memory comes next to that of 10 minutes fixed. *Fewer* (and *less*) is how far it then
stays below a fixed time that holds just as much memory for this shape, whatever number of minutes that takes.
"""
LOSSES = """\
## Where it loses

- Nearly all that **the hybrid histogram** wins, it wins on **periodic** functions. What it does not hold for them it
  may hold for others.
- **Steady** calls give it nothing to expect: at the memory that it holds for them, a fixed time is as good or better.
- **Rare** ones come beyond its four hours. It does no better there than a fixed time; its defaults hold little for
  them, as they are a few calls in a thousand.
- **The paper's windows** (`worth=float("inf")`) hold what is called every hour or so for hours, and let one call in a
  hundred of the busiest go cold. That pays where each function's cold starts are counted as a share of its own calls,
  as the paper does (see the third quartile). Where calls are counted, it spares less than the default.
- **Sandboxes made ahead** take a start each. Nobody waits for it, but a processor works for it.
- **Greedy dual** spares waiting, not cold starts: what is quickly made goes first. By the number of cold starts it is
  far worse than a fixed time; by the seconds that callers wait it is better.

What was tried, on other seeds than these (1, 2 and 3), and how far cold starts stayed below a fixed time that holds as
much memory: the paper's policy for all sandboxes of a function, -37 %; other percentiles, fallbacks and thresholds, -53
to -1 %; bins of 15 s, so a range of one hour, 27 %; its windows for one sandbox and a fixed time for the others, 18 %;
its windows cut where they cease to pay, 29 %; both, 38 %. That is the default.
"""


def overview(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Make the table of all settings."""
    header = ["policy", "setting", "GB", "cold starts", "of calls", "waited", "made ahead", "third quartile"]
    rows = []
    for one in outcomes:
        tally = one.tallies["all"]
        rows.append(
            [
                one.contender.name,
                one.contender.setting,
                f"{one.memory():.1f}",
                f"{tally.cold:,}",
                f"{tally.cold / tally.calls:.2%}",
                f"{tally.waited / 3600:.1f} h",
                f"{tally.ahead:,}" if tally.ahead else "",
                f"{one.third_quartile:.1%}",
            ]
        )
    return header, rows


def shapes(outcomes: Sequence[Outcome]) -> tuple[list[str], list[list[str]]]:
    """Make the table of one setting of each policy, shape by shape."""
    fixed = reference(outcomes)
    header = ["shape", "policy", "setting", "GB", "cold starts", "fewer", "waiting", "less"]
    rows = []
    for shape in [*MIXTURE, "all"]:
        for name in (FIXED, HYBRID, PAPER, GREEDY):
            one = min(select(outcomes, name), key=lambda any_: abs(any_.memory() - fixed.memory()))
            tally = one.tallies[shape]
            curve = select(outcomes, FIXED)
            rows.append(
                [
                    shape,
                    name,
                    one.contender.setting,
                    f"{one.memory(shape):.2f}",
                    f"{tally.cold:,}",
                    "" if one is fixed else _share(fewer(curve, one, cold, shape)),
                    f"{tally.waited / 3600:.1f} h",
                    "" if one is fixed else _share(fewer(curve, one, waited, shape)),
                ]
            )
    return header, rows


def _share(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.0%}"


def with_equal_settings(outcomes: Sequence[Outcome]) -> str:
    """Tell what the hybrid histogram does where it is told as many minutes as the fixed time."""
    fixed = reference(outcomes)
    hybrid = next(one for one in outcomes if one.contender == _hybrid(REFERENCE))
    less = 1 - hybrid.memory() / fixed.memory()
    spared = 1 - hybrid.tallies["all"].cold / fixed.tallies["all"].cold
    return (
        f"With the same {REFERENCE} minutes, `HybridHistogram({60 * REFERENCE})` holds {less:.0%} less memory than\n"
        f"`FixedTime({60 * REFERENCE})` and has {spared:.0%} fewer cold starts.\n"
    )


def write(directory: Path, outcomes: Sequence[Outcome]) -> None:
    """Write the page and the plot."""
    told = promise(outcomes)
    marks = ", ".join(f"{seed}: `{fingerprint(_week(seed))}`" for seed in SEEDS)
    text = [
        INTRODUCTION,
        report._markdown(report.PROMISES, report.rows_of([told])),
        with_equal_settings(outcomes),
        "![Cold starts against memory held, for each policy and shape](keepalive.svg)\n",
        "## Shape by shape\n",
        SHAPES,
        report._markdown(*shapes(outcomes)),
        LOSSES,
        "## All settings\n",
        "The last column is the paper's measure: a quarter of all functions has a larger share of cold calls.\n",
        report._markdown(*overview(outcomes)),
        f"Fingerprints of the traces, by seed: {marks}.\n",
    ]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "keepalive.md").write_text("\n".join(text), "utf-8")
    _plot(directory / "keepalive.svg", outcomes)


STYLES = {FIXED: "#4a6fa5", HYBRID: "#d9541e", PAPER: "#e8a87c", GREEDY: "#5b8c5a"}


def _plot(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Draw a panel for each shape, one for all, and one for all by the seconds that callers waited."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "pyfaas"
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(2, 3, figsize=(15, 8.5))
    panels: list[tuple[str, str, Measure]] = [(f"{shape} functions", shape, cold) for shape in MIXTURE]
    panels += [("all functions", "all", cold), ("all functions, seconds that callers waited", "all", waited)]
    for axis, (title, shape, measure) in zip(axes.flat, panels, strict=True):
        for name, colour in STYLES.items():
            line = sorted((one.memory(shape), measure(one.tallies[shape])) for one in select(outcomes, name))
            axis.plot(*zip(*line, strict=True), color=colour, marker="o", markersize=3, linewidth=1.3, label=name)
        fixed = reference(outcomes)
        axis.plot(fixed.memory(shape), measure(fixed.tallies[shape]), "D", color="#1f3350", label="10 minutes fixed")
        axis.set_yscale("log")
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("GB held by idle sandboxes", fontsize=8)
        axis.set_ylabel("seconds" if measure is waited else "cold starts", fontsize=8)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="lower center", ncols=5, fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.04, 1, 1))
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Run everything, print it and write the page."""
    outcomes = run(contenders())
    report.print_table(*overview(outcomes))
    print()
    report.print_table(*shapes(outcomes))
    print()
    report.print_table(report.PROMISES, report.rows_of([promise(outcomes)]))
    directory = ROOT / "docs" / "reference"
    write(directory, outcomes)
    print(f"\nwritten: {directory / 'keepalive.md'}")


if __name__ == "__main__":
    main()
