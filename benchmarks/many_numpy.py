"""A function that uses NumPy, in a module of its own: what else is declared beside it would be imported with it."""

from __future__ import annotations

from typing import Any

from pyfaas import function


@function(preload=["numpy"], max_invocations=1)
def total(event: dict[str, Any]) -> float:
    """Use NumPy; each call has a new sandbox."""
    import numpy as np

    return float(np.sum([event["id"], 1]))
