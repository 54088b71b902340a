"""Frames that no honest worker sends, made by hypothesis, and by atheris where that is installed."""

from __future__ import annotations

import importlib.util
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfaas._sandbox.protocol import BULK_BYTES, ERROR, FAULT, HEADER_BYTES, HELLO, READY, VALUE, answer_frame
from sandbox import fuzzing
from support import SOURCE

KINDS = [HELLO, READY, FAULT, VALUE, ERROR, 1, 0, 255]
times = st.floats() | st.just(0.5)
payloads = (
    st.binary(max_size=60)
    | st.sampled_from([b"1", b"null", b"[" * 300, b'{"errorMessage": "m", "errorType": "T"}', b'"\xff"', b"1e999"])
    | st.integers(0, 300).map(lambda size: b'"' + b"x" * size + b'"')
)


def altered(frame: bytes, at: int, byte: int) -> bytes:
    return frame[:at] + bytes([byte]) + frame[at + 1 :] if at < len(frame) else frame


def declared(frame: bytes, size: int | None) -> bytes:
    """Have the header say another size than there is."""
    return frame if size is None else struct.pack("<I", size) + frame[4:]


honest = st.builds(
    answer_frame, st.just(VALUE), st.integers(1, 4), times, times, st.integers(0, 2**40), payloads.map(bytes)
)
frames = st.builds(
    answer_frame, st.sampled_from(KINDS), st.integers(0, 6), times, times, st.integers(0, 2**64 - 1), payloads
)
forged = st.builds(altered, frames, st.integers(0, 60), st.integers(0, 255)) | st.builds(
    declared, frames, st.none() | st.integers(0, 200) | st.just(BULK_BYTES + 1) | st.just(2**32 - 1)
)
streams = st.lists(honest | frames | forged | st.binary(max_size=40), max_size=6).map(b"".join)


@settings(max_examples=600, deadline=None)
@given(st.binary(min_size=3, max_size=3), streams)
def test_any_bytes_mean_the_same_however_they_are_read(how: bytes, data: bytes) -> None:
    fuzzing.check(how + data)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 255), st.integers(BULK_BYTES + 1, 2 * BULK_BYTES), st.integers(0, BULK_BYTES))
def test_a_large_payload_may_come_in_any_pieces(size: int, length: int, missing: int) -> None:
    frame = answer_frame(VALUE, 1, 0.0, 0.5, 7, b"x" * length)[: HEADER_BYTES + length - missing]
    whole = fuzzing.read_whole(fuzzing.peer_of(2, 1), frame)
    assert fuzzing.read_into_room(fuzzing.peer_of(2, 1), frame, size * 256) == whole
    assert bool(whole[0]) == (not missing)


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed: nox -s fuzz")
def test_atheris_finds_nothing_in_a_minute() -> None:
    program = str(Path(fuzzing.__file__))
    command = [sys.executable, program, "-max_total_time=60", "-max_len=4096"]
    done = subprocess.run(
        command, check=False, env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-4000:]
