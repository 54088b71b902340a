"""Events are as in tests/golden, and the parsers that people use for AWS's read those."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest
from aws_lambda_powertools.utilities.data_classes import (
    AWSConfigRuleEvent,
    CloudWatchAlarmEvent,
    DynamoDBStreamEvent,
    EventBridgeEvent,
    KinesisStreamEvent,
    S3Event,
    SNSEvent,
    SQSEvent,
)
from aws_lambda_powertools.utilities.data_classes import cognito_user_pool_event as cognito
from aws_lambda_powertools.utilities.data_classes.api_gateway_authorizer_event import (
    APIGatewayAuthorizerEventV2,
    APIGatewayAuthorizerRequestEvent,
    APIGatewayAuthorizerTokenEvent,
)
from aws_lambda_powertools.utilities.parser import models

from pyfaas import _shapes
from pyfaas._shapes import alarms, files, rows
from pyfaas._sources.auth import hooks
from pyfaas._sources.http import authorizers, messages
from pyfaas._sources.http.answers import Response
from pyfaas._sources.http.edges import cf_event
from pyfaas._sources.http.events import Request, version_1, version_2
from pyfaas.doors import edge

GOLDEN = Path(__file__).parent / "golden"
ATTRIBUTES: dict[str, str | int | float | bytes] = {"kind": "new", "n": 5, "half": 0.5, "raw": b"\x00\xff"}
ID = "0f0e0d0c-0b0a-4908-8706-050403020100"
AT = 1_800_000_000.25


def sqs(**given: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "message_id": ID,
        "receipt_handle": "handle",
        "body": '{"a": 1}',
        "sent_at": AT,
        "first_received_at": AT + 0.75,
        "receives": 3,
        "attributes": {},
    }
    return _shapes.sqs_record("orders", **{**told, **given})


def sns(make: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    told = {"message_id": ID, "message": "hello", "subject": "Hello", "at": AT}
    return make("receipts", "sub", attributes=_shapes.typed(ATTRIBUTES), **told)


def kinesis() -> dict[str, Any]:
    return _shapes.kinesis_record(
        "clicks",
        shard=_shapes.shard_id(3),
        sequence=_shapes.sequence_number(17),
        key="ada",
        data=b'{"a": 1}',
        at=AT,
    )


def change(kind: str, *, new: bool, old: bool, view: str) -> dict[str, Any]:
    row: dict[str, Any] = {"id": 7, "name": "a cup", "price": 1.5, "picture": "AP8=", "gone": None}
    told = {"eventName": kind, "Keys": rows.image({"id": 7})}
    told |= {"NewImage": rows.image({**row, "price": 2.5})} if new else {}
    told |= {"OldImage": rows.image(row)} if old else {}
    return rows.row_record("stock", sequence=_shapes.sequence_number(17), change=told, at=AT, view=view)


def tumbling() -> dict[str, Any]:
    return _shapes.tumbling_fields(
        _shapes.stream_arn("clicks"),
        shard=_shapes.shard_id(3),
        begins_at=1_800_000_000.0,
        ends_at=1_800_000_030.0,
        state={"seen": 2},
        is_final=True,
        is_early=False,
    )


def ended(condition: str, response: dict[str, Any] | None) -> dict[str, Any]:
    return _shapes.destination_record(
        function="note", request_id=ID, condition=condition, attempts=3, event={"a": 1}, at=AT, response=response
    )


def given_up() -> dict[str, Any]:
    return _shapes.given_up_record(
        function="count",
        request_id=ID,
        condition="RetryAttemptsExhausted",
        attempts=3,
        error="Unhandled",
        arn=_shapes.stream_arn("clicks"),
        info="KinesisBatchInfo",
        shard=_shapes.shard_id(3),
        sequences=(_shapes.sequence_number(17), _shapes.sequence_number(19)),
        arrivals=(AT, AT + 1),
        size=2,
        at=AT + 2,
    )


def request() -> Request:
    headers = [
        ("host", "shop.example"),
        ("cookie", "a=1; b=2"),
        ("user-agent", "curl"),
        ("x-many", "1"),
        ("x-many", "2"),
    ]
    headers.append(("content-type", "application/json"))
    return Request("POST", "/orders/a%20b", "x=1&x=2", headers, b'{"a": 1}', "192.0.2.1", "HTTP/1.1", ID, AT)


CREATED = {
    "name": "ObjectCreated:Put",
    "key": "a b/ä.png".encode(),
    "size": 3,
    "etag": "0cc1",
    "sequencer": 17,
    "version": ID,
}
REMOVED = {"name": "ObjectRemoved:Delete", "key": b"old", "sequencer": 18, "version": ID}


def client() -> messages.Client:
    return messages.Client("L0SM9cOFvHcCIhw=", request(), AT - 1, {"principalId": "ada"})


# What each hook of sign-in is asked here, besides the user's attributes.
SESSION = [{"challengeName": "PASSWORD_VERIFIER", "challengeResult": True, "challengeMetadata": None}]
ASKED: dict[str, dict[str, Any]] = {
    "pre_sign_up": {"validation_data": {"invitation": "x"}, "client_metadata": {"page": "1"}},
    "post_confirmation": {"client_metadata": {"page": "1"}},
    "pre_authentication": {"validation_data": {"invitation": "x"}, "user_not_found": False},
    "post_authentication": {"new_device_used": True, "client_metadata": {"page": "1"}},
    "pre_token_generation": {
        "group_configuration": {"groupsToOverride": ["staff"], "iamRolesToOverride": [], "preferredRole": None},
        "client_metadata": {"page": "1"},
    },
    "define_auth_challenge": {"session": SESSION, "user_not_found": False},
    "create_auth_challenge": {"challenge_name": "CUSTOM_CHALLENGE", "session": SESSION, "user_not_found": False},
    "verify_auth_challenge_response": {
        "private_challenge_parameters": {"answer": "7"},
        "challenge_answer": "7",
        "user_not_found": False,
    },
    "user_migration": {"password": "secret", "validation_data": {"invitation": "x"}, "client_metadata": {}},
    "custom_message": {"code_parameter": "{####}", "username_parameter": "ada", "client_metadata": {"page": "1"}},
}


def signs_in(hook: str) -> Callable[[], dict[str, Any]]:
    return lambda: hooks.event_of(hook, "ada", {"email": "a@b.c"}, ASKED[hook], way=None, client_id="shop")


def authorizer_1() -> dict[str, Any]:
    return authorizers.request_event_1(request(), "POST /orders/{id}", {"id": "a b"}, "/orders/{id}", ["key"])


FIFO = {"SequenceNumber": _shapes.sequence_number(17), "MessageGroupId": "g", "MessageDeduplicationId": "d"}
FAILED = {"errorMessage": "no", "errorType": "ValueError", "requestId": ID, "stackTrace": []}
MADE: dict[str, Callable[[], dict[str, Any]]] = {
    "sqs": lambda: {"Records": [sqs()]},
    "sqs-attributes": lambda: {"Records": [sqs(attributes=_shapes.typed(ATTRIBUTES))]},
    "sqs-fifo-dead": lambda: {"Records": [sqs(fifo=FIFO, dead_letter_of="first")]},
    "sns": lambda: sns(_shapes.sns_event),
    "sqs-sns": lambda: {"Records": [sqs(body=json.dumps(sns(_shapes.sns_notification)))]},
    "bus": lambda: _shapes.bus_event(
        event_id=ID, source="till", detail_type="Sold", detail={"a": 1}, resources=["r"], at=AT
    ),
    "schedule": lambda: _shapes.scheduled_event("tidy", event_id=ID, at=AT),
    "kinesis": lambda: {"Records": [kinesis()]},
    "dynamodb": lambda: {
        "Records": [
            change("INSERT", new=True, old=False, view="new_image"),
            change("MODIFY", new=True, old=True, view="new_and_old_images"),
            change("REMOVE", new=False, old=True, view="old_image"),
            change("REMOVE", new=False, old=True, view="keys_only"),
        ]
    },
    "alarm": lambda: alarms.alarm_event(
        "failing",
        alarms.State("ALARM", "Threshold Crossed", {"version": "1.0", "recentDatapoints": [2.0]}, AT),
        alarms.State("OK", "", None, AT - 60),
        alarms.configuration("see the log", "Errors", {"FunctionName": "charge"}, "AWS/Lambda", 60, "Sum"),
    ),
    "config-rule": lambda: alarms.config_rule_event("rule", {"configurationItem": {}}, {"a": "b"}, token=ID, at=AT),
    "websocket-connect": lambda: messages.connect_event(client()),
    "websocket-message": lambda: messages.message_event(client(), "say", '{"a": 1}', request_id=ID, at=AT),
    "websocket-disconnect": lambda: messages.disconnect_event(client(), 1001, "gone", request_id=ID, at=AT),
    "edge-request": lambda: cf_event(edge("viewer-request", include_body=True), request(), None),
    "edge-response": lambda: cf_event(edge("origin-response"), request(), Response(200, [("x-a", "1")], b"")),
    "s3": lambda: files.file_event("uploads", [CREATED, REMOVED], "configuration", at=AT),
    "kinesis-tumbling": lambda: {"Records": [kinesis()], **tumbling()},
    "destination-success": lambda: ended("Success", {"responsePayload": 7}),
    "destination-failure": lambda: ended("RetriesExhausted", {"responsePayload": FAILED, "functionError": "Unhandled"}),
    "destination-expired": lambda: ended("EventAgeExceeded", None),
    "stream-given-up": given_up,
    "http-1": lambda: version_1(request(), "POST /orders/{id}", {"id": "a b"}, "/orders/{id}"),
    "http-2": lambda: version_2(request(), "POST /orders/{id}", {"id": "a b"}, {"lambda": {"user": "ada"}}),
    "authorizer-token": lambda: authorizers.token_event(request(), ["Bearer x"]),
    "authorizer-request-1": authorizer_1,
    "authorizer-request-2": lambda: authorizers.request_event_2(request(), "POST /o/{id}", {"id": "a b"}, ["key"]),
    **{f"auth-{hook}": signs_in(hook) for hook in ASKED},
}


def golden(name: str) -> Any:
    return json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.mark.parametrize("name", MADE)
def test_each_is_as_in_its_file(name: str) -> None:
    assert MADE[name]() == golden(name)


def test_there_is_no_file_of_which_nobody_knows() -> None:
    assert {one.stem for one in GOLDEN.iterdir()} == MADE.keys()


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("sqs", models.SqsModel),
        ("sqs-attributes", models.SqsModel),
        ("sqs-fifo-dead", models.SqsModel),
        ("sns", models.SnsModel),
        ("sqs-sns", models.SqsModel),
        ("bus", models.EventBridgeModel),
        ("kinesis", models.KinesisDataStreamModel),
        ("s3", models.S3Model),
        ("websocket-connect", models.APIGatewayWebSocketConnectEventModel),
        ("websocket-message", models.APIGatewayWebSocketMessageEventModel),
        ("websocket-disconnect", models.APIGatewayWebSocketDisconnectEventModel),
        ("dynamodb", models.DynamoDBStreamModel),
        ("http-1", models.APIGatewayProxyEventModel),
        ("http-2", models.APIGatewayProxyEventV2Model),
        ("kinesis-tumbling", models.KinesisDataStreamModel),
        ("authorizer-token", models.ApiGatewayAuthorizerToken),
        ("authorizer-request-1", models.ApiGatewayAuthorizerRequest),
        ("authorizer-request-2", models.ApiGatewayAuthorizerRequestV2),
        ("auth-pre_sign_up", models.CognitoPreSignupTriggerModel),
        ("auth-post_confirmation", models.CognitoPostConfirmationTriggerModel),
        ("auth-pre_authentication", models.CognitoPreAuthenticationTriggerModel),
        ("auth-post_authentication", models.CognitoPostAuthenticationTriggerModel),
        ("auth-pre_token_generation", models.CognitoPreTokenGenerationTriggerModelV1),
        ("auth-define_auth_challenge", models.CognitoDefineAuthChallengeTriggerModel),
        ("auth-create_auth_challenge", models.CognitoCreateAuthChallengeTriggerModel),
        # That of verify_auth_challenge_response wants the answer, which in what is asked is null, as AWS sends it.
        ("auth-user_migration", models.CognitoMigrateUserTriggerModel),
        ("auth-custom_message", models.CognitoCustomMessageTriggerModel),
    ],
)
def test_the_models_of_powertools_accept_it(name: str, model: Any) -> None:
    assert model.model_validate(golden(name))


def test_powertools_reads_what_an_sqs_event_says() -> None:
    (record,) = SQSEvent(golden("sqs-attributes")).records
    assert record.message_id == ID
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


def test_powertools_reads_what_a_fifo_record_says() -> None:
    (record,) = SQSEvent(golden("sqs-fifo-dead")).records
    told = record.attributes
    assert (told.sequence_number, told.message_group_id, told.message_deduplication_id) == (*FIFO.values(),)
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
    (record,) = golden("sqs-attributes")["Records"]
    assert record["md5OfMessageAttributes"] == hashlib.md5(encoded).hexdigest()
    assert record["md5OfBody"] == hashlib.md5(b'{"a": 1}').hexdigest()


def test_powertools_reads_what_an_sns_event_says() -> None:
    parsed = SNSEvent(golden("sns"))
    assert parsed.sns_message == "hello"
    (record,) = parsed.records
    assert record.event_subscription_arn == "arn:aws:sns:us-east-1:000000000000:receipts:sub"
    assert record.sns.message_id == ID
    assert record.sns.subject == "Hello"
    assert record.sns.timestamp == "2027-01-15T08:00:00.250Z"
    assert record.sns.topic_arn == "arn:aws:sns:us-east-1:000000000000:receipts"
    assert record.sns.message_attributes["half"].value == "0.5"
    assert record.sns.message_attributes["half"].get_type == "Number"
    assert record.sns.signing_cert_url
    assert record.sns.unsubscribe_url


def test_powertools_finds_an_sns_message_in_an_sqs_event() -> None:
    (record,) = SQSEvent(golden("sqs-sns")).records
    nested = record.decoded_nested_sns_event
    assert (nested.message, nested.subject, nested.message_id) == ("hello", "Hello", ID)


def test_powertools_reads_what_a_kinesis_event_says() -> None:
    (record,) = KinesisStreamEvent(golden("kinesis")).records
    assert record.event_id == "shardId-000000000003:00000000000000000017"
    assert record.event_source_arn == "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"
    assert (record.event_name, record.event_source, record.event_version) == (
        "aws:kinesis:record",
        "aws:kinesis",
        "1.0",
    )
    assert record.kinesis.partition_key == "ada"
    assert record.kinesis.sequence_number == "00000000000000000017"
    assert record.kinesis.data_as_json() == {"a": 1}
    assert record.kinesis.approximate_arrival_timestamp == AT
    assert record.kinesis.kinesis_schema_version == "1.0"


def test_powertools_reads_what_an_alarm_says() -> None:
    told = CloudWatchAlarmEvent(golden("alarm"))
    assert (told.source, told.alarm_data.alarm_name) == ("aws.cloudwatch", "failing")
    assert told.alarm_data.state.value == "ALARM"
    assert told.alarm_data.state.reason_data_decoded == {"version": "1.0", "recentDatapoints": [2.0]}
    assert told.alarm_data.previous_state.value == "OK"
    (metric,) = told.alarm_data.configuration.metrics
    assert metric.metric_stat.metric["name"] == "Errors"
    assert (metric.metric_stat.period, metric.metric_stat.stat) == (60, "Sum")


def test_powertools_reads_what_a_config_rule_says() -> None:
    told = AWSConfigRuleEvent(golden("config-rule"))
    assert told.config_rule_name == "rule"
    assert told.rule_parameters == {"a": "b"}
    assert told.invoking_event.message_type == "ConfigurationItemChangeNotification"


def test_powertools_reads_what_an_s3_event_says() -> None:
    created, removed = S3Event(golden("s3")).records
    assert (created.event_name, removed.event_name) == ("ObjectCreated:Put", "ObjectRemoved:Delete")
    assert created.s3.bucket.name == "uploads"
    assert unquote_plus(created.s3.get_object.key) == "a b/ä.png"
    assert (created.s3.get_object.size, created.s3.get_object.etag) == (3, "0cc1")
    assert created.s3.get_object.version_id == ID
    assert removed.s3.get_object.sequencer == "0000000000000012"


def test_powertools_reads_what_a_dynamodb_event_says() -> None:
    _, changed, _, keys = DynamoDBStreamEvent(golden("dynamodb")).records
    assert changed.event_name is not None
    assert changed.event_name.name == "MODIFY"
    told = changed.dynamodb
    assert told is not None
    assert told.keys == {"id": 7}
    assert told.old_image == {"id": 7, "name": "a cup", "price": Decimal("1.5"), "picture": "AP8=", "gone": None}
    assert told.new_image["price"] == Decimal("2.5")
    assert told.approximate_creation_date_time == int(AT)
    assert told.sequence_number == "00000000000000000017"
    assert told.stream_view_type is not None
    assert told.stream_view_type.name == "NEW_AND_OLD_IMAGES"
    assert keys.dynamodb is not None
    assert (keys.dynamodb.old_image, keys.dynamodb.new_image) == ({}, {})


HOOK_CLASSES: dict[str, type[cognito.BaseTriggerEvent]] = {
    "pre_sign_up": cognito.PreSignUpTriggerEvent,
    "post_confirmation": cognito.PostConfirmationTriggerEvent,
    "pre_authentication": cognito.PreAuthenticationTriggerEvent,
    "post_authentication": cognito.PostAuthenticationTriggerEvent,
    "pre_token_generation": cognito.PreTokenGenerationTriggerEvent,
    "define_auth_challenge": cognito.DefineAuthChallengeTriggerEvent,
    "create_auth_challenge": cognito.CreateAuthChallengeTriggerEvent,
    "verify_auth_challenge_response": cognito.VerifyAuthChallengeResponseTriggerEvent,
    "user_migration": cognito.UserMigrationTriggerEvent,
    "custom_message": cognito.CustomMessageTriggerEvent,
}


def test_each_hook_of_sign_in_has_a_file() -> None:
    assert hooks.HOOKS.keys() == ASKED.keys() == HOOK_CLASSES.keys()


@pytest.mark.parametrize("hook", HOOK_CLASSES)
def test_powertools_reads_what_a_hook_of_sign_in_is_asked(hook: str) -> None:
    told: Any = HOOK_CLASSES[hook](golden(f"auth-{hook}"))
    assert (told.user_name, told.user_pool_id, told.caller_context.client_id) == ("ada", "us-east-1_local", "shop")
    assert told.trigger_source.split("_")[0] == hooks.HOOKS[hook].source
    for name, value in ASKED[hook].items():
        read = getattr(told.request, name)
        if name == "session":
            assert [one.challenge_name for one in read] == ["PASSWORD_VERIFIER"]
        elif name == "group_configuration":
            assert read.groups_to_override == ["staff"]
        else:
            assert read == value, name


def test_powertools_reads_what_an_authorizer_is_asked() -> None:
    token = APIGatewayAuthorizerTokenEvent(golden("authorizer-token"))
    assert (token.authorization_token, token.parsed_arn.resource) == ("Bearer x", "orders/a%20b")
    older = APIGatewayAuthorizerRequestEvent(golden("authorizer-request-1"))
    assert (older.http_method, older.path_parameters, older.headers["user-agent"]) == ("POST", {"id": "a b"}, "curl")
    newer = APIGatewayAuthorizerEventV2(golden("authorizer-request-2"))
    assert (newer.identity_source, newer.cookies, newer.parsed_arn.http_method) == (["key"], ["a=1", "b=2"], "POST")


@pytest.mark.parametrize("name", ["bus", "schedule"])
def test_powertools_reads_what_an_eventbridge_event_says(name: str) -> None:
    parsed = EventBridgeEvent(golden(name))
    assert parsed.get_id == ID
    assert parsed.time == "2027-01-15T08:00:00Z"
    assert parsed.account == "000000000000"
    assert parsed.region == "us-east-1"
    assert parsed.version == "0"
    if name == "bus":
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
