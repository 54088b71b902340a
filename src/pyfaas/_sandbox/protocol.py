"""
The wire between the host and one worker: bytes in, frames out. No socket, no clock, no pickle.

Every frame is a header of 33 bytes and a payload of up to 6 MB:

    size u32 | kind u8 | sequence u32 | 24 bytes that depend on the kind | payload

    host ──► worker   BIRTH    to one on stand-by: what to do to itself already    sequence 0
                      INIT     what to load, once                       sequence 0
                      INVOKE   time budget f64, request id 16 bytes     sequence 1, 2, 3 ... + the event
                      RESULT   of a call, whose number is in the place of the budget
    worker ──► host   HELLO    a blank worker lives; its pidfd rides along
                      READY    the handler is loaded; init time f64
                      FAULT    the handler did not load; the error as JSON
                      VALUE    start f64, duration f64, end of the log u64 + the result
                      ERROR    the same + the error as JSON
                      CALL     what is asked of the host in mid-invocation; its number where the end of the log stands

The worker's phases, as the host sees them; whatever is not in the table kills the sandbox:

    BLANK ──HELLO──► STANDBY ──READY──► OPEN ──VALUE, ERROR, CALL──► OPEN
                        └──────FAULT──► FAILED

An answer must bear the number of the oldest unanswered invocation, and there must be one. So a late answer, a second
one or a forged one is never taken for somebody else's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from struct import Struct
from typing import NamedTuple

from pyfaas import limits

HEADER = Struct("<IBI24s")
INVOCATION = Struct("<IBId16s")
ANSWER = Struct("<IBIddQ")
HEADER_BYTES = HEADER.size

INIT, INVOKE, BIRTH, RESULT = 1, 2, 3, 4
HELLO, READY, FAULT, VALUE, ERROR, CALL = 17, 18, 19, 20, 21, 22

BLANK, STANDBY, OPEN, FAILED = "blank", "standby", "open", "failed"

# phase -> kind -> the next phase
PHASES = {
    BLANK: {HELLO: STANDBY},
    STANDBY: {READY: OPEN, FAULT: FAILED},
    OPEN: {VALUE: OPEN, ERROR: OPEN, CALL: OPEN},
    FAILED: {},
}

LARGEST = {
    HELLO: 0,
    READY: 0,
    FAULT: limits.ERROR_BYTES,
    VALUE: limits.RESPONSE_BYTES,
    ERROR: limits.ERROR_BYTES,
    CALL: limits.CALL_BYTES,
}

BULK_BYTES = 65_536
_NOTHING = bytes(24)
_new = tuple.__new__  # what a named tuple's own __new__ calls
_SHORT_WAY = frozenset({VALUE, ERROR})  # no frame that is read in one piece can be over their limits


class ProtocolError(Exception):
    """The other side broke the rules; the text says which."""


class Answer(NamedTuple):
    """A frame from a worker. Times are the worker's word and only good for reports; ``log_end`` is to be clamped."""

    kind: int
    sequence: int
    started_at: float
    duration: float
    log_end: int
    payload: bytes | bytearray


class Invocation(NamedTuple):
    """A frame from the host."""

    kind: int
    sequence: int
    budget: float
    request_id: bytes
    payload: bytes | bytearray


def init_frame(payload: bytes, kind: int = INIT) -> bytes:
    """Say what to load, or (``BIRTH``) what to do before that is known."""
    return HEADER.pack(len(payload), kind, 0, _NOTHING) + payload


def answer_header(kind: int, sequence: int, started_at: float, duration: float, log_end: int, size: int) -> bytes:
    """Say how an invocation, or the init (``duration``), ended; a payload of ``size`` bytes goes behind it."""
    return ANSWER.pack(size, kind, sequence, started_at, duration, log_end)


def answer_frame(kind: int, sequence: int, started_at: float, duration: float, log_end: int, payload: bytes) -> bytes:
    """Give header and payload in one."""
    return answer_header(kind, sequence, started_at, duration, log_end, len(payload)) + payload


class _Inbox(ABC):
    """
    Bytes that came in, cut into frames.

    A payload over 64 KB is gathered in a buffer of its own from its header on; whoever reads the socket may fill that
    directly (``room``, ``filled``), which spares 6 MB two copies.
    """

    __slots__ = ("_bulk", "_have", "_header", "_rest")

    def __init__(self) -> None:
        self._rest = bytearray()
        self._header = b""
        self._bulk: bytearray | None = None
        self._have = 0

    @abstractmethod
    def _admit(self, size: int, kind: int) -> None:
        """Refuse a frame by its header, before its payload is waited for. Raises ProtocolError."""

    def _push(self, data: bytes) -> None:
        """Take in bytes."""
        if self._bulk is not None:
            taken = min(len(data), len(self._bulk) - self._have)
            self._bulk[self._have : self._have + taken] = data[:taken]
            self._have += taken
            data = data[taken:]
        self._rest += data

    def _cut(self) -> tuple[bytes, bytes | bytearray] | None:
        """Take the next whole frame off, as header and payload."""
        if self._bulk is not None:
            if self._have < len(self._bulk):
                return None
            bulk, self._bulk = self._bulk, None
            return self._header, bulk
        rest = self._rest
        if len(rest) < HEADER_BYTES:
            return None
        size, kind, _, _ = HEADER.unpack_from(rest)
        self._admit(size, kind)
        end = HEADER_BYTES + size
        if len(rest) >= end:
            with memoryview(rest) as view:
                header, payload = bytes(view[:HEADER_BYTES]), bytes(view[HEADER_BYTES:end])
            del rest[:end]
            return header, payload
        if size > BULK_BYTES:
            self._header = bytes(rest[:HEADER_BYTES])
            self._have = len(rest) - HEADER_BYTES
            self._bulk = bytearray(size)
            self._bulk[: self._have] = rest[HEADER_BYTES:]
            rest.clear()
        return None

    def room(self) -> memoryview | None:
        """Give the part of a large payload that is still to come, if one is on its way."""
        if self._bulk is None or self._have == len(self._bulk):
            return None
        return memoryview(self._bulk)[self._have :]

    def filled(self, size: int) -> None:
        """Say how much of the room was filled."""
        self._have += size


class HostPeer(_Inbox):
    """The host's side of one worker's wire."""

    __slots__ = ("answered", "may_call", "phase", "sent")

    def __init__(self) -> None:
        super().__init__()
        self.phase = BLANK
        self.may_call = False
        self.sent = 0
        self.answered = 0

    def invoke_header(self, budget: float, request_id: bytes, size: int) -> bytes:
        """Give the header of the next invocation; a payload of ``size`` bytes goes behind it."""
        self.sent = sequence = (self.sent + 1) & 0xFFFFFFFF
        return INVOCATION.pack(size, INVOKE, sequence, budget, request_id)

    def invoke(self, budget: float, request_id: bytes, payload: bytes) -> bytes:
        """Give the bytes of the next invocation."""
        self.sent = sequence = (self.sent + 1) & 0xFFFFFFFF
        return INVOCATION.pack(len(payload), INVOKE, sequence, budget, request_id) + payload

    def result(self, call: Answer, payload: bytes) -> bytes:
        """Give the bytes that answer a call."""
        return INVOCATION.pack(len(payload), RESULT, call.sequence, float(call.log_end), bytes(16)) + payload

    def sole_answer(self, data: bytes) -> Answer | None:
        """
        Take these bytes as the one answer that is awaited, if that is just what they are; else leave them.

        This is the common case by far, and it spares two copies.
        """
        if self._rest or self._bulk is not None or len(data) < HEADER_BYTES:
            return None
        size, kind, sequence, started_at, duration, log_end = ANSWER.unpack_from(data)
        if (
            size != len(data) - HEADER_BYTES
            or sequence != self.sent
            or sequence != (self.answered + 1) & 0xFFFFFFFF
            or kind not in _SHORT_WAY
            or self.phase is not OPEN
        ):
            return None
        self.answered = sequence
        return _new(Answer, (kind, sequence, started_at, duration, log_end, data[HEADER_BYTES:]))

    def receive(self, data: bytes) -> list[Answer]:
        """Take in bytes and give the frames they complete. Raises ProtocolError."""
        answers: list[Answer] = []
        if self.phase is OPEN and not self._rest and self._bulk is None:
            data = self._receive_plain(data, answers)
            if not data:
                return answers
        self._push(data)
        while (cut := self._cut()) is not None:
            answers.append(self._take(*cut))
        return answers

    def _receive_plain(self, data: bytes, answers: list[Answer]) -> bytes:
        """Take whole answers that are due off the front, where they lie; give the rest, and whatever is wrong."""
        at, size_of_all, answered, sent = 0, len(data), self.answered, self.sent
        while size_of_all - at >= HEADER_BYTES and answered != sent:
            size, kind, sequence, started_at, duration, log_end = ANSWER.unpack_from(data, at)
            end = at + HEADER_BYTES + size
            if end > size_of_all or kind not in _SHORT_WAY or sequence != (answered + 1) & 0xFFFFFFFF:
                break
            payload = data[at + HEADER_BYTES : end]
            answers.append(_new(Answer, (kind, sequence, started_at, duration, log_end, payload)))
            answered, at = sequence, end
        self.answered = answered
        return data[at:]

    def _take(self, header: bytes, payload: bytes | bytearray) -> Answer:
        _, kind, sequence, started_at, duration, log_end = ANSWER.unpack(header)
        if self.phase is OPEN:
            self._count(sequence, is_call=kind == CALL)
        self.phase = PHASES[self.phase][kind]
        return Answer(kind, sequence, started_at, duration, log_end, payload)

    def receive_until_open(self, data: bytes) -> list[Answer]:
        """Take in bytes of the beginning: give the frames up to READY or FAULT, and keep the rest for ``receive``."""
        self._push(data)
        answers: list[Answer] = []
        while self.phase in (BLANK, STANDBY) and (cut := self._cut()) is not None:
            answers.append(self._take(*cut))
        return answers

    def _admit(self, size: int, kind: int) -> None:
        if kind not in PHASES[self.phase]:
            raise ProtocolError(f"a frame of kind {kind} in phase {self.phase}")
        if kind == CALL and not self.may_call:
            raise ProtocolError("a call of a function that may make none")
        if size > LARGEST[kind]:
            raise ProtocolError(f"a frame of {size} bytes, kind {kind} may have {LARGEST[kind]}")

    def _count(self, sequence: int, *, is_call: bool) -> None:
        expected = (self.answered + 1) & 0xFFFFFFFF
        if self.answered == self.sent or sequence != expected:
            raise ProtocolError(f"an answer to invocation {sequence}, {expected if self.waiting else 'none'} was due")
        if not is_call:
            self.answered = sequence

    @property
    def waiting(self) -> int:
        """How many invocations are unanswered."""
        return (self.sent - self.answered) & 0xFFFFFFFF


class WorkerPeer(_Inbox):
    """The worker's side; what it hears comes from the host and is trusted, but cut with the same care."""

    __slots__ = ()

    def receive(self, data: bytes) -> list[Invocation]:
        """Take in bytes and give the frames they complete."""
        frames: list[Invocation] = []
        if not self._rest and self._bulk is None:
            data = self._receive_plain(data, frames)
            if not data:
                return frames
        self._push(data)
        while (cut := self._cut()) is not None:
            header, payload = cut
            _, kind, sequence, budget, request_id = INVOCATION.unpack(header)
            frames.append(Invocation(kind, sequence, budget, request_id, payload))
        return frames

    def _receive_plain(self, data: bytes, frames: list[Invocation]) -> bytes:
        """Take whole invocations off the front, where they lie; give the rest."""
        at, size_of_all = 0, len(data)
        while size_of_all - at >= HEADER_BYTES:
            size, kind, sequence, budget, request_id = INVOCATION.unpack_from(data, at)
            end = at + HEADER_BYTES + size
            if end > size_of_all or kind != INVOKE:
                break
            payload = data[at + HEADER_BYTES : end]
            frames.append(_new(Invocation, (kind, sequence, budget, request_id, payload)))
            at = end
        return data[at:]

    def _admit(self, size: int, kind: int) -> None:  # noqa: ARG002 - the host may send any size
        if kind not in (INIT, INVOKE, BIRTH, RESULT):
            raise ProtocolError(f"a frame of kind {kind} from the host")
