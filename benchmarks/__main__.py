"""
Measure what is promised: ``python -m benchmarks [--quick] [--rounds N] [warm starts crowd many later flow doors ...]``.

Prints the tables, and writes docs/reference/promises.md and its plot when all themes ran in full.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from benchmarks import crowd, doors, flow, large, later, many, report, rest, starts, streams, warm
from benchmarks.measure import ROOT, Chapter, machine

THEMES = {
    "warm": warm,
    "starts": starts,
    "streams": streams,
    "crowd": crowd,
    "rest": rest,
    "large": large,
    "many": many,
    "later": later,
    "flow": flow,
    "doors": doors,
}


def main() -> None:
    """Run the themes that were asked for, or all."""
    arguments = _arguments()
    rounds = arguments.rounds or (2 if arguments.quick else 5)
    names = arguments.themes or list(THEMES)
    facts = machine()
    print(", ".join(f"{name}: {value}" for name, value in facts.items()))
    chapters: list[Chapter] = []
    for name in names:
        began = time.monotonic()
        print(f"{name} ...", flush=True)
        chapters.append(THEMES[name].run(rounds, quick=arguments.quick))
        print(f"  ({time.monotonic() - began:.0f} s)", flush=True)
    for chapter in chapters:
        report.print_chapter(chapter)
    promises = [promise for chapter in chapters for promise in chapter.promises]
    print()
    report.print_table(report.PROMISES, report.rows_of(promises))
    missed = sum(promise.met is False for promise in promises)
    print(f"\n{len(promises) - missed} of {len(promises)} promises met")
    output = arguments.output or (None if arguments.quick or arguments.themes else ROOT / "docs" / "reference")
    if output is not None:
        report.write(output, chapters, facts, rounds)
        print(f"written: {output / 'promises.md'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="pyfaas and its peers, side by side")
    parser.add_argument("themes", nargs="*", metavar="theme", help=f"which ones: {', '.join(THEMES)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="a minute's look; nothing is written")
    parser.add_argument("--rounds", type=int, help="default 5, or 2 with --quick")
    parser.add_argument("--output", type=Path, help="where promises.md goes; default docs/reference after a full run")
    arguments = parser.parse_args()
    if unknown := set(arguments.themes) - set(THEMES):
        parser.error(f"no theme {', '.join(sorted(unknown))}; there are {', '.join(THEMES)}")
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    return arguments


if __name__ == "__main__":
    main()
