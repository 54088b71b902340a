"""
Lambda authorizers: what they get, and what their answers mean.  (pure)

    identity_of(request, sources)     what tells who asks; None where a part of it is missing, which nobody may
    token_event, request_event_1, request_event_2
    verdict(answer, arn)              a simple answer, or a policy, for one request

An answer is kept by the identity that it was given for; a policy is looked at anew for each request, as in AWS.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from pyfaas._sources.http.events import API_ID, STAGE, Request, version_1, version_2
from pyfaas.context import ACCOUNT, REGION

KEPT_AT_MOST = 10_000
_INVOKE = "execute-api:Invoke"


class Verdict(NamedTuple):
    """Whether a request may pass; ``principal`` and ``context`` go into its event."""

    is_allowed: bool
    principal: str
    context: dict[str, Any]


class NoVerdict(ValueError):
    """What an authorizer answered means nothing; the text says why."""


def request_arn(request: Request) -> str:
    """Name a request as policies do."""
    return f"arn:aws:execute-api:{REGION}:{ACCOUNT}:{API_ID}/{STAGE}/{request.method}{request.path}"


def identity_of(request: Request, sources: Sequence[str]) -> tuple[str, ...] | None:
    """Give what is at ``header.x`` and ``querystring.x``; None where one is missing, or empty."""
    found = []
    for source in sources:
        kind, _, name = source.partition(".")
        values = parse_qs(request.query).get(name, [""]) if kind == "querystring" else [request.header(name.lower())]
        if not values[-1]:
            return None
        found.append(values[-1])
    return tuple(found)


def token_event(request: Request, identity: Sequence[str]) -> dict[str, Any]:
    """Make what a TOKEN authorizer gets."""
    return {"type": "TOKEN", "authorizationToken": identity[0], "methodArn": request_arn(request)}


def request_event_1(
    request: Request, route_key: str, parameters: Mapping[str, str], resource: str, identity: Sequence[str]
) -> dict[str, Any]:
    """Make what a REQUEST authorizer gets by payload 1.0: the event without its body."""
    event = version_1(request, route_key, parameters, resource)
    del event["body"], event["isBase64Encoded"]
    told = {"type": "REQUEST", "methodArn": request_arn(request), "identitySource": ",".join(identity)}
    return {**event, **told, "authorizationToken": ",".join(identity)}


def request_event_2(
    request: Request, route_key: str, parameters: Mapping[str, str], identity: Sequence[str]
) -> dict[str, Any]:
    """Make what a REQUEST authorizer gets by payload 2.0."""
    event = version_2(request._replace(body=b""), route_key, parameters)
    del event["isBase64Encoded"]
    return {**event, "type": "REQUEST", "routeArn": request_arn(request), "identitySource": [*identity]}


def verdict(answer: Any, arn: str) -> Verdict:
    """Read an answer for the request of this name. Raises NoVerdict."""
    if not isinstance(answer, dict):
        raise NoVerdict("it must be a dict with isAuthorized, or with a policyDocument")
    context = answer.get("context") or {}
    if not isinstance(context, dict):
        raise NoVerdict(f"context={context!r}: must be a dict")
    if "isAuthorized" in answer:
        if type(answer["isAuthorized"]) is not bool:
            raise NoVerdict(f"isAuthorized={answer['isAuthorized']!r}: must be true or false")
        return Verdict(answer["isAuthorized"], "", context)
    principal = answer.get("principalId")
    if not isinstance(principal, str):
        raise NoVerdict(f"principalId={principal!r}: must be a text")
    return Verdict(_allows(answer.get("policyDocument"), arn), principal, context)


def context_1(found: Verdict) -> dict[str, Any]:
    """Give what an event of payload 1.0 says of it: values are texts there."""
    values = {name: value if isinstance(value, str) else json.dumps(value) for name, value in found.context.items()}
    return {"principalId": found.principal, **values}


def context_2(found: Verdict) -> dict[str, Any]:
    """Give what an event of payload 2.0 says of it."""
    return {"lambda": found.context or None}


def _allows(policy: Any, arn: str) -> bool:
    """Tell whether a statement allows a request, and none denies it."""
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list) or not all(isinstance(one, dict) for one in statements):
        raise NoVerdict("policyDocument: must be a dict with a list of Statement")
    effects = {
        one.get("Effect") for one in statements if _fits(one.get("Action"), _INVOKE) and _fits(one.get("Resource"), arn)
    }
    return "Allow" in effects and "Deny" not in effects


def _fits(patterns: Any, text: str) -> bool:
    """Tell whether one of the patterns, with * and ?, is of this text."""
    listed = patterns if isinstance(patterns, list) else [patterns]
    return any(
        isinstance(one, str) and re.fullmatch(fnmatch.translate(one.replace("[", "[[]")), text) is not None
        for one in listed
    )
