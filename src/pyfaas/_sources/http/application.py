"""
An ASGI application of all functions with a route: ``runtime.asgi``.

    request ──► which route? ──► event ──► invoke ──► response
                  └─► 404           └─► 413  └─► 429, 500, 503 ...

It holds nothing between two requests. The routes are those of the runtime's mappings, so one that is paused says 503.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote, unquote

import anyio

from pyfaas import limits
from pyfaas._invoke.attempts import House
from pyfaas._invoke.ending import Ending
from pyfaas._invoke.ids import new_id
from pyfaas._language.routes import Match, Route, Router, parse
from pyfaas._sources.http import answers, cors
from pyfaas._sources.http.answers import Response
from pyfaas._sources.http.connections import Api, Connections, refuse
from pyfaas._sources.http.edges import Edge, through
from pyfaas._sources.http.events import Request, version_1, version_2
from pyfaas._sources.http.gate import Gate
from pyfaas.context import request_id_text
from pyfaas.doors import HttpTrigger
from pyfaas.errors import ConfigurationError, FunctionError, PyfaasError
from pyfaas.functions import Function

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_OF_THE_WIRE = {"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
_WITHOUT_BODY = (204, 304)
_FORWARDED = ("x-forwarded-for", "x-forwarded-port", "x-forwarded-proto")
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_log = logging.getLogger("pyfaas")


class Door(NamedTuple):
    """Where a route leads."""

    function: Function[Any, Any]
    trigger: HttpTrigger
    route: Route
    gate: Gate
    enabled: bool

    def status_of(self, error: FunctionError) -> int | None:
        """Give the status of an error whose message clients may read; None for others."""
        return dict(self.trigger.errors).get(error.error_type)


class Open(NamedTuple):
    """What an application needs of its runtime, as it is now."""

    house: House
    router: Router[Door]
    apis: dict[str, Api]
    connections: Connections
    edges: dict[str, Edge]


def router_of(
    wanted: Iterable[tuple[Function[Any, Any], HttpTrigger, bool]], gates: dict[HttpTrigger, Gate]
) -> Router[Door]:
    """
    Make a router of triggers, each with its function and whether it is enabled. Raises ConfigurationError.

    ``gates``: those that stand already, which know how many came of late, and who they are; new ones are added.
    """
    router: Router[Door] = Router()
    for function, trigger, enabled in wanted:
        route = parse(trigger.route)
        gate = gates.get(trigger) or gates.setdefault(trigger, Gate(trigger, route))
        try:
            router.add(route, Door(function, trigger, route, gate, enabled))
        except ConfigurationError as error:
            raise ConfigurationError(f"trigger of {function.name!r}: {error}") from None
    return router


class Application:
    """The application of one runtime; ``opened`` opens it, and gives what there is."""

    def __init__(self, opened: Callable[[], Open], close: Callable[[], None], is_open: Callable[[], bool]) -> None:
        self._opened = opened
        self._close = close
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection, as ASGI has it."""
        if scope["type"] == "http":
            await self._request(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "websocket":
            await self._connect(scope, receive, send)

    async def _connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        house, _, apis, connections, _ = self._opened()
        request = _request_of({"method": "GET", **scope}, b"", house)
        can_answer = "websocket.http.response" in (scope.get("extensions") or {})
        first = apis.get(unquote(request.path))
        if first is None:
            await receive()
            await refuse(send, answers.NOT_FOUND, can_answer=can_answer)
            return

        def find() -> Api:
            return self._opened().apis.get(first.handle.url, Api(first.handle, {}))

        await connections.serve(house, find, request, receive, send, can_answer=can_answer)

    async def _live(self, receive: Receive, send: Send) -> None:
        """Open the runtime with its server, and close it with that if nobody else had opened it."""
        is_ours = False
        while True:
            message = await receive()
            try:
                if message["type"] == "lifespan.startup":
                    is_ours = not self._is_open()
                    await anyio.to_thread.run_sync(self._opened)
                elif is_ours:
                    await anyio.to_thread.run_sync(self._close)
            except Exception as error:  # noqa: BLE001 - the server tells it
                await send({"type": f"{message['type']}.failed", "message": str(error)})
                return
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        house, router, _, _, edges = self._opened()
        body = await _body(scope, receive)
        if body is None:  # the client has gone
            return
        if isinstance(body, Response):
            await _send(send, scope["method"], body)
            return
        respond = partial(_respond, house, router, receive)
        response = await through(edges, house, _request_of(scope, body, house), respond)
        if response is not None:
            await _send(send, scope["method"], response)


async def _respond(house: House, router: Router[Door], receive: Receive, request: Request) -> Response | None:
    """Find the route, and give the response; None where the client has gone and is not waited for."""
    asked = request.header("access-control-request-method") if cors.is_preflight(request) else ""
    match = router.find(asked, request.path) if asked else None
    if match is not None and match.target.trigger.cors is not None:
        return cors.preflight(match.target.trigger.cors, request)
    match = router.find(request.method, request.path)
    if match is None:
        return answers.NOT_FOUND
    if match.target.trigger.when_gone == "stop":
        return await _unless_gone(receive, partial(_answer, house, match, request))
    return await _answer(house, match, request)


async def _answer(house: House, match: Match[Door], request: Request) -> Response:
    door = match.target
    response = await _response(house, door, request, match.parameters)
    if door.trigger.cors is not None:
        theirs = [one for one in response.headers if not one[0].startswith(cors.OURS)]
        response = response._replace(headers=theirs + cors.exposed(door.trigger.cors, request))
    return response


async def _response(house: House, door: Door, request: Request, parameters: dict[str, str]) -> Response:
    """Invoke the function, and make a response of what it gives."""
    if not door.enabled:
        return answers.UNAVAILABLE
    admitted = await door.gate.admit(house, request, parameters)
    if isinstance(admitted, Response):
        return admitted
    version, key = door.trigger.payload, door.route.key
    if version == "1.0":
        event = version_1(request, key, parameters, door.route.path, admitted)
    else:
        event = version_2(request, key, parameters, admitted)
    payload = _compact(event).encode()
    if len(payload) > limits.REQUEST_BYTES:
        return answers.TOO_LARGE
    try:
        ending = await house.run(door.function, payload, expects=door.status_of)
    except PyfaasError as error:
        _log.warning("%s %s: %s", request.method, request.path, error)
        return answers.of_error(version, error)
    if ending.error is not None:
        return _of_failure(door, ending.error)
    return _of_ending(version, door, ending)


def _of_failure(door: Door, error: FunctionError) -> Response:
    status = door.status_of(error)
    if status is not None:
        return answers.told(status, error.message)
    return answers.of_error(door.trigger.payload, error)


def _of_ending(version: str, door: Door, ending: Ending) -> Response:
    response, fault = answers.of_result(version, ending.value, ending.payload)
    if fault:
        _log.warning("%r returned what is no response: %s", door.function.name, fault)
    return response


async def _unless_gone(receive: Receive, answer: Callable[[], Awaitable[Response]]) -> Response | None:
    """Give an answer, and stop that when the client goes."""
    response = None
    async with anyio.create_task_group() as group:

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            group.cancel_scope.cancel()

        group.start_soon(listen)
        response = await answer()
        group.cancel_scope.cancel()
    return response


# -- ASGI's side -------------------------------------------------------------------------------------------------------


async def _body(scope: Scope, receive: Receive) -> bytes | Response | None:
    """Read the body; a response where it is too large, None where the client goes."""
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"")
    if length.isdigit() and (len(length) > 10 or int(length) > limits.REQUEST_BYTES):
        return answers.TOO_LARGE
    message = await receive()
    if message["type"] == "http.disconnect":
        return None
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return body if len(body) <= limits.REQUEST_BYTES else answers.TOO_LARGE
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limits.REQUEST_BYTES:
            return answers.TOO_LARGE
    return b"".join(parts)


def _request_of(scope: Scope, body: bytes, house: House) -> Request:
    raw = scope.get("raw_path")
    path = quote(scope["path"]) if raw is None else raw.decode("latin-1").partition("?")[0]
    root = scope.get("root_path", "")
    if root and path.startswith(root):  # where it is mounted; the routes begin below that
        path = path[len(root) :]
    client, server = scope.get("client") or ("", 0), scope.get("server") or ("", 0)
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]
    through = [value for name, value in headers if name == "x-forwarded-for"]  # what the client says, so who knows
    headers = [one for one in headers if one[0] not in _FORWARDED]
    told = (", ".join([*through, client[0]]), str(server[1] or ""), scope.get("scheme", "http"))
    headers += [(name, value) for name, value in zip(_FORWARDED, told, strict=True) if value]
    return Request(
        scope["method"],
        path or "/",
        scope.get("query_string", b"").decode("latin-1"),
        headers,
        body,
        client[0],
        f"HTTP/{scope.get('http_version', '1.1')}",
        request_id_text(new_id()),
        house.outbox.wall(),
    )


async def _send(send: Send, method: str, response: Response) -> None:
    body = b"" if response.status in _WITHOUT_BODY else response.body
    headers = [
        (name.encode("ascii"), _VALUE.sub("", value).encode("utf-8"))
        for name, value in response.headers
        if name not in _OF_THE_WIRE
    ]
    if response.status not in _WITHOUT_BODY:
        headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})


_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # what no header may hold
