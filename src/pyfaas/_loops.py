"""
Where async code runs, and how its loop is asked to watch a socket.

    running_loop(), in_event_loop()      which loop, if any, this thread runs
    await readable(loop, descriptor)     sleep in an asyncio loop until there is something to receive

A loop that serves many callers waits for many sandboxes at once. To have asyncio watch each takes it 10 us a call, most
of it its own books; so on Linux it is asked to watch one descriptor, an epoll of ours, behind which the sockets are.
That one too is only with the loop while somebody waits: nothing of ours stays in a loop that is done with us.
"""

from __future__ import annotations

import contextlib
import select
import sys
import threading
from collections.abc import Generator
from typing import Any


class Lap:
    """Awaited: let everybody else in this asyncio loop run once. (``asyncio.sleep(0)`` without its three calls.)"""

    __slots__ = ()

    def __await__(self) -> Generator[None, None, None]:
        yield


def running_loop() -> Any:
    """Give the asyncio loop whose task is running in this thread, or None (under trio, or outside of any loop)."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is None:
        return None
    loop = asyncio._get_running_loop()
    return loop if loop is not None and asyncio.current_task(loop) is not None else None


def in_event_loop() -> bool:
    """Tell whether this thread runs an event loop, so that blocking it would block every task of it."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        return True
    trio = sys.modules.get("trio")
    return trio is not None and bool(trio.lowlevel.in_trio_run())


def resolve(future: Any) -> None:
    """Wake whoever waits for it, unless that is done."""
    if not future.done():
        future.set_result(None)


async def readable(loop: Any, descriptor: int) -> None:
    """Sleep until there is something to receive."""
    if not _HAS_EPOLL:
        future = loop.create_future()
        loop.add_reader(descriptor, resolve, future)
        try:
            await future
        finally:
            loop.remove_reader(descriptor)
        return
    behind = _here.behind
    if behind is None or behind.loop is not loop:
        behind = _here.behind = _Behind(loop)
    await behind.readable(descriptor)


class _Behind:
    """
    The sockets that one loop watches through one descriptor, from the first that is waited for to the last.

    Each tells once, and must be asked to tell again: so what nobody waits for wakes nobody, though it stays known here.
    A descriptor whose number another one has by now tells at most once in vain, and whoever is woken looks for himself.
    """

    def __init__(self, loop: Any) -> None:
        self.loop = loop
        self._epoll = select.epoll()
        self._known: set[int] = set()
        self._waiting: dict[int, Any] = {}  # futures, by their descriptors
        loop.add_reader(self._epoll.fileno(), self._wake)

    async def readable(self, descriptor: int) -> None:
        """Sleep until there is something to receive."""
        future = self._waiting[descriptor] = self.loop.create_future()
        try:
            self._ask(descriptor)
            await future
        finally:
            if self._waiting.get(descriptor) is future:  # cancelled
                self._forget(descriptor)

    def _ask(self, descriptor: int) -> None:
        if descriptor in self._known:
            with contextlib.suppress(FileNotFoundError):  # that one was closed, and this is another
                self._epoll.modify(descriptor, _ONCE)
                return
        self._epoll.register(descriptor, _ONCE)
        self._known.add(descriptor)

    def _wake(self) -> None:
        for descriptor, _ in self._epoll.poll(0):
            future = self._waiting.get(descriptor)
            if future is not None:
                resolve(future)
                del self._waiting[descriptor]
        self._rest()

    def _forget(self, descriptor: int) -> None:
        del self._waiting[descriptor]
        with contextlib.suppress(OSError):  # closed meanwhile
            self._epoll.modify(descriptor, 0)
        self._rest()

    def _rest(self) -> None:
        """Leave nothing behind where nobody waits."""
        if not self._waiting:
            self.loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            if _here.behind is self:
                _here.behind = None


class _Here(threading.local):
    """What a thread waits behind: it runs one loop at a time."""

    behind: _Behind | None = None


_HAS_EPOLL = hasattr(select, "epoll")
_ONCE = select.EPOLLIN | select.EPOLLONESHOT if _HAS_EPOLL else 0
_here = _Here()
