"""Functions that die at every step of an exchange; a module of its own, which a sandbox imports in no time."""

from __future__ import annotations

import ctypes
import os
import random
import socket
import stat
import sys
import threading
import time
from typing import Any

from pyfaas import function
from pyfaas._sandbox import protocol


def _wire() -> int:
    """Find the descriptor that leads to the host."""
    return next(fd for fd in range(3, 64) if _is_socket(fd))


def _is_socket(descriptor: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(descriptor).st_mode)
    except OSError:
        return False


def _answer(payload: bytes) -> bytes:
    """Write the answer that the worker would write, as it knows the number of this exchange."""
    frame: Any = sys._getframe()
    while not hasattr(frame.f_locals.get("frame"), "sequence"):
        frame = frame.f_back
    return protocol.answer_frame(protocol.VALUE, frame.f_locals["frame"].sequence, 0.0, 0.0, 0, payload)


def _die_in(seconds: float) -> None:
    def die() -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass
        os._exit(9)

    threading.Thread(target=die, daemon=True).start()


@function(timeout=10)
def crash(event: dict[str, Any]) -> Any:
    """Die at the step that the event names."""
    step, value = event["step"], event["value"]
    wire = _wire()
    if step == "in the handler":
        os._exit(1)
    if step == "by a fault":
        ctypes.string_at(0)
    if step == "hanging up":
        socket.socket(fileno=wire).shutdown(socket.SHUT_RDWR)
        time.sleep(0.01)
    if step == "in the answer's header":
        os.write(wire, _answer(b"1")[: 1 + value % 32])
        os._exit(1)
    if step == "in the answer":
        os.write(wire, _answer(b'"' + b"x" * 300 + b'"')[: 33 + value % 300])
        os._exit(1)
    if step == "in a large answer":
        os.write(wire, _answer(b'"' + b"x" * 100_000 + b'"')[:60_000])
        os._exit(1)
    if step == "after the answer":
        os.write(wire, _answer(b"%d" % value))
        os._exit(1)
    if step == "after two answers":
        os.write(wire, _answer(b"%d" % value) * 2)
        os._exit(1)
    if step == "with an answer that is not JSON":
        os.write(wire, _answer(b"{'"))
        os._exit(1)
    if step == "some time after the answer":
        _die_in(random.random() * 0.001)
    return value


class Bomb:
    """Ends the interpreter that unpickles it."""

    def __reduce__(self) -> Any:
        return os._exit, (5,)


def make_function_that_dies_in_its_init() -> Any:
    bomb = Bomb()

    @function(timeout=10)
    def dies(event: Any) -> Any:
        return bomb

    return dies


dies_in_init = make_function_that_dies_in_its_init()


@function(timeout=10)
def victim(event: Any) -> Any:
    """Live long enough to be killed from outside."""
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        pass
    return event
