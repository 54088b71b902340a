"""Sockets, and descriptors that come through them; the host's from workers, the zygote's from the host."""

from __future__ import annotations

import _socket
import array
import socket
from typing import cast

_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """
    Make two connected sockets that Ctrl-C cannot make anybody lose.

    ``socket.socketpair`` takes each descriptor out of one object to put it into another one; between the two, it is in
    none. These have all that a ``socket.socket`` has but ``makefile`` and the like.
    """
    return cast("tuple[socket.socket, socket.socket]", _socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM, 0))


def receive_descriptors(sock: socket.socket, size: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receive bytes and the descriptors that ride along, close-on-exec. (``socket.recv_fds`` drops its flags.)"""
    numbers = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(4 * numbers.itemsize), flags | _CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, list(numbers)
