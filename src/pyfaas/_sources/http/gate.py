"""
What stands between a route and its function: throttle, key, authorizer, schema; in this order.

    admit(request) ──► a response for who may not pass, or what the event is to say of who does
"""

from __future__ import annotations

import hmac
import json
import logging
from collections.abc import Callable
from typing import Any

from pyfaas._invoke.attempts import House
from pyfaas._language.routes import Route
from pyfaas._sources.http import answers, authorizers
from pyfaas._sources.http.answers import Response, told
from pyfaas._sources.http.events import Request
from pyfaas._sources.http.throttle import TokenBucket
from pyfaas.doors import Authorizer, HttpTrigger
from pyfaas.errors import ConfigurationError, FunctionError, PyfaasError

UNAUTHORIZED, FORBIDDEN = told(401, "Unauthorized"), told(403, "Forbidden")
TOO_MANY, INVALID = told(429, "Too Many Requests"), told(400, "Invalid request body")
_compact = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
_log = logging.getLogger("pyfaas")


class Gate:
    """That of one route."""

    def __init__(self, trigger: HttpTrigger, route: Route) -> None:
        self._trigger = trigger
        self._route = route
        self._bucket = None if trigger.throttle is None else TokenBucket(*trigger.throttle)
        self._kept: dict[tuple[str, ...], tuple[float, Any]] = {}
        self._is_valid = None if trigger.schema is None else validator(trigger.schema)

    async def admit(
        self, house: House, request: Request, parameters: dict[str, str]
    ) -> Response | dict[str, Any] | None:
        """Let a request in, and give what its event says of who asks (None: nothing); or a response."""
        trigger = self._trigger
        if self._bucket is not None and not self._bucket.take(house.database.now()):
            return TOO_MANY
        if trigger.api_keys and not _is_known(request.header("x-api-key"), trigger.api_keys):
            return FORBIDDEN
        context = None
        if trigger.authorizer is not None:
            context = await self._authorize(house, trigger.authorizer, request, parameters)
            if isinstance(context, Response):
                return context
        if self._is_valid is not None and not self._is_valid(request.body):
            return INVALID
        return context

    async def _authorize(
        self, house: House, authorizer: Authorizer, request: Request, parameters: dict[str, str]
    ) -> Response | dict[str, Any]:
        identity = authorizers.identity_of(request, authorizer.identity)
        if identity is None:
            return UNAUTHORIZED
        try:
            answer = await self._asked(house, authorizer, request, parameters, identity)
            found = authorizers.verdict(answer, authorizers.request_arn(request))
        except FunctionError as error:
            if _is_refusal(error):
                return UNAUTHORIZED
            return answers.of_error(self._trigger.payload, error)
        except PyfaasError as error:
            return answers.of_error(self._trigger.payload, error)
        except authorizers.NoVerdict as fault:
            _log.warning("the authorizer %r answered what is none: %s", authorizer.function.name, fault)
            return told(500, "Internal Server Error")
        if not found.is_allowed:
            return FORBIDDEN
        return authorizers.context_1(found) if self._trigger.payload == "1.0" else authorizers.context_2(found)

    async def _asked(
        self,
        house: House,
        authorizer: Authorizer,
        request: Request,
        parameters: dict[str, str],
        identity: tuple[str, ...],
    ) -> Any:
        """Ask the authorizer, unless it has answered for this identity a while ago."""
        now = house.database.now()
        until, answer = self._kept.get(identity, (0.0, None))
        if now < until:
            return answer
        key = self._route.key
        if authorizer.kind == "token":
            event = authorizers.token_event(request, identity)
        elif self._trigger.payload == "1.0":
            event = authorizers.request_event_1(request, key, parameters, self._route.path, identity)
        else:
            event = authorizers.request_event_2(request, key, parameters, identity)
        ending = await house.run(authorizer.function, _compact(event).encode(), expects=_is_refusal)
        if ending.error is not None:
            raise ending.error
        if authorizer.ttl:
            self._kept.pop(identity, None)
            while len(self._kept) >= authorizers.KEPT_AT_MOST:
                self._kept.pop(next(iter(self._kept)), None)
            self._kept[identity] = (now + authorizer.ttl, ending.value)
        return ending.value


def _is_known(key: str, known: tuple[str, ...]) -> bool:
    """Tell whether a key is one of these; in a time that does not tell how much of it was right."""
    return any([hmac.compare_digest(key.encode(), one.encode()) for one in known])  # noqa: C419 - all of them


def validator(schema: str) -> Callable[[bytes], bool]:
    """Make what tells whether a body fits a JSON schema. Raises ConfigurationError where that cannot be."""
    try:
        import jsonschema
    except ImportError:
        raise ConfigurationError("schema= needs jsonschema: pip install pyfaas[http]") from None
    parsed = json.loads(schema)
    kind = jsonschema.validators.validator_for(parsed)
    try:
        kind.check_schema(parsed)
    except jsonschema.SchemaError as error:
        raise ConfigurationError(f"schema: {error.message} (at {list(error.absolute_path)})") from None
    check = kind(parsed)

    def is_valid(body: bytes) -> bool:
        try:
            return bool(check.is_valid(json.loads(body)))
        except (ValueError, RecursionError):
            return False

    return is_valid


def _is_refusal(error: FunctionError) -> bool:
    """Tell whether an authorizer says by it, as AWS's do, that it does not know who asks."""
    return error.message == "Unauthorized"
