"""
The watch: one thread that owns every deadline, so that no caller's signals, loops or slow sends can stretch one.

It sleeps until the earliest thing due, ticks every 50 ms while calls run, and is parked, with no wake-up before the
next expiry, when nothing runs. The fast path of a call only reads ``parked``.

    tick ──► calls over their time       killed (callers normally know 10 ms before; this is the guarantee)
         ──► calls older than 20 ms      memory and CPU time of the whole tree against their limits
         ──► idle for too long           evicted
         ──► sandboxes that were killed  buried once they are gone
    memory pressure of the host          the longer idle half is evicted
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfaas._pool.pool import Pool

TICK_SECONDS = 0.050
# Some task stalled for memory for 150 ms within 2 s; a 2 s window needs no privilege.
_PRESSURE = b"some 150000 2000000\0"


class Watch:
    """The thread, and how to wake it."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._pressure = _open_pressure()
        self.parked = False
        self.stopping = False
        self.wakeups = 0
        self._thread = threading.Thread(target=self._run, name="pyfaas-watch", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """Let it look anew at what is due."""
        self.parked = False
        with contextlib.suppress(OSError):
            os.write(self._writer, b"w")

    def stop(self) -> None:
        """End the thread and close what it holds."""
        self.stopping = True
        self.wake()
        if threading.current_thread() is not self._thread:
            self._thread.join(5)
        self.close()

    def close(self) -> None:
        """Close the descriptors; in a forked child this is all there is to do."""
        for descriptor in (self._reader, self._writer, self._pressure):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._reader = self._writer = self._pressure = -1

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if self._pressure >= 0:
            poll.register(self._pressure, select.POLLPRI)
        seen = -1
        while not self.stopping:
            calls = self._pool.calls
            self.parked = calls == seen and not self._pool.busy()
            if self.parked and self._pool.busy():  # a call that began between the two lines did not see us parked
                self.parked = False
            seen = calls
            timeout = self._pool.next_due(monotonic(), ticking=not self.parked)
            ready = poll.poll(None if timeout is None else max(timeout, 0.0) * 1000)
            self.wakeups += 1
            for descriptor, _ in ready:
                if descriptor == self._reader:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._reader, 4096)
                elif not self.stopping:
                    self._guard(self._pool.relieve)
            if not self.stopping:
                self._guard(lambda: self._pool.tick(monotonic()))

    def _guard(self, step: Callable[[], None]) -> None:
        """Whatever goes wrong with one sandbox, the deadlines of all others must be kept."""
        try:
            step()
        except Exception:
            if not self.stopping:
                logging.getLogger("pyfaas").exception("the watch stumbled and goes on; please report this")


def _open_pressure() -> int:
    try:
        descriptor = os.open("/proc/pressure/memory", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        os.write(descriptor, _PRESSURE)
    except OSError:
        os.close(descriptor)
        return -1
    return descriptor
