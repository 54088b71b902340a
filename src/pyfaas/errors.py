"""
Everything that pyfaas raises, sorted by who must act.

    PyfaasError
    ├── ConfigurationError (ValueError)   you wrote it wrong
    ├── InvokeError                       the call was refused, nothing ran
    │   ├── InvalidEvent (ValueError)     the event is not JSON
    │   ├── PayloadTooLarge               the event is over 6 MB
    │   ├── Throttled                     no permit was free
    │   ├── FunctionNotFound              this runtime does not serve that function
    │   ├── AccessDenied                  a handler asked for what ``allow=`` does not grant
    │   ├── NoSuchKey (LookupError)       a bucket has no such file
    │   ├── ConnectionGone                nobody is connected by that id
    │   ├── AlreadyInProgress             one with the same idempotency key runs
    │   ├── PayloadMismatch               one with the same idempotency key said something else
    │   └── EventExpired                  it waited longer than it may
    ├── FunctionError                     the function failed; the host is fine
    │   ├── HandlerFailed                 it raised
    │   ├── InitFailed                    its module did not load
    │   ├── TimedOut                      it took longer than ``timeout``
    │   ├── OutOfMemory                   it held more than ``memory``
    │   ├── SandboxDied                   its process ended: an exit, a signal, a crash
    │   └── BadResponse                   what it returned cannot be taken
    ├── HostError                         this machine cannot
    │   ├── CannotConfine                 a guarantee that was asked for cannot be kept
    │   ├── StoreUnavailable              the durable store cannot be used
    │   └── EngineUnavailable             the engine cannot be used
    └── InternalError                     a bug in pyfaas: please report it

All of them pickle and copy.
"""

from __future__ import annotations

import re
import sys
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")


def printable(text: str) -> str:
    """Show control characters as escapes: the text may come from a sandbox, and a terminal may read it."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


class PyfaasError(Exception):
    """The root of every error that pyfaas raises."""


class ConfigurationError(PyfaasError, ValueError):
    """You wrote it wrong: the message names the field, the value and what would be right."""


class InvokeError(PyfaasError):
    """The call was refused; the handler did not run."""


class InvalidEvent(InvokeError, ValueError):
    """The event is not JSON; the message holds the path of the culprit (AWS: InvalidRequestContentException)."""


class PayloadTooLarge(InvokeError):
    """The event is over 6,291,456 bytes of compact JSON (AWS: RequestEntityTooLargeException)."""


class Throttled(InvokeError):
    """
    No permit was free and ``when_full="raise"`` (AWS: TooManyRequestsException).

    ``reason`` is ``"ConcurrentInvocationLimitExceeded"`` (the runtime's ``concurrency``) or
    ``"ReservedFunctionConcurrentInvocationLimitExceeded"`` (the function's ``reserved_concurrency``), as in AWS;
    ``retry_after`` is a hint in seconds.
    """

    def __init__(
        self, message: str, reason: str = "ConcurrentInvocationLimitExceeded", retry_after: float = 1.0
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.retry_after = retry_after


class FunctionNotFound(InvokeError):
    """The runtime was opened for other functions (``Runtime(functions=[...])``)."""


class AccessDenied(InvokeError):
    """A handler asked for something that its function's ``allow=`` does not grant."""


class NoSuchKey(InvokeError, LookupError):
    """A bucket has no file of this key."""


class ConnectionGone(InvokeError):
    """No client of a WebSocket is connected to this process by that id (AWS: GoneException, 410)."""


class AlreadyInProgress(InvokeError):
    """Another invocation with the same idempotency key is running; its result will be there when it is done."""


class PayloadMismatch(InvokeError):
    """An event with the same idempotency key was run, and said something else."""


class EventExpired(InvokeError):
    """The event waited longer than it may."""


class FunctionError(PyfaasError):
    """
    The function failed; the host is fine and the next invocation works.

    ``error_type`` and ``message`` are what AWS Lambda would report, ``stack_trace`` the handler's frames (empty where
    the process died), ``request_id`` the invocation, ``remote_traceback`` the whole traceback inside the sandbox with
    its causes, as text. From Python 3.11 on the remote traceback is a note of the exception, before that a part of
    its ``str()``.
    """

    # Platform errors (a death, a time-out) carry two keys in AWS's JSON, the runtime's own four, in another order.
    _platform = False

    def __init__(
        self,
        message: str,
        error_type: str = "Runtime.Unknown",
        stack_trace: list[str] | None = None,
        request_id: str = "",
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message, error_type)
        self.message = message
        self.error_type = error_type
        self.stack_trace = stack_trace or []
        self.request_id = request_id
        self.remote_traceback = remote_traceback
        if remote_traceback and sys.version_info >= (3, 11):
            self.add_note(f"In the sandbox:\n{printable(remote_traceback)}")

    def __str__(self) -> str:
        text = f"{self.error_type}: {self.message}"
        if self.remote_traceback and sys.version_info < (3, 11):
            text += f"\nIn the sandbox:\n{self.remote_traceback}"
        return printable(text)

    def to_lambda(self) -> dict[str, Any]:
        """Give the very JSON object that AWS Lambda answers for this failure."""
        if self._platform:
            return {"errorType": self.error_type, "errorMessage": self.message}
        return {
            "errorMessage": self.message,
            "errorType": self.error_type,
            "requestId": self.request_id,
            "stackTrace": list(self.stack_trace),
        }


class HandlerFailed(FunctionError):
    """The handler raised; ``error_type`` is the bare class name of its exception."""


class InitFailed(FunctionError):
    """The function's module did not load, or its name is not in it; no request had begun."""


class TimedOut(FunctionError):
    """The invocation took longer than ``timeout`` seconds; its sandbox and all that it started are gone."""

    _platform = True


class OutOfMemory(FunctionError):
    """The sandbox held more than ``memory`` MB, children included; it is gone."""

    _platform = True


class SandboxDied(FunctionError):
    """The sandbox ended in mid-call: ``sys.exit``, a signal, a crash, forged frames, more CPU time than it may."""

    _platform = True


class BadResponse(FunctionError):
    """What the handler returned cannot be taken: not JSON, too large, nested too deep."""

    def to_lambda(self) -> dict[str, Any]:
        """Give the very JSON object that AWS Lambda answers for this failure."""
        if self.error_type == "Function.ResponseSizeTooLarge":
            return {"errorMessage": self.message, "errorType": self.error_type}
        return super().to_lambda()


class HostError(PyfaasError):
    """This machine cannot do what was asked; the message says what is missing."""


class CannotConfine(HostError):
    """``confinement="strict"`` and this host cannot keep every guarantee; the message lists those that it cannot."""


class StoreUnavailable(HostError):
    """The durable store cannot be used."""


class EngineUnavailable(HostError):
    """The engine cannot be used."""


class InternalError(PyfaasError):
    """A bug in pyfaas; please report it."""


# -- errors that travel ------------------------------------------------------------------------------------------------


def tell_of(error: PyfaasError) -> dict[str, Any]:
    """Write down an error, as JSON; ``made_of`` reads it."""
    told: dict[str, Any] = {"kind": type(error).__name__, "message": str(error)}
    if isinstance(error, FunctionError):
        told.update(
            message=error.message,
            error_type=error.error_type,
            stack_trace=error.stack_trace,
            remote_traceback=error.remote_traceback,
        )
    elif isinstance(error, Throttled):
        told["reason"] = error.reason
    return told


def made_of(told: dict[str, Any], request_id: str) -> PyfaasError | None:
    """Make the error again that was written down; None where there is none of that kind."""
    kind = globals().get(told.get("kind", ""))
    if not (isinstance(kind, type) and issubclass(kind, PyfaasError)):
        return None
    if issubclass(kind, FunctionError):
        return kind(told["message"], told["error_type"], told["stack_trace"], request_id, told["remote_traceback"])
    return kind(told["message"], told["reason"]) if kind is Throttled and "reason" in told else kind(told["message"])
