"""HTTP: a request becomes an event, what its function returns becomes the response, and nothing else gets out."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from pyfaas import ConfigurationError, Cors, Function, Runtime, function, http, limits
from pyfaas._sources.http import answers
from pyfaas._sources.http.events import Request, body_text
from pyfaas.testing import ManualClock
from sources.serving import serving
from support import SOURCE, wait_until

Opened = Callable[..., httpx.AsyncClient]
pytestmark = pytest.mark.anyio  # of those that are coroutines


@pytest.fixture
def anyio_backend() -> str:
    """One will do: what waits in either world is the same trip."""
    return "asyncio"


def door(trigger: Any, do: Callable[[Any], Any] | None = None, **options: Any) -> Function[Any, Any]:
    """Declare a function of a route; without ``do`` it gives back its event."""

    def handler(event: Any) -> Any:
        return event if do is None else do(event)

    return function(**{"name": "door", "trigger": trigger, "timeout": 10, **options})(handler)


@contextlib.asynccontextmanager
async def client_of(runtime: Runtime, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(runtime.asgi, client=("192.0.2.1", 5000), **options)
    async with httpx.AsyncClient(transport=transport, base_url="http://shop.example") as client:
        yield client


async def ask(*doors: Function[Any, Any], method: str = "GET", path: str = "/", **request: Any) -> httpx.Response:
    with Runtime([*doors]) as runtime:
        async with client_of(runtime) as client:
            return await client.request(method, path, **request)


# -- events ------------------------------------------------------------------------------------------------------------


async def test_a_request_comes_as_payload_2_tells_it() -> None:
    with Runtime([door(http("POST /orders/{id}"))], clock=ManualClock()) as runtime:
        async with client_of(runtime) as client:
            answer = await client.post(
                "/orders/a%20b?x=1&x=2&y=",
                content=b'{"n": 1}',
                headers=[
                    ("Content-Type", "application/json"),
                    ("Cookie", "a=1; b=2"),
                    ("X-Many", "1"),
                    ("X-Many", "2"),
                ],
            )
    event = answer.json()
    assert event["requestContext"].pop("requestId")
    assert event == {
        "version": "2.0",
        "routeKey": "POST /orders/{id}",
        "rawPath": "/orders/a%20b",
        "rawQueryString": "x=1&x=2&y=",
        "cookies": ["a=1", "b=2"],
        "headers": {
            "host": "shop.example",
            "accept": "*/*",
            "accept-encoding": answer.request.headers["accept-encoding"],
            "connection": "keep-alive",
            "user-agent": answer.request.headers["user-agent"],
            "content-type": "application/json",
            "content-length": "8",
            "x-many": "1,2",
            "x-forwarded-for": "192.0.2.1",
            "x-forwarded-proto": "http",
        },
        "queryStringParameters": {"x": "1,2", "y": ""},
        "pathParameters": {"id": "a b"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": "local",
            "domainName": "shop.example",
            "domainPrefix": "shop",
            "http": {
                "method": "POST",
                "path": "/orders/a%20b",
                "protocol": "HTTP/1.1",
                "sourceIp": "192.0.2.1",
                "userAgent": answer.request.headers["user-agent"],
            },
            "routeKey": "POST /orders/{id}",
            "stage": "$default",
            "time": "15/Jan/2027:08:00:00 +0000",
            "timeEpoch": 1_800_000_000_000,
        },
        "body": '{"n": 1}',
        "isBase64Encoded": False,
    }


async def test_a_request_comes_as_payload_1_tells_it() -> None:
    def tell(event: Any) -> Any:
        return {"statusCode": 200, "body": json.dumps(event)}

    answer = await ask(
        door(http("ANY /{path+}", payload="1.0"), tell), method="PUT", path="/a/b?x=1&x=2", headers={"X-One": "1"}
    )
    event = answer.json()
    assert event["version"] == "1.0"
    assert (event["resource"], event["path"], event["httpMethod"]) == ("/{path+}", "/a/b", "PUT")
    assert event["headers"]["x-one"] == "1"
    assert event["multiValueHeaders"]["x-one"] == ["1"]
    assert event["queryStringParameters"] == {"x": "2"}
    assert event["multiValueQueryStringParameters"] == {"x": ["1", "2"]}
    assert event["pathParameters"] == {"path": "a/b"}
    assert event["stageVariables"] is None
    assert (event["body"], event["isBase64Encoded"]) == (None, False)
    assert event["requestContext"]["identity"]["sourceIp"] == "192.0.2.1"
    assert event["requestContext"]["resourcePath"] == "/{path+}"


@pytest.mark.parametrize(
    ("kind", "body", "is_base64"),
    [
        ("application/json", b"{}", False),
        ("application/problem+json; charset=utf-8", b"{}", False),
        ("text/plain", "ä".encode(), False),
        ("", b"plain", False),
        ("text/plain", b"\xff", True),
        ("application/octet-stream", b"plain", True),
        ("multipart/form-data; boundary=x", b"plain", True),
        ("application/x-www-form-urlencoded", b"a=1", True),
    ],
)
def test_a_body_is_text_or_base64_by_its_type(kind: str, body: bytes, is_base64: bool) -> None:
    headers = [("content-type", kind)] if kind else []
    text, told = body_text(Request("POST", "/", "", headers, body, "", "HTTP/1.1", "id", 0.0))
    assert told is is_base64
    assert (base64.b64decode(text) if is_base64 else text.encode()) == body


async def test_bytes_go_there_and_back() -> None:
    def back(event: Any) -> Any:
        return {"statusCode": 200, "body": event["body"], "isBase64Encoded": event["isBase64Encoded"]}

    answer = await ask(door(http(), back), method="POST", content=b"\x00\xff", headers={"content-type": "image/png"})
    assert answer.content == b"\x00\xff"


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_what_a_request_has_not_is_not_in_payload_2() -> None:
    event = (await ask(door(http()))).json()
    assert not {"cookies", "queryStringParameters", "pathParameters", "body"} & event.keys()
    assert event["routeKey"] == "$default"


async def test_what_a_client_says_of_its_way_is_told_before_what_is_known() -> None:
    said = {"x-forwarded-for": "10.0.0.1", "x-forwarded-proto": "https", "x-forwarded-port": "1"}
    headers = (await ask(door(http()), headers=said)).json()["headers"]
    assert headers["x-forwarded-for"] == "10.0.0.1, 192.0.2.1"
    assert headers["x-forwarded-proto"] == "http"
    assert headers.get("x-forwarded-port") != "1"


async def test_a_server_that_gives_no_raw_path_will_do() -> None:
    inbox = [{"type": "http.request", "body": b""}]
    told: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return inbox.pop()

    async def send(message: MutableMapping[str, Any]) -> None:
        told.append(message)

    with Runtime([door(http("GET /{x}"))]) as runtime:
        await runtime.asgi({"type": "http", "method": "GET", "path": "/a b", "headers": []}, receive, send)
    assert json.loads(told[1]["body"])["rawPath"] == "/a%20b"


# -- responses ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "body"),
    [
        ({"hello": "world"}, b'{"hello":"world"}'),
        (["hello", 3, True], b'["hello",3,true]'),
        (3.1, b"3.1"),
        (None, b"null"),
        ("hello", b"hello"),
    ],
)
def test_payload_2_makes_a_response_of_any_result(value: Any, body: bytes) -> None:
    response, fault = answers.of_result("2.0", value, json.dumps(value, separators=(",", ":")).encode())
    assert (response.status, response.body, fault) == (200, body, "")
    assert response.headers == [("content-type", "application/json")]


async def test_a_response_has_the_status_headers_cookies_and_body_that_it_says() -> None:
    said = {
        "statusCode": 201,
        "headers": {
            "Content-Type": "image/png",
            "X-Number": 5,
            "Content-Length": "999",
            "Transfer-Encoding": "chunked",
        },
        "cookies": ["a=1; Max-Age=1", "b=2"],
        "body": base64.b64encode(b"\x89PNG").decode(),
        "isBase64Encoded": True,
    }
    answer = await ask(door(http(), lambda _: said))
    assert (answer.status_code, answer.content) == (201, b"\x89PNG")
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-number"] == "5"
    assert answer.headers["content-length"] == "4"
    assert "transfer-encoding" not in answer.headers
    assert answer.headers.get_list("set-cookie") == ["a=1; Max-Age=1", "b=2"]


async def test_payload_1_merges_single_and_multi_value_headers() -> None:
    said = {
        "statusCode": "200",
        "headers": {"X-A": "1", "X-B": "one"},
        "multiValueHeaders": {"X-A": ["1", "2"]},
        "body": "plain",
    }
    answer = await ask(door(http("GET /", payload="1.0"), lambda _: said))
    assert answer.headers.get_list("x-a") == ["1", "2"]
    assert answer.headers["x-b"] == "one"


@pytest.mark.parametrize("status", [204, 304])
async def test_some_statuses_have_no_body(status: int) -> None:
    answer = await ask(door(http(), lambda _: {"statusCode": status, "body": "no"}))
    assert (answer.status_code, answer.content) == (status, b"")
    assert "content-length" not in answer.headers


async def test_head_gets_the_length_and_no_body() -> None:
    answer = await ask(door(http(), lambda _: {"statusCode": 200, "body": "hello"}), method="HEAD")
    assert (answer.headers["content-length"], answer.content) == ("5", b"")


@pytest.mark.parametrize(
    "value",
    [
        {"statusCode": 99},
        {"statusCode": 101},
        {"statusCode": 600},
        {"statusCode": True},
        {"statusCode": "abc"},
        {"statusCode": 200, "body": {"a": 1}},
        {"statusCode": 200, "body": "not base64!", "isBase64Encoded": True},
        {"statusCode": 200, "headers": ["a"]},
        {"statusCode": 200, "headers": {"a": ["b"]}},
        {"statusCode": 200, "headers": {"a": "b\r\nset-cookie: c=d"}},
        {"statusCode": 200, "headers": {"a\r\nb": "c"}},
        {"statusCode": 200, "headers": {"": "c"}},
        {"statusCode": 200, "headers": {"ä": "c"}},
        {"statusCode": 200, "cookies": "a=1"},
        {"statusCode": 200, "cookies": ["a=1\r\nx: y"]},
        {"statusCode": 200, "body": "\ud800"},
        {"statusCode": 200, "headers": {"a": "\ud800"}},
    ],
)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_what_is_no_response_is_the_functions_fault(version: str, value: Any) -> None:
    if version == "1.0" and "cookies" in value:
        value = {**value, "multiValueHeaders": {"a": "b"}}
    response, fault = answers.of_result(version, value, b"")
    assert fault
    assert response.status == (502 if version == "1.0" else 500)
    assert json.loads(response.body)["message"].lower() == "internal server error"


@pytest.mark.parametrize("value", [{"a": 1}, "text", None, [1]])
def test_payload_1_infers_nothing(value: Any) -> None:
    response, fault = answers.of_result("1.0", value, b"{}")
    assert (response.status, fault) == (502, "it must be a dict with a statusCode")


# -- errors ------------------------------------------------------------------------------------------------------------


class NotFound(Exception):
    """As handlers raise it."""


def fails(event: Any) -> None:
    raise {"value": ValueError, "missing": NotFound}[event["rawPath"][1:]]("a secret of the shop")


async def test_an_error_says_nothing_but_that_it_is_one() -> None:
    answer = await ask(door(http(), fails), path="/value")
    assert (answer.status_code, answer.json()) == (500, {"message": "Internal Server Error"})


async def test_an_error_that_is_meant_for_clients_may_have_a_status_and_its_message() -> None:
    answer = await ask(door(http(errors={"NotFound": 404}), fails), path="/missing")
    assert (answer.status_code, answer.json()) == (404, {"message": "a secret of the shop"})


@pytest.mark.parametrize(("payload", "status"), [("1.0", 504), ("2.0", 503)])
async def test_a_time_out_is_told(payload: str, status: int) -> None:
    def hang(event: Any) -> None:
        time.sleep(30)

    assert (await ask(door(http("GET /", payload=payload), hang, timeout=0.2))).status_code == status


async def test_who_finds_no_permit_is_told_to_come_again() -> None:
    answer = await ask(door(http(), reserved_concurrency=0))
    assert (answer.status_code, answer.json()) == (429, {"message": "Too Many Requests"})


async def test_what_no_route_takes_is_not_found() -> None:
    with Runtime([door(http("GET /a"))]) as runtime:
        async with client_of(runtime) as client:
            for method, path in (("GET", "/b"), ("POST", "/a"), ("GET", "/a/")):
                answer = await client.request(method, path)
                assert (answer.status_code, answer.json()) == (404, {"message": "Not Found"})


async def test_a_body_over_the_limit_is_refused() -> None:
    answer = await ask(door(http()), method="POST", content=b"x" * (limits.REQUEST_BYTES + 1))
    assert (answer.status_code, answer.json()) == (413, {"message": "Request Entity Too Large"})


async def test_a_body_of_no_declared_length_is_read_up_to_the_limit() -> None:
    part = {"type": "http.request", "body": b"x" * (limits.REQUEST_BYTES // 4), "more_body": True}
    read, told = 0, []

    async def receive() -> MutableMapping[str, Any]:
        nonlocal read
        read += 1
        return part

    async def send(message: MutableMapping[str, Any]) -> None:
        told.append(message)

    with Runtime([door(http())]) as runtime:
        await runtime.asgi({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)
    assert (read, told[0]["status"]) == (5, 413)


async def test_a_client_that_goes_before_its_body_has_come_is_answered_nothing() -> None:
    inbox: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"x", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> MutableMapping[str, Any]:
        return inbox.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        raise AssertionError(message)

    with Runtime([door(http())]) as runtime:
        await runtime.asgi({"type": "http", "method": "POST", "path": "/", "headers": []}, receive, send)


async def test_a_body_that_is_too_large_as_an_event_is_refused() -> None:
    content = b"\0" * (limits.REQUEST_BYTES - 1000)
    assert (await ask(door(http()), method="POST", content=content)).status_code == 413


# -- cors --------------------------------------------------------------------------------------------------------------


async def test_pages_of_other_origins_are_told_that_they_may() -> None:
    said = {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "theirs", "x-a": "1"}, "body": ""}
    cors = Cors(origins=("https://a.example",), methods=("PUT",), expose=("x-a",), max_age=60, credentials=True)
    with Runtime([door(http("PUT /a", cors=cors), lambda _: said)]) as runtime:
        async with client_of(runtime) as client:
            asks = {"origin": "https://a.example", "access-control-request-method": "PUT"}
            may = await client.options("/a", headers={**asks, "access-control-request-headers": "x-b"})
            assert may.status_code == 204
            assert may.headers["access-control-allow-origin"] == "https://a.example"
            assert may.headers["access-control-allow-methods"] == "PUT"
            assert may.headers["access-control-allow-headers"] == "x-b"
            assert may.headers["access-control-max-age"] == "60"
            assert may.headers["access-control-allow-credentials"] == "true"
            other = await client.options("/a", headers={**asks, "origin": "https://b.example"})
            assert "access-control-allow-origin" not in other.headers
            answer = await client.put("/a", headers={"origin": "https://a.example"})
            assert answer.headers.get_list("access-control-allow-origin") == ["https://a.example"]
            assert answer.headers["access-control-expose-headers"] == "x-a"
            assert (await client.put("/a")).headers.get("access-control-allow-origin") is None


async def test_all_origins_may_where_it_is_just_true_and_none_without() -> None:
    asks = {"origin": "https://a.example", "access-control-request-method": "GET"}
    may = await ask(door(http("GET /a", cors=True)), method="OPTIONS", path="/a", headers=asks)
    assert (may.status_code, may.headers["access-control-allow-origin"]) == (204, "*")
    assert (await ask(door(http("GET /a")), method="OPTIONS", path="/a", headers=asks)).status_code == 404


# -- mappings ----------------------------------------------------------------------------------------------------------


async def test_a_route_may_be_paused_and_removed() -> None:
    with Runtime([door(http("GET /a"))]) as runtime:
        async with client_of(runtime) as client:
            (mapping,) = runtime.mappings()
            assert (mapping.source, mapping.target, mapping.state) == ("http/GET /a", "function/door", "Enabled")
            mapping.pause()
            assert (await client.get("/a")).status_code == 503
            mapping.resume()
            assert (await client.get("/a")).status_code == 200
            mapping.change(payload="1.0")
            assert (await client.get("/a")).status_code == 502
            mapping.remove()
            assert (await client.get("/a")).status_code == 404


def test_two_functions_of_one_route_are_refused() -> None:
    doors = [door(http("GET /a/{x}"), name="one"), door(http("GET /a/{y}"), name="other")]
    with pytest.raises(ConfigurationError, match=r"trigger of 'other': .* takes the same requests"):
        Runtime(doors).open()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"payload": "3.0"}, "payload='3.0': must be '2.0' or '1.0'"),
        ({"when_gone": "wait"}, "when_gone='wait': must be 'finish' or 'stop'"),
        ({"cors": "*"}, "cors='*': must be True, a Cors, or None"),
        ({"cors": Cors(origins="*")}, "cors.origins='*': must be a list of texts"),  # type: ignore[arg-type]
        ({"cors": Cors(credentials=True)}, "cors.credentials=True: must be False where origins holds"),
        ({"cors": Cors(max_age=-1)}, "cors.max_age=-1: must be a whole number from 0 to 86,400"),
        ({"errors": ["a"]}, "errors=['a']: must be a dict of errorTypes to statuses"),
        ({"errors": {"a": 200}}, "errors['a']=200: must be a whole number from 400 to 599"),
    ],
)
def test_what_a_trigger_may_not_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        http("GET /", **options)
    assert told in str(refused.value)


# -- in applications, and servers --------------------------------------------------------------------------------------


async def test_it_may_be_mounted_in_an_application_of_ones_own() -> None:
    from fastapi import FastAPI

    with Runtime([door(http("GET /orders/{id}"))]) as runtime:
        app = FastAPI()
        app.mount("/shop", runtime.asgi)
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
            event = (await client.get("/shop/orders/7")).json()
            assert (event["rawPath"], event["pathParameters"]) == ("/orders/7", {"id": "7"})
            assert (await client.get("/shop/none")).status_code == 404


@pytest.mark.parametrize("payload", ["1.0", "2.0"])
async def test_fastapi_runs_as_a_handler_by_mangum(payload: str) -> None:
    def handler(event: Any, context: Any) -> Any:
        from fastapi import FastAPI
        from mangum import Mangum

        app = FastAPI()

        @app.post("/orders/{number}")
        def order(number: int, body: dict[str, int]) -> Any:
            return {"number": number, **body}

        return Mangum(app, lifespan="off")(event, context)

    declared: Any = function(name="app", trigger=http("ANY /{path+}", payload=payload), timeout=30, memory=512)(handler)
    with Runtime([declared]) as runtime:
        async with client_of(runtime) as client:
            answer = await client.post("/orders/7", json={"n": 1})
            assert (answer.status_code, answer.json()) == (200, {"number": 7, "n": 1})
            assert (await client.post("/orders/x", json={})).status_code == 422


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def served() -> Iterator[str]:
    """A server of the runtime's own, over real sockets."""
    with (
        Runtime([door(http("ANY /{path+}")), door(http(), lambda _: "home", name="home")]) as runtime,
        serving(runtime, lifespan="on") as port,
    ):
        yield f"http://127.0.0.1:{port}"


def test_a_real_client_is_served_over_real_sockets(served: str) -> None:
    with httpx.Client(base_url=served) as client:
        event = client.post("/a%2Fb/c?q=%20", content=b"x" * 100_000).json()
        assert (event["rawPath"], event["rawQueryString"]) == ("/a%2Fb/c", "q=%20")
        assert len(event["body"]) == 100_000
        assert client.get("/").text == "home"
    done = subprocess.run(["curl", "-sS", "-d", "a=1", f"{served}/curl"], capture_output=True, check=True)
    assert base64.b64decode(json.loads(done.stdout)["body"]) == b"a=1"


def test_requests_run_side_by_side() -> None:
    def meet(event: Any) -> str:
        time.sleep(0.3)
        return "met"

    with Runtime([door(http(), meet)]) as runtime, serving(runtime) as port:
        told: list[str] = []
        clients = [
            threading.Thread(target=lambda: told.append(httpx.get(f"http://127.0.0.1:{port}").text)) for _ in range(8)
        ]
        began = time.monotonic()
        for one in clients:
            one.start()
        for one in clients:
            one.join()
        assert told == ["met"] * 8
        assert time.monotonic() - began < 8 * 0.3


@pytest.mark.parametrize("worker", ["asyncio", "trio"])
def test_hypercorn_serves_it_too(worker: str, tmp_path: Path) -> None:
    program = tmp_path / "shop.py"
    program.write_text(
        "from pyfaas import Runtime, function, http\n"
        "@function(trigger=http('GET /hello/{name}'))\n"
        "def hello(event):\n"
        "    return event['pathParameters']\n"
        "app = Runtime().asgi\n"
    )
    port = free_port()
    command = [sys.executable, "-m", "hypercorn", "-k", worker, "-b", f"127.0.0.1:{port}", "shop:app"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SOURCE), str(tmp_path)))}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _answers(port), 30)
            answer = httpx.get(f"http://127.0.0.1:{port}/hello/ada")
            assert (answer.status_code, answer.json()) == (200, {"name": "ada"})
        finally:
            server.terminate()


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@pytest.mark.parametrize("when_gone", ["finish", "stop"])
def test_an_invocation_goes_on_or_stops_when_its_client_is_gone(when_gone: str, tmp_path: Path) -> None:
    from handlers import PLACE

    began, ended = str(tmp_path / "began"), str(tmp_path / "ended")

    def slow(event: Any) -> None:
        open(began, "x").close()
        time.sleep(1)
        open(ended, "x").close()

    with Runtime([door(http(when_gone=when_gone), slow, writes=[PLACE])]) as runtime, serving(runtime) as port:
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_until(lambda: Path(began).exists())
        if when_gone == "finish":
            wait_until(lambda: Path(ended).exists())
        else:
            wait_until(lambda: runtime.statistics().in_flight == 0)
            assert not Path(ended).exists()


async def test_a_server_opens_the_runtime_and_closes_what_it_opened() -> None:
    runtime = Runtime([door(http())])
    app = runtime.asgi
    inbox = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
    told: list[dict[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return inbox.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        told.append({**message, "runtime": runtime._state})

    await app({"type": "lifespan"}, receive, send)
    assert told == [
        {"type": "lifespan.startup.complete", "runtime": "open"},
        {"type": "lifespan.shutdown.complete", "runtime": "closed"},
    ]
