"""Events are read by the parsers that people use for AWS's."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from aws_lambda_powertools.utilities.data_classes import EventBridgeEvent, SNSEvent, SQSEvent

from pyfaas import _shapes

ATTRIBUTES: dict[str, str | int | float | bytes] = {"kind": "new", "n": 5, "half": 0.5, "raw": b"\x00\xff"}


def sqs(**given: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "message_id": "id",
        "receipt_handle": "handle",
        "body": '{"a": 1}',
        "sent_at": 1_800_000_000.25,
        "first_received_at": 1_800_000_001.0,
        "receives": 3,
        "attributes": _shapes.typed(ATTRIBUTES),
    }
    return _shapes.sqs_record("orders", **{**told, **given})


def test_an_sqs_event_passes_the_parser_of_powertools() -> None:
    (record,) = SQSEvent({"Records": [sqs()]}).records
    assert record.message_id == "id"
    assert record.receipt_handle == "handle"
    assert record.json_body == {"a": 1}
    assert record.attributes.approximate_receive_count == "3"
    assert record.attributes.sent_timestamp == "1800000000250"
    assert record.attributes.approximate_first_receive_timestamp == "1800000001000"
    assert record.attributes.dead_letter_queue_source_arn is None
    assert record.queue_url == "https://sqs.us-east-1.amazonaws.com/000000000000/orders"
    attribute = record.message_attributes["n"]
    assert attribute is not None
    assert (attribute.data_type, attribute.string_value) == ("Number", "5")


def test_a_fifo_record_passes_it_too() -> None:
    fifo = {"SequenceNumber": "1", "MessageGroupId": "g", "MessageDeduplicationId": "d"}
    (record,) = SQSEvent({"Records": [sqs(fifo=fifo, dead_letter_of="first")]}).records
    told = record.attributes
    assert (told.sequence_number, told.message_group_id, told.message_deduplication_id) == ("1", "g", "d")
    assert told.dead_letter_queue_source_arn == "arn:aws:sqs:us-east-1:000000000000:first"


def test_digests_are_those_of_sqs() -> None:
    """Each name, type and value with its length before it, in the order of names, as SQS documents it."""
    encoded = b""
    for name, kind, transport, value in (
        ("half", "Number", 1, b"0.5"),
        ("kind", "String", 1, b"new"),
        ("n", "Number", 1, b"5"),
        ("raw", "Binary", 2, b"\x00\xff"),
    ):
        encoded += len(name).to_bytes(4, "big") + name.encode() + len(kind).to_bytes(4, "big") + kind.encode()
        encoded += bytes([transport]) + len(value).to_bytes(4, "big") + value
    record = sqs()
    assert record["md5OfMessageAttributes"] == hashlib.md5(encoded).hexdigest()
    assert record["md5OfBody"] == hashlib.md5(b'{"a": 1}').hexdigest()


def test_an_sns_event_passes_the_parser_of_powertools() -> None:
    event = _shapes.sns_event(
        "receipts",
        "sub",
        message_id="id",
        message="hello",
        subject=None,
        attributes=_shapes.typed(ATTRIBUTES),
        at=1_800_000_000.5,
    )
    parsed = SNSEvent(event)
    assert parsed.sns_message == "hello"
    (record,) = parsed.records
    assert record.event_subscription_arn == "arn:aws:sns:us-east-1:000000000000:receipts:sub"
    assert record.sns.message_id == "id"
    assert record.sns.subject is None
    assert record.sns.timestamp == "2027-01-15T08:00:00.500Z"
    assert record.sns.topic_arn == "arn:aws:sns:us-east-1:000000000000:receipts"
    assert record.sns.message_attributes["half"].value == "0.5"
    assert record.sns.message_attributes["half"].get_type == "Number"
    assert record.sns.signing_cert_url
    assert record.sns.unsubscribe_url


def test_an_sns_message_in_an_sqs_event_is_found_by_powertools() -> None:
    import json

    note = _shapes.sns_notification(
        "receipts", "sub", message_id="id", message="hello", subject="s", attributes={}, at=1_800_000_000.5
    )
    (record,) = SQSEvent({"Records": [sqs(body=json.dumps(note))]}).records
    nested = record.decoded_nested_sns_event
    assert (nested.message, nested.subject, nested.message_id) == ("hello", "s", "id")


@pytest.mark.parametrize("kind", ["bus", "schedule"])
def test_an_eventbridge_event_passes_the_parser_of_powertools(kind: str) -> None:
    if kind == "bus":
        event = _shapes.bus_event(
            event_id="id", source="till", detail_type="Sold", detail={"a": 1}, resources=["r"], at=1_800_000_000.0
        )
    else:
        event = _shapes.scheduled_event("tidy", event_id="id", at=1_800_000_000.0)
    parsed = EventBridgeEvent(event)
    assert parsed.get_id == "id"
    assert parsed.time == "2027-01-15T08:00:00Z"
    assert parsed.account == "000000000000"
    assert parsed.region == "us-east-1"
    assert parsed.version == "0"
    if kind == "bus":
        assert (parsed.source, parsed.detail_type, parsed.detail) == ("till", "Sold", {"a": 1})
        assert parsed.resources == ["r"]
    else:
        assert (parsed.source, parsed.detail_type) == ("aws.scheduler", "Scheduled Event")
        assert parsed.resources == ["arn:aws:scheduler:us-east-1:000000000000:schedule/default/tidy"]


@pytest.mark.parametrize(
    ("at", "told"),
    [(0.0, "1970-01-01T00:00:00.000Z"), (1.9996, "1970-01-01T00:00:01.999Z"), (1.5, "1970-01-01T00:00:01.500Z")],
)
def test_moments_have_milliseconds(at: float, told: str) -> None:
    assert _shapes.moment(at) == told
