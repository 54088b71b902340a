"""Functions that the tests of whole lives call; a module of its own, so that they travel by name."""

from __future__ import annotations

import ctypes
import os
import time
from typing import Any

from pyfaas import function


@function(timeout=10)
def echo(event: Any) -> Any:
    return event


@function(timeout=10)
async def async_echo(event: Any) -> Any:
    return event


@function(timeout=20)
def nap(event: float) -> float:
    time.sleep(event)
    return event


@function(timeout=0.3)
def hang(event: Any) -> None:
    while True:
        time.sleep(1)


@function(timeout=10)
def whoami(event: Any) -> int:
    return os.getpid()


@function(timeout=10)
def fail(event: Any) -> None:
    raise ValueError(f"no {event}")


@function(timeout=0.4)
def mixed(event: dict[str, Any]) -> Any:
    """Do what the event says."""
    do = event["do"]
    if do == "return":
        return event["value"]
    if do == "raise":
        raise ValueError(event["value"])
    if do == "exit":
        os._exit(3)
    if do == "kill":
        os.abort()
    if do == "hang":
        time.sleep(60)
    if do == "fork":
        if os.fork() == 0:
            time.sleep(60)
        ctypes.string_at(0)
    raise AssertionError(do)


@function(timeout=0.25)
def spin(event: Any) -> None:
    while True:
        pass


@function(memory=128, timeout=10)
def eat(event: Any) -> None:
    kept = []
    while True:
        kept.append(bytearray(8_000_000))
