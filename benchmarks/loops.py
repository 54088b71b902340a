"""
The floor: bare loops over a socket pair to a forked child, with the same JSON and nothing else.

No limits, no time-outs, no sequence numbers, no errors, no log, no second worker: whatever a call costs beyond this is
what a library adds.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from struct import Struct
from typing import Any

from benchmarks.handlers import bare_exchange

LENGTH = Struct("<Q")


def fork_echo() -> socket.socket:
    """Fork a child that answers each message with its own JSON, parsed and written anew."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        while data := theirs.recv(65_536):
            theirs.send(bare_exchange(data))
        os._exit(0)
    theirs.close()
    return ours


def fork_large_echo() -> socket.socket:
    """Fork one that takes messages of any size, each behind its length."""
    ours, theirs = socket.socketpair()
    if os.fork() == 0:
        ours.close()
        while True:
            send_framed(theirs, bare_exchange(receive_framed(theirs)))
    theirs.close()
    return ours


def send_framed(sock: socket.socket, data: bytes) -> None:
    """Send a length and what has it."""
    sock.sendall(LENGTH.pack(len(data)))
    sock.sendall(data)


def receive_framed(sock: socket.socket) -> bytes:
    """Receive the same; ends the process at the end of the socket, for only the child meets it."""
    head = sock.recv(LENGTH.size, socket.MSG_WAITALL)
    if not head:
        os._exit(0)
    data = bytearray(LENGTH.unpack(head)[0])
    with memoryview(data) as view:
        have = 0
        while have < len(data):
            have += sock.recv_into(view[have:])
    return bytes(data)


class BlockingFloor:
    """The floor of ``invoke``."""

    def __init__(self) -> None:
        self._sock = fork_echo()

    def call(self, event: Any) -> Any:
        """Send, receive."""
        self._sock.send(json.dumps(event).encode())
        return json.loads(self._sock.recv(65_536))


class SpinningLoop:
    """A bare asyncio loop that turns over ``sleep(0)`` until the answer is there."""

    def __init__(self) -> None:
        self._sock = fork_echo()

    async def call(self, event: Any) -> Any:
        """Send, turn the loop, receive."""
        sock = self._sock
        sock.send(json.dumps(event).encode())
        while True:
            try:
                return json.loads(sock.recv(65_536, socket.MSG_DONTWAIT))
            except BlockingIOError:
                await asyncio.sleep(0)


class ReaderLoop:
    """A bare asyncio loop with a reader that stays registered."""

    def __init__(self) -> None:
        self._sock = fork_echo()
        self._future: asyncio.Future[bytes] | None = None

    async def call(self, event: Any) -> Any:
        """Send, wait for the loop to call back."""
        loop = asyncio.get_running_loop()
        if self._future is None:
            loop.add_reader(self._sock, self._readable)
        self._future = loop.create_future()
        self._sock.send(json.dumps(event).encode())
        return json.loads(await self._future)

    def _readable(self) -> None:
        data = self._sock.recv(65_536)
        if self._future is not None:
            self._future.set_result(data)


def four_calls(value: Any) -> float:
    """Time the JSON that an event and its result cannot do without."""
    began = time.perf_counter()
    event = json.dumps(value).encode()
    result = json.dumps(json.loads(event)).encode()
    json.loads(result)
    return time.perf_counter() - began
