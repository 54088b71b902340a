"""Functions at the top of a module that every sandbox can import: they travel by reference."""

from __future__ import annotations

import os
import time
from typing import Any

from pyfaas import Context, function

# Where pytest makes its ``tmp_path``s; told by the host, for a sandbox has another user and another /tmp.
PLACE = os.environ.get("PYFAAS_TESTS_PLACE", "/nowhere")
calls = 0


@function
def echo(event: Any) -> Any:
    return event


@function
def add_one(event: int) -> int:
    return event + 1


@function
def identify(event: Any) -> int:
    """Tell which sandbox this is."""
    return int(os.environ["AWS_LAMBDA_LOG_STREAM_NAME"][-16:], 16)


@function
def count(event: Any) -> int:
    """Count the calls that this sandbox has seen."""
    global calls
    calls += 1
    return calls


@function
def fail(event: str) -> None:
    raise ValueError(event)


@function
def leave(event: int) -> None:
    """End the process with this status."""
    os._exit(event)


@function(timeout=0.2)
def hang(event: Any) -> None:
    time.sleep(60)


@function(timeout=60)
def sleep(event: float) -> float:
    time.sleep(event)
    return event


@function(timeout=60, writes=[PLACE])
def until_there(event: dict[str, str]) -> int:
    """Say that it began by making one file, and wait for another."""
    if "began" in event:
        with open(event["began"], "w") as file:
            file.write(str(os.getpid()))
    while not os.path.exists(event["until"]):
        time.sleep(0.002)
    return int(os.environ["AWS_LAMBDA_LOG_STREAM_NAME"][-16:], 16)


@function(writes=[PLACE])
def note(event: dict[str, str]) -> None:
    """Write a line down, in the order in which calls run."""
    with open(event["path"], "a") as file:
        file.write(event["line"] + "\n")


@function(writes=[PLACE])
def note_too(event: dict[str, str]) -> None:
    note(event)


@function
async def later(event: Any, context: Context) -> list[Any]:
    import asyncio

    await asyncio.sleep(0)
    return [event, id(asyncio.get_running_loop())]


@function(memory=200)
def show(event: Any, context: Context) -> dict[str, Any]:
    """Tell what the context says."""
    names = [name for name in dir(context) if not name.startswith("_") and not callable(getattr(context, name))]
    shown = {name: getattr(context, name) for name in names if name != "identity"}
    shown["identity"] = [context.identity.cognito_identity_id, context.identity.cognito_identity_pool_id]
    shown["remaining"] = context.get_remaining_time_in_millis()
    return shown


def evaluate(event: str) -> Any:
    return eval(event)


def raise_with_cause(event: Any) -> None:
    try:
        {}["missing"]  # type: ignore[index]
    except KeyError as error:
        raise RuntimeError("it had a reason") from error


@function
def caused(event: Any) -> None:
    raise_with_cause(event)


def do_as_told(event: dict[str, Any]) -> Any:
    """Do what the event says."""
    what = event["what"]
    if what == "raise":
        raise ValueError(event["number"])
    if what == "exit":
        os._exit(7)
    if what == "hang":
        time.sleep(60)
    if what == "set":
        return {1}
    return event["number"]


@function
def misbehave(event: dict[str, Any]) -> Any:
    return do_as_told(event)
