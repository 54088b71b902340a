"""How one invocation ended, for whoever goes on with it."""

from __future__ import annotations

from typing import NamedTuple

from pyfaas._records import Facts
from pyfaas.errors import FunctionError


class Ending(NamedTuple):
    """How one invocation ended: with a value, or with an error."""

    value: object
    payload: bytes
    error: FunctionError | None
    facts: Facts | None
