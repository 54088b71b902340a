"""Clients that are slow, that hang up, that do not listen: beside others, who must not notice."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from handlers import PLACE
from pyfaas import Runtime, function, http
from sources.serving import serving
from sources.tools import events, record
from support import wait_until

BODY = b"forty bytes that come one after the other"
HANGS_UP = struct.pack("ii", 1, 0)
LARGE = 4_000_000


def head(path: str) -> bytes:
    fields = f"Host: x\r\nContent-Type: text/plain\r\nContent-Length: {len(BODY)}\r\n"
    return f"POST {path} HTTP/1.1\r\n{fields}\r\n".encode()


def drip(port: int) -> None:
    """Send a request a byte at a time, and read the answer."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head("/dripped"))
        for at in range(len(BODY)):
            client.sendall(BODY[at : at + 1])
            time.sleep(0.005)
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def hang_up(port: int) -> None:
    """Send half of a request, and reset the connection."""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(head("/cut") + BODY[:20])
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, HANGS_UP)


def ask(port: int) -> None:
    """Be an honest client."""
    with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        for _ in range(10):
            assert client.post("/honest", content=BODY, headers={"content-type": "text/plain"}).text == "well"


def test_slow_ones_are_waited_for_cut_ones_have_no_event_and_deaf_ones_hold_no_sandbox(got: Path) -> None:
    where = str(got)

    def handler(event: Any) -> str:
        record(where, event["rawPath"], None)
        return "x" * LARGE if event["rawPath"] == "/deaf" else "well"

    answer = function(name="answer", trigger=http("POST /{path+}"), timeout=10, writes=[PLACE])(handler)
    with Runtime([answer]) as runtime, serving(runtime) as port, contextlib.ExitStack() as deaf:
        for _ in range(6):
            one_deaf = deaf.enter_context(socket.create_connection(("127.0.0.1", port)))
            one_deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one_deaf.sendall(head("/deaf") + BODY)
        clients = [drip, hang_up, ask] * 6
        with ThreadPoolExecutor(len(clients)) as threads:
            for one in [threads.submit(client, port) for client in clients]:
                one.result()
        wait_until(lambda: events(got).count("/deaf") == 6)
        wait_until(lambda: runtime.statistics().in_flight == 0)
        assert {path: events(got).count(path) for path in events(got)} == {"/deaf": 6, "/dripped": 6, "/honest": 60}
        deaf.close()
        ask(port)
