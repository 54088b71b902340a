"""
``runtime.auth``: an application asks what a function says of somebody who signs up, or in.

    runtime.auth.pre_sign_up("ada", {"email": ...}) ──► event ──► invoke ──► its response, looked at

A function that raises refuses: its error is the caller's. Where no function has the hook, there is nothing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from pyfaas._invoke.attempts import House
from pyfaas._invoke.direct import run
from pyfaas._invoke.ending import value_of
from pyfaas._payload import encode_event
from pyfaas._sources.auth.hooks import NoAnswer, event_of, response_of
from pyfaas._waits import Trip, run_async, run_blocking
from pyfaas.doors import AuthTrigger
from pyfaas.errors import BadResponse, ConfigurationError, InvokeError, SandboxDied, Throttled, TimedOut
from pyfaas.functions import Function

ATTEMPTS = 3  # AWS's
Answer = dict[str, Any]


class Asked(NamedTuple):
    """Which function has a hook, and whether its mapping is enabled."""

    function: Function[Any, Any]
    enabled: bool


def hooks_of(wanted: Iterable[tuple[Function[Any, Any], AuthTrigger, bool]]) -> dict[str, Asked]:
    """List triggers by their hooks, each with its function and whether it is enabled. Raises ConfigurationError."""
    hooks: dict[str, Asked] = {}
    for function, trigger, enabled in wanted:
        other = hooks.setdefault(trigger.hook, Asked(function, enabled)).function
        if other is not function:
            raise ConfigurationError(f"{function.name!r} and {other.name!r} both have the hook {trigger.hook!r}")
    return hooks


class Auth:
    """
    The hooks of sign-up and sign-in, as Cognito's user pools have them; ``runtime.auth``.

    Each is asked with the user's name and attributes, and by keywords what is special to it; ``way`` says what led to
    it, ``client_id`` which client. It gives what the function answered, a dict with AWS's names, empty where it said
    nothing, or where no function has the hook.

    Raises the FunctionError of a function that refuses (or fails), BadResponse where it answers what is none,
    ConfigurationError, and InvokeError where the hook is paused.
    """

    def __init__(self, opened: Callable[[], tuple[House, dict[str, Asked]]]) -> None:
        self._opened = opened

    def pre_sign_up(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Ask whether somebody may sign up: ``validation_data``, ``client_metadata``."""
        return run_blocking(self._ask("pre_sign_up", user, attributes, **request))

    async def apre_sign_up(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("pre_sign_up", user, attributes, **request))

    def post_confirmation(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Tell that somebody is confirmed: ``client_metadata``."""
        return run_blocking(self._ask("post_confirmation", user, attributes, **request))

    async def apost_confirmation(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("post_confirmation", user, attributes, **request))

    def pre_authentication(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Ask whether somebody may sign in: ``validation_data``, ``user_not_found``."""
        return run_blocking(self._ask("pre_authentication", user, attributes, **request))

    async def apre_authentication(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("pre_authentication", user, attributes, **request))

    def post_authentication(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Tell that somebody has signed in: ``new_device_used``, ``client_metadata``."""
        return run_blocking(self._ask("post_authentication", user, attributes, **request))

    async def apost_authentication(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("post_authentication", user, attributes, **request))

    def pre_token_generation(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Ask what a token is to say: ``group_configuration``, ``scopes``, ``client_metadata``."""
        return run_blocking(self._ask("pre_token_generation", user, attributes, **request))

    async def apre_token_generation(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("pre_token_generation", user, attributes, **request))

    def define_auth_challenge(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Ask which challenge comes next: ``session``, ``user_not_found``, ``client_metadata``."""
        return run_blocking(self._ask("define_auth_challenge", user, attributes, **request))

    async def adefine_auth_challenge(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("define_auth_challenge", user, attributes, **request))

    def create_auth_challenge(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Ask for a challenge: ``challenge_name``, ``session``, ``user_not_found``, ``client_metadata``."""
        return run_blocking(self._ask("create_auth_challenge", user, attributes, **request))

    async def acreate_auth_challenge(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("create_auth_challenge", user, attributes, **request))

    def verify_auth_challenge_response(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Ask whether an answer is right: ``private_challenge_parameters``, ``challenge_answer``."""
        return run_blocking(self._ask("verify_auth_challenge_response", user, attributes, **request))

    async def averify_auth_challenge_response(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("verify_auth_challenge_response", user, attributes, **request))

    def user_migration(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Ask for somebody from an older directory: ``password``, ``validation_data``, ``client_metadata``."""
        return run_blocking(self._ask("user_migration", user, attributes, **request))

    async def auser_migration(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("user_migration", user, attributes, **request))

    def custom_message(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Ask for the text of a message: ``code_parameter``, ``link_parameter``, ``username_parameter``."""
        return run_blocking(self._ask("custom_message", user, attributes, **request))

    async def acustom_message(self, user: str, attributes: Mapping[str, str], **request: Any) -> Answer:
        """Do the same from async code."""
        return await run_async(self._ask("custom_message", user, attributes, **request))

    def _ask(
        self,
        hook: str,
        user: str,
        attributes: Mapping[str, str],
        way: str | None = None,
        client_id: str = "local",
        **request: Any,
    ) -> Trip[Answer]:
        """Ask a hook, up to three times where its function could not answer at all."""
        house, hooks = self._opened()
        event = event_of(hook, user, attributes, request, way=way, client_id=client_id)
        asked = hooks.get(hook)
        if asked is None:
            return {}
        if not asked.enabled:
            raise InvokeError(f"the hook {hook!r} is paused: nobody is let in, or refused, unasked")
        payload, shelf = encode_event(event), house.shelf_of(asked.function, None)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                ending = yield from run(house.pool, shelf, payload, bare=False)
                answer = value_of(ending)
                break
            except (SandboxDied, Throttled, TimedOut):
                if attempt == ATTEMPTS:
                    raise
        try:
            return response_of(hook, answer)
        except NoAnswer as fault:
            raise BadResponse(f"{asked.function.name!r} answered what is none: {fault}") from None
