"""
What may stand after ``trigger=`` for events from outside: ``http("POST /orders")``.

A door only says what is wanted; ``_sources`` opens it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pyfaas import _port, limits
from pyfaas._payload import encode_event
from pyfaas.errors import ConfigurationError
from pyfaas.options import flag, one_of, refuse, seconds, whole

DEFAULT_ROUTE = "$default"


class Cors(NamedTuple):
    """
    Which pages of other origins may call a route, as API Gateway's ``cors`` of an HTTP API.

    ``origins``, ``methods`` and ``headers`` may hold ``"*"``; ``max_age`` in seconds.
    """

    origins: tuple[str, ...] = ("*",)
    methods: tuple[str, ...] = ("*",)
    headers: tuple[str, ...] = ("*",)
    expose: tuple[str, ...] = ()
    max_age: int = 0
    credentials: bool = False


class Authorizer(NamedTuple):
    """
    A function that says who may, as API Gateway's Lambda authorizers.

    ``kind``: ``"request"``, it gets the request without its body, or ``"token"``, just the first of ``identity``.
    ``identity``: what tells who asks, such as ``"header.authorization"`` and ``"querystring.key"``; a request without
    one of them is refused unasked. ``ttl``: seconds for which an answer is kept for the same identity, 0 to 3,600.
    """

    function: Any
    kind: str = "request"
    identity: tuple[str, ...] = ("header.authorization",)
    ttl: float = 300.0


class HttpTrigger(NamedTuple):
    """Requests of a route, each an invocation that the client waits for."""

    route: str
    payload: str
    cors: Cors | None
    errors: tuple[tuple[str, int], ...]
    when_gone: str
    authorizer: Authorizer | None
    schema: str | None
    throttle: tuple[float, int] | None
    api_keys: tuple[str, ...]

    @property
    def source(self) -> str:
        """What the events come from."""
        return f"http/{self.route}"

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        return "", {"payload": self.payload}

    def changed(self, options: Mapping[str, Any]) -> HttpTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        now = {name: value for name, value in self._asdict().items() if name != "route"}
        now["errors"] = dict(self.errors)
        if not options.keys() <= now.keys():
            raise ConfigurationError(f"change({', '.join(options)}): this trigger has the options {', '.join(now)}")
        return http(self.route, **{**now, **options})

    def check(self, timeout: float) -> None:
        """Any function will do."""


class SocketTrigger(NamedTuple):
    """What comes on a route of a WebSocket API."""

    socket: Any
    route: str
    authorizer: Authorizer | None

    @property
    def source(self) -> str:
        """What the events come from."""
        return self.socket.path  # type: ignore[no-any-return]

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        return self.route, {}

    def changed(self, options: Mapping[str, Any]) -> SocketTrigger:
        """Only who authorizes can be changed. Raises ConfigurationError."""
        if self.route != "$connect" or options.keys() != {"authorizer"}:
            right = "the option authorizer" if self.route == "$connect" else "no options"
            raise ConfigurationError(f"change({', '.join(options)}): this trigger has {right}")
        return self._replace(authorizer=checked_authorizer(options["authorizer"], "1.0"))

    def check(self, timeout: float) -> None:
        """Any function will do."""


class EdgeTrigger(NamedTuple):
    """A hook around all HTTP routes."""

    event: str
    include_body: bool

    @property
    def source(self) -> str:
        """What the events come from."""
        return f"edge/{self.event}"

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        return "", {"include_body": self.include_body}

    def changed(self, options: Mapping[str, Any]) -> EdgeTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        if options.keys() != {"include_body"}:
            raise ConfigurationError(f"change({', '.join(options)}): this trigger has the option include_body")
        return edge(self.event, **options)

    def check(self, timeout: float) -> None:
        """Refuse a function that takes longer than CloudFront would wait for it."""
        most = limits.EDGE_SECONDS[self.event.partition("-")[0]]
        if timeout > most:
            raise refuse("timeout", timeout, f"at most {most} with edge({self.event!r}), as in AWS")


EDGES = ("viewer-request", "origin-request", "origin-response", "viewer-response")


def edge(event: str, *, include_body: bool = False) -> EdgeTrigger:
    """
    Make a trigger of every request, or response, of all HTTP routes, as CloudFront's with Lambda@Edge.

    - ``event``: ``"viewer-request"`` and ``"origin-request"`` get the request, and return it, changed or not, or a
      response; ``"origin-response"`` and ``"viewer-response"`` get both, and return the response
    - ``include_body``: whether a request's event has its body: 40 KB of it for the viewer's, 1 MB for the origin's

    Raises ConfigurationError.
    """
    one_of(*EDGES)("event", event)
    flag("include_body", include_body)
    return EdgeTrigger(event, include_body)


class AuthTrigger(NamedTuple):
    """A hook of sign-up or sign-in: ``runtime.auth`` asks it."""

    hook: str

    @property
    def source(self) -> str:
        """What the events come from."""
        return f"auth/{self.hook}"

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        return "", {}

    def changed(self, options: Mapping[str, Any]) -> AuthTrigger:
        """There is nothing to change. Raises ConfigurationError."""
        raise ConfigurationError(f"change({', '.join(options)}): this trigger has no options")

    def check(self, timeout: float) -> None:
        """Refuse a function that takes longer than anybody who signs in waits for it."""
        if timeout > limits.AUTH_SECONDS:
            raise refuse("timeout", timeout, f"at most {limits.AUTH_SECONDS:g} with an auth trigger, as in AWS")


def auth(hook: str) -> AuthTrigger:
    """
    Make a trigger of what an application asks by ``runtime.auth``, as Cognito's user pools ask their Lambda triggers.

    ``hook``: such as ``"pre_sign_up"``, ``"pre_token_generation"`` or ``"custom_message"``. Raises ConfigurationError.
    """
    one_of(*HOOKS)("hook", hook)
    return AuthTrigger(hook)


HOOKS = (
    "pre_sign_up",
    "post_confirmation",
    "pre_authentication",
    "post_authentication",
    "pre_token_generation",
    "define_auth_challenge",
    "create_auth_challenge",
    "verify_auth_challenge_response",
    "user_migration",
    "custom_message",
)


def http(
    route: str = DEFAULT_ROUTE,
    *,
    payload: str = "2.0",
    cors: Cors | bool | None = None,
    errors: Mapping[str, int] | None = None,
    when_gone: str = "finish",
    authorizer: Authorizer | Any = None,
    schema: Any = None,
    throttle: tuple[float, int] | None = None,
    api_keys: Sequence[str] = (),
) -> HttpTrigger:
    """
    Make a trigger of requests: ``runtime.serve()`` takes them, and ``runtime.asgi`` in an application of your own.

    - ``route``: a method and a path, as API Gateway has them: ``"POST /orders"``, ``"GET /orders/{id}"``,
      ``"ANY /files/{path+}"``; without one all that no other route takes (``"$default"``), which is a function URL
    - ``payload``: ``"2.0"``, that of HTTP APIs and function URLs, or ``"1.0"``, that of REST APIs
    - ``cors``: True for pages of all origins, or a ``Cors``; what the function says of it itself is then left out
    - ``errors``: which status an error of the function gets, by its errorType: ``{"NotFound": 404}``. The client is
      told its message then, and else nothing but that something went wrong
    - ``when_gone``: whether an invocation goes on to ``"finish"`` when its client has gone, as in AWS, or is to
      ``"stop"``
    - ``authorizer``: a function that says who may, or an ``Authorizer`` that says more of it
    - ``schema``: a JSON schema that a body must fit, a dict or its JSON text (``pip install pyfaas[http]``)
    - ``throttle``: so many requests a second, and at once: ``(100, 20)`` (AWS: rate and burst)
    - ``api_keys``: a request must have one of these as its header ``x-api-key``

    They are asked in this order: throttle, key, authorizer, schema.

    Raises ConfigurationError.
    """
    if not _port.in_sandbox:
        from pyfaas._language.routes import parse

        route = parse(route).key
    one_of("2.0", "1.0")("payload", payload)
    one_of("finish", "stop")("when_gone", when_gone)
    if cors is True:
        cors = Cors()
    if cors is not None and cors is not False and not isinstance(cors, Cors):
        raise refuse("cors", cors, "True, a Cors, or None")
    return HttpTrigger(
        route,
        payload,
        _checked_cors(cors or None),
        _checked_errors(errors),
        when_gone,
        checked_authorizer(authorizer, payload),
        _checked_schema(schema),
        _checked_throttle(throttle),
        _checked_keys(api_keys),
    )


def _checked_cors(cors: Cors | None) -> Cors | None:
    if cors is None:
        return None
    for field in ("origins", "methods", "headers", "expose"):
        value: Any = getattr(cors, field)
        if isinstance(value, str) or not isinstance(value, Iterable) or not all(isinstance(one, str) for one in value):
            raise refuse(f"cors.{field}", value, "a list of texts")
    whole(0, 86_400)("cors.max_age", cors.max_age)
    if cors.credentials and "*" in cors.origins:
        raise refuse("cors.credentials", True, 'False where origins holds "*": browsers would refuse the answer')
    return cors._replace(
        origins=tuple(cors.origins), methods=tuple(cors.methods), headers=tuple(cors.headers), expose=tuple(cors.expose)
    )


def _checked_errors(errors: Any) -> tuple[tuple[str, int], ...]:
    if errors is None:
        return ()
    if not isinstance(errors, Mapping) or not all(isinstance(name, str) for name in errors):
        raise refuse("errors", errors, "a dict of errorTypes to statuses")
    for name, status in errors.items():
        whole(400, 599)(f"errors[{name!r}]", status)
    return tuple(errors.items())


def checked_authorizer(given: Any, payload: str) -> Authorizer | None:
    """Accept an Authorizer, a function that is one, or None. Raises ConfigurationError."""
    if given is None:
        return None
    authorizer = given if isinstance(given, Authorizer) else Authorizer(given)
    if not hasattr(authorizer.function, "try_invoke"):
        raise refuse("authorizer", authorizer.function, "a function that was declared with @function, or an Authorizer")
    one_of("request", "token")("authorizer.kind", authorizer.kind)
    if authorizer.kind == "token" and payload != "1.0":
        raise refuse("authorizer.kind", "token", "'request' with payload=\"2.0\", as in AWS")
    sources: Any = authorizer.identity
    if isinstance(sources, str) or not sources or not all(_is_source(one) for one in sources):
        raise refuse("authorizer.identity", sources, 'a list of such as "header.authorization" or "querystring.key"')
    seconds(0, 3600)("authorizer.ttl", authorizer.ttl)
    return authorizer._replace(identity=tuple(sources))


def _is_source(given: Any) -> bool:
    return isinstance(given, str) and bool(_SOURCE.fullmatch(given))


_SOURCE = re.compile(r"(header|querystring)\.[a-zA-Z0-9_-]+")


def _checked_schema(schema: Any) -> str | None:
    if schema is None:
        return None
    text = schema if isinstance(schema, str) else encode_event(schema).decode()
    if not _port.in_sandbox:
        try:
            is_object = isinstance(json.loads(text), dict)
        except ValueError:
            is_object = False
        if not is_object:
            raise refuse("schema", schema, "a JSON schema: a dict, or its JSON text")
    return text


def _checked_throttle(throttle: Any) -> tuple[float, int] | None:
    if throttle is None:
        return None
    if not isinstance(throttle, (tuple, list)) or len(throttle) != 2:
        raise refuse("throttle", throttle, "how many a second, and how many at once: (100, 20), or None")
    rate, burst = throttle
    if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 < rate < float("inf"):
        raise refuse("throttle", throttle, "a number above 0 of requests a second, and how many at once")
    whole(1)("throttle's burst", burst)
    return float(rate), burst


def _checked_keys(keys: Any) -> tuple[str, ...]:
    if isinstance(keys, str) or not all(isinstance(one, str) and one.isascii() and len(one) >= 20 for one in keys):
        raise ConfigurationError("api_keys: must be a list of ASCII texts of at least 20 characters, as in AWS")
    return tuple(keys)
