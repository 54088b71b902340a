"""
What time it is: on the wall, and on a clock that nobody sets.

The wall's is for what people see and say (a schedule, a time-stamp). All that waits (a delay, a lease, a retry) goes by
the other one, which counts from this boot on and does not jump; ``boot`` tells whose boot that is.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable
from typing import Protocol


class Clock(Protocol):
    """Where time comes from; tests have one that they move."""

    boot: str
    """Names the boot that ``steady`` counts from; empty where that cannot be known."""

    def wall(self) -> float:
        """Give seconds since 1970, as the machine believes."""

    def steady(self) -> float:
        """Give seconds, sleep of the machine included, that nobody sets back or ahead."""

    def when_moved(self, call: Callable[[], None]) -> None:
        """Have this called, from any thread, whenever the steady clock is moved by hand, which tests do."""


class SystemClock:
    """This machine's."""

    def __init__(self) -> None:
        self.boot = _boot()
        self._kind = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # macOS counts sleep in the latter

    def wall(self) -> float:
        """Give seconds since 1970, as the machine believes."""
        return time.time()

    def steady(self) -> float:
        """Give seconds, sleep of the machine included, that nobody sets back or ahead."""
        return time.clock_gettime(self._kind)

    def when_moved(self, call: Callable[[], None]) -> None:
        """Nobody moves it."""


def watch_wall(descriptor: int = -1) -> int:
    """
    Have the kernel tell when somebody sets the clock on the wall: give a descriptor that is readable then.

    With a descriptor: go on watching, after it was told. -1 where this system does not tell.
    """
    if sys.platform != "linux":
        return -1
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "timerfd_create"):
        return -1
    if descriptor < 0:
        descriptor = int(libc.timerfd_create(time.CLOCK_REALTIME, os.O_NONBLOCK | os.O_CLOEXEC))
    else:
        with contextlib.suppress(OSError):  # ECANCELED is what it tells
            os.read(descriptor, 8)
    far = (ctypes.c_long * 4)(0, 0, 2**40, 0)  # no interval; in some 35,000 years
    if descriptor >= 0:
        libc.timerfd_settime(descriptor, _ABSOLUTE | _CANCEL_ON_SET, far, None)
    return descriptor


_ABSOLUTE, _CANCEL_ON_SET = 1, 2  # TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET


def _boot() -> str:
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return _boot_of_macos() if sys.platform == "darwin" else ""


def _boot_of_macos() -> str:
    import ctypes

    told, size = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
    system = ctypes.CDLL(None)
    failed = system.sysctlbyname(b"kern.bootsessionuuid", told, ctypes.byref(size), None, 0)
    return "" if failed else told.value.decode("ascii", "replace")
