"""Streams: ``stream("clicks")`` names one; its records stay for a day, and each function reads them for itself."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from pyfaas import _port, limits
from pyfaas.errors import PayloadTooLarge
from pyfaas.options import refuse, seconds, whole
from pyfaas.resources.handles import has_surrogate, text_of
from pyfaas.resources.recorded import Recorded


class Putting(NamedTuple):
    """A record for a stream: its key, and what it says."""

    key: str
    data: bytes


class Stream(Recorded):
    """A stream; see ``stream``."""

    kind = "stream"

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
