"""Host, zygote and sandbox killed at every step of an event's way: nothing that was accepted is lost."""

from __future__ import annotations

import itertools
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from e2e.tools import SINKS, SOURCE, TESTS, eventually

VICTIMS = ("host", "zygote", "sandbox")
STATEMENTS = ("send_rows", "send", "append", "claim", "lease_cursor", "ack_rows", "finish_rows", "move_cursor")
STEPS = ("run", *STATEMENTS, *(f"{one} committed" for one in STATEMENTS))
NEXT = {"ran": "told", "worked": "heard"}  # what follows of what
EVENTS = 8
IN_FLIGHT = 5 * len(SINKS) + 5  # of one kill: a batch of each, and what they led to


class Ledger:
    """What was accepted, and what was done of it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.said = directory.with_name("said")
        directory.mkdir()
        directory.chmod(0o777)
        for sink in SINKS:
            (directory / sink).touch()
            (directory / sink).chmod(0o666)
        self.accepted: dict[str, set[int]] = {"ran": set(), "worked": set(), "looked": set()}
        self.kills = 0

    def hear(self, output: str) -> None:
        """Note what a host told."""
        for line in output.splitlines():
            sink, _, number = line.partition(" ")
            if number:
                self.accepted[sink].add(int(number))
            self.kills += sink == "killed"

    def done(self, sink: str) -> Counter[int]:
        text, _, _ = (self.directory / sink).read_text().rpartition("\n")
        return Counter(number for number in map(int, text.split()) if number >= 0)

    def missing(self) -> dict[str, set[int]]:
        """Tell what is not done yet of what was accepted."""
        wanted = {**self.accepted, **{then: self.accepted[sink] for sink, then in NEXT.items()}}
        return {sink: left for sink in SINKS if (left := wanted[sink] - self.done(sink).keys())}

    def twice(self) -> int:
        return sum(times - 1 for sink in SINKS for times in self.done(sink).values())


def live(store: Path, ledger: Ledger, first: int, count: int, victim: str = "", step: str = "", times: int = 1) -> None:
    """Run a host until all is done, or until it is killed."""
    arguments = [store, first, count, victim, step, times]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((SOURCE, TESTS)), "LEDGER": str(ledger.directory)}
    with (
        open(ledger.said, "a") as said,
        subprocess.Popen(
            [sys.executable, "-m", "e2e.killing", *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            text=True,
            env=environment,
        ) as host,
    ):
        assert host.stdin is not None
        assert host.stdout is not None
        for line in host.stdout:
            ledger.hear(line)
            if line == "accepted\n":
                break
        if victim == "host":
            eventually(lambda: host.poll() is not None, f"{victim} at {step}", 30)
            ledger.kills += 1
        else:
            eventually(lambda: not ledger.missing(), ledger.missing, 30)
        host.stdin.close()
        ledger.hear(host.stdout.read())
    assert host.returncode == (-signal.SIGKILL if victim == "host" else 0)


def check(store: Path, ledger: Ledger) -> None:
    """Look at the file as any other program would."""
    plain = sqlite3.connect(store)
    assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert plain.execute("SELECT count(*) FROM message").fetchone() == (0,)
    assert plain.execute("SELECT DISTINCT state FROM submission").fetchall() == [("done",)]
    assert plain.execute("SELECT count(*) FROM host").fetchone() == (0,)
    assert plain.execute("SELECT count(*) FROM reading WHERE unread OR lease != 0").fetchone() == (0,)
    plain.close()
    assert not ledger.missing()
    assert "please report" not in ledger.said.read_text()
    assert ledger.twice() <= ledger.kills * IN_FLIGHT


@pytest.mark.parametrize("kills", [4, pytest.param(1000, marks=pytest.mark.long)])
def test_nothing_that_was_accepted_is_lost_wherever_something_is_killed(tmp_path: Path, kills: int) -> None:
    store, ledger = tmp_path / "store.db", Ledger(tmp_path / "ledger")
    chance = random.Random(kills)
    matrix = [*itertools.product(VICTIMS, STEPS)]
    chance.shuffle(matrix)
    for number, (victim, step) in zip(range(kills), itertools.cycle(matrix)):
        live(store, ledger, number * EVENTS, EVENTS, victim, step, chance.randint(1, 3))
    live(store, ledger, kills * EVENTS, 1)
    check(store, ledger)
    assert ledger.kills >= kills * 0.95, "where all was done before a step came so often, nobody was killed"
    told = f"{ledger.kills} kills, {sum(map(len, ledger.accepted.values()))} accepted, {ledger.twice()} done twice"
    print(told)
