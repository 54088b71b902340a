"""Files of /proc read by the C library's own functions, or by Python's where there are none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfaas._sandbox import procfs
from pyfaas._sandbox.procfs import read_quietly

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@pytest.fixture(params=["ctypes", "without ctypes"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "_open", None)
    if request.param == "without ctypes":
        monkeypatch.setitem(sys.modules, "ctypes", None)


@pytest.fixture
def child() -> Iterator[int]:
    """A process with an environment of many pages."""
    large = {f"NAME_{number}": "x" * 100 for number in range(1000)}
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env=large) as process:
        yield process.pid


def test_what_is_read_is_what_is_there(child: int) -> None:
    assert read_quietly(f"/proc/{child}/environ") == Path(f"/proc/{child}/environ").read_bytes()
    assert read_quietly(f"/proc/{child}/comm") == Path(f"/proc/{child}/comm").read_bytes()
    assert b" %d " % os.getpid() in read_quietly(f"/proc/{child}/stat")


def test_of_what_is_gone_there_is_nothing(child: int) -> None:
    gone = subprocess.Popen([sys.executable, "-S", "-c", ""])
    gone.wait()
    assert read_quietly(f"/proc/{gone.pid}/stat") == b""
    assert read_quietly(f"/proc/{child}/not there") == b""
    assert read_quietly(f"/proc/{child}") == b""  # a directory


def test_no_descriptor_is_left_open(child: int) -> None:
    read_quietly(f"/proc/{child}/stat")
    before = os.listdir("/proc/self/fd")
    for _ in range(100):
        read_quietly(f"/proc/{child}/stat")
    assert os.listdir("/proc/self/fd") == before
