"""Whatever bytes a client sends: an answer with a status and a message, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator, MutableMapping
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyfaas import Runtime, function, http
from pyfaas._sources.http import answers
from pyfaas._sources.http.events import Request, version_1, version_2

_texts = st.text(st.characters(max_codepoint=255), max_size=20)
_headers = st.lists(
    st.tuples(
        st.sampled_from(["cookie", "content-type", "content-encoding", "host", "x-a", "origin", "content-length"]),
        _texts,
    ),
    max_size=6,
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 700) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_responses = _json | st.fixed_dictionaries(
    {"statusCode": _json},
    optional={
        "headers": _json,
        "multiValueHeaders": _json,
        "cookies": _json,
        "body": _json,
        "isBase64Encoded": _json,
    },
)


@given(path=_texts, query=_texts, headers=_headers, body=st.binary(max_size=50))
def test_any_request_is_an_event(path: str, query: str, headers: list[tuple[str, str]], body: bytes) -> None:
    request = Request("GET", f"/{path}", query, headers, body, "192.0.2.1", "HTTP/1.1", "id", 0.0)
    for event in (version_1(request, "ANY /{x+}", {"x": path}, "/{x+}"), version_2(request, "ANY /{x+}", {"x": path})):
        assert json.loads(json.dumps(event, ensure_ascii=False).encode()) == event


@given(value=_responses, version=st.sampled_from(["1.0", "2.0"]))
def test_any_result_is_a_response(value: Any, version: str) -> None:
    response, fault = answers.of_result(version, value, json.dumps(value).encode())
    assert 200 <= response.status <= 599
    for name, told in response.headers:
        assert name.encode("ascii") == name.lower().encode()
        assert not {"\r", "\n"} & set(name + told)
        told.encode()
    assert isinstance(response.body, bytes)
    assert not fault or response.status in (500, 502)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    def size(event: Any) -> Any:
        return {"statusCode": 200, "body": str(len(event.get("body") or ""))}

    wanted = {"type": "object"}
    doors: list[Any] = [
        function(name="plain", trigger=http("ANY /plain/{x}"), timeout=10)(size),
        function(name="older", trigger=http("ANY /older/{x+}", payload="1.0", cors=True), timeout=10)(size),
        function(name="strict", trigger=http("POST /strict", schema=wanted), timeout=10)(lambda _: "ok"),
    ]
    with Runtime(doors) as opened:
        yield opened


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    method=st.sampled_from(["GET", "POST", "HEAD", "OPTIONS", "BREW"]),
    path=st.sampled_from([b"/plain/", b"/older/", b"/strict", b"/"]),
    rest=st.binary(max_size=12),
    query=st.binary(max_size=12),
    headers=st.lists(
        st.tuples(
            st.sampled_from([b"cookie", b"content-type", b"host", b"origin", b"access-control-request-method"]),
            st.binary(max_size=12),
        ),
        max_size=4,
    ),
    body=st.binary(max_size=40),
)
def test_any_bytes_are_answered(
    runtime: Runtime,
    method: str,
    path: bytes,
    rest: bytes,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    body: bytes,
) -> None:
    raw = path + rest
    scope: dict[str, Any] = {
        "type": "http",
        "method": method,
        "path": raw.decode("utf-8", "replace"),
        "raw_path": raw,
        "query_string": query,
        "headers": headers,
    }
    told: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body}

    async def send(message: MutableMapping[str, Any]) -> None:
        told.append(message)

    anyio.run(runtime.asgi, scope, receive, send)
    start, end = told
    assert start["status"] in (200, 204, 400, 404)
    assert all(isinstance(part, bytes) and b"\n" not in part for header in start["headers"] for part in header)
    assert isinstance(end["body"], bytes)
