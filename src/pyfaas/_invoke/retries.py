"""
What becomes of an asynchronous invocation that did not succeed, and when?  (pure; deferred.py is the hands)

    the function failed      again after 1 min, then 2 min, as often as ``retries`` says     (AWS's waits)
    it was refused           again after 1 s, 2 s, 4 s ... 5 min: no permit, or this machine could not
    it would be too old      over: ``max_event_age`` counts from the moment from which it was due
    16 functions led to it   over: they run in a circle

What is over has a condition, in AWS's words, for whoever is told of it.
"""

from __future__ import annotations

from typing import NamedTuple

from pyfaas import limits

RETRIES_EXHAUSTED = "RetriesExhausted"
TOO_OLD = "EventAgeExceeded"
NO_CONCURRENCY = "ZeroReservedConcurrency"
RECURSIVE = "RecursiveInvocationException"  # in the records AWS has no word for it; this is its error's

FUNCTION_WAIT_SECONDS = 60.0
_REFUSED_WAIT_SECONDS = 1.0
_LONGEST_WAIT_SECONDS = 300.0


class Again(NamedTuple):
    """Try it again, so many seconds from now."""

    delay: float


class Over(NamedTuple):
    """Give it up."""

    condition: str


def before(age: float, max_age: float, reserved: int | None, hops: int = 0) -> Over | None:
    """Decide before an attempt: whether there is any point in it."""
    if hops >= limits.HOPS:
        return Over(RECURSIVE)
    if reserved == 0:
        return Over(NO_CONCURRENCY)
    return Over(TOO_OLD) if age > max_age else None


def after_failure(attempts: int, retries: int, age: float, max_age: float) -> Again | Over:
    """Decide after the function failed for the ``attempts``-th time."""
    if attempts > retries:
        return Over(RETRIES_EXHAUSTED)
    delay = FUNCTION_WAIT_SECONDS * attempts
    return Again(delay) if age + delay <= max_age else Over(TOO_OLD)


def after_refusal(refusals: int, age: float, max_age: float) -> Again | Over:
    """Decide after it was refused for the ``refusals``-th time in a row; that uses up no retry."""
    delay = min(_REFUSED_WAIT_SECONDS * 2.0 ** min(refusals - 1, 20), _LONGEST_WAIT_SECONDS)
    return Again(delay) if age + delay <= max_age else Over(TOO_OLD)
