"""``map``: many small events, beside pools that send them in chunks; and what one crash costs each."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from benchmarks.measure import Chapter, Promise, Samples, interleave
from benchmarks.peers import CHUNK, PEERS
from benchmarks.stage import Stage

OURS = "pyfaas"
TARGET = 90_000
CRASH_EVENTS = 2_000
PATIENCE = 3.0
CORES = os.cpu_count() or 1


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure throughput, then crash each once."""
    chapter = Chapter()
    names = [OURS, *(name for name in PEERS if hasattr(PEERS[name], "map"))]
    rates = _rates(names, rounds, 5_000 if quick else 20_000)
    crashes = {name: _crash(name, 0.5 if quick else PATIENCE) for name in names}
    mine = rates[OURS].p50
    cost = crashes[OURS]
    chapter.promises += [
        Promise(
            f"`map`, small events, {CORES} cores",
            f"at least {TARGET:,} a second",
            f"{mine:,.0f} a second (worst turn {min(rates[OURS].every):,.0f})",
            mine >= TARGET,
        ),
        Promise(
            "a crash in a `map`",
            "costs the event that crashed",
            f"{CRASH_EVENTS - 1 - cost['values']} others lost, usable afterwards: {cost['usable']}",
            cost["values"] == CRASH_EVENTS - 1 and cost["usable"],
        ),
    ]
    rows = [[name, f"{rates[name].p50:,.0f}", *_tell(crashes[name])] for name in names]
    header = ["contender", "events a second", f"others lost of {CRASH_EVENTS:,}", "the stream", "the pool afterwards"]
    told = (
        f"Peers send {CHUNK} events at a time as one task, with one answer, error and time-out for all of them; pyfaas "
        "gives each event its own. Then one event of 2,000 kills its worker."
    )
    chapter.tables.append(("Streams, and what one crash costs them", header, rows, told))
    chapter.plots["map, events a second"] = {"": {name: rates[name].p50 for name in names}}
    print(f"  map {mine:,.0f} a second", flush=True)
    return chapter


def _rates(names: list[str], rounds: int, events: int) -> dict[str, Samples]:
    with ExitStack() as stack:
        stages = {name: stack.enter_context(Stage(name, CORES)) for name in names}
        for stage in stages.values():
            stage.do("stream", events=2_000)

        def turn(stage: Stage) -> Any:
            return lambda: [stage.do("stream", events=events) for _ in range(2)]

        return interleave({name: turn(stage) for name, stage in stages.items()}, rounds)


def _crash(name: str, patience: float) -> dict[str, Any]:
    with Stage(name, CORES) as stage:
        seen: dict[str, Any] = stage.do("crash", events=CRASH_EVENTS, patience=patience)
    return seen


def _tell(seen: dict[str, Any]) -> list[str]:
    lost = CRASH_EVENTS - 1 - seen["values"]
    errors = ", ".join(sorted(set(seen["errors"])))
    if not seen["ended"]:
        end = "hangs"
    elif errors and lost:
        end = f"`{errors}`"
    else:
        end = f"goes on ({seen['seconds'] * 1e3:.0f} ms in all)"
    return [str(lost), end, "usable" if seen["usable"] else "broken"]
