"""
Counting: percentiles, turns taken in rounds, promises, and what machine this is.

A ratio is taken within each round, between two contenders that ran one after the other, and the median of the rounds is
told: the machine's moods (clock, neighbours, which CPU a worker woke on) then meet both alike.
"""

from __future__ import annotations

import gzip
import json
import math
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def percentile(values: list[float], percent: float) -> float:
    """Give the value that so many percent do not exceed (nearest rank)."""
    ordered = sorted(values)
    rank = max(int(-(-len(ordered) * percent // 100)), 1)
    return ordered[rank - 1] if ordered else float("nan")


@dataclass
class Samples:
    """Durations in seconds (or rates) of one contender, by round."""

    rounds: list[list[float]] = field(default_factory=list)

    @property
    def every(self) -> list[float]:
        """All rounds together."""
        return [value for values in self.rounds for value in values]

    @property
    def p50(self) -> float:
        """The median of all."""
        return percentile(self.every, 50)

    @property
    def p99(self) -> float:
        """The 99th percentile of all."""
        return percentile(self.every, 99)

    def over(self, other: Samples) -> float:
        """Give the median, over the rounds, of this one's median by the other's."""
        pairs = [(mine, theirs) for mine, theirs in zip(self.rounds, other.rounds, strict=False) if mine and theirs]
        if not pairs:
            return float("nan")
        return statistics.median(statistics.median(mine) / statistics.median(theirs) for mine, theirs in pairs)


def interleave(contenders: Mapping[str, Callable[[], list[float]]], rounds: int) -> dict[str, Samples]:
    """Let each have a turn in each round; who begins moves on, and who follows whom stays."""
    names = list(contenders)
    samples = {name: Samples() for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            samples[name].rounds.append(contenders[name]())
    return samples


def best(samples: Mapping[str, Samples], names: list[str]) -> str:
    """Name the one with the lowest median."""
    alive = [name for name in names if samples[name].every]
    return min(alive, key=lambda name: samples[name].p50)


# -- promises ----------------------------------------------------------------------------------------------------------


@dataclass
class Promise:
    """One line of the table: what was promised, what was measured, and whether that is it."""

    promise: str
    target: str
    measured: str
    met: bool | None  # None: nothing was promised, it is only told
    why: str = ""  # where it is not met: where the time goes

    @property
    def verdict(self) -> str:
        """Say it in a word."""
        return {True: "met", False: "**not met**", None: "–"}[self.met]


@dataclass
class Chapter:
    """What one theme found: its promises, and its tables (title, header, rows) with a word on how it was done."""

    promises: list[Promise] = field(default_factory=list)
    tables: list[tuple[str, list[str], list[list[str]], str]] = field(default_factory=list)
    plots: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)  # panel -> group -> contender -> value


def micro(seconds: float) -> str:
    """Write microseconds."""
    return "–" if math.isnan(seconds) else f"{seconds * 1e6:,.0f} µs"


def milli(seconds: float, digits: int = 2) -> str:
    """Write milliseconds."""
    return "–" if math.isnan(seconds) else f"{seconds * 1e3:,.{digits}f} ms"


def times(ratio: float) -> str:
    """Write a ratio."""
    return "–" if math.isnan(ratio) else f"{ratio:.2f} ×"


# -- processes ---------------------------------------------------------------------------------------------------------


def environment() -> dict[str, str]:
    """
    Give what measured processes start with: ours, but with compiled modules kept.

    An installed package comes compiled, and Python keeps what it compiles unless it is told not to.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def act(module: str, what: str, *arguments: object) -> Any:
    """Run one of a module's acts in a process of its own, and give what it printed as JSON."""
    command = [sys.executable, "-m", module, what, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True, timeout=900)
    return json.loads(done.stdout)


# -- the machine -------------------------------------------------------------------------------------------------------


def kernel_hz() -> int | None:
    """Give the kernel's tick rate, where it tells."""
    try:
        text = gzip.decompress(Path("/proc/config.gz").read_bytes()).decode()
    except OSError:
        try:
            text = Path(f"/boot/config-{platform.release()}").read_text("utf-8")
        except OSError:
            return None
    return next((int(line[10:]) for line in text.splitlines() if line.startswith("CONFIG_HZ=")), None)


def machine() -> dict[str, str]:
    """Tell what the figures hold for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "kernel": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "HZ": str(kernel_hz() or "unknown"),
        "cores": str(cores),
        "processor": _processor(),
        "Python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or "unknown"
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "model name"), "unknown")
