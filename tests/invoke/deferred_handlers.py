"""Functions for what is submitted."""

from __future__ import annotations

import os
import time
from typing import Any

from handlers import PLACE
from pyfaas import Context, function


@function(writes=[PLACE], timeout=10)
def note(event: dict[str, Any], context: Context) -> int:
    """Write a line with the request id; fail as often as the event says."""
    with open(event["file"], "a") as file:
        file.write(f"{context.aws_request_id}\n")
    with open(event["file"]) as file:
        count = len(file.readlines())
    if count <= event.get("fails", 0):
        raise ValueError(f"failed for the {count}. time")
    return count


@function(writes=[PLACE], timeout=60)
def wait_and_note(event: dict[str, Any], context: Context) -> None:
    """Write a line, wait for a file, and write another one."""
    with open(event["file"], "a") as file:
        file.write(f"{context.aws_request_id}\n")
    while not os.path.exists(event["until"]):
        time.sleep(0.002)
    with open(event["file"], "a") as file:
        file.write("went on\n")


@function(retries=0)
def fail(event: Any) -> None:
    raise ValueError(event)


@function(reserved_concurrency=0)
def never(event: Any) -> None: ...


@function(tenant_isolated=True)
def whose(event: Any, context: Context) -> str:
    return str(context.tenant_id)
