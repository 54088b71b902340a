"""Connections and messages as events, key for key as API Gateway's WebSocket APIs make them.  (pure)"""

from __future__ import annotations

import base64
import json
from typing import Any, NamedTuple

from pyfaas._sources.http.events import API_ID, Request, listed, query_of, request_time

DEFAULT = "$default"
STAGE = "$default"


class Client(NamedTuple):
    """Who is connected: ``connected_at`` in seconds since 1970; ``authorizer`` is what that said."""

    id: str
    request: Request
    connected_at: float
    authorizer: dict[str, Any] | None = None


def connect_event(client: Client) -> dict[str, Any]:
    """Make what a function is asked that may refuse a client."""
    return {**_with_headers(client), "requestContext": _context(client, "$connect", "CONNECT", client.request)}


def message_event(client: Client, route: str, data: str | bytes, *, request_id: str, at: float) -> dict[str, Any]:
    """Make the event of a message."""
    request = client.request._replace(request_id=request_id, at=at)
    context = {**_context(client, route, "MESSAGE", request), "messageId": request_id}
    body = data if isinstance(data, str) else base64.b64encode(data).decode()
    return {"requestContext": context, "body": body, "isBase64Encoded": not isinstance(data, str)}


def disconnect_event(client: Client, code: int, reason: str, *, request_id: str, at: float) -> dict[str, Any]:
    """Make the event of a client that has gone."""
    request = client.request._replace(request_id=request_id, at=at)
    context = _context(client, "$disconnect", "DISCONNECT", request)
    told = {**context, "disconnectStatusCode": code, "disconnectReason": reason}
    return {**_with_headers(client), "requestContext": told}


def route_of(data: str | bytes, select: str) -> str:
    """Tell which route a message takes by its own word."""
    try:
        found = json.loads(data)
        for part in select.split("."):
            found = found[part]
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return DEFAULT
    return found if isinstance(found, str) and not found.startswith("$") else DEFAULT


def refusal(client: Client, message: str, request_id: str) -> str:
    """Write what a client gets whose message has led to nothing."""
    return json.dumps({"message": message, "connectionId": client.id, "requestId": request_id})


def _with_headers(client: Client) -> dict[str, Any]:
    request = client.request
    query = query_of(request)
    told: dict[str, Any] = {"headers": dict(request.headers), "multiValueHeaders": listed(request.headers)}
    if query:
        told |= {"queryStringParameters": dict(query), "multiValueQueryStringParameters": listed(query)}
    return {**told, "isBase64Encoded": False}


def _context(client: Client, route: str, kind: str, request: Request) -> dict[str, Any]:
    context: dict[str, Any] = {
        "routeKey": route,
        "eventType": kind,
        "extendedRequestId": request.request_id,
        "requestTime": request_time(request.at),
        "messageDirection": "IN",
        "stage": STAGE,
        "connectedAt": int(client.connected_at * 1000),
        "requestTimeEpoch": int(request.at * 1000),
        "identity": {"userAgent": request.header("user-agent"), "sourceIp": request.source_ip},
        "requestId": request.request_id,
        "domainName": request.header("host", "localhost"),
        "connectionId": client.id,
        "apiId": API_ID,
    }
    if client.authorizer is not None:
        context["authorizer"] = client.authorizer
    return context
