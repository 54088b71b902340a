"""In which dress the records of a log reach a function: Kinesis's for those of a stream, DynamoDB's for a table's."""

from __future__ import annotations

import json
from typing import Any

from pyfaas import _shapes
from pyfaas._shapes import rows
from pyfaas._sources.batches import Filters
from pyfaas._stores.log import Lane, Record
from pyfaas.triggers import StreamTrigger


class KinesisDress:
    """
    For records of a stream.

    ``arn`` names it in events; ``info`` is the key under which it is told which records were given up.
    """

    info = "KinesisBatchInfo"

    def __init__(self, trigger: StreamTrigger) -> None:
        self.arn = _shapes.stream_arn(trigger.stream.name)
        self._name = trigger.stream.name
        self._filters = Filters(trigger.filters, "data")

    def record(self, lane: Lane, record: Record) -> dict[str, Any] | None:
        """Give a record as it is in an event; None if a filter passes it over."""
        told = _shapes.kinesis_record(
            self._name,
            shard=_shapes.shard_id(lane.number),
            sequence=_shapes.sequence_number(record.id),
            key=record.key,
            data=record.data,
            at=record.at,
        )
        return told if not self._filters or self._filters.fits(told["kinesis"], record.data) else None


class TableDress:
    """For changes of a table."""

    info = "DDBStreamBatchInfo"

    def __init__(self, trigger: StreamTrigger) -> None:
        self.arn = rows.table_arn(trigger.stream.name)
        self._name = trigger.stream.name
        self._view = trigger.stream.view
        self._filters = Filters(trigger.filters)

    def record(self, lane: Lane, record: Record) -> dict[str, Any] | None:  # noqa: ARG002 - as that of a stream
        """Give a record as it is in an event; None if a filter passes it over."""
        change = json.loads(record.data)
        sequence = _shapes.sequence_number(record.id)
        told = rows.row_record(self._name, sequence=sequence, change=change, at=change["at"], view=self._view)
        return told if self._filters.fits(told, "") else None
