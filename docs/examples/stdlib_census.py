"""
A census of the standard library, in sandboxes

Reads every .py file of the interpreter that runs this, some of them written to break parsers, and measures each one:
lines, classes, functions, how complex they are. No file is trusted: each is opened and parsed in a sandbox that has
128 MB and 2 seconds. Meanwhile four functions misbehave as badly as they can, and hurt nobody.

    python3 noxfile.py demo                a folder of your own, instead: python3 noxfile.py demo path/to/it

Top to bottom: the functions that run in sandboxes, the host that calls them, the screen.
"""

import ast
import ctypes
import fcntl
import os
import platform
import re
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pyfaas
from pyfaas import Function, Outcome, Runtime, function

# ----------------------------------------------------------------------------------------------------- in the sandboxes

DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
BRANCHES = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.IfExp, ast.comprehension, ast.match_case)


# A sandbox sees code and libraries; any other file of the host must be granted.
LIBRARY = Path(sys.argv[1] if len(sys.argv) > 1 else sysconfig.get_path("stdlib")).resolve()
LOCKS = tempfile.TemporaryDirectory()


@function(memory=128, timeout=2, reads=[LIBRARY])
def measure(path: str) -> dict:
    """
    Parse one file and tell what is in it.

    The event is the path, not the text: to decode a file is part of reading it, and a file that says it is in an
    encoding that does not exist should fail here, not in the host. What is raised here becomes the outcome's error.
    """
    held = private_bytes()
    source = Path(path).read_bytes()
    tree = ast.parse(source, Path(path).name)
    found = [(complexity(node), name, node.lineno) for name, node in functions(tree)]
    return {
        "lines": len(source.splitlines()),
        "classes": sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)),
        "functions": len(found),
        "complexity": sum(points for points, _, _ in found),
        "most_complex": sorted(found, reverse=True)[:10],
        "private_bytes": held,
    }


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Find every function in a file, with its dotted name."""
    todo: list[tuple[str, ast.AST]] = [("", tree)]
    while todo:
        prefix, node = todo.pop()
        for child in ast.iter_child_nodes(node):
            named = isinstance(child, (*DEFINITIONS, ast.ClassDef))
            name = f"{prefix}{child.name}" if named else prefix
            if isinstance(child, DEFINITIONS):
                yield name, child
            todo.append((f"{name}." if named else prefix, child))


def complexity(function_node: ast.AST) -> int:
    """Count the ways through a function after McCabe: one, and one more at each branch; inner functions are apart."""
    points, todo = 1, list(ast.iter_child_nodes(function_node))
    while todo:
        node = todo.pop()
        if isinstance(node, DEFINITIONS):
            continue
        if isinstance(node, BRANCHES):
            points += 1
        if isinstance(node, ast.BoolOp):
            points += len(node.values) - 1
        todo += ast.iter_child_nodes(node)
    return points


def private_bytes() -> int | None:
    """Tell what this process shares with no other; None where the system does not say."""
    try:
        told = Path("/proc/self/smaps_rollup").read_text()
    except OSError:
        return None
    return 1024 * sum(int(kilobytes) for kilobytes in re.findall(r"^Private_\w+:\s+(\d+)", told, re.MULTILINE))


def hold(lock: str) -> None:
    """Lock a file. Every child inherits the lock, and the kernel gives it back only when the last of them is gone."""
    fcntl.flock(os.open(lock, os.O_RDONLY), fcntl.LOCK_EX)


@function(memory=128, timeout=2, reads=[LOCKS.name])
def hang(lock: str) -> None:
    """A regular expression that would backtrack for years."""
    hold(lock)
    re.match(r"(a+)+$", "a" * 64 + "!")


@function(memory=128, timeout=2, reads=[LOCKS.name])
def eat_memory(lock: str) -> None:
    """A list that grows by 8 MB at a time until something stops it."""
    hold(lock)
    meals = []
    while True:
        meals.append(b"x" * 8_388_608)


@function(memory=128, timeout=2, reads=[LOCKS.name])
def segfault(lock: str) -> None:
    """A read of address 0, in C."""
    hold(lock)
    ctypes.string_at(0)


@function(memory=128, timeout=2, reads=[LOCKS.name])
def fork_away(lock: str) -> None:
    """A daemon (two forks, a session of its own) that stays when the function exits."""
    hold(lock)
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, f"process {os.getpid()} runs on, in session {os.getsid(0)}".encode())
            time.sleep(86_400)
        os._exit(0)
    os.wait()
    print("daemon:", os.read(reader, 100).decode())
    sys.exit(1)


# ---------------------------------------------------------------------------------------------------------- in the host


class Mischief(NamedTuple):
    """What one of the four did, what it got, and how long its last process lived after that (None: it lives still)."""

    culprit: Function[str, None]
    outcome: Outcome
    seconds: float
    outlived: float | None


def main() -> None:
    """Take the census while the four misbehave, then show what came of it."""
    names = sorted(str(path.relative_to(LIBRARY)) for path in LIBRARY.rglob("*.py"))
    names = [name for name in names if not name.startswith(("site-packages", "dist-packages"))]
    if not names:
        sys.exit(f"there are no .py files in {LIBRARY}")
    print(f"\npyfaas {pyfaas.__version__}, Python {platform.python_version()}, reads {cut(str(LIBRARY), 56)}\n")

    with Runtime() as runtime, ThreadPoolExecutor() as threads, LOCKS as directory:
        mischief = [
            threads.submit(watch, culprit, Path(directory, culprit.name))
            for culprit in (hang, eat_memory, segfault, fork_away)
        ]
        started = time.perf_counter()
        # One sandbox per core, events sent ahead, outcomes in the order of the files whatever happens to any of them.
        outcomes = list(progress(runtime.try_map(measure, (str(LIBRARY / name) for name in names)), len(names)))
        seconds = time.perf_counter() - started
        statistics = runtime.statistics()
        show_census(dict(zip(names, outcomes, strict=True)))
        show_mischief([one.result() for one in mischief])
        show_figures(outcomes, seconds, statistics.functions["measure"].cold_starts)


def watch(culprit: Function[str, None], lock: Path) -> Mischief:
    """Run one of the four; then see how long it takes until nothing of it holds the lock any more."""
    lock.touch()
    lock.chmod(0o644)
    started = time.perf_counter()
    # A thread has entered no runtime; there is only one open, so that one is meant.
    outcome = culprit.try_invoke(str(lock))
    ended = time.perf_counter()
    return Mischief(culprit, outcome, ended - started, seconds_until_free(lock))


def seconds_until_free(lock: Path, patience: float = 2.0) -> float | None:
    """Try to lock the file, which works as soon as no process holds it; None if one still does at the end."""
    started = time.perf_counter()
    with lock.open() as file:
        while (waited := time.perf_counter() - started) < patience:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.0005)
            else:
                return waited
    return None


# ------------------------------------------------------------------------------------------------------------ on screen

ENCODING = sys.stdout.encoding or "ascii"
FULL, EMPTY = "█░" if "utf" in ENCODING.lower() else "#."


def progress(outcomes: Iterable[Outcome], total: int) -> Iterator[Outcome]:
    """Pass outcomes on and draw how far they are: live on a terminal, elsewhere one line at the end."""
    started, drawn = time.perf_counter(), 0.0
    for done, outcome in enumerate(outcomes, 1):
        now = time.perf_counter()
        if done == total or (sys.stdout.isatty() and now - drawn > 0.05):
            drawn = now
            filled = 60 * done // total
            bar = FULL * filled + EMPTY * (60 - filled)
            start, end = ("\r", "") if sys.stdout.isatty() else ("", "")
            print(f"{start}  {bar} {done:,} of {total:,} files, {now - started:4.1f} s", end=end, flush=True)
        yield outcome
    print("\n")


def show_census(census: dict[str, Outcome]) -> None:
    """Print what was counted, the ten most complex functions, and the files that failed."""
    measured = {name: outcome.value for name, outcome in census.items() if outcome.ok}
    total: Counter[str] = Counter()
    for found in measured.values():
        total.update({key: found[key] for key in ("lines", "classes", "functions", "complexity")})
    mean = total["complexity"] / max(total["functions"], 1)
    print(f"  {len(measured):,} files   {total['lines']:,} lines   {total['classes']:,} classes   ", end="")
    print(f"{total['functions']:,} functions   mean complexity {mean:.2f}\n")

    print(f"  {'complexity':<12}{'function':<44}file")
    ranked = sorted(((*most, name) for name, found in measured.items() for most in found["most_complex"]), reverse=True)
    for points, function_name, line, name in ranked[:10]:
        print(f"  {points:>10}  {cut(function_name, 42):<44}{cut(f'{name}:{line}', 42)}")

    failed = {name: outcome.error for name, outcome in census.items() if not outcome.ok}
    print(f"\n  {len(failed)} files failed{':' if failed else ''}")
    for name, error in failed.items():
        print(f"  {cut(name, 38):<40}{cut(reason(error), 58)}")


def show_mischief(mischief: list[Mischief]) -> None:
    """Print what each of the four got, and whether anything of it is left alive."""
    print("\n  meanwhile, in sandboxes of their own")
    for culprit, outcome, seconds, outlived in mischief:
        print(f"  {culprit.name:<12}{culprit.__doc__}")
        for line in outcome.log.splitlines():
            if line.startswith("daemon:"):
                print(f"{'':14}{line}")
        got = f"{type(outcome.error).__name__}, {reason(outcome.error)}" if outcome.error else "NO ERROR"
        print(f"{'':14}{cut(got, 86)}")
        gone = "STILL ALIVE" if outlived is None else f"nothing of it alive {1000 * outlived:.1f} ms later"
        print(f"{'':14}after {1000 * seconds:,.0f} ms, cold start included; {gone}")


def show_figures(outcomes: list[Outcome], seconds: float, cold_starts: int) -> None:
    """Print how fast it was and what it took."""
    reports = [outcome.report for outcome in outcomes]
    durations = sorted(report.duration_ms for report in reports)
    init = max((report.init_ms or 0.0 for report in reports), default=0.0)
    lines = sum(outcome.value["lines"] for outcome in outcomes if outcome.ok)
    print(f"\n  throughput  {len(outcomes) / seconds:,.0f} files/s, {lines / seconds:,.0f} lines/s")
    print(f"  durations   p50 {rank(durations, 0.5):.1f} ms, p99 {rank(durations, 0.99):.1f} ms")
    print(f"  cold starts {cold_starts}, the longest init {init:.1f} ms")
    print(f"  resident    at most {max(report.max_memory_mb for report in reports)} MB in a sandbox that may hold 128")
    held = sorted(filter(None, (outcome.value["private_bytes"] for outcome in outcomes if outcome.ok)))
    if held:  # Linux tells
        first, middle, most = (rank(held, share) / 1e6 for share in (0, 0.5, 1))
        print(f"  private     {first:.1f} MB a sandbox at first; between files p50 {middle:.1f} MB, most {most:.1f} MB")
    print()


def rank(ordered: list[float], share: float) -> float:
    """Give the value that this share of the others does not exceed."""
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def reason(error: pyfaas.PyfaasError) -> str:
    """Say in one line why, without the request id and the file name, which are told elsewhere."""
    first = str(error).partition("\n")[0]
    return re.sub(r"RequestId: \S+ (Error: )?| \([^()]*, line \d+\)$", "", first).rstrip(": ")


def cut(text: str, width: int) -> str:
    """Make it fit, and escape what the terminal cannot show."""
    text = text.encode(ENCODING, "backslashreplace").decode(ENCODING)
    return text if len(text) <= width else f"{text[: width - 3]}..."


if __name__ == "__main__":
    main()
