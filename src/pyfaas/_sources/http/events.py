"""
Requests as events, key for key as API Gateway and function URLs make them.  (pure)

    version_2(request, route, parameters)     HTTP API payload 2.0, and function URLs
    version_1(request, route, parameters)     REST API; HTTP API payload 1.0, which has a "version" besides
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

from pyfaas.context import ACCOUNT

API_ID = "local"
STAGE = "$default"
_TEXT = re.compile(r"text/.*|application/(.*\+)?(json|xml)|application/javascript")  # else a body is in base64
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Request(NamedTuple):
    """
    What a client sent.

    ``path`` and ``query`` as they came, percent-encoded; ``headers`` in their order, names in lower case; ``at`` in
    seconds since 1970.
    """

    method: str
    path: str
    query: str
    headers: list[tuple[str, str]]
    body: bytes
    source_ip: str
    protocol: str
    request_id: str
    at: float

    def header(self, name: str, default: str = "") -> str:
        """Give the last header of this name."""
        return next((value for known, value in reversed(self.headers) if known == name), default)


def version_2(
    request: Request, route_key: str, parameters: Mapping[str, str], authorizer: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Make an event of payload version 2.0. What a request has not is not in it."""
    cookies = [one for value in _all_of(request, "cookie") for one in value.split("; ")]
    domain = request.header("host", "localhost")
    context: dict[str, Any] = {
        "accountId": ACCOUNT,
        "apiId": API_ID,
        "domainName": domain,
        "domainPrefix": domain.partition(".")[0],
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": request.protocol,
            "sourceIp": request.source_ip,
            "userAgent": request.header("user-agent"),
        },
        "requestId": request.request_id,
        "routeKey": route_key,
        "stage": STAGE,
        "time": request_time(request.at),
        "timeEpoch": int(request.at * 1000),
    }
    if authorizer is not None:
        context["authorizer"] = authorizer
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": request.path,
        "rawQueryString": request.query,
        "headers": _joined((name, value) for name, value in request.headers if name != "cookie"),
        "requestContext": context,
        "isBase64Encoded": False,
    }
    if cookies:
        event["cookies"] = cookies
    if request.query:
        event["queryStringParameters"] = _joined(query_of(request))
    if parameters:
        event["pathParameters"] = dict(parameters)
    if request.body:
        event["body"], event["isBase64Encoded"] = body_text(request)
    return event


def version_1(
    request: Request,
    route_key: str,
    parameters: Mapping[str, str],
    resource: str,
    authorizer: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make an event of payload version 1.0. What a request has not is null. ``resource``: the route's path."""
    query, body = query_of(request), body_text(request) if request.body else (None, False)
    domain = request.header("host", "localhost")
    return {
        "version": "1.0",
        "resource": resource,
        "path": request.path,
        "httpMethod": request.method,
        "headers": dict(request.headers),
        "multiValueHeaders": listed(request.headers),
        "queryStringParameters": dict(query) or None,
        "multiValueQueryStringParameters": listed(query) or None,
        "requestContext": {
            "accountId": ACCOUNT,
            "apiId": API_ID,
            "authorizer": authorizer,
            "domainName": domain,
            "domainPrefix": domain.partition(".")[0],
            "extendedRequestId": request.request_id,
            "httpMethod": request.method,
            "identity": {
                "accessKey": None,
                "accountId": None,
                "caller": None,
                "cognitoAuthenticationProvider": None,
                "cognitoAuthenticationType": None,
                "cognitoIdentityId": None,
                "cognitoIdentityPoolId": None,
                "principalOrgId": None,
                "sourceIp": request.source_ip,
                "user": None,
                "userAgent": request.header("user-agent"),
                "userArn": None,
            },
            "path": request.path,
            "protocol": request.protocol,
            "requestId": request.request_id,
            "requestTime": request_time(request.at),
            "requestTimeEpoch": int(request.at * 1000),
            "resourceId": route_key,
            "resourcePath": resource,
            "stage": STAGE,
        },
        "pathParameters": dict(parameters) or None,
        "stageVariables": None,
        "body": body[0],
        "isBase64Encoded": body[1],
    }


def body_text(request: Request) -> tuple[str, bool]:
    """Give the body as it is in an event, and whether that is base64: so is all that is not known to be text."""
    kind = request.header("content-type").partition(";")[0].strip().lower()
    if not request.header("content-encoding") and (not kind or _TEXT.fullmatch(kind)):
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode(), True


def request_time(at: float) -> str:
    """Write a moment as logs of web servers do, in English whatever the locale: 04/Mar/2020:19:15:17 +0000."""
    return _second(int(at // 1))


@lru_cache(maxsize=2)
def _second(at: int) -> str:
    moment = datetime.fromtimestamp(at, timezone.utc)
    return f"{moment.day:02d}/{_MONTHS[moment.month - 1]}/{moment.year}:{moment:%H:%M:%S} +0000"


def query_of(request: Request) -> list[tuple[str, str]]:
    """Give the names and values of the query, decoded, in their order."""
    return parse_qsl(request.query, keep_blank_values=True, errors="replace")


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def listed(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Give the values of each name."""
    listed: dict[str, list[str]] = {}
    for name, value in pairs:
        listed.setdefault(name, []).append(value)
    return listed


def _all_of(request: Request, wanted: str) -> list[str]:
    return [value for name, value in request.headers if name == wanted]
