"""
Results as responses, by the rules of API Gateway and function URLs.  (pure)

    of_result(version, value, payload)     what a function returned; payload 2.0 infers a response, 1.0 does not
    of_error(version, error)               why there is no result

What a function returned that is no response is its fault, and the client learns just that something went wrong.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, NamedTuple

from pyfaas.errors import FunctionError, PayloadTooLarge, PyfaasError, Throttled, TimedOut

JSON = ("content-type", "application/json")
_BAD = "\r\n\0"


class Response(NamedTuple):
    """What a client gets; names of headers in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class NoResponse(ValueError):
    """What a function returned cannot be a response; the text says why."""


def told(status: int, message: str) -> Response:
    """Make a response that only says something, as API Gateway does."""
    return Response(status, [JSON], json.dumps({"message": message}).encode())


NOT_FOUND = told(404, "Not Found")
TOO_LARGE = told(413, "Request Entity Too Large")
UNAVAILABLE = told(503, "Service Unavailable")


def of_error(version: str, error: PyfaasError) -> Response:
    """Tell the client that there is no result: 1.0 as REST APIs say it, 2.0 as HTTP APIs do."""
    if isinstance(error, TimedOut):
        return told(504, "Endpoint request timed out") if version == "1.0" else UNAVAILABLE
    if isinstance(error, Throttled):
        return told(429, "Too Many Requests")
    if isinstance(error, PayloadTooLarge):
        return TOO_LARGE
    if isinstance(error, FunctionError):
        return _faulty(version)
    return told(500, "Internal server error") if version == "1.0" else UNAVAILABLE


def _faulty(version: str) -> Response:
    return told(502, "Internal server error") if version == "1.0" else told(500, "Internal Server Error")


def of_result(version: str, value: Any, payload: bytes) -> tuple[Response, str]:
    """Make a response of a result and its JSON; and say why it could not be one, if so."""
    try:
        if isinstance(value, dict) and "statusCode" in value:
            return _structured(value, with_lists=version == "1.0"), ""
        if version == "1.0":
            raise NoResponse("it must be a dict with a statusCode")
        return Response(200, [JSON], value.encode() if isinstance(value, str) else payload), ""
    except (NoResponse, UnicodeEncodeError) as error:
        return _faulty(version), str(error)


def _structured(value: dict[str, Any], *, with_lists: bool) -> Response:
    status = value["statusCode"]
    if isinstance(status, str) and status.isascii() and status.isdigit():
        status = int(status)
    if type(status) is not int or not 200 <= status <= 599:  # below is no answer yet, and servers refuse it
        raise NoResponse(f"statusCode={value['statusCode']!r}: must be a number from 200 to 599")
    headers = _headers(value, with_lists=with_lists)
    if all(name != "content-type" for name, _ in headers):
        headers.append(JSON)
    return Response(status, headers, _body(value))


def _headers(value: dict[str, Any], *, with_lists: bool) -> list[tuple[str, str]]:
    pairs = [*_dict_of(value, "headers").items()]
    if with_lists:
        lists = _dict_of(value, "multiValueHeaders")
        if not all(isinstance(values, list) for values in lists.values()):
            raise NoResponse(f"multiValueHeaders={lists!r}: must be a dict of lists")
        several = [(name, one) for name, values in lists.items() for one in values]
        pairs = [one for one in pairs if one not in several] + several
    elif value.get("cookies") is not None:
        if not isinstance(value["cookies"], list):
            raise NoResponse(f"cookies={value['cookies']!r}: must be a list of texts")
        pairs += [("set-cookie", one) for one in value["cookies"]]
    return [_header(name, one) for name, one in pairs if one is not None]


def _dict_of(value: dict[str, Any], field: str) -> dict[str, Any]:
    found = value.get(field)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise NoResponse(f"{field}={found!r}: must be a dict")
    return found


def _header(name: str, value: Any) -> tuple[str, str]:
    text = json.dumps(value) if isinstance(value, (bool, int, float)) else value
    if not isinstance(text, str) or any(one in text or one in name for one in _BAD) or not name.strip():
        raise NoResponse(f"header {name!r}: {value!r} must be a text without line breaks")
    text.encode()  # lone surrogates are refused with the rest
    if not name.isascii() or any(one in name for one in " \t():,;"):
        raise NoResponse(f"header {name!r}: no such name may be")
    return name.lower(), text


def _body(value: dict[str, Any]) -> bytes:
    body = value.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise NoResponse(f"body: must be a text, not {type(body).__name__}; json.dumps makes one")
    if not value.get("isBase64Encoded"):
        return body.encode()
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise NoResponse("body: isBase64Encoded is true, and it is not base64") from None
