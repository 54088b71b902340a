"""Signals that a host program handles in Python interrupt system calls all the time; nothing here minds."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from e2e.tools import TESTS, Host

ROOT = str(Path(TESTS).parent)


def run_under_timer(host: Host, *tests: str, seconds: float) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "e2e.itimer", "-p", "no:cacheprovider", "-p", "no:xdist"]
    out = host.run("/bin/sh", "-c", f'cd "{ROOT}" && exec "$@"', "sh", *command, *tests, seconds=seconds)
    found = re.search(r"the timer struck (\d+) times", out)
    assert found is not None, out
    assert int(found[1]) > 50, out


def test_the_trip_in_every_world_under_a_10_ms_timer(host: Host) -> None:
    worlds = str(Path(__file__).with_name("test_worlds.py"))
    run_under_timer(host, worlds, "-k", "main or trio", seconds=200)


@pytest.mark.long
def test_the_whole_suite_under_a_10_ms_timer(host: Host) -> None:
    this = Path(__file__)
    # Tests that need the one timer of a process for themselves stay out.
    run_under_timer(host, TESTS, f"--ignore={this}", f"--ignore={this.with_name('test_interrupts.py')}", seconds=3600)
