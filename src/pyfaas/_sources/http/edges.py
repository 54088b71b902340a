"""
Hooks around all HTTP routes, as CloudFront has them with Lambda@Edge.

    viewer-request ──► origin-request ──► the routes ──► origin-response ──► viewer-response
          └────────────────┴─► a response of its own

There is no cache in between, so the two on each side follow one another. As in CloudFront, viewer-response is not asked
of a response that viewer-request made, or whose status is 400 or more.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from pyfaas._invoke.attempts import House
from pyfaas._sources.http.answers import Response, told
from pyfaas._sources.http.events import Request
from pyfaas.doors import EdgeTrigger
from pyfaas.errors import ConfigurationError, PyfaasError
from pyfaas.functions import Function

BEFORE, AFTER = ("viewer-request", "origin-request"), ("origin-response", "viewer-response")
BODY_BYTES = {"viewer-request": 40_960, "origin-request": 1_048_576}
FAULTY = told(502, "Bad Gateway")
_FIXED = {"connection", "content-length", "host", "transfer-encoding", "upgrade", "via"}
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_log = logging.getLogger("pyfaas")


class Edge(NamedTuple):
    """Who is asked at one of them."""

    function: Function[Any, Any]
    trigger: EdgeTrigger


class NotAnEdge(ValueError):
    """What a function returned is neither a request nor a response; the text says why."""


def edges_of(wanted: Iterable[tuple[Function[Any, Any], EdgeTrigger, bool]]) -> dict[str, Edge]:
    """List those that are enabled, by their names. Raises ConfigurationError where two are of one."""
    found: dict[str, Edge] = {}
    enabled: dict[str, Edge] = {}
    for function, trigger, is_enabled in wanted:
        if trigger.event in found:
            other = found[trigger.event].function
            raise ConfigurationError(f"edge({trigger.event!r}): is a trigger of {other.name!r} and {function.name!r}")
        found[trigger.event] = Edge(function, trigger)
        if is_enabled:
            enabled[trigger.event] = found[trigger.event]
    return enabled


async def through(
    edges: dict[str, Edge], house: House, request: Request, respond: Callable[[Request], Awaitable[Response | None]]
) -> Response | None:
    """Give the response to a request, with all that the edges make of both; None where the client has gone."""
    for event in BEFORE:
        if event in edges:
            found = await _ask(house, edges[event], request, None)
            if isinstance(found, Response):
                if event == "viewer-request" or "viewer-response" not in edges or found.status >= 400:
                    return found
                return await _after(edges, house, request, found, AFTER[1:])
            request = found
    response = await respond(request)
    return None if response is None else await _after(edges, house, request, response, AFTER)


async def _after(
    edges: dict[str, Edge], house: House, request: Request, response: Response, events: tuple[str, ...]
) -> Response:
    for event in events:
        if event in edges and not (event == "viewer-response" and response.status >= 400):
            found = await _ask(house, edges[event], request, response)
            response = found if isinstance(found, Response) else FAULTY
    return response


async def _ask(house: House, edge: Edge, request: Request, response: Response | None) -> Request | Response:
    event = cf_event(edge.trigger, request, response)
    try:
        ending = await house.run(edge.function, _compact(event).encode())
        if ending.error is not None:
            return FAULTY
        if response is None:
            return changed_request(request, ending.value)
        return changed_response(response, ending.value, body=edge.trigger.event == "origin-response")
    except (PyfaasError, NotAnEdge) as error:
        _log.warning("edge %s: %r failed: %s", edge.trigger.event, edge.function.name, error)
        return FAULTY


# -- what is said, and understood --------------------------------------------------------------------------------------


def cf_event(trigger: EdgeTrigger, request: Request, response: Response | None) -> dict[str, Any]:
    """Make the event of one of them."""
    config = {
        "distributionDomainName": request.header("host", "localhost"),
        "distributionId": "LOCAL",
        "eventType": trigger.event,
        "requestId": request.request_id,
    }
    told: dict[str, Any] = {
        "clientIp": request.source_ip,
        "headers": _written(request.headers),
        "method": request.method,
        "querystring": request.query,
        "uri": request.path,
    }
    if trigger.include_body and trigger.event in BODY_BYTES:
        most = BODY_BYTES[trigger.event]
        told["body"] = {
            "inputTruncated": len(request.body) > most,
            "action": "read-only",
            "encoding": "base64",
            "data": base64.b64encode(request.body[:most]).decode(),
        }
    cf: dict[str, Any] = {"config": config, "request": told}
    if response is not None:
        cf["response"] = {
            "status": str(response.status),
            "statusDescription": _phrase(response.status),
            "headers": _written(response.headers),
        }
    return {"Records": [{"cf": cf}]}


def changed_request(request: Request, value: Any) -> Request | Response:
    """Read what a function made of a request: another one, or a response. Raises NotAnEdge."""
    if not isinstance(value, dict):
        raise NotAnEdge("it must return the request, or a response")
    if "status" in value:
        return changed_response(Response(200, [], b""), value, body=True)
    uri, query = value.get("uri", request.path), value.get("querystring", request.query)
    if not isinstance(uri, str) or not uri.startswith("/") or not isinstance(query, str) or not (uri + query).isascii():
        raise NotAnEdge("uri must be a path, and querystring a text, both percent-encoded")
    if value.get("method", request.method) != request.method:
        raise NotAnEdge("method cannot be changed, as in CloudFront")
    headers = _read(value.get("headers", {}))
    fixed = [one for one in request.headers if one[0] in _FIXED]
    headers = fixed + [one for one in headers if one[0] not in _FIXED]
    return request._replace(path=uri, query=query, headers=headers, body=_replaced(value.get("body"), request.body))


def changed_response(response: Response, value: Any, *, body: bool) -> Response:
    """Read what a function made of a response. Raises NotAnEdge."""
    if not isinstance(value, dict):
        raise NotAnEdge("it must return the response")
    text = str(value.get("status", response.status))
    if not (text.isascii() and text.isdigit()) or not 200 <= int(text) <= 599:
        raise NotAnEdge(f"status={text!r}: must be from 200 to 599")
    headers = _read(value.get("headers", {}))
    if "body" not in value or not body:
        return Response(int(text), headers, response.body)
    data = _replaced({"action": "replace", "encoding": value.get("bodyEncoding", "text"), "data": value["body"]}, b"")
    return Response(int(text), headers, data)


def _written(headers: Iterable[tuple[str, str]]) -> dict[str, list[dict[str, str]]]:
    written: dict[str, list[dict[str, str]]] = {}
    for name, value in headers:
        key = "-".join(part.capitalize() for part in name.split("-"))
        written.setdefault(name, []).append({"key": key, "value": value})
    return written


def _read(headers: Any) -> list[tuple[str, str]]:
    if not isinstance(headers, dict) or not all(isinstance(values, list) for values in headers.values()):
        raise NotAnEdge('headers must be such as {"x-a": [{"key": "X-A", "value": "1"}]}')
    found = []
    for name, values in headers.items():
        for one in values:
            value = one.get("value") if isinstance(one, dict) else None
            if not isinstance(value, str) or any(mark in value or mark in name for mark in "\r\n\0"):
                raise NotAnEdge(f"header {name!r} must have texts without line breaks")
            if not name.isascii() or not name.strip() or any(mark in name for mark in " \t():,;"):
                raise NotAnEdge(f"header {name!r}: no such name may be")
            found.append((name.lower(), value))
    return found


def _replaced(given: Any, body: bytes) -> bytes:
    """Give the body that a function put in the place of the one that was."""
    if not isinstance(given, dict) or given.get("action") != "replace":
        return body
    data = given.get("data", "")
    if not isinstance(data, str):
        raise NotAnEdge("body must be a text")
    if given.get("encoding") != "base64":
        return data.encode("utf-8", "replace")
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise NotAnEdge("body is said to be base64, and is not") from None


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
