"""Eight threads that call in a loop: pyfaas gives each call a sandbox; peers have as many workers as suit them best."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

from benchmarks.measure import Chapter, Promise, Samples, interleave, micro
from benchmarks.peers import PEERS
from benchmarks.stage import Stage

THREADS = 8
TARGET = 2.0
CORES = os.cpu_count() or 1
OURS = "pyfaas"


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure calls a second, all together."""
    contenders = {OURS: (OURS, THREADS)}
    for name in PEERS:
        for workers in sorted({CORES, THREADS}):
            contenders[f"{name}, {workers} workers"] = (name, workers)
    rates, tails, broken = _measure(contenders, rounds, 0.1 if quick else 0.5)
    alive = [name for name in contenders if name not in broken and name != OURS]
    rival = max(alive, key=lambda name: rates[name].p50)
    ratio = rates[OURS].over(rates[rival])
    chapter = Chapter()
    chapter.promises.append(
        Promise(
            f"{THREADS} threads calling `invoke` in a loop",
            f"at least {TARGET:.0f} × the best peer",
            f"{ratio:.2f} × {rival} ({rates[OURS].p50:,.0f} by {rates[rival].p50:,.0f} calls a second); "
            f"p99 {micro(tails[OURS].p50)} by {micro(tails[rival].p50)}",
            ratio >= TARGET,
        )
    )
    order = sorted([OURS, *alive], key=lambda name: -rates[name].p50)
    rows = [[name, f"{rates[name].p50:,.0f}", micro(tails[name].p50)] for name in order]
    rows += [[name, f"broken: {broken[name]}", "–"] for name in broken]
    told = "The p99 is the median of the rounds' p99s. anyio.to_process is called from eight tasks of one loop."
    chapter.tables.append((f"{THREADS} callers", ["contender", "calls a second", "p99"], rows, told))
    chapter.plots[f"{THREADS} threads, calls a second"] = {"": {name: rates[name].p50 for name in order}}
    print(f"  {THREADS} threads: {rates[OURS].p50:,.0f} a second, {ratio:.2f} x {rival}", flush=True)
    return chapter


def _measure(
    contenders: dict[str, tuple[str, int]], rounds: int, seconds: float
) -> tuple[dict[str, Samples], dict[str, Samples], dict[str, str]]:
    """Give rates, p99s by round, and who broke, with what."""
    tails = {name: Samples() for name in contenders}
    broken: dict[str, str] = {}
    with ExitStack() as stack:
        stages = {name: stack.enter_context(Stage(*what)) for name, what in contenders.items()}

        def turn(name: str) -> Any:
            def crowd() -> list[float]:
                if name in broken:
                    return []
                try:
                    rate, _, p99 = stages[name].do("crowd", threads=THREADS, seconds=seconds, limit=seconds + 5)
                except RuntimeError as error:
                    broken[name] = "hangs" if "did not crowd" in str(error) else "dies"
                    return []
                tails[name].rounds.append([p99])
                return [rate]

            return crowd

        return interleave({name: turn(name) for name in contenders}, rounds), tails, broken
