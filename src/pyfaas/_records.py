"""
What came of an invocation: ``Outcome`` (one call's end) and ``Report`` (its bill).

The exchange hands over what it measured as it is (``Facts``); texts and objects are made when somebody looks, for most
callers only want the value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs

from pyfaas import limits
from pyfaas._payload import decode_result
from pyfaas.context import request_id_text
from pyfaas.errors import EventExpired, InvokeError, PyfaasError, Throttled, TimedOut, made_of


@attrs.define
class Facts:
    """What was measured of one invocation. Durations in seconds; on a warm sandbox there is no init, and no restore."""

    raw_id: bytes
    function: str
    memory_mb: int
    cold: bool = False
    duration: float = 0.0
    init: float | None = None
    restore: float | None = None
    max_memory_bytes: int = 0
    queued: float = 0.0
    log: bytes = b""
    log_dropped: int = 0


@attrs.frozen
class Report:
    """
    The bill of one invocation, as AWS Lambda's REPORT line tells it.

    ``duration_ms`` is the handler's time, ``billed_ms`` that and the init time rounded up, ``init_ms`` None on a warm
    sandbox, ``max_memory_mb`` the most that the host has seen this sandbox hold (read at cold starts, every 50 ms of
    long calls, and at most every 50 ms of short ones), ``status`` ``"success"``, ``"error"`` or ``"timeout"``,
    ``queued_ms`` the wait for a permit, ``restore_ms`` None but on a sandbox that a snap start has just made.
    """

    request_id: str
    function: str
    version: str
    cold: bool
    duration_ms: float
    billed_ms: int
    init_ms: float | None
    memory_mb: int
    max_memory_mb: int
    status: str
    queued_ms: float
    restore_ms: float | None = None


def make_report(facts: Facts, status: str) -> Report:
    """Round what was measured as AWS does: durations to 10 us, the bill and memory up."""
    billed = facts.duration + (facts.init or 0.0)
    return Report(
        request_id=request_id_text(facts.raw_id),
        function=facts.function,
        version="$LATEST",
        cold=facts.cold,
        duration_ms=round(facts.duration * 1000, 2),
        billed_ms=math.ceil(billed * 1000),
        init_ms=None if facts.init is None else round(facts.init * 1000, 2),
        memory_mb=facts.memory_mb,
        max_memory_mb=min(math.ceil(facts.max_memory_bytes / 1_048_576), facts.memory_mb),
        status=status,
        queued_ms=round(facts.queued * 1000, 2),
        restore_ms=None if facts.restore is None else round(facts.restore * 1000, 2),
    )


@attrs.frozen
class Submission:
    """
    What is known of an event that was submitted.

    ``state`` is ``"waiting"`` (also between two attempts), ``"running"``, ``"done"`` or ``"failed"``; ``attempts`` how
    often its function has come to an end with it; ``payload`` the result's JSON, ``b""`` until it is done and where it
    is over 1 MB, for that is not kept; ``error``
    why the last attempt failed; ``condition`` why it was given up, in AWS's words: ``"RetriesExhausted"``,
    ``"EventAgeExceeded"`` or ``"ZeroReservedConcurrency"``. Moments are seconds since 1970.
    """

    request_id: str
    function: str
    state: str
    attempts: int
    accepted_at: float
    finished_at: float | None = None
    payload: bytes = b""
    error: PyfaasError | None = None
    condition: str | None = None

    @property
    def value(self) -> Any:
        """The result. Raises the error if it failed, and InvokeError if it is not finished yet."""
        if self.state == "done" and not self.payload:
            raise InvokeError(
                f"submission {self.request_id} of {self.function!r} is done; its result is over 1 MB, and not kept"
            )
        if self.state == "done":
            return decode_result(self.payload)
        if self.error is not None and self.state == "failed":
            raise self.error
        raise InvokeError(f"submission {self.request_id} of {self.function!r} is not finished: it is {self.state}")


def error_of(told: dict[str, Any], request_id: str) -> PyfaasError:
    """Make the error again that was written down when an attempt failed, or say why there was none."""
    made = made_of(told, request_id)
    if made is not None:
        return made
    if told.get("condition") == "ZeroReservedConcurrency":
        return Throttled("reserved_concurrency=0 refuses every call", _RESERVED)
    if told.get("condition") == "RecursiveInvocationException":
        return InvokeError(f"{limits.HOPS} functions, one after the other, led to this event: they run in a circle")
    return EventExpired("the event waited for longer than max_event_age")


_RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"


class Outcome:
    """
    How one invocation ended: with a value or with an error.

    ``ok`` tells which; ``payload`` is the result's JSON as bytes (``b""`` on failure); ``error`` the FunctionError or
    None; in a stream, an event that could not be sent has the InvokeError here.
    """

    __slots__ = ("_compose", "_facts", "_value", "error", "payload")

    def __init__(
        self,
        value: Any,
        payload: bytes,
        error: PyfaasError | None,
        facts: Facts,
        compose: Callable[[Facts, Report, PyfaasError | None], str],
    ) -> None:
        self.payload = payload
        self.error = error
        self._facts = facts
        self._compose = compose
        self._value = value

    @property
    def ok(self) -> bool:
        """Whether the handler returned."""
        return self.error is None

    @property
    def value(self) -> Any:
        """The result. Raises the error if there is none."""
        if self.error is not None:
            raise self.error
        return self._value

    @property
    def request_id(self) -> str:
        """The invocation's id, a UUID as text."""
        return request_id_text(self._facts.raw_id)

    @property
    def report(self) -> Report:
        """What the invocation took."""
        status = "success"
        if self.error is not None:
            status = "timeout" if isinstance(self.error, TimedOut) else "error"
        return make_report(self._facts, status)

    @property
    def log(self) -> str:
        """The last 4 KB of what AWS Lambda would log: its own lines and the handler's output between them."""
        return self._compose(self._facts, self.report, self.error)

    def __getstate__(self) -> tuple[Any, ...]:
        return self._value, self.payload, self.error, self._facts, self._compose

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._value, self.payload, self.error, self._facts, self._compose = state

    def __repr__(self) -> str:
        if self.error is not None:
            return (
                f"<Outcome {self.request_id} {type(self.error).__name__}: {getattr(self.error, 'message', self.error)}>"
            )
        return f"<Outcome {self.request_id} ok, {len(self.payload)} bytes>"


@attrs.frozen
class Replay:
    """
    What is known of a replay of an archive.

    ``state`` is ``"RUNNING"``, ``"COMPLETED"`` or ``"CANCELLED"``; ``start`` and ``end`` say which time it is about, in
    seconds since 1970; ``replayed`` how many events it has put on the bus so far.
    """

    name: str
    state: str
    start: float
    end: float
    replayed: int
