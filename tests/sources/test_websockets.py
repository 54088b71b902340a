"""WebSockets: who may connect, which function gets a message, and what goes back to which client."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from pyfaas import (
    Authorizer,
    ConfigurationError,
    ConnectionGone,
    Function,
    PayloadTooLarge,
    Runtime,
    WebSocket,
    function,
    http,
    websocket,
)
from pyfaas._sources.http.messages import route_of
from pyfaas.testing import settle
from sources.serving import serving as serving_http
from sources.tools import events, recorder, wait_for
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


@pytest.fixture
def chat() -> WebSocket:
    return websocket("chat", "/chat")


def door(trigger: Any, do: Any = None, **options: Any) -> Function[Any, Any]:
    """Declare a function; without ``do`` it gives its event back to the client."""

    def handler(event: Any) -> Any:
        return {"statusCode": 200, "body": json.dumps(event)} if do is None else do(event)

    return function(**{"name": "door", "trigger": trigger, "timeout": 10, **options})(handler)


@contextlib.contextmanager
def serving(runtime: Runtime) -> Iterator[str]:
    """Serve it over real sockets."""
    with serving_http(runtime, ws="websockets-sansio") as port:
        yield f"ws://127.0.0.1:{port}"


def told(client: ClientConnection) -> Any:
    return json.loads(client.recv(timeout=10))


def test_a_connection_its_messages_and_its_end_come_as_api_gateway_tells_them(chat: WebSocket, got: Path) -> None:
    asked, gone = got.with_name("asked"), got.with_name("gone")
    doors = [
        recorder(asked, {"statusCode": 200}, trigger=chat.connect()),
        door(chat.messages()),
        door(chat.messages("say"), name="say"),
        recorder(gone, trigger=chat.disconnect()),
    ]
    with Runtime(doors) as runtime, serving(runtime) as url:
        with connect(f"{url}/chat?room=1&room=2", user_agent_header="test") as client:
            (connected,) = events(asked)
            client.send("hello")
            plain = told(client)
            client.send(json.dumps({"action": "say", "text": "hi"}))
            routed = told(client)
            client.send(b"\x00\xff")
            binary = told(client)
            (connection_id,) = chat.connections()
        (disconnected,) = wait_for(gone, 1)
        wait_until(lambda: not chat.connections())
    context = connected["requestContext"]
    assert (context["routeKey"], context["eventType"], context["messageDirection"]) == ("$connect", "CONNECT", "IN")
    assert context["identity"] == {"userAgent": "test", "sourceIp": "127.0.0.1"}
    assert connected["queryStringParameters"] == {"room": "2"}
    assert connected["multiValueQueryStringParameters"] == {"room": ["1", "2"]}
    assert connected["headers"]["upgrade"] == "websocket"
    assert "body" not in connected
    assert (plain["body"], plain["isBase64Encoded"]) == ("hello", False)
    assert (plain["requestContext"]["routeKey"], plain["requestContext"]["eventType"]) == ("$default", "MESSAGE")
    assert plain["requestContext"]["messageId"] == plain["requestContext"]["requestId"]
    assert "headers" not in plain
    assert routed["requestContext"]["routeKey"] == "say"
    assert (binary["body"], binary["isBase64Encoded"]) == (base64.b64encode(b"\x00\xff").decode(), True)
    ended = disconnected["requestContext"]
    assert (ended["routeKey"], ended["eventType"], ended["disconnectStatusCode"]) == ("$disconnect", "DISCONNECT", 1000)
    ids = {one["requestContext"]["connectionId"] for one in (connected, plain, routed, binary, disconnected)}
    assert ids == {connection_id}


@pytest.mark.parametrize(
    ("answer", "status"),
    [({"statusCode": 403}, 403), ({"statusCode": 401}, 401), ({"statusCode": 302}, 502), (None, 502), ("fail", 502)],
)
def test_a_client_is_refused_unless_it_is_let_in(chat: WebSocket, answer: Any, status: int) -> None:
    def decide(event: Any) -> Any:
        if answer == "fail":
            raise ValueError(event)
        return answer

    with Runtime([door(chat.connect(), decide)]) as runtime, serving(runtime) as url:
        with pytest.raises(InvalidStatus) as refused, connect(f"{url}/chat"):
            pass
        assert refused.value.response.status_code == status
        with pytest.raises(InvalidStatus) as missing, connect(f"{url}/elsewhere"):
            pass
        assert missing.value.response.status_code == 404
        assert chat.connections() == []


def test_an_authorizer_is_asked_first_and_what_it_says_is_in_every_event(chat: WebSocket) -> None:
    def judge(event: Any) -> Any:
        allowed = event["queryStringParameters"]["key"] == "let-me-in"
        statement = {"Action": "execute-api:Invoke", "Effect": "Allow" if allowed else "Deny", "Resource": "*"}
        policy = {"Version": "2012-10-17", "Statement": [statement]}
        return {"principalId": "ada", "policyDocument": policy, "context": {"room": 7}}

    judging = function(name="judging")(judge)
    letting = Authorizer(judging, identity=("querystring.key",))
    doors = [judging, door(chat.connect(authorizer=letting), lambda _: {"statusCode": 200}), door(chat, name="echo")]
    with Runtime(doors) as runtime, serving(runtime) as url:
        for query, status in (("", 401), ("?key=no", 403)):
            with pytest.raises(InvalidStatus) as refused, connect(f"{url}/chat{query}"):
                pass
            assert refused.value.response.status_code == status
        with connect(f"{url}/chat?key=let-me-in") as client:
            client.send("x")
            assert told(client)["requestContext"]["authorizer"] == {"principalId": "ada", "room": "7"}


def test_messages_that_no_function_wants_and_functions_that_fail_are_told(chat: WebSocket) -> None:
    def fail(event: Any) -> Any:
        raise ValueError(event)

    failing = Runtime([door(chat.messages("fail"), fail)])
    with failing as runtime, serving(runtime) as url, connect(f"{url}/chat") as client:
        client.send("what?")
        assert told(client)["message"] == "Forbidden"
        client.send('{"action": "fail"}')
        answer = told(client)
        assert (answer["message"], [answer["connectionId"]]) == ("Internal server error", chat.connections())
        (mapping,) = runtime.mappings()
        mapping.pause()
        client.send('{"action": "fail"}')
        assert told(client)["message"] == "Service Unavailable"


def test_anybody_posts_to_a_client_until_it_is_gone(chat: WebSocket) -> None:
    def tell_all(event: Any) -> None:
        for one in event:
            chat.post(one, f"to {one}")
        chat.post(event[0], b"\x01")

    async def tell_later(event: Any) -> None:
        await chat.apost(event, "later")

    telling = function(name="tell-all", allow=[chat.post])(tell_all)
    later = function(name="tell-later", allow=[chat.post])(tell_later)
    opened = Runtime([door(chat), telling, later])
    with opened as runtime, serving(runtime) as url, connect(f"{url}/chat") as first, connect(f"{url}/chat") as second:
        ids = chat.connections()
        runtime.invoke(telling, ids)
        assert first.recv(timeout=10) == f"to {ids[0]}"
        assert first.recv(timeout=10) == b"\x01"
        runtime.invoke(later, ids[0])
        assert first.recv(timeout=10) == "later"
        assert second.recv(timeout=10) == f"to {ids[1]}"
        assert chat.get(ids[0])["identity"]["sourceIp"] == "127.0.0.1"
        with pytest.raises(PayloadTooLarge):
            chat.post(ids[0], "x" * 131_073)
        with pytest.raises(ConfigurationError, match="must be text"):
            chat.post(ids[0], 7)  # type: ignore[arg-type]
        with pytest.raises(ConfigurationError, match="lone surrogates"):
            chat.post(ids[0], "\ud800")
        chat.delete(ids[1])
        with pytest.raises(ConnectionClosed):
            second.recv(timeout=10)
        wait_until(lambda: chat.connections() == ids[:1])
        with pytest.raises(ConnectionGone):
            chat.post(ids[1], "x")
        with pytest.raises(ConnectionGone):
            websocket("other").get(ids[0])


@pytest.mark.anyio
async def test_the_async_verbs_do_the_same(chat: WebSocket) -> None:
    with Runtime([door(chat)]) as runtime, serving(runtime) as url, connect(f"{url}/chat") as client:
        (one,) = chat.connections()
        await chat.apost(one, "hello")
        assert client.recv(timeout=10) == "hello"
        assert (await chat.aget(one))["identity"]["sourceIp"] == "127.0.0.1"
        await chat.adelete(one)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)


def test_a_function_names_the_subprotocol_among_those_that_are_offered(chat: WebSocket) -> None:
    def choose(event: Any) -> Any:
        return {"statusCode": 200, "headers": {"Sec-WebSocket-Protocol": "v2"}}

    with Runtime([door(chat.connect(), choose)]) as runtime, serving(runtime) as url:
        with connect(f"{url}/chat", subprotocols=["v1", "v2"]) as client:  # type: ignore[list-item]
            assert client.subprotocol == "v2"
        with connect(f"{url}/chat") as client:
            assert client.subprotocol is None


def test_a_cut_line_is_told_as_the_end(chat: WebSocket, got: Path) -> None:
    with Runtime([recorder(got, trigger=chat.disconnect())]) as runtime, serving(runtime) as url:
        with connect(f"{url}/chat") as client:
            client.socket.shutdown(socket.SHUT_RDWR)
            (ended,) = wait_for(got, 1)
        assert ended["requestContext"]["disconnectStatusCode"] != 1000
        settle(runtime)


def test_a_message_that_is_too_long_ends_the_connection(chat: WebSocket) -> None:
    with Runtime([door(chat)]) as runtime, serving(runtime) as url, connect(f"{url}/chat") as client:
        client.send("x" * 131_073)
        assert told(client)["message"] == "Message too long"
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=10)


def test_it_lives_beside_http_routes(chat: WebSocket) -> None:
    import httpx

    page = door(http("GET /chat"), lambda _: "a page", name="page")
    with Runtime([door(chat), page]) as runtime, serving(runtime) as url, connect(f"{url}/chat") as client:
        assert httpx.get(f"http{url[2:]}/chat").text == "a page"
        client.send("x")
        assert told(client)["body"] == "x"


@pytest.mark.parametrize(
    ("data", "select", "route"),
    [
        ('{"action": "say"}', "action", "say"),
        ('{"a": {"b": "say"}}', "a.b", "say"),
        (b'{"action": "say"}', "action", "say"),
        ('{"action": "$connect"}', "action", "$default"),
        ('{"action": 7}', "action", "$default"),
        ('{"other": 7}', "action", "$default"),
        ("[1]", "action", "$default"),
        ("[" * 100_000, "action", "$default"),
        (b"\xff", "action", "$default"),
        ("", "action", "$default"),
    ],
)
def test_a_message_says_its_route_or_takes_the_default(data: Any, select: str, route: str) -> None:
    assert route_of(data, select) == route


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: websocket("chat", "chat"), "path='chat'"),
        (lambda: websocket("chat", "/{room}"), "path='/{room}'"),
        (lambda: websocket("chat", select="a..b"), r"select='a\.\.b'"),
        (lambda: websocket("chat").messages("$connect"), "route='.connect'"),
        (lambda: websocket("chat").messages(""), "route=''"),
        (lambda: websocket("chat").connect(authorizer=7), "authorizer=7"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_option_is_named(make: Any, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        make()


def test_two_functions_of_one_route_are_refused(chat: WebSocket) -> None:
    for other in (chat, websocket("other", "/chat")):
        told = r"has '\$default' twice, or another one is at '/chat'"
        with pytest.raises(ConfigurationError, match=told), Runtime([door(chat), door(other, name="second")]):
            pass
