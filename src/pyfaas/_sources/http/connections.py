"""
WebSockets: each connection is one task that reads, and one that writes; what comes is invoked one after the other.

    connect ──► authorizer, $connect ──► accepted ──► message ──► which route? ──► invoke ──► its body, back
                        └─► refused                      post() ──► outbox of the connection ──► the client
                                                         gone ──► $disconnect, submitted

A connection is known by its id in this process only.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, NamedTuple

import anyio

from pyfaas import limits
from pyfaas._invoke.attempts import House
from pyfaas._invoke.cause import NOBODY
from pyfaas._invoke.ids import new_id
from pyfaas._invoke.outbox import accept_for
from pyfaas._language.routes import parse
from pyfaas._sources.http.answers import Response, told
from pyfaas._sources.http.events import Request
from pyfaas._sources.http.gate import Gate
from pyfaas._sources.http.messages import (
    DEFAULT,
    Client,
    connect_event,
    disconnect_event,
    message_event,
    refusal,
    route_of,
)
from pyfaas._waits import Later, run_async
from pyfaas.context import request_id_text
from pyfaas.doors import SocketTrigger, http
from pyfaas.errors import ConfigurationError, ConnectionGone, PayloadTooLarge, PyfaasError, Throttled
from pyfaas.functions import Function
from pyfaas.resources import WebSocket
from pyfaas.resources.handles import has_surrogate

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

CONNECT, DISCONNECT = "$connect", "$disconnect"
NORMAL, TOO_BIG, TRY_LATER = 1000, 1009, 1013
WAITING_BYTES = 1_048_576  # of what a client has not read
FORBIDDEN, FAULTY, BUSY = "Forbidden", "Internal server error", "Service Unavailable"
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_log = logging.getLogger("pyfaas")


class Listener(NamedTuple):
    """Who gets what comes on a route."""

    function: Function[Any, Any]
    trigger: SocketTrigger
    gate: Gate | None
    enabled: bool


class Api(NamedTuple):
    """One path: the handle, and its routes."""

    handle: WebSocket
    routes: dict[str, Listener]


def apis_of(wanted: Iterable[tuple[Function[Any, Any], SocketTrigger, bool]], gates: dict[Any, Gate]) -> dict[str, Api]:
    """List the APIs of triggers by their paths. Raises ConfigurationError where two are in each other's way."""
    found: dict[str, Api] = {}
    for function, trigger, enabled in wanted:
        handle: WebSocket = trigger.socket
        api = found.setdefault(handle.url, Api(handle, {}))
        if api.handle != handle or trigger.route in api.routes:
            told = f"{handle!r} has {trigger.route!r} twice, or another one is at {handle.url!r}"
            raise ConfigurationError(f"trigger of {function.name!r}: {told}")
        gate = None
        if trigger.authorizer is not None:
            like = http(f"GET {handle.url}", payload="1.0", authorizer=trigger.authorizer)
            gate = gates.get(trigger) or gates.setdefault(trigger, Gate(like, parse(like.route)))
        api.routes[trigger.route] = Listener(function, trigger, gate, enabled)
    return found


class Connection:
    """One client; ``put`` may be called from any thread."""

    def __init__(self, client: Client, handle: WebSocket) -> None:
        self.client = client
        self.handle = handle
        self.active_at = client.connected_at
        self._waiting: deque[str | bytes | None] = deque()
        self._size = 0
        self._later: Later | None = None
        self._is_gone = False
        self._lock = threading.Lock()

    def put(self, data: str | bytes | None) -> None:
        """Have something sent, or with None the connection closed. Raises ConnectionGone and Throttled."""
        with self._lock:
            if self._is_gone:
                raise ConnectionGone(f"connection {self.client.id!r} is closed")
            size = 0 if data is None else len(data)
            if self._size + size > WAITING_BYTES:
                raise Throttled(f"connection {self.client.id!r} does not read: {self._size:,} bytes wait")
            self._waiting.append(data)
            self._size += size
            later, self._later = self._later, None
        if later is not None:
            later.grant(later)

    def leave(self) -> None:
        """It is gone."""
        with self._lock:
            self._is_gone = True
            self._waiting.clear()

    async def write(self, send: Send) -> None:
        """Send what is put, until that is None."""
        while True:
            with self._lock:
                some = [*self._waiting]
                self._waiting.clear()
                self._size = 0
                later = None if some else Later(None)
                self._later = later
            if later is not None:
                await later.suspend()
            for data in some:
                if data is None:
                    await send({"type": "websocket.close", "code": NORMAL})
                    return
                await send(_frame(data))


class Connections:
    """All of one runtime's, by their ids."""

    def __init__(self) -> None:
        self._open: dict[str, Connection] = {}

    def ask(self, of: WebSocket, verb: str, *arguments: Any) -> Any:
        """Do a verb of a handle. Raises ConnectionGone, Throttled, PayloadTooLarge and ConfigurationError."""
        if verb == "connections":
            return [one.client.id for one in tuple(self._open.values()) if one.handle == of]
        connection = self._of(of, arguments[0])
        if verb == "get":
            client = connection.client
            identity = {"userAgent": client.request.header("user-agent"), "sourceIp": client.request.source_ip}
            return {"connectedAt": client.connected_at, "lastActiveAt": connection.active_at, "identity": identity}
        if verb == "delete":
            connection.put(None)
            return None
        data = arguments[1]
        if not isinstance(data, (str, bytes)) or (isinstance(data, str) and has_surrogate(data)):
            raise ConfigurationError(f"data={data!r}"[:100] + ": must be text without lone surrogates, or bytes")
        if len(data if isinstance(data, bytes) else data.encode()) > limits.SOCKET_MESSAGE_BYTES:
            raise PayloadTooLarge(f"the message is too large: at most {limits.SOCKET_MESSAGE_BYTES:,} bytes")
        connection.put(data)
        return None

    def _of(self, of: WebSocket, connection_id: Any) -> Connection:
        connection = self._open.get(connection_id) if isinstance(connection_id, str) else None
        if connection is None or connection.handle != of:
            raise ConnectionGone(f"{of!r} has no connection {connection_id!r} in this process")
        return connection

    async def serve(
        self, house: House, find: Callable[[], Api], request: Request, receive: Receive, send: Send, *, can_answer: bool
    ) -> None:
        """Serve one client from beginning to end; ``find`` gives its API as it is now."""
        await receive()  # websocket.connect
        api = find()
        client = Client(base64.b64encode(os.urandom(11)).decode(), request, request.at)
        admitted = await _admitted(house, api, client)
        if isinstance(admitted, Response):
            await refuse(send, admitted, can_answer=can_answer)
            return
        client, headers = admitted
        connection = self._open[client.id] = Connection(client, api.handle)
        code, reason = 1006, ""
        try:
            await send({"type": "websocket.accept", **headers})
            async with anyio.create_task_group() as group:
                group.start_soon(connection.write, send)
                code, reason = await self._read(house, find, connection, receive)
                group.cancel_scope.cancel()
        finally:
            self._open.pop(client.id, None)
            connection.leave()
            with anyio.CancelScope(shield=True):
                await _tell_of_the_end(house, find(), client, code, reason)

    async def _read(
        self, house: House, find: Callable[[], Api], connection: Connection, receive: Receive
    ) -> tuple[int, str]:
        """Do what messages ask for, until the client goes; give the code and the reason with which it did."""
        answers: list[str | bytes | None]
        while True:
            message = await receive()
            if message["type"] == "websocket.disconnect":
                return message.get("code") or 1005, message.get("reason") or ""
            text = message.get("text")
            data = message["bytes"] if text is None else text
            connection.active_at = house.outbox.wall()
            if len(data) > limits.SOCKET_MESSAGE_BYTES:
                answers = [refusal(connection.client, "Message too long", request_id_text(new_id())), None]
            else:
                answer = await _answer(house, find(), connection.client, data)
                answers = [] if answer is None else [answer]
            try:
                for one in answers:
                    connection.put(one)
            except PyfaasError as error:  # it has gone meanwhile, or does not read
                _log.warning("%s: an answer was dropped: %s", connection.handle, error)


async def _admitted(house: House, api: Api, client: Client) -> Response | tuple[Client, dict[str, Any]]:
    """Ask whether a client may connect: what is refused, or how it is accepted."""
    listener = api.routes.get(CONNECT)
    if listener is None:
        return client, {}
    if not listener.enabled:
        return told(503, BUSY)
    if listener.gate is not None:
        context = await listener.gate.admit(house, client.request, {})
        if isinstance(context, Response):
            return context
        client = client._replace(authorizer=context)
    try:
        ending = await house.run(listener.function, _compact(connect_event(client)).encode())
    except PyfaasError as error:
        _log.warning("%s: %s", api.handle, error)
        return told(429 if isinstance(error, Throttled) else 503, BUSY)
    if ending.error is not None:
        return told(502, FAULTY)
    value = ending.value if isinstance(ending.value, dict) else {}
    status = value.get("statusCode")
    if type(status) is not int or not 200 <= status <= 299:
        return told(status if type(status) is int and 400 <= status <= 599 else 502, FORBIDDEN)
    return client, _accepted(value, client.request)


def _accepted(value: dict[str, Any], request: Request) -> dict[str, Any]:
    """Say which of the subprotocols that the client offers it is, if the function names one."""
    offered = [one.strip() for one in request.header("sec-websocket-protocol").split(",")]
    headers = value.get("headers")
    pairs = headers.items() if isinstance(headers, dict) else ()
    named = [one for name, one in pairs if name.lower() == "sec-websocket-protocol"]
    return {"subprotocol": named[0]} if named and named[0] in offered else {}


async def _answer(house: House, api: Api, client: Client, data: str | bytes) -> str | bytes | None:
    """Invoke the function of a message's route, and give what the client is to get."""
    request_id = request_id_text(new_id())
    listener = api.routes.get(route_of(data, api.handle.select)) or api.routes.get(DEFAULT)
    if listener is None or listener.trigger.route in (CONNECT, DISCONNECT):
        return refusal(client, FORBIDDEN, request_id)
    if not listener.enabled:
        return refusal(client, BUSY, request_id)
    event = message_event(client, listener.trigger.route, data, request_id=request_id, at=house.outbox.wall())
    try:
        ending = await house.run(listener.function, _compact(event).encode())
    except PyfaasError as error:
        _log.warning("%s: %s", api.handle, error)
        return refusal(client, "Too Many Requests" if isinstance(error, Throttled) else BUSY, request_id)
    if ending.error is not None:
        return refusal(client, FAULTY, request_id)
    value = ending.value if isinstance(ending.value, dict) else {}
    body = value.get("body")
    if not isinstance(body, str) or not body:
        return None
    if not value.get("isBase64Encoded"):
        return body
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        return refusal(client, FAULTY, request_id)


async def _tell_of_the_end(house: House, api: Api, client: Client, code: int, reason: str) -> None:
    """Submit what the function of $disconnect gets: whoever it is that goes, it is told."""
    listener = api.routes.get(DISCONNECT)
    if listener is None or not listener.enabled:
        return
    event = disconnect_event(client, code, reason, request_id=request_id_text(new_id()), at=house.outbox.wall())
    try:
        job = accept_for(listener.function.name, _compact(event).encode(), NOBODY)
        await run_async(house.database.write(job))
    except PyfaasError as error:
        _log.warning("%s: nobody could be told that a client has gone: %s", api.handle, error)


async def refuse(send: Send, response: Response, *, can_answer: bool) -> None:
    """Say why a client may not connect, where the server can; else it says 403."""
    if not can_answer:
        await send({"type": "websocket.close", "code": TRY_LATER if response.status == 503 else NORMAL})
        return
    headers = [(name.encode(), value.encode()) for name, value in response.headers]
    await send({"type": "websocket.http.response.start", "status": response.status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": response.body})


def _frame(data: str | bytes) -> Message:
    return {"type": "websocket.send", "text" if isinstance(data, str) else "bytes": data}
