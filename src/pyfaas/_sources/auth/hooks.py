"""
Cognito's user-pool triggers: what each is asked, and what it may answer.  (pure)

    event_of(hook, user, ...)     the event; "response" holds what is so if the function says nothing
    response_of(hook, answer)     what the function answered, looked at

Keys and values are AWS's; arguments are spelled as in Python, so ``validation_data`` is ``validationData``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from pyfaas.context import REGION
from pyfaas.errors import ConfigurationError

POOL = f"{REGION}_local"
_MAP, _LIST, _TEXT, _FLAG = "a dict", "a list", "a text", "True or False"
_KINDS: dict[str, type] = {_MAP: dict, _LIST: list, _TEXT: str, _FLAG: bool}


class Hook(NamedTuple):
    """
    One trigger.

    ``ways``: what may lead to it, the usual one first; ``request`` and ``response``: names and kinds of what is asked
    and answered, besides the user's attributes.
    """

    source: str
    ways: tuple[str, ...]
    request: dict[str, str]
    response: dict[str, str]


_SESSION = {"session": _LIST, "user_not_found": _FLAG, "client_metadata": _MAP}
_CODE = ("SignUp", "AdminCreateUser", "ResendCode", "ForgotPassword")
HOOKS: dict[str, Hook] = {
    "pre_sign_up": Hook(
        "PreSignUp",
        ("SignUp", "AdminCreateUser", "ExternalProvider"),
        {"validation_data": _MAP, "client_metadata": _MAP},
        {"autoConfirmUser": _FLAG, "autoVerifyEmail": _FLAG, "autoVerifyPhone": _FLAG},
    ),
    "post_confirmation": Hook(
        "PostConfirmation", ("ConfirmSignUp", "ConfirmForgotPassword"), {"client_metadata": _MAP}, {}
    ),
    "pre_authentication": Hook(
        "PreAuthentication", ("Authentication",), {"validation_data": _MAP, "user_not_found": _FLAG}, {}
    ),
    "post_authentication": Hook(
        "PostAuthentication", ("Authentication",), {"new_device_used": _FLAG, "client_metadata": _MAP}, {}
    ),
    "pre_token_generation": Hook(
        "TokenGeneration",
        ("Authentication", "HostedAuth", "NewPasswordChallenge", "AuthenticateDevice", "RefreshTokens"),
        {"group_configuration": _MAP, "scopes": _LIST, "client_metadata": _MAP},
        {"claimsOverrideDetails": _MAP, "claimsAndScopeOverrideDetails": _MAP},
    ),
    "define_auth_challenge": Hook(
        "DefineAuthChallenge",
        ("Authentication",),
        _SESSION,
        {"challengeName": _TEXT, "issueTokens": _FLAG, "failAuthentication": _FLAG},
    ),
    "create_auth_challenge": Hook(
        "CreateAuthChallenge",
        ("Authentication",),
        {"challenge_name": _TEXT, **_SESSION},
        {"publicChallengeParameters": _MAP, "privateChallengeParameters": _MAP, "challengeMetadata": _TEXT},
    ),
    "verify_auth_challenge_response": Hook(
        "VerifyAuthChallengeResponse",
        ("Authentication",),
        {"private_challenge_parameters": _MAP, "challenge_answer": _TEXT, "user_not_found": _FLAG},
        {"answerCorrect": _FLAG},
    ),
    "user_migration": Hook(
        "UserMigration",
        ("Authentication", "ForgotPassword"),
        {"password": _TEXT, "validation_data": _MAP, "client_metadata": _MAP},
        {
            "userAttributes": _MAP,
            "finalUserStatus": _TEXT,
            "messageAction": _TEXT,
            "desiredDeliveryMediums": _LIST,
            "forceAliasCreation": _FLAG,
        },
    ),
    "custom_message": Hook(
        "CustomMessage",
        (*_CODE, "UpdateUserAttribute", "VerifyUserAttribute", "Authentication"),
        {"code_parameter": _TEXT, "link_parameter": _TEXT, "username_parameter": _TEXT, "client_metadata": _MAP},
        {"smsMessage": _TEXT, "emailMessage": _TEXT, "emailSubject": _TEXT},
    ),
}


class NoAnswer(ValueError):
    """What a function answered is none; the text says why."""


def event_of(
    name: str, user: Any, attributes: Any, request: Mapping[str, Any], *, way: str | None, client_id: str
) -> dict[str, Any]:
    """Make the event. Raises ConfigurationError naming what is wrong."""
    hook = HOOKS[name]
    way = hook.ways[0] if way is None else way
    if way not in hook.ways:
        raise ConfigurationError(f"way={way!r}: must be one of {', '.join(hook.ways)}")
    if not isinstance(user, str) or not 0 < len(user) <= 128:
        raise ConfigurationError(f"user={user!r}: must be a text of 1 to 128 characters")
    pairs = attributes.items() if isinstance(attributes, Mapping) else [(attributes, None)]
    if not all(isinstance(field, str) and isinstance(value, str) for field, value in pairs):
        raise ConfigurationError(f"attributes={attributes!r}: must be a dict of texts to texts")
    asked: dict[str, Any] = {"userAttributes": dict(attributes)}
    for field, value in request.items():
        if field not in hook.request:
            raise ConfigurationError(f"{field}={value!r}: {name} is asked {', '.join(hook.request)}")
        _check(field, value, hook.request[field], ConfigurationError)
        asked[_camel(field)] = value
    return {
        "version": "1",
        "triggerSource": f"{hook.source}_{way}",
        "region": REGION,
        "userPoolId": POOL,
        "userName": user,
        "callerContext": {"awsSdkVersion": "pyfaas", "clientId": client_id},
        "request": asked,
        "response": dict.fromkeys(hook.response),
    }


def response_of(name: str, answer: Any) -> dict[str, Any]:
    """Give what a function answered, without what it left as it was. Raises NoAnswer."""
    if not isinstance(answer, dict) or not isinstance(answer.get("response"), dict):
        raise NoAnswer("it must return its event, with the answer in event['response']")
    known, said = HOOKS[name].response, answer["response"]
    for field, value in said.items():
        if field not in known:
            raise NoAnswer(f"response[{field!r}]: {name} may answer {', '.join(known) or 'nothing'}")
        if value is not None:
            _check(f"response[{field!r}]", value, known[field], NoAnswer)
    return {field: value for field, value in said.items() if value is not None}


def _check(field: str, value: Any, kind: str, error: type[Exception]) -> None:
    if not isinstance(value, _KINDS[kind]):
        raise error(f"{field}={value!r}: must be {kind}")


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
