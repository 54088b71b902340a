"""Functions that write down what they get, and what reads it again. Imported by sandboxes: without pytest."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

from handlers import PLACE
from pyfaas import Function, function
from support import wait_until

REPORT, COUNT = "report", "count"


def recorder(file: Path, reply: Any = None, **options: Any) -> Function[Any, Any]:
    """
    Declare a function that writes each event into a file, a line each.

    It fails where a record's body is ``fail``; with ``reply=REPORT`` it reports the records whose bodies begin with
    ``bad``, and else it returns ``reply``.
    """
    where = str(file)

    def handler(event: Any) -> Any:
        return record(where, event, reply)

    return function(**{"name": f"record-{file.stem}", "writes": [PLACE], "timeout": 10, **options})(handler)


def record(file: str, event: Any, reply: Any) -> Any:
    lines = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(lines, json.dumps(event).encode() + b"\n")  # at once: others write too
    os.close(lines)
    records = event.get("Records", []) if isinstance(event, dict) else []
    if any(one.get("body") == "fail" for one in records):
        raise ValueError("as it was told to")
    if reply == REPORT:
        bad = [one["messageId"] for one in records if one["body"].startswith("bad")]
        return {"batchItemFailures": [{"itemIdentifier": one} for one in bad]}
    return reply


def events(file: Path) -> list[Any]:
    written, _, _ = file.read_text().rpartition("\n") if file.exists() else ("", "", "")
    return [json.loads(line) for line in written.splitlines()]


def bodies(file: Path) -> list[list[str]]:
    """Give the bodies of each batch."""
    return [[one["body"] for one in event["Records"]] for event in events(file)]


def flat(file: Path) -> list[str]:
    return [body for batch in bodies(file) for body in batch]


def wait_for(file: Path, count: int, seconds: float = 15.0) -> list[Any]:
    """Wait until so many events were written down, and give them."""
    wait_until(lambda: len(events(file)) >= count, seconds)
    return events(file)


def reader(file: Path, reply: Any = None, **options: Any) -> Function[Any, Any]:
    """
    Declare a function that writes each event of a stream into a file, its data as text.

    It fails where a record says ``fail``; with ``reply=REPORT`` it reports those that begin with ``bad``; with
    ``reply=COUNT`` it counts them in the state of a window; else it returns ``reply``.
    """
    where = str(file)

    def handler(event: Any) -> Any:
        return read(where, event, reply)

    return function(**{"name": f"read-{file.stem}", "writes": [PLACE], "timeout": 10, **options})(handler)


def read(file: str, event: Any, reply: Any) -> Any:
    data = [base64.b64decode(one["kinesis"]["data"]).decode() for one in event["Records"]]
    lines = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(lines, json.dumps({**event, "data": data}).encode() + b"\n")
    os.close(lines)
    if "fail" in data:
        raise ValueError("as it was told to")
    if reply == REPORT:
        bad = [one["kinesis"]["sequenceNumber"] for one, text in zip(event["Records"], data) if text.startswith("bad")]  # noqa: B905 - 3.10
        return {"batchItemFailures": [{"itemIdentifier": one} for one in bad]}
    if reply == COUNT:
        return {"state": {"count": event["state"].get("count", 0) + len(data)}}
    return reply


def batches(file: Path) -> list[list[str]]:
    """Give what each event of a stream said, in the order in which they came."""
    return [event["data"] for event in events(file)]


def read_flat(file: Path) -> list[str]:
    return [text for batch in batches(file) for text in batch]
