"""Fixtures for every test: the two async worlds, an open runtime, and the check that nothing of ours is left."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyfaas.runtime
from pyfaas import Runtime, resources
from pyfaas.testing import ManualClock
from support import wait_until, zygotes_of

_kill = os.kill

# Where pytest makes its ``tmp_path``s: handlers are granted this one place, known when they are declared.
PLACE = os.path.join(tempfile.gettempdir(), f"pyfaas-tests-{os.getuid()}")
os.makedirs(PLACE, exist_ok=True)
os.environ.update(PYTEST_DEBUG_TEMPROOT=PLACE, PYFAAS_TESTS_PLACE=PLACE)


# How long it takes to make examples tells of the machine, and not of us.
with contextlib.suppress(ImportError):  # the attacks as an ordinary user do without it
    from hypothesis import HealthCheck, settings

    settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("here")

# A shell that starts the suite in the background has it ignore Ctrl-C, and so every program that the suite starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _kill_one(pid: int, number: int) -> None:
    """A seat belt: a handle whose process is gone says -1, and ``os.kill(-1)`` would be every process of this host."""
    if pid < 1:
        raise ProcessLookupError(f"os.kill({pid}) in a test would reach more than one process")
    _kill(pid, number)


os.kill = _kill_one


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Run async tests on both."""
    return str(request.param)


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """A runtime of this test's own, entered."""
    with Runtime() as opened:
        yield opened


@pytest.fixture
def clock() -> ManualClock:
    """Time that passes when the test says so."""
    return ManualClock()


@pytest.fixture
def got(tmp_path: Path) -> Path:
    """Where a recorder writes down what it gets."""
    return tmp_path / "got"


@pytest.fixture(autouse=True)
def handles_of_one_test() -> Iterator[None]:
    """Handles that a test makes are not those of another."""
    before = dict(resources.made)
    yield
    resources.made.clear()
    resources.made.update(before)
    resources.fed.clear()


@pytest.fixture(scope="session")
def session_runtime() -> Iterator[Runtime]:
    """One runtime for all tests that only want something run: it is not entered, so call ``session_runtime.invoke``."""
    opened = Runtime().open()
    try:
        yield opened
    finally:
        opened.close()


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """At the end of the session no runtime but the default one is open, and no process of ours lives."""
    yield
    left = pyfaas.runtime._open_runtimes - {pyfaas.runtime._default}
    pyfaas.runtime._close_all()
    assert not left, f"left open: {left}"
    wait_until(lambda: not zygotes_of(os.getpid()))
