"""Descriptors that come through a socket; the host receives them from workers, the zygote from the host."""

from __future__ import annotations

import array
import socket

_CLOEXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def receive_descriptors(sock: socket.socket, size: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receive bytes and the descriptors that ride along, close-on-exec. (``socket.recv_fds`` drops its flags.)"""
    numbers = array.array("i")
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(4 * numbers.itemsize), flags | _CLOEXEC)
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return data, list(numbers)
