"""
The host's handle of one sandbox: its socket, its log, its pidfd; one exchange at a time.

    Sandbox(zygote, number)     a blank one is on its way; nothing is waited for
    assign(init)                its first frame, sent together with the first invocation
    exchange(payload, id)       a generator of waits that returns the answer, or raises Lost
    end()                       a generator of waits that kills it and tells how it ended

After a Lost of any kind the sandbox is of no more use, whatever it may still send.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import tempfile
from collections.abc import Callable
from time import monotonic
from typing import Any, TypeAlias

from pyfaas import limits
from pyfaas._confine.cgroups import Group
from pyfaas._descriptors import receive_descriptors, socket_pair
from pyfaas._sandbox import control, protocol
from pyfaas._sandbox.parent import Zygote, ZygoteDied, holders, making, pid_of
from pyfaas._sandbox.protocol import Answer, HostPeer, ProtocolError
from pyfaas._sandbox.vitals import read_vitals, stop_below, sweep
from pyfaas._waits import CHUNK_BYTES, DONTWAIT, NOSIGNAL, Channel, Ended, Fill, Greeting, Transmit, Trip

# Kernel timers are late by up to a tick or two (4 ms each at HZ=250); the watch steps in after that.
GRACE_SECONDS = 0.010
MEASURE_SECONDS = 0.050
END_SECONDS = 2.0
SLOW_SECONDS = 0.050  # a killed process is normally gone within 2 ms
REST_SECONDS = 86_400.0  # a deadline that nobody lives to see, and that poll() can count

_HAS_MEMFD = hasattr(os, "memfd_create")


class Lost(Exception):
    """The exchange ended without an answer; ``why`` is ``"late"``, ``"gone"``, ``"undelivered"`` or ``"forged"``."""

    def __init__(self, why: str, told: str = "") -> None:
        super().__init__(why, told)
        self.why = why
        self.told = told


# Does what a sandbox asks for, and gives the payload of the RESULT.
Serve: TypeAlias = "Callable[[Sandbox, bytes], Trip[bytes]]"

# What a conversation heard: the answer, bytes that are not just one, or why there are none.
Heard: TypeAlias = "Answer | bytes | Exception"


class Sandbox:
    """One sandbox, seen from the host."""

    __slots__ = (
        "born",
        "calls",
        "channel",
        "clock",
        "cpu_base",
        "cpu_call",
        "due_at",
        "dying",
        "failed",
        "group",
        "idle_since",
        "init_frame",
        "init_limit",
        "init_seconds",
        "limit_bytes",
        "log",
        "log_at",
        "look_at",
        "max_memory",
        "measured_at",
        "number",
        "owner",
        "peer",
        "pid",
        "pidfd",
        "pipelined",
        "press_at",
        "provisioned",
        "shelf",
        "slot",
        "started_at",
        "suppressed",
        "taken_at",
        "timeout",
        "uid",
        "verdict",
        "zygote",
    )

    def __init__(self, parent: Zygote, number: int, owner: object = None, slot: str = "") -> None:
        self.zygote = parent
        self.number = number
        self.owner = owner  # the call or stream that it works for, see Pool.mend
        self.peer = HostPeer()
        self.pidfd = -1
        self.pid = -1
        self.shelf: Any = None
        self.uid = -1  # the user that it became; -1: the host's
        self.group: Group | None = None  # the cgroup that the watch has put it in
        self.slot = slot
        self.init_frame = b""
        self.init_seconds: float | None = None
        self.suppressed = False
        self.dying = False
        self.pipelined = False
        self.provisioned = False
        self.born = False  # it has taken the first steps of confinement, in a slot of its own
        self.failed: Lost | None = None  # its init did, for whoever was to make use of it
        self.verdict = ""  # why the watch or a close ended it, before the socket told
        self.calls = 0
        self.max_memory = 0
        self.look_at = self.measured_at = self.started_at = self.due_at = self.idle_since = 0.0
        self.press_at = 0.0  # when to see, once it was killed, what keeps it
        self.taken_at = 0.0  # when the call or the stream that it serves, or served last, began
        self.clock = 0.0  # what a keep-alive policy wrote on it
        self.timeout = self.init_limit = limits.INIT_SECONDS
        self.limit_bytes = 0
        self.log_at = 0
        self.cpu_call = -1
        self.cpu_base = 0.0
        self.log = -1
        with making:
            ours, theirs = socket_pair()
            self.channel = Channel(ours)
            holders.add(self)
            try:
                self.log = _make_log()
                parent.spawn(number, theirs, self.log, slot)
            except Exception:  # (after an interrupt the pool has it buried)
                self.close()
                raise
            finally:
                theirs.close()

    def be_born(self, steps: bytes) -> None:
        """Have a standby take the first steps; should they fail, whoever takes it finds it dead and takes another."""
        self.born = True
        with contextlib.suppress(OSError):
            self.channel.send(protocol.init_frame(steps, protocol.BIRTH), DONTWAIT)

    def assign(
        self, init: bytes, timeout: float, memory_bytes: int, *, suppressed: bool, init_limit: float | None = None
    ) -> None:
        """Make it the sandbox of one function; ``suppressed``: init runs inside the first call's time-out."""
        self.init_limit = init_limit or limits.INIT_SECONDS
        self.init_frame = protocol.init_frame(init)
        self.timeout = timeout
        self.limit_bytes = memory_bytes
        self.suppressed = suppressed
        self._limit_waits(timeout if suppressed else self.init_limit)

    def _limit_waits(self, seconds: float) -> None:
        value = struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
        self.channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self.channel.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def begin(self) -> None:
        """Start the clock of a call."""
        self.started_at = now = monotonic()
        self.due_at = now + self.timeout

    def rest(self) -> None:
        """Stop the clock: a stream holds it, but nothing runs in it."""
        self.due_at = monotonic() + REST_SECONDS

    def has_unread(self) -> bool:
        """Tell whether answers lie in the socket."""
        poll = select.poll()
        poll.register(self.channel.fileno, select.POLLIN)
        return bool(poll.poll(0))

    # -- one exchange --------------------------------------------------------------------------------------------------

    def converse(self, payload: bytes, raw_id: bytes) -> Heard:
        """
        Send an invocation and receive once, in this thread: what nearly every warm call of a blocking caller needs.

        Gives the answer if that is just what came, else what ``exchange`` is to go on with. The fewer different pieces
        of code a call goes through, the less must come back into the caches after a pause.
        """
        channel, peer = self.channel, self.peer
        try:
            channel.send(peer.invoke(self.timeout, raw_id, payload), NOSIGNAL)
        except BlockingIOError as error:
            return error
        except OSError:
            return Lost("undelivered")
        try:
            data = channel.recv(CHUNK_BYTES)
        except OSError as error:
            return error
        return peer.sole_answer(data) or data

    def exchange(
        self, payload: bytes, raw_id: bytes, heard: Heard | None = None, serve: Serve | None = None
    ) -> Trip[Answer]:
        """
        Send an invocation and wait for its answer; its clock has begun. Raises Lost.

        ``heard``: what a conversation heard that came to no plain end; from there on. ``serve`` does what the handler
        asks for meanwhile.
        """
        channel, peer = self.channel, self.peer
        try:
            if isinstance(heard, Exception):
                raise heard
            if isinstance(heard, Answer):
                return heard
            answers = [] if heard is not None else (yield from self._send(payload, raw_id))
            while True:
                for one in answers:
                    if one.kind != protocol.CALL or serve is None:
                        return one
                    yield from self.answer_call(one, serve)
                data = (yield channel) if heard is None else heard
                heard = None
                answer = peer.sole_answer(data)
                if answer is not None:
                    return answer
                answers = yield from self._gather(data)
        except BlockingIOError:
            raise Lost("late") from None
        except OSError as error:
            raise Lost("gone", str(error)) from None
        except ProtocolError as error:
            raise Lost("forged", str(error)) from None

    def answer_call(self, call: Answer, serve: Serve) -> Trip[None]:
        """Do what the handler asks for, and tell it what came of it."""
        result = yield from serve(self, bytes(call.payload))
        yield Transmit(self.channel, memoryview(self.peer.result(call, result)))

    def _gather(self, data: bytes) -> Trip[list[Answer]]:
        """Take in what is not just one answer; the rest of a large one goes where it is to lie."""
        if not data:
            raise Lost("gone")
        peer = self.peer
        answers = peer.receive(data)
        while not answers and (room := peer.room()) is not None:
            size = yield Fill(self.channel, room)
            if not size:
                raise Lost("gone")
            peer.filled(size)
            answers = peer.receive(b"")
        return answers

    def _send(self, payload: bytes, raw_id: bytes) -> Trip[list[Answer]]:
        """Send an invocation, behind the init if that is still to be sent; the answer may come with READY."""
        header = self.peer.invoke_header(self.timeout, raw_id, len(payload))
        if self.peer.phase is protocol.OPEN:
            yield from self._deliver(header, payload)
            return []
        yield from self._open(header, payload)
        return self.peer.receive(b"")

    def send_init(self) -> bool:
        """Send the init alone and wait for nothing; False if it does not fit the socket's buffer at once."""
        frame, self.init_frame = self.init_frame, b""
        try:
            return self.channel.send(frame, DONTWAIT) == len(frame)
        except OSError:
            return False

    def open(self) -> Trip[None]:
        """Send the init alone (provisioned concurrency), and wait until the handler is loaded. Raises Lost."""
        try:
            yield from self._open(b"", b"")
        except BlockingIOError:
            raise Lost("late") from None
        except OSError:
            raise Lost("gone") from None
        except ProtocolError as error:
            raise Lost("forged", str(error)) from None

    def _open(self, header: bytes, payload: bytes) -> Trip[None]:
        """Send INIT, with the first invocation behind it; come back once the handler is loaded."""
        if self.failed is not None:
            raise self.failed
        if not self.suppressed:
            self.due_at = self.started_at + self.init_limit
        first, self.init_frame = self.init_frame + header, b""
        if first:
            yield from self._deliver(first, payload)
        answers: list[Answer] = []
        while self.peer.phase is protocol.BLANK:
            data, descriptors = yield Greeting(self.channel)
            self._take_pidfd(descriptors)
            if not data:
                raise Lost("gone")
            if self.pidfd < 0 and self.zygote.untrusted:
                self.zygote.distrust()
                raise Lost("forged", "it did not say who it is")
            answers = self.peer.receive_until_open(data)
        while not answers or answers[-1].kind == protocol.HELLO:
            data = yield self.channel
            if not data:
                raise Lost("gone")
            answers = self.peer.receive_until_open(data)
        if answers[-1].kind == protocol.FAULT:
            raise Lost("fault", answers[-1].payload.decode("utf-8", "replace"))
        self.init_seconds = min(max(answers[-1].duration, 0.0), monotonic() - self.started_at)
        if not self.suppressed:
            self.due_at = monotonic() + self.timeout
            self._limit_waits(self.timeout)

    def _deliver(self, header: bytes, payload: bytes) -> Trip[None]:
        """Send all of it. Raises Lost("undelivered") if not even its first byte arrived anywhere."""
        large = len(payload) > protocol.BULK_BYTES
        first = header if large else header + payload
        try:
            sent = self.channel.send(first, DONTWAIT)
        except BlockingIOError:
            sent = 0
        except OSError:
            raise Lost("undelivered") from None
        if sent != len(first):
            yield Transmit(self.channel, memoryview(first)[sent:])
        if large:
            yield Transmit(self.channel, memoryview(payload))

    def _take_pidfd(self, descriptors: list[int]) -> None:
        for descriptor in descriptors:
            if self.pidfd < 0 and self.zygote.vouches_for(self.number, descriptor):
                self.pidfd = descriptor
                self.pid = pid_of(descriptor)
            else:
                os.close(descriptor)

    # -- looking -------------------------------------------------------------------------------------------------------

    def measure(self, now: float) -> int:
        """Read the memory that the whole tree holds now, its log included; keep the highest."""
        self.measured_at = now
        if self.pid > 0:
            held = read_vitals(self.pid, self.limit_bytes).memory_bytes + self.log_bytes()
            self.max_memory = max(self.max_memory, held)
            return held
        return 0

    def log_bytes(self) -> int:
        """Tell how much memory the log takes: blocks, for its size may be a lie."""
        try:
            return os.fstat(self.log).st_blocks * 512 if _HAS_MEMFD else 0
        except OSError:  # another thread has just closed it
            return 0

    @property
    def grace(self) -> float:
        """How long the watch lets the caller be the first to see a deadline; async callers leave it to the watch."""
        return 0.0 if self.channel.suspended else GRACE_SECONDS

    def cpu_used(self, total: float) -> float:
        """Tell how much CPU time the call at hand used since it was first looked at, given the tree's total."""
        if self.peer.phase is not protocol.OPEN and not self.suppressed:
            return 0.0  # init has its ten seconds, and no call pays for them
        if self.cpu_call != self.peer.answered:
            self.cpu_call = self.peer.answered
            self.cpu_base = total
        return total - self.cpu_base

    def take_log(self, end: int | None) -> bytes:
        """
        Read the tail of what the call at hand wrote, up to where the worker says that it ended (None: it died).

        The position is the worker's word, so it bounds what is read, and nothing else. A call that comes back long
        after its deadline finds it closed: the watch did not wait.
        """
        try:
            if end is None:
                end = min(os.fstat(self.log).st_size, self.log_at + 16 * limits.LOG_BYTES)
            begin, self.log_at = self.log_at, end
            begin = max(begin, end - 2 * limits.LOG_TAIL_BYTES)
            if end <= begin:
                return b""
            return os.pread(self.log, end - begin, begin).replace(b"\0", b"")
        except (OSError, OverflowError):
            return b""

    def tidy_log(self) -> None:
        """Empty a log that has grown, between calls."""
        if self.log_at > limits.LOG_BYTES:
            with contextlib.suppress(OSError):
                os.ftruncate(self.log, 0)
            self.log_at = 0

    # -- the end -------------------------------------------------------------------------------------------------------

    def kill(self) -> None:
        """End all that runs in it, now. Does not wait; may be called twice."""
        if not self.dying:
            self.dying = True
            self.press_at = monotonic() + SLOW_SECONDS
        if self.pidfd < 0:
            self._look_for_hello()
        try:
            if self.pidfd < 0:
                raise OSError("no pidfd")
            if not self.zygote.host.pid_namespace:
                sweep(pid_of(self.pidfd))
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
            if self.group is not None:
                self.group.kill()
            if self.pid > 1:  # it was there just now, so the number is its own; 1 would mean everybody
                os.killpg(self.pid, signal.SIGKILL)  # see press
        except OSError:
            if self.pid > 0 and not self.zygote.host.pid_namespace:
                sweep(self.pid)
        with contextlib.suppress(OSError):
            # A worker without a pidfd has read no INIT yet, or is about to find the end of its socket.
            self.channel.sock.shutdown(socket.SHUT_RDWR)

    def press(self) -> None:
        """
        Stop what runs below a first process that is slow to die. For the watch: it may take a while.

        A process dies once it comes out of the call to the kernel that it is in. One that forks beside a thousand
        others that fork waits there for locks that all of them want, for minutes; only then does it take the others
        with it. Those of its process group were killed with it, this is for the rest.
        """
        now = monotonic()
        if now >= self.press_at and self.pid > 0 and not self.is_gone():
            stop_below(self.pid)
            self.press_at = now + SLOW_SECONDS + 10 * (monotonic() - now)

    def _look_for_hello(self) -> None:
        try:
            data, descriptors = receive_descriptors(self.channel.sock, protocol.HEADER_BYTES, DONTWAIT)
        except OSError:
            return
        self._take_pidfd(descriptors)
        if self.pidfd < 0 and len(data) == protocol.HEADER_BYTES:
            self.pid = protocol.ANSWER.unpack(data)[-1]

    def end(self) -> Trip[tuple[int, int]]:
        """Kill it, wait until it is gone, and tell how it ended, as the zygote does. Raises ZygoteDied."""
        if not self.verdict:
            # It hung up by itself: it is exiting, and a kill now would hide with what status.
            yield from self._wait_for_end(0.05)
        self.kill()
        yield from self._wait_for_end(END_SECONDS)
        if not self.is_gone():
            # A thousand processes take their time to die; the zygote, and with it everybody, must not wait for them.
            return control.SIGNALLED, signal.SIGKILL
        return self.zygote.reap(self.number)

    def _wait_for_end(self, seconds: float) -> Trip[None]:
        if self.pidfd >= 0:
            yield Ended(self.pidfd, seconds)

    def is_gone(self) -> bool:
        """Tell, without waiting, whether a killed sandbox is gone."""
        return self.pidfd < 0 or bool(Ended(self.pidfd, 0.0).block())

    def bury(self) -> None:
        """Let the zygote forget it, and close what the host holds of it; it must be gone."""
        with contextlib.suppress(ZygoteDied):
            self.zygote.reap(self.number)
        self.close()

    def close(self) -> None:
        """Close what the host holds of it."""
        self.channel.close()
        for descriptor in (self.log, self.pidfd):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self.log = self.pidfd = -1
        holders.discard(self)

    @property
    def is_open(self) -> bool:
        """Whether the host still holds it."""
        return self.channel.sock.fileno() >= 0

    def abandon(self) -> None:
        """In a forked child of the host: close the copies, tell nobody (an event loop here is the parent's)."""
        self.channel.sock.close()
        for descriptor in (self.log, self.pidfd):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self.log = self.pidfd = self.pid = -1

    def __repr__(self) -> str:
        function = "blank" if self.shelf is None else repr(self.shelf.function.name)
        return f"<Sandbox {self.number} {function} pid={self.pid} calls={self.calls}>"


def _make_log() -> int:
    if _HAS_MEMFD:
        descriptor = os.memfd_create("pyfaas-log", os.MFD_CLOEXEC)
    else:
        descriptor, path = tempfile.mkstemp(prefix="pyfaas-log-")
        os.unlink(path)
    import fcntl

    fcntl.fcntl(descriptor, fcntl.F_SETFL, os.O_APPEND)
    return descriptor
