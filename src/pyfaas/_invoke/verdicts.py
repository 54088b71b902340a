"""
What the caller is told of a failure: from frames, verdicts and exit statuses to FunctionErrors with AWS's texts.

Everything read here that came from a sandbox is data: checked for its type, cut to size, never trusted for more.
"""

from __future__ import annotations

import os
from typing import Any

from pyfaas._payload import decode_result
from pyfaas._pool.policy import Shelf
from pyfaas._sandbox import control
from pyfaas._sandbox.sandbox import Lost, Sandbox
from pyfaas.context import request_id_text
from pyfaas.errors import (
    BadResponse,
    FunctionError,
    HandlerFailed,
    HostError,
    InitFailed,
    OutOfMemory,
    PyfaasError,
    SandboxDied,
    TimedOut,
)

# The names that Go's runtime, and so AWS's logs, give to signals.
_SIGNALS = {
    1: "hangup",
    2: "interrupt",
    3: "quit",
    4: "illegal instruction",
    5: "trace/breakpoint trap",
    6: "aborted",
    7: "bus error",
    8: "floating point exception",
    9: "killed",
    10: "user defined signal 1",
    11: "segmentation fault",
    12: "user defined signal 2",
    13: "broken pipe",
    14: "alarm clock",
    15: "terminated",
    24: "CPU time limit exceeded",
    25: "file size limit exceeded",
    31: "bad system call",
}


def told_by_worker(payload: bytes | bytearray, raw_id: bytes) -> FunctionError:
    """Make the error that an ERROR frame tells of. Raises ValueError if it is not one."""
    message, error_type, stack, trace, bad = _read_told(payload)
    kind: type[FunctionError] = BadResponse if bad else HandlerFailed
    return kind(message, error_type, stack, request_id_text(raw_id), trace)


def told_of_init(payload: str) -> FunctionError:
    """Make the error that a FAULT frame tells of; no request had begun."""
    try:
        message, error_type, stack, trace, _ = _read_told(payload.encode("utf-8", "replace"))
    except ValueError:
        return SandboxDied("its init sent what is not an error", "Sandbox.Failure")
    return InitFailed(message, error_type, stack, "", trace)


def _read_told(payload: bytes | bytearray) -> tuple[str, str, list[str], str, bool]:
    told: Any = decode_result(payload)
    if not isinstance(told, dict):
        told = {}
    message, error_type, trace, stack = map(told.get, ("errorMessage", "errorType", "trace", "stackTrace"))
    if not (
        isinstance(message, str)
        and isinstance(error_type, str)
        and isinstance(trace, str)
        and isinstance(stack, list)
        and all(isinstance(line, str) for line in stack)
    ):
        raise ValueError("it is not an error as workers send them")
    return message, error_type[:256], stack, trace, told.get("bad") is True


def explain(sandbox: Sandbox, shelf: Shelf, lost: Lost, ending: tuple[int, int], raw_id: bytes) -> PyfaasError:
    """Say why there is no answer: the watch's verdict first, then what the exchange saw, then the exit status."""
    verdict = sandbox.verdict
    request_id = request_id_text(raw_id)
    prefix = f"RequestId: {request_id} Error: "
    if verdict == "memory":
        return OutOfMemory(
            f"{prefix}Runtime exited with error: signal: killed", "Runtime.OutOfMemory", None, request_id
        )
    if verdict == "cpu":
        told = f"{prefix}Runtime exited with error: signal: {_SIGNALS[24]}"
        return SandboxDied(told, "Runtime.ExitError", None, request_id)
    if verdict == "closed":
        return SandboxDied(f"{prefix}the runtime was closed in mid-call", "Sandbox.Failure", None, request_id)
    if lost.why == "fault":
        return told_of_init(lost.told)
    if lost.why == "late" or verdict == "late":
        timeout = sandbox.init_limit if sandbox.failed else shelf.function.options.timeout
        told = f"{prefix}Task timed out after {timeout:.2f} seconds"
        return TimedOut(told, "Sandbox.Timedout", None, request_id)
    if lost.why == "forged":
        told = f"{prefix}the sandbox broke the protocol: {lost.told}"
        return SandboxDied(told, "Sandbox.Failure", None, request_id)
    return _explain_ending(ending, prefix, request_id)


def _explain_ending(ending: tuple[int, int], prefix: str, request_id: str) -> PyfaasError:
    told, value = ending
    if told == control.NOT_FORKED:
        return HostError(f"no process could be forked for a sandbox: {os.strerror(value)}")
    if told == control.EXITED and value == 0:
        reason = "Runtime exited without providing a reason"
    elif told == control.EXITED:
        reason = f"Runtime exited with error: exit status {value}"
    elif told == control.SIGNALLED:
        reason = f"Runtime exited with error: signal: {_SIGNALS.get(value, f'signal {value}')}"
    else:
        reason = "Runtime exited with error: signal: killed"  # with its zygote, which cannot tell any more
    return SandboxDied(f"{prefix}{reason}", "Runtime.ExitError", None, request_id)


def not_json(breach: ValueError, raw_id: bytes) -> BadResponse:
    """Tell of an answer that no honest worker sends."""
    told = f"Unable to unmarshal response: {breach}"[:1024]
    return BadResponse(told, "Runtime.MarshalError", None, request_id_text(raw_id))
