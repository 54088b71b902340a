"""A module that gives trouble while it is imported in a sandbox, for the first times that one function does so."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from attacks.handlers import DONE, die, send, spin, value_frame
from pyfaas import function, limits
from pyfaas._sandbox import protocol


def _trouble() -> None:
    """Count the attempts in the function's own directory, which outlives a crash."""
    name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
    if not name.startswith("init-"):
        return
    attempts = Path("attempts")
    attempts.write_text(f"{attempts.read_text() if attempts.exists() else ''}x")
    if len(attempts.read_text()) <= int(os.environ["TROUBLES"]):
        if name == "init-loops":
            spin()
        if name == "init-forges":
            send(value_frame(b"[" * limits.ERROR_BYTES, kind=protocol.FAULT))
        die(os.environ["HOW"])


_trouble()


@function(name="init-loops", timeout=0.3, environment={"TROUBLES": "2"})
def loops(event: Any) -> Any:
    return DONE


@function(name="init-forges", environment={"TROUBLES": "1", "HOW": "os._exit(0)"})
def forges_a_fault(event: Any) -> Any:
    return DONE


DEATHS = ("os._exit(0)", "os._exit(7)", "SystemExit", "segfault")


def _handler(event: Any) -> Any:
    return DONE


dies = {
    how: function(name=f"init-dies-{number}", environment={"TROUBLES": "1", "HOW": how})(_handler)
    for number, how in enumerate(DEATHS)
}
