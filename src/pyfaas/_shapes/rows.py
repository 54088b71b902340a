"""Changes of a table's rows in the form of DynamoDB's streams.  (pure)"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping
from typing import Any

from pyfaas._shapes import arn
from pyfaas.context import REGION

IMAGES = {
    "new_and_old_images": ("NewImage", "OldImage"),
    "new_image": ("NewImage",),
    "old_image": ("OldImage",),
    "keys_only": (),
}


def attribute(value: Any) -> dict[str, Any]:
    """Write a value of SQLite as DynamoDB has it: numbers are texts, bytes are in base64."""
    if value is None:
        return {"NULL": True}
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bytes):
        return {"B": base64.b64encode(value).decode()}
    if isinstance(value, float) and math.isinf(value):
        return {"N": "Infinity" if value > 0 else "-Infinity"}  # DynamoDB has no such number, SQLite has
    return {"N": repr(value)}


def image(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Write a row."""
    return {name: attribute(value) for name, value in columns.items()}


def table_arn(table: str) -> str:
    """Name the stream of a table's changes."""
    return arn("dynamodb", f"table/{table}/stream/2015-01-01T00:00:00.000")


def row_record(table: str, *, sequence: str, change: Mapping[str, Any], at: float, view: str) -> dict[str, Any]:
    """
    Make one of the ``Records`` of a DynamoDB event.

    ``change``: its ``eventName``, ``Keys``, and the images that there are; ``at``: seconds since 1970.
    """
    told = {"Keys": change["Keys"], **{name: change[name] for name in IMAGES[view] if name in change}}
    return {
        "eventID": f"{int(sequence):032x}"[-32:],
        "eventName": change["eventName"],
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": REGION,
        "dynamodb": {
            "ApproximateCreationDateTime": int(at),
            **told,
            "SequenceNumber": sequence,
            "SizeBytes": len(json.dumps(told)),
            "StreamViewType": view.upper(),
        },
        "eventSourceARN": table_arn(table),
    }
