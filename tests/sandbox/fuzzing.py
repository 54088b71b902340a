"""
Whatever bytes a sandbox sends: read in one piece, in small ones or straight into a buffer, they mean the same.

    check(data)                                   one try; tests/sandbox/test_fuzzing.py makes them by hypothesis
    python tests/sandbox/fuzzing.py [libfuzzer's options]      as many as there is time for, by atheris
"""

from __future__ import annotations

import sys

from pyfaas._invoke import verdicts
from pyfaas._payload import decode_result
from pyfaas._sandbox import protocol
from pyfaas._sandbox.protocol import Answer, HostPeer, ProtocolError

HELLO = protocol.answer_frame(protocol.HELLO, 0, 0.0, 0.0, 1, b"")
READY = protocol.answer_frame(protocol.READY, 0, 0.0, 0.25, 0, b"")
MOST_BYTES = 60_000  # what one recv gives at most is 65,536

Reading = tuple[list[Answer], bool, str, int]


def peer_of(phase: int, sent: int) -> HostPeer:
    """Give a host's peer as far as this in its life."""
    peer = HostPeer()
    if phase > 0:
        peer.receive(HELLO)
    if phase > 1:
        peer.receive(READY)
        for _ in range(sent):
            peer.invoke(1.0, bytes(16), b"null")
    return peer


def _told(peer: HostPeer, answers: list[Answer], *, broken: bool) -> Reading:
    plain = [answer._replace(payload=bytes(answer.payload)) for answer in answers]
    return plain, broken, peer.phase, peer.answered


def read_whole(peer: HostPeer, data: bytes) -> Reading:
    """Read all at once."""
    try:
        return _told(peer, peer.receive(data), broken=False)
    except ProtocolError:
        return _told(peer, [], broken=True)


def read_in_pieces(peer: HostPeer, data: bytes, size: int) -> Reading:
    """Read as much at a time; what one answer is alone, by the short way."""
    answers: list[Answer] = []
    try:
        for at in range(0, len(data), size):
            piece = data[at : at + size]
            sole = peer.sole_answer(piece)
            answers += [sole] if sole is not None else peer.receive(piece)
    except ProtocolError:
        return _told(peer, [], broken=True)
    return _told(peer, answers, broken=False)


def read_into_room(peer: HostPeer, data: bytes, size: int) -> Reading:
    """Read as much at a time; a large payload straight to where it lies."""
    answers: list[Answer] = []
    at = 0
    try:
        while at < len(data):
            room = peer.room()
            if room is None:
                piece = data[at : at + size]
                answers += peer.receive(piece)
                at += len(piece)
            else:
                piece = data[at : at + min(size, len(room))]
                room[: len(piece)] = piece
                peer.filled(len(piece))
                at += len(piece)
                answers += peer.receive(b"")
    except ProtocolError:
        return _told(peer, [], broken=True)
    return _told(peer, answers, broken=False)


def check(data: bytes) -> None:
    """The first three bytes say how the rest is read."""
    if len(data) < 3:
        return
    phase, sent, size = data[0] % 3, data[1] % 5, data[2] + 1
    data = data[3 : 3 + MOST_BYTES]
    whole = read_whole(peer_of(phase, sent), data)
    for other in (
        read_in_pieces(peer_of(phase, sent), data, size),
        read_in_pieces(peer_of(phase, sent), data, size * 64),
        read_into_room(peer_of(phase, sent), data, size),
    ):
        assert other[1] == whole[1], "one way of reading finds a breach that another does not"
        if not whole[1]:
            assert repr(other) == repr(whole)  # NaN is not itself
    for answer in whole[0]:
        _look_into(answer)


def _look_into(answer: Answer) -> None:
    """A payload is JSON within bounds, or a ValueError."""
    try:
        if answer.kind == protocol.VALUE:
            decode_result(answer.payload)
        elif answer.kind == protocol.ERROR:
            verdicts.told_by_worker(answer.payload, bytes(16))
        else:
            verdicts.told_of_init(bytes(answer.payload).decode("utf-8", "replace"))
    except ValueError:
        pass


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
