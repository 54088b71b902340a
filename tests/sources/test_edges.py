"""Edges: what stands around all HTTP routes sees each request and each response, and may change both."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import pytest

from pyfaas import ConfigurationError, Function, Runtime, edge, function, http
from pyfaas._sources.http.answers import Response
from pyfaas._sources.http.edges import NotAnEdge, changed_request, changed_response
from pyfaas._sources.http.events import Request

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One will do: what waits in either world is the same trip."""
    return "asyncio"


def at(event: str, do: Any, **options: Any) -> Function[Any, Any]:
    def handler(given: Any) -> Any:
        return do(given["Records"][0]["cf"])

    return function(name=event, trigger=edge(event, **options))(handler)


def home(**options: Any) -> Function[Any, Any]:
    def handler(event: Any) -> Any:
        return {"statusCode": 200, "headers": {"x-home": "1"}, "body": event["rawPath"] + event.get("body", "")}

    return function(name="home", trigger=http("ANY /{path+}"), **options)(handler)


async def ask(*functions: Function[Any, Any], path: str = "/a", **request: Any) -> httpx.Response:
    with Runtime([*functions]) as runtime:
        transport = httpx.ASGITransport(runtime.asgi, client=("192.0.2.1", 5000))
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            return await client.request("POST", path, **request)


async def test_a_request_goes_through_all_four_and_each_may_change_it() -> None:
    def move(cf: Any) -> Any:
        assert cf["request"]["headers"]["x-mine"] == [{"key": "X-Mine", "value": "1"}]
        assert (cf["request"]["clientIp"], cf["request"]["method"], cf["request"]["querystring"]) == (
            "192.0.2.1",
            "POST",
            "q=1",
        )
        assert cf["config"]["eventType"] == "viewer-request"
        return {**cf["request"], "uri": "/moved"}

    def deepen(cf: Any) -> Any:
        return {**cf["request"], "uri": cf["request"]["uri"] + "/deep"}

    def mark(cf: Any) -> Any:
        assert (cf["response"]["status"], cf["response"]["statusDescription"]) == ("200", "OK")
        assert cf["request"]["uri"] == "/moved/deep"
        headers = {**cf["response"]["headers"], "x-origin": [{"key": "X-Origin", "value": "1"}]}
        return {**cf["response"], "status": "201", "headers": headers}

    def mark_again(cf: Any) -> Any:
        headers = {**cf["response"]["headers"], "x-viewer": [{"value": "a"}, {"value": "b"}]}
        return {**cf["response"], "headers": headers, "body": "a viewer's response keeps its body"}

    edges = [
        at("viewer-request", move),
        at("origin-request", deepen),
        at("origin-response", mark),
        at("viewer-response", mark_again),
    ]
    answer = await ask(home(), *edges, path="/a?q=1", headers={"X-Mine": "1"})
    assert (answer.status_code, answer.text) == (201, "/moved/deep")
    assert (answer.headers["x-home"], answer.headers["x-origin"]) == ("1", "1")
    assert answer.headers.get_list("x-viewer") == ["a", "b"]


async def test_a_response_of_its_own_ends_the_way() -> None:
    def turn_away(cf: Any) -> Any:
        return {"status": "302", "headers": {"location": [{"key": "Location", "value": "/login"}]}, "body": "go"}

    def never(cf: Any) -> Any:
        return {"status": "500"}

    answer = await ask(home(), at("viewer-request", turn_away), at("viewer-response", never))
    assert (answer.status_code, answer.headers["location"], answer.text) == (302, "/login", "go")


async def test_what_the_origin_s_request_answers_the_viewer_s_response_sees() -> None:
    def turn_away(cf: Any) -> Any:
        return {"status": 200, "body": base64.b64encode(b"\x00").decode(), "bodyEncoding": "base64"}

    def mark(cf: Any) -> Any:
        return {**cf["response"], "headers": {"x-viewer": [{"value": "1"}]}}

    answer = await ask(home(), at("origin-request", turn_away), at("viewer-response", mark))
    assert (answer.content, answer.headers["x-viewer"]) == (b"\x00", "1")


async def test_errors_are_not_shown_to_the_viewer_s_response() -> None:
    def never(cf: Any) -> Any:
        return {"status": "200"}

    answer = await ask(at("viewer-response", never))
    assert answer.status_code == 404


async def test_a_body_comes_where_it_is_asked_for_and_may_be_replaced() -> None:
    def shout(cf: Any) -> Any:
        body = cf["request"]["body"]
        assert (body["inputTruncated"], body["encoding"]) == (True, "base64")
        data = base64.b64decode(body["data"]).decode()[:3].upper()
        return {**cf["request"], "body": {"action": "replace", "encoding": "text", "data": data}}

    answer = await ask(home(), at("viewer-request", shout, include_body=True), content=b"hey" + b" " * 50_000)
    assert answer.text == "/aHEY"


@pytest.mark.parametrize("result", [None, 7, {"uri": "a"}, {"method": "GET"}, {"headers": []}, {"status": "99"}])
async def test_what_is_neither_a_request_nor_a_response_is_a_bad_gateway(result: Any) -> None:
    answer = await ask(home(), at("viewer-request", lambda _: result))
    assert (answer.status_code, answer.json()) == (502, {"message": "Bad Gateway"})


async def test_one_that_fails_is_a_bad_gateway_and_one_that_is_paused_is_passed_by() -> None:
    def fail(cf: Any) -> Any:
        raise ValueError(cf)

    with Runtime([home(), at("viewer-request", fail)]) as runtime:
        transport = httpx.ASGITransport(runtime.asgi)
        async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
            assert (await client.get("/a")).status_code == 502
            next(one for one in runtime.mappings() if one.source == "edge/viewer-request").pause()
            assert (await client.get("/a")).text == "/a"


REQUEST = Request("GET", "/", "", [("host", "h"), ("x-a", "1")], b"", "192.0.2.1", "HTTP/1.1", "id", 0.0)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-a": "1"},
        {"x-a": [{"value": 1}]},
        {"x-a": [{"value": "a\r\nset-cookie: b"}]},
        {"x a": [{"value": "1"}]},
        {"ä": [{"value": "1"}]},
        {"": [{"value": "1"}]},
    ],
)
def test_headers_that_cannot_be_are_refused(headers: Any) -> None:
    with pytest.raises(NotAnEdge, match="header"):
        changed_request(REQUEST, {"headers": headers})


def test_some_headers_are_not_the_function_s_to_change() -> None:
    found = changed_request(REQUEST, {"headers": {"host": [{"value": "evil"}], "X-B": [{"value": "2"}]}})
    assert isinstance(found, Request)
    assert found.headers == [("host", "h"), ("x-b", "2")]


def test_a_body_that_is_no_base64_is_refused() -> None:
    for value in ({"status": 200, "body": "%", "bodyEncoding": "base64"}, {"status": 200, "body": 7}):
        with pytest.raises(NotAnEdge, match="body"):
            changed_request(REQUEST, value)
    with pytest.raises(NotAnEdge, match="it must return the response"):
        changed_response(Response(200, [], b""), None, body=True)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: edge("viewer"), "event='viewer'"),
        (lambda: edge("viewer-request", include_body=1), "include_body=1"),  # type: ignore[arg-type]
        (lambda: function(trigger=edge("viewer-request"), timeout=6)(print), "timeout=6"),
        (lambda: function(trigger=edge("origin-response"), timeout=31)(print), "timeout=31"),
    ],
)
def test_a_wrong_option_is_named(make: Any, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        make()


def test_two_functions_of_one_edge_are_refused() -> None:
    def other(event: Any) -> Any:
        return event

    second = function(name="second", trigger=edge("viewer-request"))(other)
    told = "is a trigger of 'viewer-request' and 'second'"
    with pytest.raises(ConfigurationError, match=told), Runtime([at("viewer-request", other), second]):
        pass
