"""A pytest plugin: a timer strikes every 10 ms, with a handler in Python, as long as tests run (``-p e2e.itimer``)."""

from __future__ import annotations

import signal
from typing import Any

SECONDS = 0.010
strikes = 0


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
