"""
The handlers that are measured. Importable by name in every child, so nothing but a name travels to it.

Each comes twice where peers run it too: plain for them, declared for pyfaas.
"""

from __future__ import annotations

import ctypes
import json
import time
from typing import Any

from pyfaas import function

EVENT: dict[str, Any] = {"id": 7, "name": "a.png"}
"""The small event of all benches: what is measured is the trip, not the load."""

TIMEOUT = 0.1


def plain_echo(event: dict[str, Any]) -> dict[str, Any]:
    """Give it back."""
    return event


def plain_crash(event: dict[str, Any]) -> dict[str, Any]:
    """Give it back, but die of one of them."""
    if event.get("crash"):
        ctypes.string_at(0)
    return event


@function
def echo(event: dict[str, Any]) -> dict[str, Any]:
    """Give it back."""
    return event


@function(memory=512, timeout=30)
def echo_large(event: Any) -> Any:
    """Give it back: 6 MB of JSON are up to 150 MB of Python."""
    return event


@function(timeout=30)
def crash(event: dict[str, Any]) -> dict[str, Any]:
    """Give it back, but die of one of them."""
    return plain_crash(event)


@function(timeout=TIMEOUT, reserved_concurrency=1)
def hang(event: dict[str, Any]) -> dict[str, Any]:
    """Come back at once, or never: asleep or at work."""
    if event.get("how") == "sleep":
        time.sleep(60)
    while event.get("how") == "spin":
        pass
    return event


@function(timeout=30)
def linger(event: dict[str, Any]) -> dict[str, Any]:
    """Take so long that callers at the same time need sandboxes of their own."""
    time.sleep(event["seconds"])
    return event


def bare_exchange(payload: bytes) -> bytes:
    """Do what a worker cannot do without: parse, call, serialise."""
    return json.dumps(plain_echo(json.loads(payload))).encode()
