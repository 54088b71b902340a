"""
What was run under which key, and what it gave.

    begin ──► NEW: run it, then finish or release
          ──► RUNNING: somebody else does, until the lock ends
          ──► DONE: here is what it gave
          ──► OTHER: it was begun with another payload
"""

from __future__ import annotations

from typing import NamedTuple

from pyfaas._stores.database import Transaction

NEW, RUNNING, DONE, OTHER = "new", "running", "done", "other"


class Begun(NamedTuple):
    """What ``begin`` found; ``value`` is the result's JSON of what is done."""

    state: str
    value: bytes | None = None


def begin(transaction: Transaction, function: str, key: bytes, payload: bytes, seconds: float) -> Begun:
    """Take the lock of a key for so long, if it is free; ``payload`` is a digest of what must be the same."""
    now = transaction.now
    for until, known, value in transaction.run("idempotent", function=function, key=key):
        if until > now and known != payload:
            return Begun(OTHER)
        if until > now:
            return Begun(RUNNING) if value is None else Begun(DONE, value)
    transaction.count("forget_idempotent", now=now, count=10)
    transaction.count("set_idempotent", function=function, key=key, until=now + seconds, payload=payload, value=None)
    return Begun(NEW)


def finish(transaction: Transaction, function: str, key: bytes, payload: bytes, value: bytes, seconds: float) -> None:
    """Keep what it gave for so long."""
    until = transaction.now + seconds
    transaction.count("set_idempotent", function=function, key=key, until=until, payload=payload, value=value)


def release(transaction: Transaction, function: str, key: bytes) -> None:
    """It failed: the next one may try."""
    transaction.count("release_idempotent", function=function, key=key)
