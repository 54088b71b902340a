"""
Idempotency: an event whose key was seen gets the result of the first one, and is not run.

    key of the event ──► begin ──┬── done ──► the result that was kept
                                 ├── running ──► AlreadyInProgress
                                 └── new ──► run ──► keep the result, or let the next one try
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyfaas._invoke.ending import Ending
from pyfaas._language.keys import compile_key
from pyfaas._payload import decode_event
from pyfaas._records import Facts
from pyfaas._stores import idempotent
from pyfaas._waits import Trip
from pyfaas.errors import AlreadyInProgress, InvalidEvent, PayloadMismatch

if TYPE_CHECKING:
    from pyfaas._invoke.deferred import Deferred
    from pyfaas._pool.policy import Shelf

GRACE_SECONDS = 15.0  # beyond the time-out: for the wait for a permit, and the init


def run_once(
    later: Deferred, shelf: Shelf, payload: bytes, raw_id: bytes, go: Callable[[], Trip[Ending]]
) -> Trip[Ending]:
    """Run it, unless it has been. Raises AlreadyInProgress, PayloadMismatch, InvalidEvent and StoreUnavailable."""
    function = shelf.function
    rule, database = function.options.idempotency, later.database
    event = decode_event(payload)
    key = compile_key(rule.key)(event)
    if _is_missing(key):
        if rule.required:
            raise InvalidEvent(f"the event of {function.name!r} has no key: {rule.key} gives nothing")
        return (yield from go())
    digest = _digest([shelf.tenant, key])
    checked = b"" if rule.payload is None else _digest(compile_key(rule.payload)(event))
    lock = function.options.timeout + GRACE_SECONDS
    found = yield from database.write(
        lambda one: idempotent.begin(one, function.name, digest, checked, lock), durable=False
    )
    if found.state == idempotent.RUNNING:
        raise AlreadyInProgress(f"{function.name!r} runs with this key already: {_short(key)}")
    if found.state == idempotent.OTHER:
        raise PayloadMismatch(f"{function.name!r} was run with this key and another {rule.payload}: {_short(key)}")
    if found.state == idempotent.DONE:
        facts = Facts(raw_id, function.name, function.options.memory)
        value = found.value or b"null"
        return Ending(decode_event(value), value, None, facts)
    done = False
    try:
        ending = yield from go()
        done = ending.error is None
    finally:
        if not done:
            database.put(lambda one: idempotent.release(one, function.name, digest), durable=False)
    if not done:
        return ending
    value = ending.payload or json.dumps(ending.value).encode()
    yield from database.write(lambda one: idempotent.finish(one, function.name, digest, checked, value, rule.expires))
    return ending


def _is_missing(key: Any) -> bool:
    """As in Powertools: nothing, and a list of nothing, is no key."""
    return key is None or (isinstance(key, list) and all(one is None for one in key))


def _digest(value: Any) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _short(key: Any) -> str:
    text = json.dumps(key)
    return text if len(text) <= 100 else f"{text[:97]}..."
