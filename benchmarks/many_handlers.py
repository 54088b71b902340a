"""Handlers of the benches with many tenants and sandboxes; each sandbox imports all that stands here."""

from __future__ import annotations

import time
from typing import Any

from pyfaas import Context, function


@function(tenant_isolated=True, timeout=30)
def whose(event: dict[str, Any], context: Context) -> str | None:
    """Tell the tenant: as many tenants, so many sandboxes."""
    return context.tenant_id


@function(timeout=30)
def nap(event: dict[str, Any]) -> None:
    """Sleep."""
    time.sleep(event["seconds"])
