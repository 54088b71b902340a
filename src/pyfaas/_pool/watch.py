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
    from pyfaas._pool.rounds import Rounds

LONGEST_SLEEP = 3600.0  # poll takes no infinity
# Some task stalled for memory for 150 ms within 2 s; a 2 s window needs no privilege.
_PRESSURE = b"some 150000 2000000\0"


class Watch:
    """
    The thread, and how to wake it.

    Ctrl-C may strike whoever starts it at any step; it strikes no thread but the main one. So all that must be closed
    is opened in the thread, and starting may be said again until it is seen to run.
    """

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds
        self._reader = self._writer = self._pressure = -1
        self.parked = False
        self.running = False
        self.stopping = False
        self.wakeups = 0
        self._thread: threading.Thread | None = None
        self._first = threading.Lock()  # taken for good by the thread that is the watch
        self._closing = threading.Lock()  # else a late wake-up would be written to whatever has the number next

    def start(self) -> None:
        """Start the thread, if it does not run."""
        if not self.running:
            threading.Thread(target=self._live, name="pyfaas-watch", daemon=True).start()

    def wake(self) -> None:
        """Let it look anew at what is due."""
        self.parked = False
        with self._closing, contextlib.suppress(OSError):
            os.write(self._writer, b"w")

    def look_at_idle(self) -> None:
        """Let it look at once also at what it sees to every 50 ms only."""
        self._rounds.hurry()
        self.wake()

    def stop(self) -> None:
        """End the thread; it closes what it holds."""
        self.stopping = True
        self.wake()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join(5)

    def abandon(self) -> None:
        """In a forked child, where the thread is not, close its descriptors. No lock is taken."""
        self._closing = threading.Lock()
        self._close()

    def _close(self) -> None:
        with self._closing:
            held = self._reader, self._writer, self._pressure
            self._reader = self._writer = self._pressure = -1
        for descriptor in held:
            if descriptor >= 0:
                os.close(descriptor)

    def _live(self) -> None:
        if not self._first.acquire(blocking=False):
            return
        self._thread = threading.current_thread()
        self.running = True
        try:
            self._reader, self._writer = os.pipe()
            os.set_blocking(self._reader, False)
            os.set_blocking(self._writer, False)
            self._pressure = _open_pressure()
            self._run()
        finally:
            self._close()

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._reader, select.POLLIN)
        if self._pressure >= 0:
            poll.register(self._pressure, select.POLLPRI)
        seen = -1
        while not self.stopping:
            calls = self._rounds.calls
            self.parked = calls == seen and not self._rounds.busy()
            if self.parked and self._rounds.busy():  # a call that began between the two lines did not see us parked
                self.parked = False
            seen = calls
            timeout = self._rounds.next_due(monotonic(), ticking=not self.parked)
            ready = poll.poll(None if timeout is None else min(max(timeout, 0.0), LONGEST_SLEEP) * 1000)
            self.wakeups += 1
            for descriptor, _ in ready:
                if descriptor == self._reader:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._reader, 4096)
                elif not self.stopping:
                    self._guard(self._rounds.relieve)
            if not self.stopping:
                self._guard(lambda: self._rounds.tick(monotonic()))

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
