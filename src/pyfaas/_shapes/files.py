"""Changes of a bucket's files in the form of S3's notifications.  (pure)"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote_plus

from pyfaas._shapes import moment
from pyfaas.context import REGION

CREATED, REMOVED = "ObjectCreated:Put", "ObjectRemoved:Delete"
NAMES = (CREATED, REMOVED)


def file_event(bucket: str, changes: list[dict[str, Any]], configuration: str, *, at: float) -> dict[str, Any]:
    """
    Make the event of changes of a bucket's files.

    Each has its ``name``, ``key`` (bytes), ``sequencer`` and ``version``, and if it was created ``size`` and ``etag``.
    """
    return {"Records": [_record(bucket, one, configuration, at) for one in changes]}


def encoded(key: bytes) -> str:
    """Write a key as it is in an event: as in a form's fields."""
    return quote_plus(key, safe="/")


def _record(bucket: str, change: dict[str, Any], configuration: str, at: float) -> dict[str, Any]:
    told: dict[str, Any] = {"key": encoded(change["key"])}
    if change["name"] == CREATED:
        told |= {"size": change["size"], "eTag": change["etag"]}
    told |= {"versionId": change["version"], "sequencer": f"{change['sequencer']:016X}"}
    return {
        "eventVersion": "2.6",
        "eventSource": "aws:s3",
        "awsRegion": REGION,
        "eventTime": moment(at),
        "eventName": change["name"],
        "userIdentity": {"principalId": "local"},
        "requestParameters": {"sourceIPAddress": "127.0.0.1"},
        "responseElements": {"x-amz-request-id": f"{change['sequencer']:016X}", "x-amz-id-2": "local"},
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": configuration,
            "bucket": {"name": bucket, "ownerIdentity": {"principalId": "local"}, "arn": f"arn:aws:s3:::{bucket}"},
            "object": told,
        },
    }
