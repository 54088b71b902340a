"""Who may pass to a function: by throttle, key, authorizer and schema; in this order, and nobody else."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pyfaas import Authorizer, ConfigurationError, Function, FunctionNotFound, Runtime, function, http
from pyfaas._sources.http.authorizers import NoVerdict, verdict
from pyfaas._sources.http.throttle import TokenBucket
from pyfaas.testing import ManualClock
from sources.tools import events, record

KEY = "k" * 20
ARN = "arn:aws:execute-api:us-east-1:000000000000:local/$default/GET/orders/7"


@pytest.fixture
def anyio_backend() -> str:
    """One will do: what waits in either world is the same trip."""
    return "asyncio"


def door(trigger: Any, **options: Any) -> Function[Any, Any]:
    def tell(event: Any) -> Any:
        import json

        return {"statusCode": 200, "body": json.dumps(event)}

    return function(**{"name": "door", "trigger": trigger, "timeout": 10, **options})(tell)


def judge(file: Path, answer: Any, **options: Any) -> Function[Any, Any]:
    """Declare an authorizer that writes down what it is asked."""
    from handlers import PLACE

    where = str(file)

    def say(event: Any) -> Any:
        record(where, {"asked": event}, None)
        if isinstance(answer, str):
            raise Exception(answer)
        return answer

    return function(**{"name": "judge", "timeout": 10, "writes": [PLACE], **options})(say)


@contextlib.asynccontextmanager
async def served(*functions: Function[Any, Any], **options: Any) -> AsyncIterator[tuple[Runtime, httpx.AsyncClient]]:
    with Runtime([*functions], **options) as runtime:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(runtime.asgi), base_url="http://x") as client:
            yield runtime, client


# -- throttle ----------------------------------------------------------------------------------------------------------


def test_a_bucket_lets_a_burst_in_and_then_a_rate() -> None:
    bucket = TokenBucket(2.0, 3)
    assert [bucket.take(0.0) for _ in range(4)] == [True, True, True, False]
    assert [bucket.take(0.5), bucket.take(0.5)] == [True, False]
    assert [bucket.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert bucket.take(50.0) is False, "a clock that goes back gives nothing"


@pytest.mark.anyio
async def test_more_requests_than_a_route_takes_are_told_to_come_again(clock: ManualClock) -> None:
    async with served(door(http(throttle=(1, 2))), clock=clock) as (_, client):
        assert [(await client.get("/")).status_code for _ in range(3)] == [200, 200, 429]
        clock.advance(1)
        assert [(await client.get("/")).status_code for _ in range(2)] == [200, 429]


@pytest.mark.anyio
async def test_who_looks_at_mappings_lets_nobody_in(clock: ManualClock, got: Path) -> None:
    asks = judge(got, {"isAuthorized": True})
    async with served(door(http(throttle=(1, 2), authorizer=asks)), asks, clock=clock) as (runtime, client):
        me = {"authorization": "me"}
        assert [(await client.get("/", headers=me)).status_code for _ in range(2)] == [200, 200]
        (mapping,) = runtime.mappings()
        mapping.pause()
        mapping.resume()
        assert (await client.get("/", headers=me)).status_code == 429
        clock.advance(1)
        assert (await client.get("/", headers=me)).status_code == 200
    assert len(events(got)) == 1, "the authorizer's answer was kept"


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_request_without_a_key_is_refused() -> None:
    async with served(door(http(api_keys=[KEY, "o" * 20]))) as (_, client):
        told = [
            (await client.get("/", headers={"x-api-key": key})).status_code for key in (KEY, "o" * 20, "k" * 19, "")
        ]
        assert told == [200, 200, 403, 403]
        assert (await client.get("/")).json() == {"message": "Forbidden"}


# -- authorizers -------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_authorizer_gets_the_request_and_what_it_says_goes_into_the_event(got: Path) -> None:
    asks = judge(got, {"isAuthorized": True, "context": {"user": "ada", "roles": ["a"]}})
    async with served(door(http("POST /orders/{id}", authorizer=asks)), asks) as (_, client):
        answer = await client.post("/orders/7?x=1", content=b"{}", headers={"authorization": "me"})
    assert answer.json()["requestContext"]["authorizer"] == {"lambda": {"user": "ada", "roles": ["a"]}}
    (event,) = [one["asked"] for one in events(got)]
    assert (event["version"], event["type"], event["identitySource"]) == ("2.0", "REQUEST", ["me"])
    assert event["routeArn"] == "arn:aws:execute-api:us-east-1:000000000000:local/$default/POST/orders/7"
    assert event["pathParameters"] == {"id": "7"}
    assert "body" not in event


@pytest.mark.anyio
async def test_a_token_authorizer_gets_the_token_alone(got: Path) -> None:
    statement = {"Action": "execute-api:Invoke", "Effect": "Allow", "Resource": "arn:aws:execute-api:*"}
    says = {"principalId": "ada", "policyDocument": {"Statement": [statement]}, "context": {"n": 5, "s": "x"}}
    asks = judge(got, says)
    trigger = http("GET /a", payload="1.0", authorizer=Authorizer(asks, "token"))
    async with served(door(trigger), asks) as (_, client):
        answer = await client.get("/a", headers={"authorization": "me"})
    assert answer.json()["requestContext"]["authorizer"] == {"principalId": "ada", "n": "5", "s": "x"}
    assert [one["asked"] for one in events(got)] == [
        {
            "type": "TOKEN",
            "authorizationToken": "me",
            "methodArn": "arn:aws:execute-api:us-east-1:000000000000:local/$default/GET/a",
        }
    ]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "status", "message"),
    [
        ({"isAuthorized": False}, 403, "Forbidden"),
        ("Unauthorized", 401, "Unauthorized"),
        ("something else", 500, "Internal Server Error"),
        ({"isAuthorized": "yes"}, 500, "Internal Server Error"),
        (None, 500, "Internal Server Error"),
    ],
)
async def test_who_may_not_is_told_so_and_the_function_never_runs(
    answer: Any, status: int, message: str, got: Path
) -> None:
    asks = judge(got, answer)
    async with served(door(http(authorizer=asks)), asks) as (_, client):
        told = await client.get("/", headers={"authorization": "me"})
        assert (told.status_code, told.json()) == (status, {"message": message})


@pytest.mark.anyio
async def test_a_request_that_does_not_say_who_asks_is_refused_unasked(got: Path) -> None:
    asks = judge(got, {"isAuthorized": True})
    wants = Authorizer(asks, identity=("header.X-User", "querystring.key"))
    async with served(door(http(authorizer=wants)), asks) as (_, client):
        assert (await client.get("/?key=1")).status_code == 401
        assert (await client.get("/?key=", headers={"x-user": "ada"})).status_code == 401
        assert events(got) == []
        assert (await client.get("/?key=1", headers={"x-user": "ada"})).status_code == 200


@pytest.mark.anyio
async def test_an_answer_is_kept_for_its_identity_and_no_other(got: Path, clock: ManualClock) -> None:
    asks = judge(got, {"isAuthorized": True})
    async with served(door(http(authorizer=Authorizer(asks, ttl=60))), asks, clock=clock) as (_, client):
        for user in ("ada", "ada", "bob", "ada"):
            assert (await client.get("/", headers={"authorization": user})).status_code == 200
        assert len(events(got)) == 2
        clock.advance(60)
        assert (await client.get("/", headers={"authorization": "ada"})).status_code == 200
        assert len(events(got)) == 3


@pytest.mark.anyio
async def test_a_policy_that_was_kept_is_looked_at_anew_for_each_request(got: Path) -> None:
    statement = {"Action": "*", "Effect": "Allow", "Resource": "*/GET/public/*"}
    asks = judge(got, {"principalId": "ada", "policyDocument": {"Statement": statement}})
    async with served(door(http("GET /{path+}", payload="1.0", authorizer=asks)), asks) as (_, client):
        told = [
            (await client.get(path, headers={"authorization": "x"})).status_code for path in ("/public/a", "/own/a")
        ]
    assert told == [200, 403]
    assert len(events(got)) == 1


@pytest.mark.parametrize(
    ("statements", "is_allowed"),
    [
        ([("Allow", "execute-api:Invoke", "*")], True),
        ([("Allow", ["s3:Get", "execute-api:*"], ["no", "arn:aws:execute-api:*/GET/orders/?"])], True),
        ([("Allow", "*", "*"), ("Deny", "*", "*/orders/*")], False),
        ([("Allow", "s3:Get", "*")], False),
        ([("Allow", "*", "arn:aws:execute-api:*/POST/*")], False),
        ([("Allow", "*", "*/orders/[0-9]")], False),
        ([("Allow", None, None)], False),
        ([], False),
    ],
)
def test_a_policy_allows_what_it_allows_and_does_not_deny(
    statements: list[tuple[str, Any, Any]], is_allowed: bool
) -> None:
    listed = [dict(zip(("Effect", "Action", "Resource"), one, strict=True)) for one in statements]
    assert verdict({"principalId": "u", "policyDocument": {"Statement": listed}}, ARN).is_allowed is is_allowed


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"principalId": 7, "policyDocument": {"Statement": []}},
        {"principalId": "u"},
        {"principalId": "u", "policyDocument": {"Statement": ["x"]}},
        {"isAuthorized": 1},
        {"isAuthorized": True, "context": []},
        {"isAuthorized": True, "context": ["x"]},
    ],
)
def test_an_answer_that_means_nothing_is_none(answer: Any) -> None:
    if answer == {"isAuthorized": True, "context": []}:
        assert verdict(answer, ARN).context == {}
        return
    with pytest.raises(NoVerdict):
        verdict(answer, ARN)


def test_an_authorizer_that_the_runtime_does_not_have_is_refused_at_once(got: Path) -> None:
    with pytest.raises(FunctionNotFound):
        Runtime([door(http(authorizer=judge(got, None)))]).open()


# -- schema ------------------------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


@pytest.mark.anyio
async def test_a_body_that_does_not_fit_its_schema_is_refused() -> None:
    async with served(door(http("POST /", schema=SCHEMA))) as (_, client):
        bodies = (b'{"n": 1}', b'{"n": "1"}', b"{}", b"[]", b"not json", b"", b"\xff", b"[" * 100_000)
        told = [(await client.post("/", content=body)).status_code for body in bodies]
        assert told == [200, 400, 400, 400, 400, 400, 400, 400]
        assert (await client.post("/")).json() == {"message": "Invalid request body"}


def test_a_schema_that_is_none_is_refused_when_the_runtime_opens() -> None:
    with pytest.raises(ConfigurationError, match="schema: 'nothing' is not valid under any of the given schemas"):
        Runtime([door(http("POST /", schema={"type": "nothing"}))]).open()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"authorizer": "judge"}, "authorizer='judge': must be a function that was declared with @function"),
        ({"schema": "[]"}, "schema='[]': must be a JSON schema: a dict, or its JSON text"),
        ({"schema": "{"}, "schema='{': must be a JSON schema"),
        ({"throttle": 5}, "throttle=5: must be how many a second, and how many at once"),
        ({"throttle": (0, 1)}, "throttle=(0, 1): must be a number above 0"),
        ({"throttle": (1, 0)}, "throttle's burst=0: must be a whole number, at least 1"),
        ({"api_keys": KEY}, "api_keys: must be a list of ASCII texts of at least 20 characters"),
        ({"api_keys": ["short"]}, "api_keys: must be a list of ASCII texts of at least 20 characters"),
    ],
)
def test_what_a_trigger_may_not_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        http("GET /", **options)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"kind": "token"}, "authorizer.kind='token': must be 'request' with payload=\"2.0\", as in AWS"),
        ({"kind": "both"}, "authorizer.kind='both': must be 'request' or 'token'"),
        ({"identity": ()}, "authorizer.identity=(): must be a list of such as"),
        ({"identity": ("context.x",)}, "authorizer.identity=('context.x',): must be a list of such as"),
        ({"ttl": 3601}, "authorizer.ttl=3601: must be a number of seconds from 0 to 3600"),
    ],
)
def test_what_an_authorizer_may_not_be_is_refused(options: dict[str, Any], told: str, got: Path) -> None:
    with pytest.raises(ConfigurationError) as refused:
        http("GET /", authorizer=Authorizer(judge(got, None), **options))
    assert told in str(refused.value)
