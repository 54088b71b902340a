"""A hundred functions that share permits, and do about the same."""

from __future__ import annotations

import time
import types
from typing import Any

from pyfaas import Function, function


def work(event: dict[str, Any]) -> dict[str, Any]:
    """Work for about 1 ms."""
    until = time.perf_counter() + 0.001
    while time.perf_counter() < until:
        pass
    return event


def _neighbour(number: int) -> Function[Any, Any]:
    """Declare one more function that works, under a name of its own at the top of this module."""
    name = f"neighbour_{number}"
    handler = types.FunctionType(work.__code__, globals(), name)
    handler.__qualname__ = name
    globals()[name] = made = function(timeout=60)(handler)
    return made


neighbours = [_neighbour(number) for number in range(100)]
