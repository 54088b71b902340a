"""Runs every fault on every pool, and tells: on the terminal, in docs/reference/faults.md, and in the README."""

from __future__ import annotations

import re
import sys
from importlib import metadata

from benchmarks.fault_pools import POOLS
from benchmarks.faults import FAULTS, Finding, try_it
from benchmarks.measure import ROOT, machine

PAGE = ROOT / "docs" / "reference" / "faults.md"
README = ROOT / "README.md"
BEGIN, END = "<!-- faults: made by python -m benchmarks.faults -->", "<!-- end of faults -->"
INTRODUCTION = """\
# What each pool holds

The same faults, done for real to pyfaas and to every pool that one would take instead, each time in a fresh process.
`python -m benchmarks.faults` makes this page anew; what it says was seen, not read. Each pool is set up as a careful
user would, with the time-outs that it has. None but pyfaas sets out to keep a handler from files, variables and memory:
those columns say what to expect, not what is wrong with them.
"""

Findings = dict[str, dict[str, Finding]]


def main(names: list[str]) -> None:
    """Run all, or the pools that were named; only a full run is written."""
    if unknown := set(names) - set(POOLS):
        sys.exit(f"no pool {', '.join(sorted(unknown))}; there are {', '.join(POOLS)}")
    findings: Findings = {}
    for pool in names or POOLS:
        findings[pool] = {}
        for fault in FAULTS:
            findings[pool][fault] = found = try_it(pool, fault)
            print(f"{pool}, {FAULTS[fault].title}: {found.held} ({found.seen})", flush=True)
    print(f"\n{table(findings)}")
    if not names:
        PAGE.write_text(page(findings), "utf-8")
        README.write_text(with_table(README.read_text("utf-8"), table(findings)), "utf-8")


def table(findings: Findings) -> str:
    """Make the table: a row for each pool."""
    head = ["", *(fault.title for fault in FAULTS.values())]
    rows = [[pool, *(found[fault].held for fault in FAULTS)] for pool, found in findings.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def page(findings: Findings) -> str:
    """Make the page: the table, what each fault does, what was seen."""
    text = [INTRODUCTION, BEGIN, "", table(findings), "", END, "", "## What is done", ""]
    text += [f"- **{fault.title}**: {fault.what}." for fault in FAULTS.values()]
    for pool, found in findings.items():
        text += ["", f"## {pool}{_version(pool)}", ""]
        text += [f"- {FAULTS[fault].title}: **{one.held}**, {one.seen}." for fault, one in found.items()]
    facts = {name: value for name, value in machine().items() if name in ("kernel", "Python", "user")}
    text += ["", f"Seen on: {', '.join(f'{name} {value}' for name, value in facts.items())}.", ""]
    return "\n".join(text)


def _version(pool: str) -> str:
    try:
        return f" {metadata.version(pool.partition('.')[0])}"
    except metadata.PackageNotFoundError:
        return ""


def with_table(text: str, made: str) -> str:
    """Put the table between its two markers."""
    pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n\n{made}\n\n{END}", text)
