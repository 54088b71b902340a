"""
Pages of other origins, by the rules of browsers and the words of API Gateway.  (pure)

    preflight(cors, request)     the answer to OPTIONS that asks whether a request may come
    exposed(cors, request)       the headers that an answer gets besides
"""

from __future__ import annotations

from pyfaas._sources.http.answers import Response
from pyfaas._sources.http.events import Request
from pyfaas.doors import Cors

OURS = "access-control-"  # what begins so is ours to say, once a route has cors


def is_preflight(request: Request) -> bool:
    """Tell whether a browser asks whether it may."""
    return request.method == "OPTIONS" and bool(request.header("access-control-request-method"))


def preflight(cors: Cors, request: Request) -> Response:
    """Answer; who may not is told nothing, and the browser then refuses."""
    method, headers = request.header("access-control-request-method"), request.header("access-control-request-headers")
    told = _origin(cors, request)
    if told and ("*" in cors.methods or method in cors.methods):
        told.append(("access-control-allow-methods", method if "*" in cors.methods else ",".join(cors.methods)))
        if headers:
            told.append(("access-control-allow-headers", headers if "*" in cors.headers else ",".join(cors.headers)))
        if cors.max_age:
            told.append(("access-control-max-age", str(cors.max_age)))
    return Response(204, told, b"")


def exposed(cors: Cors, request: Request) -> list[tuple[str, str]]:
    """Give the headers of an answer."""
    told = _origin(cors, request)
    if told and cors.expose:
        told.append(("access-control-expose-headers", ",".join(cors.expose)))
    return told


def _origin(cors: Cors, request: Request) -> list[tuple[str, str]]:
    origin = request.header("origin")
    if not origin:
        return []
    if "*" in cors.origins:
        return [("access-control-allow-origin", "*")]
    if origin not in cors.origins:
        return [("vary", "origin")]
    told = [("access-control-allow-origin", origin), ("vary", "origin")]
    return [*told, ("access-control-allow-credentials", "true")] if cors.credentials else told
