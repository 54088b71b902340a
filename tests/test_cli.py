"""The command line: ``pyfaas doctor`` tells what this host holds, and its status says whether that is all."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pyfaas import Runtime
from pyfaas._confine.plan import KERNEL, NOT_HELD, Holding
from pyfaas.cli import main, table


def test_doctor_tells_every_guarantee_of_this_host(
    capsys: pytest.CaptureFixture[str], session_runtime: Runtime
) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for one in session_runtime.confinement():
        assert any(line.startswith(one.guarantee) and one.held in line for line in printed.splitlines())


def test_doctor_strict_fails_where_something_is_not_held(session_runtime: Runtime) -> None:
    missing = any(one.held == NOT_HELD for one in session_runtime.confinement())
    assert main(["doctor", "--strict"]) == int(missing)


def test_doctor_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "pyfaas", "doctor"], capture_output=True, text=True, check=True)
    assert "time-out" in done.stdout


def test_a_command_that_is_none_shows_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["nurse"])
    assert "doctor" in capsys.readouterr().err


def test_columns_stand_below_each_other() -> None:
    told = table([Holding("a", KERNEL, "this"), Holding("longer", NOT_HELD, "nothing", "too old")])
    assert told == ["a       held by the kernel  this", "longer  not held            nothing (too old)"]
