"""
What events look like, key for key as in AWS, whose spellings these are.  (pure)

    sqs_record, sns_event, bus_event ...      what handlers get
    destination_record, sns_notification      what queues, topics and buses get
    typed(attributes)                         message attributes as they are kept: {name: [type, text]}
"""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any

from pyfaas.context import ACCOUNT, REGION, function_arn

Typed = Mapping[str, "list[str]"]


def arn(kind: str, name: str) -> str:
    """Name a local resource as AWS would, such as ``arn("sqs", "orders")``."""
    return f"arn:aws:{kind}:{REGION}:{ACCOUNT}:{name}"


@lru_cache(maxsize=16)  # what comes together has one
def moment(at: float) -> str:
    """Write seconds since 1970 as 2030-01-31T09:00:00.000Z."""
    return f"{_utc(at):%Y-%m-%dT%H:%M:%S}.{int(at * 1000) % 1000:03d}Z"


def whole_moment(at: float) -> str:
    """Write seconds since 1970 as 2030-01-31T09:00:00Z."""
    return f"{_utc(at):%Y-%m-%dT%H:%M:%S}Z"


def _utc(at: float) -> datetime:
    return datetime.fromtimestamp(at, timezone.utc)


# -- message attributes ------------------------------------------------------------------------------------------------


def typed(attributes: Mapping[str, str | int | float | bytes]) -> dict[str, list[str]]:
    """Give each attribute its type, and its value as text; binary ones in base64."""
    return {name: _typed(value) for name, value in attributes.items()}


def _typed(value: str | float | bytes) -> list[str]:
    if isinstance(value, bytes):
        return ["Binary", base64.b64encode(value).decode()]
    return ["String", value] if isinstance(value, str) else ["Number", str(value)]


def md5_of_attributes(attributes: Typed) -> str:
    """Digest message attributes as SQS does: names, types and values with their lengths, in the order of names."""
    digest = hashlib.md5(usedforsecurity=False)
    for name in sorted(attributes):
        kind, text = attributes[name]
        value = base64.b64decode(text) if kind == "Binary" else text.encode()
        for part in (name.encode(), kind.encode()):
            digest.update(struct.pack(">I", len(part)) + part)
        digest.update(bytes([2 if kind == "Binary" else 1]) + struct.pack(">I", len(value)) + value)
    return digest.hexdigest()


def _sqs_attributes(attributes: Typed) -> dict[str, Any]:
    return {
        name: {
            ("binaryValue" if kind == "Binary" else "stringValue"): text,
            "stringListValues": [],
            "binaryListValues": [],
            "dataType": kind,
        }
        for name, (kind, text) in attributes.items()
    }


def _sns_attributes(attributes: Typed) -> dict[str, Any]:
    return {name: {"Type": kind, "Value": text} for name, (kind, text) in attributes.items()}


# -- queues ------------------------------------------------------------------------------------------------------------


def sqs_record(
    queue: str,
    *,
    message_id: str,
    receipt_handle: str,
    body: str,
    sent_at: float,
    first_received_at: float,
    receives: int,
    attributes: Typed,
    fifo: Mapping[str, str] | None = None,
    dead_letter_of: str | None = None,
) -> dict[str, Any]:
    """
    Make one of the ``Records`` of an SQS event.

    ``fifo``: SequenceNumber, MessageGroupId and MessageDeduplicationId of a message of a FIFO queue;
    ``dead_letter_of``: the queue that it was moved here from.
    """
    told = {
        "ApproximateReceiveCount": str(receives),
        "SentTimestamp": str(int(sent_at * 1000)),
        "SenderId": ACCOUNT,
        "ApproximateFirstReceiveTimestamp": str(int(first_received_at * 1000)),
    }
    if fifo is not None:
        told.update(fifo)
    if dead_letter_of is not None:
        told["DeadLetterQueueSourceArn"] = arn("sqs", dead_letter_of)
    record = {
        "messageId": message_id,
        "receiptHandle": receipt_handle,
        "body": body,
        "attributes": told,
        "messageAttributes": {},
        "md5OfBody": hashlib.md5(body.encode(), usedforsecurity=False).hexdigest(),
        "eventSource": "aws:sqs",
        "eventSourceARN": arn("sqs", queue),
        "awsRegion": REGION,
    }
    if attributes:
        record["messageAttributes"] = _sqs_attributes(attributes)
        record["md5OfMessageAttributes"] = md5_of_attributes(attributes)
    return record


# -- topics ------------------------------------------------------------------------------------------------------------


def sns_event(
    topic: str, subscription: str, *, message_id: str, message: str, subject: str | None, attributes: Typed, at: float
) -> dict[str, Any]:
    """Make the event that a topic hands to a function: always of one record."""
    told = _sns_message(topic, subscription, message_id, message, subject, attributes, at)
    record = {
        "EventSource": "aws:sns",
        "EventVersion": "1.0",
        "EventSubscriptionArn": told.pop("SubscriptionArn"),
        "Sns": told,
    }
    return {"Records": [record]}


def sns_notification(
    topic: str, subscription: str, *, message_id: str, message: str, subject: str | None, attributes: Typed, at: float
) -> dict[str, Any]:
    """Make the body of the message that a topic puts into a queue."""
    told = _sns_message(topic, subscription, message_id, message, subject, attributes, at)
    del told["SubscriptionArn"]
    for name in ("SigningCertUrl", "UnsubscribeUrl"):
        told[f"{name[:-3]}URL"] = told.pop(name)
    return {name: value for name, value in told.items() if value is not None and value != {}}


def subscription_arn(topic: str, subscription: str) -> str:
    """Name what connects a topic to a function or queue."""
    return f"{arn('sns', topic)}:{subscription}"


def _sns_message(
    topic: str, subscription: str, message_id: str, message: str, subject: str | None, attributes: Typed, at: float
) -> dict[str, Any]:
    # Nothing here is signed: the message never left this machine. The keys are there because parsers ask for them.
    to = subscription_arn(topic, subscription)
    return {
        "SubscriptionArn": to,
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": arn("sns", topic),
        "Subject": subject,
        "Message": message,
        "Timestamp": moment(at),
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertUrl": f"https://sns.{REGION}.amazonaws.com/unsigned.pem",
        "UnsubscribeUrl": f"https://sns.{REGION}.amazonaws.com/?Action=Unsubscribe&SubscriptionArn={to}",
        "MessageAttributes": _sns_attributes(attributes),
    }


# -- streams -----------------------------------------------------------------------------------------------------------


def shard_id(number: int) -> str:
    """Name a shard of a stream."""
    return f"shardId-{number:012d}"


def sequence_number(number: int) -> str:
    """Number a record of a stream, or a message of a FIFO queue: later ones have greater ones, as texts too."""
    return f"{number:020d}"


def stream_arn(stream: str) -> str:
    """Name a stream as AWS would."""
    return arn("kinesis", f"stream/{stream}")


def kinesis_record(stream: str, *, shard: str, sequence: str, key: str, data: bytes, at: float) -> dict[str, Any]:
    """Make one of the ``Records`` of a Kinesis event."""
    return {
        "kinesis": {
            "kinesisSchemaVersion": "1.0",
            "partitionKey": key,
            "sequenceNumber": sequence,
            "data": base64.b64encode(data).decode(),
            "approximateArrivalTimestamp": round(at, 3),
        },
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{shard}:{sequence}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": f"arn:aws:iam::{ACCOUNT}:role/lambda",
        "awsRegion": REGION,
        "eventSourceARN": stream_arn(stream),
    }


def tumbling_fields(
    arn: str, *, shard: str, begins_at: float, ends_at: float, state: Any, is_final: bool, is_early: bool
) -> dict[str, Any]:
    """Make what an event has beside its ``Records`` where there is a tumbling window; ``arn``: of the stream."""
    return {
        "window": {"start": whole_moment(begins_at), "end": whole_moment(ends_at)},
        "state": state,
        "shardId": shard,
        "eventSourceARN": arn,
        "isFinalInvokeForWindow": is_final,
        "isWindowTerminatedEarly": is_early,
    }


def given_up_record(
    *,
    function: str,
    request_id: str,
    condition: str,
    attempts: int,
    error: str | None,
    arn: str,
    info: str,
    shard: str,
    sequences: tuple[str, str],
    arrivals: tuple[float, float],
    size: int,
    at: float,
) -> dict[str, Any]:
    """
    Make what is told of records of a stream that were given up: which they are, not what they hold.

    ``error``: ``"Unhandled"``, None where its function reported them; ``arn``: of the stream; ``info``: the key under
    which they stand; ``sequences``, ``arrivals``: of the first and the last one.
    """
    record: dict[str, Any] = {
        "requestContext": {
            "requestId": request_id,
            "functionArn": function_arn(function),
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "version": "1.0",
        "timestamp": moment(at),
        info: {
            "shardId": shard,
            "startSequenceNumber": sequences[0],
            "endSequenceNumber": sequences[1],
            "approximateArrivalOfFirstRecord": moment(arrivals[0]),
            "approximateArrivalOfLastRecord": moment(arrivals[1]),
            "batchSize": size,
            "streamArn": arn,
        },
    }
    if attempts:
        record["responseContext"] = {"statusCode": 200, "executedVersion": "$LATEST", "functionError": error}
    return record


# -- buses and schedules -----------------------------------------------------------------------------------------------


def bus_event(
    *, event_id: str, source: str, detail_type: str, detail: Any, resources: list[str], at: float
) -> dict[str, Any]:
    """Make the envelope of an event on a bus."""
    return {
        "version": "0",
        "id": event_id,
        "detail-type": detail_type,
        "source": source,
        "account": ACCOUNT,
        "time": whole_moment(at),
        "region": REGION,
        "resources": resources,
        "detail": detail,
    }


def schedule_arn(schedule: str) -> str:
    """Name a schedule as AWS would."""
    return arn("scheduler", f"schedule/default/{schedule}")


def scheduled_event(schedule: str, *, event_id: str, at: float) -> dict[str, Any]:
    """Make the event of a schedule that was given no other."""
    return bus_event(
        event_id=event_id,
        source="aws.scheduler",
        detail_type="Scheduled Event",
        detail="{}",
        resources=[schedule_arn(schedule)],
        at=at,
    )


# -- what became of an asynchronous invocation -------------------------------------------------------------------------


def destination_record(
    *,
    function: str,
    request_id: str,
    condition: str,
    attempts: int,
    event: Any,
    at: float,
    response: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """
    Make what a destination gets.

    ``response``: what the last attempt gave, ``{"responsePayload": ...}``, with ``"functionError"`` of one that failed;
    None where there was no attempt.
    """
    record: dict[str, Any] = {
        "version": "1.0",
        "timestamp": moment(at),
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"{function_arn(function)}:$LATEST",
            "condition": condition,
            "approximateInvokeCount": attempts,
        },
        "requestPayload": event,
    }
    if response is not None:
        context = {"statusCode": 200, "executedVersion": "$LATEST"}
        if "functionError" in response:
            context["functionError"] = response["functionError"]
        record["responseContext"] = context
        record["responsePayload"] = response["responsePayload"]
    return record
