"""What streams and tables have in common: records that stay for a while, and that each function reads for itself."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pyfaas import _port, limits
from pyfaas.options import Check, check_each, flag, refuse, seconds, whole
from pyfaas.resources.handles import Handle
from pyfaas.resources.queues import Queue
from pyfaas.resources.topics import Topic
from pyfaas.triggers import StreamTrigger, checked_filters


class Recorded(Handle):
    """A stream or a table."""

    shards: int
    retention: float

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
        Make a trigger: the function gets records in batches, ``{"Records": [...]}`` as of Kinesis, or of DynamoDB.

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
