"""WebSockets: ``websocket("chat", "/chat")`` names an API of messages; functions get them, and post back."""

from __future__ import annotations

from typing import Any

from pyfaas import _port
from pyfaas.doors import Authorizer, SocketTrigger, checked_authorizer
from pyfaas.options import refuse
from pyfaas.resources.handles import Handle

CONNECT, DISCONNECT, DEFAULT = "$connect", "$disconnect", "$default"


class WebSocket(Handle):
    """An API of messages; see ``websocket``."""

    kind = "websocket"
    is_asked = True
    url: str
    select: str

    def connect(self, *, authorizer: Authorizer | None = None) -> SocketTrigger:
        """
        Make a trigger: the function is asked whether a client may connect, by a ``statusCode`` from 200 to 299.

        Without one all may. A header ``Sec-WebSocket-Protocol`` of its response says which subprotocol it is.
        ``authorizer``: of kind ``"request"``, asked before. Raises ConfigurationError.
        """
        return SocketTrigger(self, CONNECT, checked_authorizer(authorizer, "1.0"))

    def disconnect(self) -> SocketTrigger:
        """Make a trigger: the function is told, asynchronously, that a client has gone."""
        return SocketTrigger(self, DISCONNECT, None)

    def messages(self, route: str = DEFAULT) -> SocketTrigger:
        """
        Make a trigger: the function gets each message whose ``select`` is this route, or those that no other one gets.

        What it returns as ``body`` goes back to the client. Raises ConfigurationError.
        """
        given: Any = route
        if not isinstance(given, str) or not 0 < len(given) <= 128 or (given.startswith("$") and given != DEFAULT):
            raise refuse("route", route, f"what messages say, up to 128 characters, or {DEFAULT!r}")
        return SocketTrigger(self, route, None)

    def as_trigger(self) -> SocketTrigger:
        """What ``trigger=chat`` means."""
        return self.messages()

    def post(self, connection_id: str, data: bytes | str) -> None:
        """
        Send something to a client: text, or bytes, up to 128 KB (AWS: PostToConnection).

        It is queued when this returns. Raises ConnectionGone where the client is not connected to this process,
        Throttled where it does not read, PayloadTooLarge, and ConfigurationError.
        """
        _port.current().ask(self, "post", connection_id, data)

    def get(self, connection_id: str) -> dict[str, Any]:
        """Tell of a connection: ``connectedAt``, ``lastActiveAt``, ``identity``. Raises ConnectionGone."""
        return _port.current().ask(self, "get", connection_id)  # type: ignore[no-any-return]

    def delete(self, connection_id: str) -> None:
        """Have a connection closed (AWS: DeleteConnection). Raises ConnectionGone."""
        _port.current().ask(self, "delete", connection_id)

    def connections(self) -> list[str]:
        """List the ids of those that are connected to this process; not from inside a sandbox."""
        return _port.current().ask(self, "connections")  # type: ignore[no-any-return]

    async def apost(self, connection_id: str, data: bytes | str) -> None:
        """Do what ``post`` does from async code."""
        await _port.current().aask(self, "post", connection_id, data)

    async def aget(self, connection_id: str) -> dict[str, Any]:
        """Do what ``get`` does from async code."""
        return await _port.current().aask(self, "get", connection_id)  # type: ignore[no-any-return]

    async def adelete(self, connection_id: str) -> None:
        """Do what ``delete`` does from async code."""
        await _port.current().aask(self, "delete", connection_id)


def websocket(name: str, path: str = "/", *, select: str = "action") -> WebSocket:
    """
    Name an API of messages over WebSockets: part of ``runtime.asgi``, as API Gateway's WebSocket APIs.

    - ``path``: where clients connect, without parameters
    - ``select``: the field of a message, in JSON, that says which route it takes; ``"a.b"`` is a field of a field (AWS:
      the route selection expression ``$request.body.action``)

    Raises ConfigurationError.
    """
    given: Any = path
    if not isinstance(given, str) or not given.startswith("/") or any(one in given for one in "{}?#% \0"):
        raise refuse("path", path, "a path such as '/chat'")
    field: Any = select
    if not isinstance(field, str) or not all(field.split(".")):
        raise refuse("select", select, "the name of a field, such as 'action'")
    return WebSocket(name, url=path, select=select)
