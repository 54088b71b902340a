"""
When are functions called? Arrivals with the shapes of the Azure Functions trace of 2019, from seeds. (pure)

    week(seed) ──► 200 functions, each with its shape, memory, cold start and calls of seven days

Each number below was read off the paper that came with the trace (Shahrad et al., "Serverless in the Wild", USENIX ATC
2020) or off the figures that its authors published of the released part (github.com/Azure/AzurePublicDataset). What is
kept alive there is an app, so where the two differ these are the numbers of apps. What comes out: 41 % of functions are
called once an hour or less (there 45), 64 % every five minutes or less (67). Their gaps have a coefficient of variation
of up to 1 in 49 % (57), up to 2 in 76 % (72), up to 4 in 87 % (86).

Seeds and mixture were committed before any policy was run on them, and stay.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random

SEEDS = (2019, 2020, 2021)
FUNCTIONS = 200
DAYS = 7
DAY = 86_400.0
END = DAYS * DAY

# 29 % of apps have a timer (figure 3a). 45 % are called once an hour or less (5a): these are the rare ones and a third
# of the timers. 28 % have gaps with a coefficient of variation above 2 (6), which takes bursts. The rest is steady.
MIXTURE = {"periodic": 0.29, "rare": 0.30, "bursty": 0.24, "steady": 0.17}

# Calls a day of the least busy share of apps (figure 5a). The 19 % above one call a minute are drawn as one a minute:
# no policy lets them go cold, and the busiest would be all there is to simulate.
QUANTILES = [(0.0, 1 / DAYS), (0.21, 1), (0.45, 24), (0.55, 96), (0.67, 288), (0.81, 1_440), (1.0, 1_440)]

# The steps in the same curve: minutes between two calls of a timer, and the percentage of apps that have just it.
TIMERS = {1: 2.5, 5: 4.0, 10: 1.0, 15: 1.0, 30: 1.0, 60: 1.5, 720: 1.0, 1_440: 2.5}


@dataclass(frozen=True)
class Trace:
    """One function: what it holds (MB), what its cold start takes (s), when it is called and how long it works (s)."""

    name: str
    shape: str
    memory: float
    cold_start: float
    arrivals: list[float]
    durations: list[float]


def week(seed: int) -> list[Trace]:
    """Give the functions of one seed."""
    return [_function(seed, number) for number in range(FUNCTIONS)]


def fingerprint(traces: list[Trace]) -> str:
    """Give a short text that tells these traces from any others."""
    digest = hashlib.sha256()
    for trace in traces:
        digest.update(f"{trace.name} {trace.memory:.6f} {trace.cold_start:.6f}".encode())
        for times in (trace.arrivals, trace.durations):
            digest.update(struct.pack(f"{len(times)}q", *(round(at * 1e3) for at in times)))
    return digest.hexdigest()[:12]


def _function(seed: int, number: int) -> Trace:
    random = Random(f"{seed}/{number}")  # its own: a change to one function leaves the others as they are
    place = (number + 0.5) / FUNCTIONS
    shape = list(MIXTURE)[bisect.bisect(list(accumulate(MIXTURE.values())), place)]
    arrivals = sorted(at for at in SHAPES[shape](random) if at < END)
    usual = min(max(random.lognormvariate(-0.38, 2.36), 0.001), 60.0)  # the paper's fit of average run times (7)
    durations = [min(usual * random.lognormvariate(0.0, 0.5), 900.0) for _ in arrivals]
    # The trace says nothing of cold starts; these are what imports take, from nothing much to a scientific stack.
    cold_start = 0.05 * 100.0 ** random.random()
    return Trace(f"{shape}-{number}", shape, _memory(random), cold_start, arrivals, durations)


def _memory(random: Random) -> float:
    """Draw megabytes from the paper's fit, a Burr distribution (8): half of all apps take less than 140."""
    return min(107.083 * ((1 - random.random()) ** (-1 / 0.221) - 1) ** (1 / 11.652), 2_000.0)


# -- shapes ------------------------------------------------------------------------------------------------------------


def _steady(random: Random) -> Iterator[float]:
    """Many independent callers who sleep at night."""
    return _by_day(random, _calls_a_day(random.uniform(0.45, 1.0)))


def _rare(random: Random) -> Iterator[float]:
    """Likewise, but once an hour at most."""
    return _by_day(random, _calls_a_day(random.uniform(0.0, 0.45)))


def _periodic(random: Random) -> Iterator[float]:
    """A timer; every other app has two, for only half of the apps with timers alone have gaps of one length (6)."""
    for _ in range(random.choice((1, 2))):
        period = 60.0 * random.choices(list(TIMERS), list(TIMERS.values()))[0]
        at = random.uniform(0.0, period)
        while at < END:
            yield at + random.expovariate(1.0)  # a timer fires a second late
            at += period


def _bursty(random: Random) -> Iterator[float]:
    """Bursts of 3 to 30 calls on average, which gives gaps with a coefficient of variation from 2 to 8 (6)."""
    size = 3.0 * 10.0 ** random.random()
    pause = 1.0 * 60.0 ** random.random()
    for start in _by_day(random, _calls_a_day(random.uniform(0.21, 1.0)) / size):
        at = start
        while True:
            yield at
            if random.random() < 1 / size:
                break
            at += random.expovariate(1 / pause)


SHAPES = {"steady": _steady, "periodic": _periodic, "bursty": _bursty, "rare": _rare}


def _calls_a_day(share: float) -> float:
    """Tell how often the app is called that so large a share of apps does not exceed; between points on a log scale."""
    at = max(bisect.bisect_left(QUANTILES, (share, 0.0)), 1)
    (low, few), (high, many) = QUANTILES[at - 1], QUANTILES[at]
    return few * (many / few) ** ((share - low) / (high - low))


def _by_day(random: Random, calls_a_day: float) -> Iterator[float]:
    """Poisson arrivals whose rate follows the sun; the whole platform's does by 15 % (4), single apps by more."""
    swing, noon = random.uniform(0.0, 0.8), random.uniform(0.0, DAY)
    at = 0.0
    while at < END:
        at += random.expovariate(calls_a_day * (1 + swing) / DAY)
        if random.random() * (1 + swing) < 1 + swing * math.cos(2 * math.pi * (at - noon) / DAY):
            yield at
