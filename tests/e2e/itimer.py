"""A pytest plugin: a timer strikes every 10 ms, with a handler in Python, as long as tests run (``-p e2e.itimer``)."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

SECONDS = 0.010
strikes = 0


def pytest_configure(config: pytest.Config) -> None:
    # A signal that strikes while a loop closes finds its wake-up socket closed; Python says so and goes on. Not by -W:
    # that takes its texts literally, and can hold no colon.
    text = "Exception ignored (in|when trying to write to the signal wakeup fd). None"
    config.addinivalue_line("filterwarnings", f"ignore:{text}:pytest.PytestUnraisableExceptionWarning")


def pytest_sessionstart() -> None:
    def count(*_: object) -> None:
        global strikes
        strikes += 1

    signal.signal(signal.SIGALRM, count)
    signal.setitimer(signal.ITIMER_REAL, SECONDS, SECONDS)


def pytest_sessionfinish() -> None:
    signal.setitimer(signal.ITIMER_REAL, 0)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"the timer struck {strikes} times")
