"""What is told: the table on the terminal, ``promises.md`` and its plot."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from benchmarks.explanations import explanation_of
from benchmarks.measure import Chapter, Promise

PROMISES = ["promise", "target", "measured", ""]
INTRODUCTION = """\
# Promises

What pyfaas promises to be, measured beside a bare loop and every pool that one would take instead. `nox -s bench` makes
this page anew. pyfaas runs with its limits on; each contender has a process of its own and waits there for its turn;
turns are short and go round, {rounds} rounds of them. A ratio is the median over the turns of one contender's median by
that of the other in the same turn. Times are of the wall clock.

The bare loop (the floor) is a socket pair to a forked child that carries the same JSON: no limits, no time-outs, no
errors, no log, no second worker.
"""


def rows_of(promises: Iterable[Promise]) -> list[list[str]]:
    """Make the table of promises."""
    return [
        [one.promise, one.target, one.measured, one.verdict + ("" if one.met else f": {_why(one)}".rstrip(": "))]
        for one in promises
    ]


def _why(promise: Promise) -> str:
    return promise.why or explanation_of(promise.promise)


def print_table(header: list[str], rows: list[list[str]]) -> None:
    """Print it with columns of equal width."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    for row in [header, ["-" * width for width in widths], *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def print_chapter(chapter: Chapter) -> None:
    """Print the tables that stand behind the promises."""
    for title, header, rows, told in chapter.tables:
        print(f"\n{title}\n{told}\n")
        print_table(header, rows)


def write(directory: Path, chapters: list[Chapter], facts: dict[str, str], rounds: int) -> None:
    """Write the page and the plot."""
    plots = {title: groups for chapter in chapters for title, groups in chapter.plots.items()}
    directory.mkdir(parents=True, exist_ok=True)
    text = [INTRODUCTION.format(rounds=rounds)]
    text.append(_markdown(PROMISES, rows_of(one for chapter in chapters for one in chapter.promises)))
    if plots:
        _plot(directory / "promises.svg", plots)
        text.append("![Latency and throughput of all contenders](promises.svg)\n")
    text.append("## The machine\n")
    facts = {**facts, "measured on": dt.datetime.now(dt.timezone.utc).date().isoformat()}
    text.append(_markdown(["", ""], [[name, value] for name, value in facts.items()]))
    for chapter in chapters:
        for title, header, rows, told in chapter.tables:
            text += [f"## {title}\n", f"{told}\n", _markdown(header, rows)]
    (directory / "promises.md").write_text("\n".join(text), "utf-8")


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def _plot(path: Path, plots: dict[str, dict[str, dict[str, float]]]) -> None:
    """Draw one panel for each title: bars, longest last, ours marked."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams["svg.hashsalt"] = "pyfaas"
    from matplotlib import pyplot as plt

    panels = [
        (f"{title}, {group}" if group else title, bars)
        for title, groups in plots.items()
        for group, bars in groups.items()
    ]
    columns = min(len(panels), 3)
    lines = -(-len(panels) // columns)
    figure, axes = plt.subplots(lines, columns, figsize=(6 * columns, 4 * lines), squeeze=False)
    for axis in axes.flat[len(panels) :]:
        axis.axis("off")
    for axis, (title, bars) in zip(axes.flat, panels, strict=False):
        ordered = sorted(bars.items(), key=lambda item: item[1])
        names, values = [name for name, _ in ordered], [value for _, value in ordered]
        colours = [_colour(name) for name in names]
        drawn = axis.barh(names, values, color=colours)
        axis.bar_label(drawn, [f" {value:,.0f}" for value in values], fontsize=8)
        axis.set_xscale("log")
        axis.set_xlim(min(values) / 2, max(values) * 3)
        axis.minorticks_off()
        axis.set_title(title, fontsize=10)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def _colour(name: str) -> str:
    if name.startswith("pyfaas"):
        return "#d9541e"
    return "#9aa5b1" if name.startswith("bare") else "#4a6fa5"
