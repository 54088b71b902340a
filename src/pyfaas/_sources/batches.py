"""
Batches and what a function says of them, by the rules of AWS's event source mappings.  (pure)

    cut(records, size)           batches of at most so many records, and of what an event may hold
    failed(response, ids)        which of a batch come back, of what its function returned
    Filters(patterns).fits(...)  whether a message is for the function
    Pollers                      how many batches at once
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from pyfaas import limits
from pyfaas._language.patterns import compile_pattern

T = TypeVar("T")

FIRST_POLLERS = 5
MORE_POLLERS = 5.0  # a second: 300 a minute
MOST_POLLERS = 1_250
IDLE_POLLERS = 2
_HEAD = b'{"Records":['

NO_RECORDS, OK, FAILED = "No records processed", "OK", "PROBLEM: Function call failed"  # AWS's words


class Batch(NamedTuple):
    """What goes into one event: the items, and the event."""

    items: list[Any]
    payload: bytes


def cut(items: Iterable[tuple[T, bytes]], size: int, beside: bytes = b"") -> Iterator[Batch]:
    """
    Make events of records (their JSON), in their order: up to ``size`` in each, and up to 6 MB.

    ``beside``: JSON of what each event says besides.
    """
    batch: list[tuple[T, bytes]] = []
    length = 0
    tail = b"]" + (b"," + beside[1:-1] if beside else b"") + b"}"
    most = limits.REQUEST_BYTES - len(_HEAD) - len(tail)
    for item, record in items:
        if batch and (len(batch) == size or length + 1 + len(record) > most):
            yield _joined(batch, tail)
            batch, length = [], 0
        batch.append((item, record))
        length += len(record) + 1
    if batch:
        yield _joined(batch, tail)


def _joined(batch: list[tuple[T, bytes]], tail: bytes) -> Batch:
    return Batch([item for item, _ in batch], _HEAD + b",".join(record for _, record in batch) + tail)


def failed(response: Any, ids: Sequence[str]) -> set[str] | None:
    """
    Tell which of a batch its function reports as failed; None where all of it counts as failed.

    Nothing, null, ``{}`` and an empty list mean success. An entry without an identifier, with an empty one, or with one
    that is not in the batch fails all of it, as in AWS.
    """
    if response is None or response == "":
        return set()
    if not isinstance(response, dict):
        return None
    entries = response.get("batchItemFailures")
    if entries is None or entries == []:
        return set()
    if not isinstance(entries, list):
        return None
    named = [str(entry.get("itemIdentifier")) if isinstance(entry, dict) else "" for entry in entries]
    return set(named) if all(one in ids for one in named) else None


class Filters:
    """
    Patterns of which a message must fit one; without any, all do.

    ``key``: of what stands there as text, and is meant as JSON by a pattern that has an object there; "" without one.
    """

    def __init__(self, patterns: Iterable[str], key: str = "") -> None:
        self._key = key
        self._patterns = [(compile_pattern(text), bool(key) and _wants_object(text, key)) for text in patterns]

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def fits(self, record: dict[str, Any], data: str | bytes) -> bool:
        """Tell whether a record is wanted; ``data`` is what stands under the key, as it came."""
        if not self._key:
            return any(pattern.matches(record) for pattern, _ in self._patterns) or not self._patterns
        parsed = _parsed(data)
        text = data if isinstance(data, str) else data.decode("utf-8", "replace")
        for pattern, wants_object in self._patterns:
            if wants_object and not isinstance(parsed, dict):
                continue  # of another form: dropped
            if pattern.matches({**record, self._key: parsed if wants_object else text}):
                return True
        return not self._patterns


def _wants_object(text: str, key: str) -> bool:
    return isinstance(json.loads(text).get(key), dict)


def _parsed(data: str | bytes) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None


class Pollers:
    """
    How many batches of a queue may be worked on at once.

    It begins with 5, and while all of them are busy there are 5 more a second, up to 1,250, as in AWS. A batch that
    fails halves them: more of them would fail faster.
    """

    def __init__(self, most: int | None) -> None:
        self.most = MOST_POLLERS if most is None else most
        self._now = float(min(FIRST_POLLERS, self.most))
        self._grown_at: float | None = None

    def allowed(self, now: float, busy: int) -> int:
        """Tell how many there may be, of which so many are busy."""
        if busy < int(self._now):
            self._grown_at = None
        elif self._grown_at is None:
            self._grown_at = now
        else:
            self._now = min(self._now + (now - self._grown_at) * MORE_POLLERS, self.most)
            self._grown_at = now
        return int(self._now)

    def more_at(self, now: float) -> float:
        """Tell when there will be one more, if all stay busy."""
        return now + 1.0 / MORE_POLLERS if self._now < self.most else float("inf")

    def back_off(self) -> None:
        """A batch has failed."""
        self._now = max(self._now / 2, float(min(IDLE_POLLERS, self.most)))
        self._grown_at = None
