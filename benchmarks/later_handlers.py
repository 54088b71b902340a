"""Handlers of what is submitted."""

from __future__ import annotations

import time
from typing import Any

from pyfaas import function


@function(timeout=30)
def keep(event: dict[str, Any]) -> None:
    """Do nothing."""


@function(timeout=30)
def begun(event: dict[str, Any]) -> float:
    """Tell when it began, by the clock that all processes of this machine share."""
    return time.monotonic()
