"""The wire as a pair of peers: any chunking, any order of legal frames; whatever is not legal raises ProtocolError."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pyfaas import limits
from pyfaas._sandbox.protocol import (
    BLANK,
    BULK_BYTES,
    CALL,
    ERROR,
    FAILED,
    FAULT,
    HEADER_BYTES,
    HELLO,
    INIT,
    INVOKE,
    LARGEST,
    OPEN,
    PHASES,
    READY,
    RESULT,
    STANDBY,
    VALUE,
    Answer,
    HostPeer,
    Invocation,
    ProtocolError,
    WorkerPeer,
    answer_frame,
    init_frame,
)

ANSWERS = [HELLO, READY, FAULT, VALUE, ERROR]
payloads = st.binary(max_size=100)
ids = st.binary(min_size=16, max_size=16)
cuts = st.lists(st.integers(1, 60), max_size=40)


def chunks(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut the bytes into pieces of these sizes, again and again."""
    pieces = []
    sizes = sizes or [len(data) or 1]
    number = 0
    while data:
        size = sizes[number % len(sizes)]
        pieces.append(data[:size])
        data = data[size:]
        number += 1
    return pieces


def open_peer(sent: int = 0) -> HostPeer:
    """A host's peer whose worker is ready and was sent so many invocations."""
    peer = HostPeer()
    peer.receive(hello() + ready())
    for _ in range(sent):
        peer.invoke(1.0, bytes(16), b"null")
    return peer


def hello() -> bytes:
    return answer_frame(HELLO, 0, 0.0, 0.0, 1, b"")


def ready() -> bytes:
    return answer_frame(READY, 0, 0.0, 0.25, 0, b"")


def value(sequence: int, payload: bytes = b"1", kind: int = VALUE) -> bytes:
    return answer_frame(kind, sequence, 0.0, 0.5, 7, payload)


# -- what is legal -----------------------------------------------------------------------------------------------------


@given(payloads, st.lists(st.tuples(st.floats(0.05, 900), ids, payloads), max_size=8), cuts)
def test_a_worker_hears_what_the_host_said_however_the_bytes_are_cut(
    init: bytes, invocations: list[tuple[float, bytes, bytes]], sizes: list[int]
) -> None:
    host, worker = open_peer(), WorkerPeer()
    data = init_frame(init) + b"".join(host.invoke(*one) for one in invocations)
    heard: list[Invocation] = []
    for piece in chunks(data, sizes):
        heard += worker.receive(piece)
    assert heard[0] == Invocation(INIT, 0, 0.0, bytes(16), init)
    assert heard[1:] == [Invocation(INVOKE, number, *one) for number, one in enumerate(invocations, 1)]


answers = st.tuples(st.sampled_from([VALUE, ERROR]), st.floats(0, 900), st.integers(0, 2**64 - 1), payloads)


@given(st.lists(answers, max_size=8), cuts)
def test_the_host_hears_what_a_worker_said_however_the_bytes_are_cut(
    told: list[tuple[int, float, int, bytes]], sizes: list[int]
) -> None:
    host = HostPeer()
    frames = [hello(), ready()]
    expected = [Answer(HELLO, 0, 0.0, 0.0, 1, b""), Answer(READY, 0, 0.0, 0.25, 0, b"")]
    for sequence, (kind, duration, log_end, payload) in enumerate(told, 1):
        host.invoke(1.0, bytes(16), b"null")
        frames.append(answer_frame(kind, sequence, 3.0, duration, log_end, payload))
        expected.append(Answer(kind, sequence, 3.0, duration, log_end, payload))
    heard: list[Answer] = []
    for piece in chunks(b"".join(frames), sizes):
        heard += host.receive(piece)
    assert heard == expected
    assert host.waiting == 0
    assert host.phase is OPEN


@given(cuts, payloads)
def test_the_beginning_is_taken_up_to_ready_and_the_rest_is_kept(sizes: list[int], payload: bytes) -> None:
    """The first answer may come in the same piece as READY; it is for ``receive``."""
    host = HostPeer()
    host.invoke(1.0, bytes(16), b"null")
    begun: list[Answer] = []
    for piece in chunks(hello() + ready() + value(1, payload), sizes):
        begun += host.receive_until_open(piece) if host.phase is not OPEN else host.receive(piece)
    begun += host.receive(b"")
    assert [answer.kind for answer in begun] == [HELLO, READY, VALUE]
    assert begun[-1].payload == payload


@given(payloads, st.sampled_from([VALUE, ERROR]))
def test_one_whole_answer_may_be_taken_in_one_step(payload: bytes, kind: int) -> None:
    """``sole_answer`` gives what ``receive`` would."""
    frame = value(1, payload, kind)
    quick, slow = open_peer(1), open_peer(1)
    assert [quick.sole_answer(frame)] == slow.receive(frame)
    assert quick.waiting == slow.waiting == 0


@given(payloads, st.integers(1, HEADER_BYTES + 5))
def test_anything_but_one_whole_answer_is_left_for_receive(payload: bytes, cut: int) -> None:
    frame = value(1, payload)
    peer = open_peer(1)
    part = frame[: min(cut, len(frame) - 1)]
    assert peer.sole_answer(part) is None
    assert peer.receive(part) == []
    rest = frame[len(part) :]
    assert peer.sole_answer(rest) is None
    assert [answer.payload for answer in peer.receive(rest)] == [payload]


@given(st.integers(BULK_BYTES + 1, 3 * BULK_BYTES), st.lists(st.integers(1, BULK_BYTES), max_size=6), st.booleans())
def test_a_large_payload_is_gathered_where_it_is_to_lie(size: int, cuts: list[int], direct: bool) -> None:
    """Whether it is filled into the room or pushed through ``receive``, and whatever follows it."""
    payload = bytes(range(256)) * (size // 256 + 1)
    payload = payload[:size]
    peer = open_peer(2)
    frame = value(1, payload)
    got = peer.receive(frame[:HEADER_BYTES])
    assert got == []
    rest = frame[HEADER_BYTES:]
    assert peer.room() is not None
    for cut in [*cuts, size]:
        piece, rest = rest[:cut], rest[cut:]
        room = peer.room()
        if direct and piece and room is not None:
            room[: len(piece)] = piece
            peer.filled(len(piece))
            piece = b""
        got += peer.receive(piece)
    assert peer.room() is None
    got += peer.receive(value(2, b"null"))
    assert [bytes(answer.payload) for answer in got] == [payload, b"null"]


def test_a_small_frame_has_no_room_of_its_own() -> None:
    worker = WorkerPeer()
    frame = open_peer().invoke(1.0, bytes(16), b"x" * 1000)
    assert worker.receive(frame[:HEADER_BYTES]) == []
    assert worker.room() is None
    assert len(worker.receive(frame[HEADER_BYTES:])) == 1


def test_sequence_numbers_go_round() -> None:
    peer = open_peer()
    peer.sent = peer.answered = 0xFFFFFFFE
    for sequence in (0xFFFFFFFF, 0, 1):
        assert WorkerPeer().receive(peer.invoke(1.0, bytes(16), b""))[0].sequence == sequence
    assert peer.waiting == 3
    for sequence in (0xFFFFFFFF, 0, 1):
        peer.receive(value(sequence))
    assert peer.waiting == 0


class TwoPeers(RuleBasedStateMachine):
    """A host and an honest worker, two pipes between them, and everything in any order and any pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.host, self.worker = HostPeer(), WorkerPeer()
        self.to_worker, self.to_host = bytearray(), bytearray(hello())
        self.to_do: deque[Invocation] = deque()
        self.expected: deque[tuple[int, bytes]] = deque()
        self.loaded = False
        self.to_worker += init_frame(b"what to load")

    @rule(payload=payloads, request_id=ids)
    def invoke(self, payload: bytes, request_id: bytes) -> None:
        self.to_worker += self.host.invoke(1.0, request_id, payload)
        self.expected.append((self.host.sent, payload))

    @rule(size=st.integers(1, 200))
    def deliver_to_worker(self, size: int) -> None:
        piece, self.to_worker = bytes(self.to_worker[:size]), self.to_worker[size:]
        self.to_do.extend(self.worker.receive(piece))

    @precondition(lambda self: self.to_do)
    @rule(failed=st.booleans())
    def work(self, failed: bool) -> None:
        frame = self.to_do.popleft()
        if frame.kind == INIT:
            assert not self.loaded
            self.loaded = True
            self.to_host += ready()
        else:
            self.to_host += value(frame.sequence, bytes(frame.payload), ERROR if failed else VALUE)

    @rule(size=st.integers(1, 200))
    def deliver_to_host(self, size: int) -> None:
        piece, self.to_host = bytes(self.to_host[:size]), self.to_host[size:]
        sole = self.host.sole_answer(piece)
        for answer in self.host.receive(piece) if sole is None else [sole]:
            if answer.kind in (VALUE, ERROR):
                assert (answer.sequence, answer.payload) == self.expected.popleft()

    @invariant()
    def every_invocation_is_answered_or_waited_for(self) -> None:
        assert self.host.waiting == len(self.expected)


TestTwoPeers: Any = TwoPeers.TestCase
TestTwoPeers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- what is not -------------------------------------------------------------------------------------------------------


def peer_in(phase: str) -> HostPeer:
    peer = HostPeer()
    if phase is not BLANK:
        peer.receive(hello())
    if phase is OPEN:
        peer.receive(ready())
    if phase is FAILED:
        peer.receive(answer_frame(FAULT, 0, 0.0, 0.0, 0, b"{}"))
    peer.invoke(1.0, bytes(16), b"null")
    assert peer.phase is phase
    return peer


@pytest.mark.parametrize("phase", [BLANK, STANDBY, OPEN, FAILED])
@pytest.mark.parametrize("kind", [0, INIT, INVOKE, RESULT, *ANSWERS, CALL, 23, 255])
def test_only_what_stands_in_the_table_may_come(phase: str, kind: int) -> None:
    peer = peer_in(phase)
    peer.may_call = True
    frame = answer_frame(kind, 1 if phase is OPEN else 0, 0.0, 0.0, 0, b"")
    if kind in PHASES[phase]:
        assert peer.receive(frame)[0].kind == kind
        assert peer.phase is PHASES[phase][kind]
    else:
        with pytest.raises(ProtocolError, match=f"a frame of kind {kind} in phase {phase}"):
            peer.receive(frame)


def test_a_call_answers_nothing_and_has_a_result_of_its_own() -> None:
    peer = open_peer(1)
    peer.may_call = True
    (call,) = peer.receive(answer_frame(CALL, 1, 0.0, 0.0, 7, b"what"))
    assert (call.kind, call.log_end, call.payload) == (CALL, 7, b"what")
    assert peer.waiting == 1
    (result,) = WorkerPeer().receive(peer.result(call, b"done"))
    assert (result.kind, result.sequence, result.budget, result.payload) == (RESULT, 1, 7.0, b"done")
    assert peer.receive(answer_frame(VALUE, 1, 0.0, 0.0, 0, b"1"))[0].payload == b"1"
    assert peer.waiting == 0


def test_a_call_of_whoever_may_make_none_is_refused() -> None:
    with pytest.raises(ProtocolError, match="a call of a function that may make none"):
        open_peer(1).receive(answer_frame(CALL, 1, 0.0, 0.0, 1, b""))


@pytest.mark.parametrize(("sent", "sequence"), [(1, 0), (1, 2), (2, 2), (0, 1)])
def test_a_call_is_made_by_the_invocation_that_is_due(sent: int, sequence: int) -> None:
    peer = open_peer(sent)
    peer.may_call = True
    with pytest.raises(ProtocolError, match=f"an answer to invocation {sequence}"):
        peer.receive(answer_frame(CALL, sequence, 0.0, 0.0, 1, b""))


def test_a_call_over_the_limit_is_refused_by_its_header() -> None:
    peer = open_peer(1)
    peer.may_call = True
    header = answer_frame(CALL, 1, 0.0, 0.0, 1, bytes(limits.CALL_BYTES + 1))[:HEADER_BYTES]
    with pytest.raises(ProtocolError, match="kind 22 may have"):
        peer.receive(header)


def take(peer: HostPeer, step: str, frame: bytes) -> None:
    """As the exchange does: what ``sole_answer`` leaves is for ``receive``."""
    if step == "sole_answer":
        assert peer.sole_answer(frame) is None
    peer.receive(frame)


@pytest.mark.parametrize("step", ["receive", "sole_answer"])
@pytest.mark.parametrize("sequence", [0, 2, 0xFFFFFFFF])
def test_an_answer_to_another_invocation_is_refused(step: str, sequence: int) -> None:
    peer = open_peer(1)
    with pytest.raises(ProtocolError, match=f"an answer to invocation {sequence}, 1 was due"):
        take(peer, step, value(sequence))


@pytest.mark.parametrize("step", ["receive", "sole_answer"])
def test_a_second_answer_is_refused(step: str) -> None:
    peer = open_peer(1)
    peer.receive(value(1))
    with pytest.raises(ProtocolError, match="an answer to invocation 1, none was due"):
        take(peer, step, value(1))


@pytest.mark.parametrize("step", ["receive", "sole_answer"])
def test_an_answer_that_skips_one_is_refused(step: str) -> None:
    peer = open_peer(2)
    with pytest.raises(ProtocolError, match="an answer to invocation 2, 1 was due"):
        take(peer, step, value(2))


def test_an_answer_before_anything_was_asked_is_refused() -> None:
    with pytest.raises(ProtocolError, match="none was due"):
        open_peer().receive(value(0))


@pytest.mark.parametrize("kind", [VALUE, ERROR, HELLO, READY, FAULT])
def test_a_frame_that_is_too_long_is_refused_by_its_header(kind: int) -> None:
    """Before a byte of it is kept."""
    phase = next(phase for phase, kinds in PHASES.items() if kind in kinds)
    longest = bytes(LARGEST[kind])
    header = answer_frame(kind, 1 if phase is OPEN else 0, 0.0, 0.0, 0, longest)[:HEADER_BYTES]
    peer_in(phase).receive(header)
    header = answer_frame(kind, 1 if phase is OPEN else 0, 0.0, 0.0, 0, longest + b"x")[:HEADER_BYTES]
    with pytest.raises(ProtocolError, match=f"a frame of {len(longest) + 1} bytes"):
        peer_in(phase).receive(header)


def test_the_longest_answers_are_the_limits() -> None:
    assert LARGEST[VALUE] == limits.RESPONSE_BYTES == 6_291_556
    assert LARGEST[HELLO] == LARGEST[READY] == 0


@pytest.mark.parametrize("kind", [0, 5, *ANSWERS, CALL, 255])
def test_a_worker_refuses_what_no_host_says(kind: int) -> None:
    with pytest.raises(ProtocolError, match=f"a frame of kind {kind} from the host"):
        WorkerPeer().receive(answer_frame(kind, 0, 0.0, 0.0, 0, b""))


@given(st.sampled_from([BLANK, STANDBY, OPEN, FAILED]), st.binary(max_size=200), cuts)
def test_any_bytes_are_frames_or_a_protocol_error(phase: str, data: bytes, sizes: list[int]) -> None:
    """Never another exception, and never more answers than were asked for."""
    peer = peer_in(phase)
    heard: list[Answer] = []
    try:
        for piece in chunks(data, sizes):
            sole = peer.sole_answer(piece)
            heard += peer.receive(piece) if sole is None else [sole]
    except ProtocolError:
        pass
    assert sum(answer.kind in (VALUE, ERROR) for answer in heard) <= 1


@given(
    st.lists(
        st.tuples(st.sampled_from(ANSWERS), st.integers(0, 3), st.binary(max_size=3)),
        max_size=6,
    )
)
def test_frames_are_taken_exactly_as_far_as_they_are_legal(frames: list[tuple[int, int, bytes]]) -> None:
    """Against a model in five lines."""
    peer = HostPeer()
    peer.invoke(1.0, bytes(16), b"")
    peer.invoke(1.0, bytes(16), b"")
    phase, due = BLANK, 1
    for kind, sequence, payload in frames:
        legal = kind in PHASES[phase] and len(payload) <= LARGEST[kind]
        if phase is OPEN:
            legal = legal and sequence == due <= 2
        frame = answer_frame(kind, sequence, 0.0, 0.0, 0, payload)
        if not legal:
            with pytest.raises(ProtocolError):
                peer.receive(frame)
            return
        assert [answer.payload for answer in peer.receive(frame)] == [payload]
        due += phase is OPEN
        phase = PHASES[phase][kind]
