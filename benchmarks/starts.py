"""Beginnings: cold sandboxes, from standby, the first invoke of a process, and what importing costs."""

from __future__ import annotations

import json
import subprocess
import sys
import time

from benchmarks.measure import ROOT, Chapter, Promise, Samples, environment, interleave, milli, percentile
from benchmarks.stage import Stage

FIRST = """
import time
from benchmarks.handlers import EVENT, echo
began = time.perf_counter()
echo.invoke(EVENT)
print(time.perf_counter() - began)
"""
HANDLER = """
import time
import pyfaas.functions
began = time.perf_counter()
import benchmarks.small
print(time.perf_counter() - began)
"""
BARE_FORK = """
import json, os, socket, sys, time
durations = []
for _ in range(int(sys.argv[1])):
    time.sleep(0.010)
    began = time.perf_counter()
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        theirs.send(json.dumps(json.loads(theirs.recv(65536))).encode())
        os._exit(0)
    theirs.close()
    ours.send(b'{"id": 1}')
    json.loads(ours.recv(65536))
    durations.append(time.perf_counter() - began)
    ours.close()
    os.wait()
print(json.dumps(durations))
"""
IMPORTS = {
    "bare": "pass",
    "import pyfaas": "import pyfaas",
    "from pyfaas import function": "from pyfaas import function",
}


def run(rounds: int, *, quick: bool) -> Chapter:
    """Measure all four."""
    for program in (FIRST, *IMPORTS.values()):
        _python(program)  # compiles what changed
    chapter = Chapter()
    _colds(chapter, rounds, 20 if quick else 60)
    _first(chapter, rounds, 2 if quick else 4)
    _imports(chapter, rounds, 4 if quick else 12)
    return chapter


def _python(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment(), check=True, capture_output=True, text=True).stdout


def _colds(chapter: Chapter, rounds: int, calls: int) -> None:
    own = percentile([float(_python(HANDLER)) for _ in range(5)], 50)
    with Stage("pyfaas") as stage:
        samples = interleave(
            {
                "cold": lambda: stage.do("cold", calls=calls),
                "from standby": lambda: stage.do("standby", calls=calls),
                "a bare fork that echoes JSON once": lambda: json.loads(_python(BARE_FORK, str(calls))),
            },
            rounds,
        )
    cold, ready = samples["cold"], samples["from standby"]
    chapter.promises += [
        Promise("cold start, request to first value, p50", "at most 2.5 ms", milli(cold.p50), cold.p50 <= 0.0025),
        Promise("cold start, request to first value, p99", "at most 10 ms", milli(cold.p99), cold.p99 <= 0.010),
        Promise(
            "cold start from standby, p50",
            f"at most 0.5 ms + the handler's own import ({milli(own)})",
            milli(ready.p50) if ready.every else "this runtime keeps no standby",
            bool(ready.every) and ready.p50 <= 0.0005 + own,
        ),
    ]
    rows = [[name, milli(one.p50), milli(one.p99), str(len(one.every))] for name, one in samples.items()]
    told = (
        f"A handler of one line in a module of its own, whose import takes {milli(own)} in a fresh interpreter. The "
        "bare fork has no limits, no namespace, no log and no handler to import: what a fork takes on this machine."
    )
    chapter.tables.append(("Cold starts", ["start", "p50", "p99", "starts"], rows, told))
    print(f"  cold {milli(cold.p50)}, from standby {milli(ready.p50)}", flush=True)


def _first(chapter: Chapter, rounds: int, times_each: int) -> None:
    seconds = [float(_python(FIRST)) for _ in range(rounds * times_each)]
    p50, worst = percentile(seconds, 50), max(seconds)
    chapter.promises.append(
        Promise(
            "first invoke of a process, zygote's start included, p50",
            "at most 100 ms",
            f"{milli(p50, 1)} (worst of {len(seconds)}: {milli(worst, 1)})",
            p50 <= 0.100,
        )
    )
    print(f"  first invoke {milli(p50, 1)}", flush=True)


def _imports(chapter: Chapter, rounds: int, times_each: int) -> None:
    def start(program: str) -> list[float]:
        began = time.perf_counter()
        _python(program)
        return [time.perf_counter() - began]

    turns = {name: (lambda program=program: start(program)) for name, program in IMPORTS.items()}
    samples: dict[str, Samples] = interleave(turns, rounds * times_each)
    bare = samples.pop("bare").p50
    for (name, one), target in zip(samples.items(), (0.002, 0.040), strict=True):
        over = one.p50 - bare
        measured = f"{milli(over)} ({milli(one.p50)} by {milli(bare)})"
        chapter.promises.append(
            Promise(f"`{name}`, over a bare interpreter, p50", f"at most {milli(target, 0)}", measured, over <= target)
        )
        print(f"  {name}: {milli(over)}", flush=True)
