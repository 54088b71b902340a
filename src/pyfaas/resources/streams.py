"""Streams: ``stream("clicks")`` names one; its records stay for a day, and each function reads them for itself."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from pyfaas import _port, limits
from pyfaas.errors import PayloadTooLarge
from pyfaas.options import Check, check_each, flag, refuse, seconds, whole
from pyfaas.resources.handles import Handle, has_surrogate, text_of
from pyfaas.resources.queues import Queue
from pyfaas.resources.topics import Topic
from pyfaas.triggers import StreamTrigger, checked_filters


class Putting(NamedTuple):
    """A record for a stream: its key, and what it says."""

    key: str
    data: bytes


class Stream(Handle):
    """A stream; see ``stream``."""

    kind = "stream"
    shards: int
    retention: float

    def put(self, data: Any, *, key: str | None = None) -> str:
        """
        Put a record at the end of the stream, and give its sequence number.

        - ``data``: bytes or text, or anything that JSON can hold, which is then written as JSON; up to 1 MB
        - ``key``: 1 to 256 characters (AWS: PartitionKey); records of one key are read in their order. None: any

        Raises ConfigurationError, InvalidEvent, PayloadTooLarge and StoreUnavailable.
        """
        return _port.current().send(self, [_putting(data, key)])[0]  # type: ignore[no-any-return]

    async def aput(self, data: Any, *, key: str | None = None) -> str:
        """Do the same from async code."""
        return (await _port.current().asend(self, [_putting(data, key)]))[0]  # type: ignore[no-any-return]

    def put_many(self, records: Iterable[Any], *, key: Callable[[Any], str] | None = None) -> list[str]:
        """Put several, all or none of them; ``key`` makes one of each of them. Give their sequence numbers."""
        return _port.current().send(self, [_putting(one, key and key(one)) for one in records])  # type: ignore[no-any-return]

    async def aput_many(self, records: Iterable[Any], *, key: Callable[[Any], str] | None = None) -> list[str]:
        """Do the same from async code."""
        return await _port.current().asend(self, [_putting(one, key and key(one)) for one in records])  # type: ignore[no-any-return]

    @staticmethod
    def told(what: list[Putting]) -> list[list[str]]:
        """Write down what is to be put."""
        return [[one.key, base64.b64encode(one.data).decode()] for one in what]

    def heard(self, told: Any) -> list[Putting]:
        """Read it again."""
        if not isinstance(told, list):
            raise refuse("records", told, "a list")
        return [_putting(base64.b64decode(data), key) for key, data in told]

    def records(
        self,
        size: int = 100,
        *,
        window: float = 0.0,
        start: str | datetime = "trim_horizon",
        parallelization: int = 1,
        bisect: bool = False,
        retries: int | None = None,
        max_record_age: float | None = None,
        report_failures: bool = False,
        filters: Sequence[Any] = (),
        tumbling_window: int = 0,
        on_failure: Queue | Topic | None = None,
    ) -> StreamTrigger:
        """
        Make a trigger: the function gets records in batches, ``{"Records": [...]}`` as of Kinesis.

        Of each shard it gets one batch after the other. One with which it fails comes back at once, then after 0.5 s,
        1 s and so on up to a minute, and what is behind it in the shard waits.

        - ``size``: up to so many records, 1 to 10,000 (AWS: BatchSize)
        - ``window``: seconds to wait for a batch to fill, 0 to 300 (AWS: MaximumBatchingWindowInSeconds)
        - ``start``: where a function begins that has not read the stream before: ``"trim_horizon"`` with the oldest
          record, ``"latest"`` after the newest, a datetime with a time zone: with those since (AWS: StartingPosition)
        - ``parallelization``: so many batches of a shard at once, 1 to 10, those of one key in their order
          (AWS: ParallelizationFactor)
        - ``bisect``: a batch that fails is split in two, which uses up no retry (AWS: BisectBatchOnFunctionError)
        - ``retries``: after so many a batch is given up, 0 to 10,000; None: when its records are too old
          (AWS: MaximumRetryAttempts)
        - ``max_record_age``: records that are older are given up, 60 to 604,800 seconds; None: those that the stream
          does not keep any more (AWS: MaximumRecordAgeInSeconds)
        - ``report_failures``: the function may return ``{"batchItemFailures": [{"itemIdentifier": sequenceNumber}]}``,
          and what is before the first of them is done (AWS: ReportBatchItemFailures)
        - ``filters``: up to 10 patterns; records that fit none of them are passed over
        - ``tumbling_window``: seconds, 1 to 900: the function gets, and returns, a ``state`` for the records of each
          such time (AWS: TumblingWindowInSeconds)
        - ``on_failure``: a queue or topic that is told which records were given up (AWS: DestinationConfig)

        Raises ConfigurationError.
        """
        given: dict[str, Any] = {
            "size": size,
            "window": window,
            "start": start,
            "parallelization": parallelization,
            "bisect": bisect,
            "retries": retries,
            "max_record_age": max_record_age,
            "report_failures": report_failures,
            "tumbling_window": tumbling_window,
            "on_failure": on_failure,
        }
        check_each(_TRIGGER_CHECKS, given)
        if tumbling_window and parallelization > 1:
            raise refuse("parallelization", parallelization, "1 with a tumbling_window: its state is that of a shard")
        return StreamTrigger(self, filters=checked_filters(filters), **given)

    def as_trigger(self) -> StreamTrigger:
        """What ``trigger=clicks`` means."""
        return self.records()

    def statistics(self) -> Any:
        """Count its ``records``, and its ``shards``: those that are written to, and those that still hold some."""
        return _port.current().ask(self, "count")


def stream(name: str, *, shards: int = 1, retention: float = 86_400.0) -> Stream:
    """
    Name a stream: a handle to put records in, and a trigger (``trigger=clicks`` is ``clicks.records()``).

    - ``shards``: parts that are read side by side, 1 to 1,000; a key belongs to one of them. When a runtime is opened
      in which it is another number, what is put from then on is in new ones, which are read after the old ones
    - ``retention``: seconds for which a record is kept, read or not, 60 to 31,536,000 (AWS: 24 hours at least)

    Raises ConfigurationError.
    """
    whole(1, limits.SHARDS)("shards", shards)
    seconds(*limits.STREAM_RETENTION_SECONDS)("retention", retention)
    return Stream(name, shards=shards, retention=float(retention))


def _putting(data: Any, key: Any) -> Putting:
    if key is None:
        key = os.urandom(8).hex()
    if not isinstance(key, str) or not 0 < len(key) <= 256 or has_surrogate(key):
        raise refuse("key", key, "text of 1 to 256 characters, or None")
    raw = data if isinstance(data, bytes) else text_of("data", data).encode()
    if len(raw) > limits.MESSAGE_BYTES:
        raise PayloadTooLarge(f"the record has {len(raw):,} bytes: at most {limits.MESSAGE_BYTES:,}")
    return Putting(key, raw)


def _check_start(field: str, value: Any) -> None:
    is_moment = isinstance(value, datetime) and value.tzinfo is not None
    if not is_moment and value not in ("trim_horizon", "latest"):
        raise refuse(field, value, "'trim_horizon', 'latest' or a datetime with a time zone")


def _check_on_failure(field: str, value: Any) -> None:
    if value is not None and (not isinstance(value, (Queue, Topic)) or getattr(value, "fifo", False)):
        raise refuse(field, value, "a queue with fifo=False, a topic, or None")


_TRIGGER_CHECKS: dict[str, Check] = {
    "size": whole(1, limits.BATCH),
    "window": seconds(0, limits.BATCH_WINDOW_SECONDS),
    "start": _check_start,
    "parallelization": whole(1, limits.LANES),
    "bisect": flag,
    "retries": whole(0, limits.STREAM_RETRIES, optional=True),
    "max_record_age": seconds(*limits.RECORD_AGE_SECONDS, optional=True),
    "report_failures": flag,
    "tumbling_window": whole(0, limits.TUMBLING_SECONDS),
    "on_failure": _check_on_failure,
}
