"""The examples run, over files made to break them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import SOURCE

CENSUS = Path(__file__).parents[2] / "docs" / "examples" / "stdlib_census.py"

MAILROOM = CENSUS.with_name("mailroom.py")
SHOP = CENSUS.with_name("shop")

FILES = {
    b"good.py": b"def f(a):\n    return 1 if a and a > 2 else 2\n\n\nclass C:\n    def g(self): ...\n",
    b"empty.py": b"",
    b"bad_coding.py": b"# coding: uft-8\n",
    b"not_utf8.py": b"name = '\xff'\n",
    b"nul.py": b"a = 1\0\n",
    b"deep.py": b"(" * 5_000 + b")" * 5_000,
    b"python2.py": b"print 'hello'\n",
}
MISCHIEF = {
    "hang": "TimedOut, Sandbox.Timedout: Task timed out after 2.00 seconds",
    "eat_memory": "OutOfMemory, Runtime.OutOfMemory: Runtime exited with error: signal: killed",
    "segfault": "SandboxDied, Runtime.ExitError: Runtime exited with error: signal: segmentation fault",
    "fork_away": "SandboxDied, Runtime.ExitError: Runtime exited with error: exit status 1",
}


def run_example(program: Path, *arguments: str, timeout: float = 180, **environment: str) -> list[str]:
    """Run an example, which must end well and warn of nothing, and give the lines that it prints."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", str(program), *arguments],
        env={**os.environ, "PYTHONPATH": str(SOURCE), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def without_columns(printed: list[str]) -> list[str]:
    return [" ".join(line.split()) for line in printed]


def test_the_census_counts_what_parses_names_what_does_not_and_outlives_the_four(tmp_path: Path) -> None:
    files = dict(FILES)
    if sys.platform == "linux":
        files[b"name_\xff.py"] = b""  # a name that is no text, so no JSON either
    for name, content in files.items():
        (tmp_path / os.fsdecode(name)).write_bytes(content)

    printed = run_example(CENSUS, str(tmp_path), timeout=120, PYTHONIOENCODING="ascii")

    lines = without_columns(printed)
    assert any(f"{len(files)} of {len(files)} files" in line for line in lines)
    assert "2 files 6 lines 1 classes 2 functions mean complexity 2.00" in lines
    assert "3 f good.py:1" in lines
    assert f"{len(files) - 2} files failed:" in lines
    assert "bad_coding.py SyntaxError: unknown encoding: uft-8" in lines
    for culprit, got in MISCHIEF.items():
        assert any(line.startswith(culprit) for line in lines)
        assert got in lines
    assert sum("nothing of it alive" in line for line in lines) == len(MISCHIEF)
    assert any(line.startswith("daemon: process") for line in lines)
    assert max(map(len, printed)) <= 100


@pytest.mark.parametrize(
    ("count", "killed_at"),
    [pytest.param(200, "[]", id="once"), pytest.param(1000, "[0.3, 0.6]", id="twice", marks=pytest.mark.long)],
)
def test_the_mailroom_accounts_for_every_message(count: int, killed_at: str, tmp_path: Path) -> None:
    """Of a host that is killed the leases take half a minute to end: that is for the longer form."""
    printed = run_example(MAILROOM, str(count), MAILROOM=str(tmp_path), MAILROOM_KILLED_AT=killed_at)

    lines = without_columns(printed)
    assert f"archived {count - 3:,} each as it came: yes" in lines
    assert "lost 0" in lines
    assert lines[-1] == "every message is accounted for"


def test_the_shop_accounts_for_every_order(tmp_path: Path) -> None:
    """The whole sale, with its kills, is a session of its own: `nox -s shop`."""
    printed = run_example(SHOP, "50", "4", SHOP=str(tmp_path), SHOP_KILLED="no")

    lines = without_columns(printed)
    assert any(line.startswith("200 orders in ") and "196 x 202, 2 x 400, 2 x 403" in line for line in lines)
    assert "mails 196" in lines
    assert "charged twice 0" in lines
    assert "thumbnails 20 and 2 put aside" in lines
    assert any(line.startswith("on Lambda, ") for line in lines)
    assert lines[-1] == "every order is accounted for"
