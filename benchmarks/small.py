"""A module as small as handlers come: cold starts are measured with it."""

from __future__ import annotations

from typing import Any

from pyfaas import function


@function(max_invocations=1)
def small(event: dict[str, Any]) -> dict[str, Any]:
    """Echo, and be replaced: every call is a cold start."""
    return event
