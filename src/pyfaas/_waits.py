"""
The waits an exchange may ask for, and their two drivers.

An exchange is written once, as a generator that yields what it waits for and is resumed with the answer; here are the
things it may yield, each with one way to wait for a blocking caller and one for an async caller.

    exchange ──yield Receive──► run_blocking: wait.block()          in the caller's own thread
                           └──► run_async:    await wait.suspend()  in the caller's own task

A blocking caller receives at once and lets the kernel hold it (SO_RCVTIMEO): asking with poll() first costs three times
as much. An async caller tries, spins over a few turns of the loop, and only then lets the loop watch the socket.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from functools import partial
from time import monotonic
from typing import Any, Protocol, TypeVar

from pyfaas import _loops as loops
from pyfaas._descriptors import receive_descriptors
from pyfaas.errors import InvokeError

T = TypeVar("T")

DONTWAIT = getattr(socket, "MSG_DONTWAIT", 0) | getattr(socket, "MSG_NOSIGNAL", 0)
NOSIGNAL = getattr(socket, "MSG_NOSIGNAL", 0)
CHUNK_BYTES = 65_536


class Wait(Protocol):
    """Something that an exchange waits for."""

    def block(self) -> Any: ...
    async def suspend(self) -> Any: ...


Trip = Generator[Wait, Any, T]


def run_blocking(trip: Trip[T]) -> T:
    """Drive an exchange in this thread."""
    try:
        wait = trip.send(None)
        while True:
            try:
                result = wait.block()
            except BaseException as error:  # noqa: BLE001 - the exchange itself must see every end
                wait = trip.throw(error)
            else:
                wait = trip.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        trip.close()


async def run_async(trip: Trip[T]) -> T:
    """Drive an exchange in this task."""
    try:
        wait = trip.send(None)
        while True:
            try:
                result = await wait.suspend()
            except BaseException as error:  # noqa: BLE001 - as above
                wait = trip.throw(error)
            else:
                wait = trip.send(result)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    finally:
        trip.close()


# How long an async caller turns its loop over before it lets the loop sleep on the socket: a warm answer takes 30 to
# 60 us, being woken by the loop adds 20 to 60 to that.
SPIN_SECONDS = 100e-6
# With more callers than this in one process, spinning would only take turns away from the others.
SPINNERS = 2

_spinning = 0


# -- the waits ---------------------------------------------------------------------------------------------------------


class Channel:
    """
    The host's end of a sandbox's socket, and the wait for its next bytes: yield it, and be resumed with them.

    Resumed with ``b""`` where the sandbox hung up. Raises BlockingIOError (blocking world only) where SO_RCVTIMEO ran
    out first; in the async world the watch alone keeps the time.
    """

    __slots__ = ("fileno", "recv", "send", "sock", "suspended")

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fileno = sock.fileno()
        self.send = sock.send
        self.recv = sock.recv
        self.suspended = False  # an async caller has waited here

    def block(self) -> bytes:
        """Receive in this thread."""
        return self.recv(CHUNK_BYTES)

    def receive_nowait(self) -> bytes:
        """Receive what is there. Raises BlockingIOError."""
        return self.recv(CHUNK_BYTES, DONTWAIT)

    async def suspend(self) -> bytes:
        """Receive in this task."""
        global _spinning
        recv = self.recv
        self.suspended = True
        try:
            return recv(CHUNK_BYTES, DONTWAIT)
        except BlockingIOError:
            pass
        if _spinning < SPINNERS:
            _spinning += 1
            lap = loops.Lap if loops.running_loop() is not None else sys.modules["trio"].lowlevel.checkpoint
            try:
                until = monotonic() + SPIN_SECONDS
                while monotonic() < until:
                    await lap()
                    try:
                        return recv(CHUNK_BYTES, DONTWAIT)
                    except BlockingIOError:
                        pass
            finally:
                _spinning -= 1
        while True:
            await self.wait_readable()
            try:
                return recv(CHUNK_BYTES, DONTWAIT)
            except BlockingIOError:
                pass

    async def wait_readable(self) -> None:
        """Wait in this task until there is something to receive."""
        loop = loops.running_loop()
        if loop is not None:
            await loops.readable(loop, self.fileno)
        else:
            import anyio

            await anyio.wait_readable(self.sock)

    def close(self) -> None:
        """Hang up."""
        self.sock.close()


class Fill:
    """Receive a part of something large to where it is to lie; resumed with its size, 0 at the end."""

    __slots__ = ("_channel", "_room")

    def __init__(self, channel: Channel, room: memoryview) -> None:
        self._channel = channel
        self._room = room

    def block(self) -> int:
        """Receive in this thread."""
        return self._channel.sock.recv_into(self._room)

    async def suspend(self) -> int:
        """Receive in this task."""
        self._channel.suspended = True
        while True:
            try:
                return self._channel.sock.recv_into(self._room, 0, DONTWAIT)
            except BlockingIOError:
                await self._channel.wait_readable()


class Greeting:
    """The wait for a sandbox's first bytes, which bring a descriptor along; resumed with both."""

    __slots__ = ("_channel",)

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def block(self) -> tuple[bytes, list[int]]:
        """Receive in this thread."""
        return receive_descriptors(self._channel.sock, CHUNK_BYTES)

    async def suspend(self) -> tuple[bytes, list[int]]:
        """Receive in this task."""
        while True:
            try:
                return receive_descriptors(self._channel.sock, CHUNK_BYTES, DONTWAIT)
            except BlockingIOError:
                await self._channel.wait_readable()


class Transmit:
    """Send all of this, however large. Raises BlockingIOError where SO_SNDTIMEO ran out (blocking world)."""

    __slots__ = ("_channel", "_rest")

    def __init__(self, channel: Channel, rest: memoryview) -> None:
        self._channel = channel
        self._rest = rest

    def block(self) -> None:
        """Send in this thread."""
        while self._rest:
            self._rest = self._rest[self._channel.sock.send(self._rest, NOSIGNAL) :]

    async def suspend(self) -> None:
        """Send in this task."""
        import anyio

        while self._rest:
            try:
                self._rest = self._rest[self._channel.sock.send(self._rest, DONTWAIT) :]
            except BlockingIOError:
                await anyio.wait_writable(self._channel.sock)


class Ended:
    """Wait until the process behind this pidfd is gone, with all of its namespace; resumed with whether it is."""

    __slots__ = ("_pidfd", "_seconds")

    def __init__(self, pidfd: int, seconds: float) -> None:
        self._pidfd = pidfd
        self._seconds = seconds

    def block(self) -> bool:
        """Wait in this thread."""
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return bool(poll.poll(self._seconds * 1000))

    async def suspend(self) -> bool:
        """Wait in this task. It is a matter of a millisecond, so cancelling waits for it too."""
        loop = loops.running_loop()
        if loop is not None:
            return await self._suspend_in(loop)
        import anyio

        with anyio.CancelScope(shield=True), anyio.move_on_after(self._seconds):
            await anyio.wait_readable(self._pidfd)
            return True
        return False

    async def _suspend_in(self, loop: Any) -> bool:
        """Wait in an asyncio loop; without anyio, whose import would make the first time-out 20 ms late."""
        asyncio = sys.modules["asyncio"]
        future = loop.create_future()
        loop.add_reader(self._pidfd, loops.resolve, future)
        timer = loop.call_later(self._seconds, loops.resolve, future)
        cancelled: BaseException | None = None
        try:
            while not future.done():
                try:
                    await asyncio.shield(future)
                except asyncio.CancelledError as error:
                    cancelled = error
        finally:
            timer.cancel()
            loop.remove_reader(self._pidfd)
        if cancelled is not None:
            raise cancelled
        return self.block_briefly()

    def block_briefly(self) -> bool:
        """Look without waiting."""
        return Ended(self._pidfd, 0.0).block()


class AnyReadable:
    """Wait until one of these channels has something to read, or can take more of what waits to be sent."""

    __slots__ = ("_readers", "_seconds", "_writers")

    def __init__(self, readers: list[Channel], writers: list[Channel], seconds: float) -> None:
        self._readers = readers
        self._writers = writers
        self._seconds = seconds

    def block(self) -> None:
        """Wait in this thread."""
        poll = select.poll()
        for channel in self._readers:
            poll.register(channel.fileno, select.POLLIN)
        for channel in self._writers:
            poll.register(channel.fileno, select.POLLIN | select.POLLOUT)
        poll.poll(max(self._seconds, 0.0) * 1000 + 1)

    async def suspend(self) -> None:
        """Wait in this task."""
        import anyio

        async def wait(what: Callable[[Any], Awaitable[None]], channel: Channel) -> None:
            await what(channel.sock)
            group.cancel_scope.cancel()

        loop = loops.running_loop()
        if loop is not None:
            await self._suspend_in(loop)
            return
        with anyio.move_on_after(max(self._seconds, 0.0)):
            async with anyio.create_task_group() as group:
                for channel in (*self._readers, *self._writers):
                    group.start_soon(wait, anyio.wait_readable, channel)
                for channel in self._writers:
                    group.start_soon(wait, anyio.wait_writable, channel)

    async def _suspend_in(self, loop: Any) -> None:
        """Wait in an asyncio loop, with one future for all."""
        future = loop.create_future()
        for channel in (*self._readers, *self._writers):
            loop.add_reader(channel.fileno, loops.resolve, future)
        for channel in self._writers:
            loop.add_writer(channel.fileno, loops.resolve, future)
        timer = loop.call_later(max(self._seconds, 0.0), loops.resolve, future)
        try:
            await future
        finally:
            timer.cancel()
            for channel in self._writers:
                loop.remove_writer(channel.fileno)
            for channel in (*self._readers, *self._writers):
                loop.remove_reader(channel.fileno)


class NextEvent:
    """Wait for the next item of an async iterable; the blocking world has none of these."""

    __slots__ = ("_source",)

    def __init__(self, source: AsyncIterator[Any]) -> None:
        self._source = source

    def block(self) -> Any:
        """Refuse."""
        raise TypeError("map takes an iterable; use amap for an async one")

    async def suspend(self) -> Any:
        """Wait in this task."""
        return await self._source.__anext__()


class Turn:
    """
    A place in a queue: granted once, from any thread, to whoever waits for it in either world.

    Yielded by an exchange that found no permit; resumed with what was granted.
    """

    __slots__ = ("_lock", "_wake", "granted")

    def __init__(self) -> None:
        self.granted: Any = None
        self._lock = threading.Lock()
        self._lock.acquire()
        self._wake: Callable[[], Any] = self._lock.release

    def grant(self, value: Any) -> None:
        """Give the turn; the pool does so once, under its lock."""
        self.granted = value
        self._wake()

    def block(self) -> Any:
        """Wait in this thread (Ctrl-C ends the wait). Raises InvokeError where it would stop an event loop."""
        if self.granted is None and loops.in_event_loop():
            raise InvokeError(
                "this call would wait for a permit on a thread that runs an event loop, which could then free none: "
                "use ainvoke there"
            )
        self._lock.acquire()
        return self.granted

    async def suspend(self) -> Any:
        """Wait in this task."""
        loop = loops.running_loop()
        if loop is not None:
            future = loop.create_future()
            self._wake_by(loop.call_soon_threadsafe, partial(loops.resolve, future))
            if self.granted is None:
                await future
        else:
            trio = sys.modules["trio"]
            event = trio.Event()
            self._wake_by(trio.lowlevel.current_trio_token().run_sync_soon, event.set)
            if self.granted is None:
                await event.wait()
        return self.granted

    def _wake_by(self, soon: Callable[[Callable[[], object]], object], wake: Callable[[], object]) -> None:
        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and nobody waits any more
                soon(wake)

        self._wake = tell


class Later(Turn):
    """A turn that may never come: resumed with whether it was granted within so many seconds (None: however long)."""

    __slots__ = ("_seconds",)

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        self._seconds = seconds

    def block(self) -> bool:
        """Wait in this thread (Ctrl-C ends the wait)."""
        return self._lock.acquire(timeout=-1 if self._seconds is None else max(self._seconds, 0.0))

    async def suspend(self) -> bool:
        """Wait in this task."""
        import anyio

        with anyio.move_on_after(self._seconds):
            await super().suspend()
        return self.granted is not None
