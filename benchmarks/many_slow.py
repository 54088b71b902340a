"""A function whose init takes 300 ms, in a sandbox; the bench that declares it does not wait for that."""

from __future__ import annotations

import os
import time
from typing import Any

from pyfaas import function

INIT_SECONDS = 0.3
if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
    time.sleep(INIT_SECONDS)


@function(snap_start=True, max_invocations=1)
def snapped(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event; each call has a new sandbox."""
    return event
