"""How one invocation ended, for whoever goes on with it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from pyfaas import limits
from pyfaas._records import Facts, Outcome
from pyfaas._telemetry.logs import compose_log, indented
from pyfaas.errors import FunctionError, InternalError, InvokeError

_log = logging.getLogger("pyfaas.function")


class Ending(NamedTuple):
    """How one invocation ended: with a value, or with an error."""

    value: object
    payload: bytes
    error: FunctionError | None
    facts: Facts | None


def value_of(ending: Ending | BaseException) -> Any:
    """Give the value, or raise why there is none."""
    if isinstance(ending, BaseException):
        raise ending
    if ending.error is not None:
        raise ending.error
    return ending.value


def outcome_of(ending: Ending | BaseException) -> Outcome:
    """Make what the caller sees; an event of a stream that could not be sent has an outcome too."""
    if isinstance(ending, InvokeError):
        return Outcome(None, b"", ending, Facts(bytes(16), "", 0), compose_log)
    if isinstance(ending, BaseException):
        raise ending
    if ending.facts is None:
        raise InternalError("an ending without facts")
    return Outcome(ending.value, ending.payload, ending.error, ending.facts, compose_log)


def tell(name: str, ending: Ending, expects: Callable[[FunctionError], object] | None = None) -> None:
    """Log what became of an event that nobody waits for: why it failed; to those who want it all (INFO), all of it."""
    error = ending.error
    if error is not None and not (expects and expects(error)):
        text = f"{error.error_type}: {error.message}\n{error.remote_traceback}"[: limits.LOG_TAIL_BYTES]
        _log.warning("%r failed, request %s: %s", name, error.request_id, indented(text.rstrip()))
    if _log.isEnabledFor(logging.INFO):
        _log.info("%r ran: %s", name, indented(outcome_of(ending).log.rstrip()))
