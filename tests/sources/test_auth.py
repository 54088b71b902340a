"""Sign-in: an application asks, a function answers, and what it answers is looked at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from handlers import PLACE
from pyfaas import BadResponse, ConfigurationError, Function, FunctionError, InvokeError, Runtime, auth, function
from pyfaas._sources.auth.hooks import HOOKS, NoAnswer, event_of, response_of
from pyfaas.doors import HOOKS as NAMES

ADA = {"email": "ada@example.com"}


def hook(hooked: str, response: Any, **options: Any) -> Function[Any, Any]:
    def answer(event: Any) -> Any:
        if isinstance(response, str):
            raise PermissionError(response)
        event["response"] = {**event["response"], **response} if response is not None else {"asked": event}
        return event

    return function(**{"name": hooked.replace("_", "-"), "trigger": auth(hooked), **options})(answer)


def test_a_hook_is_asked_as_cognito_asks_it() -> None:
    assert event_of("pre_sign_up", "ada", ADA, {"validation_data": {"a": "b"}}, way=None, client_id="web") == {
        "version": "1",
        "triggerSource": "PreSignUp_SignUp",
        "region": "us-east-1",
        "userPoolId": "us-east-1_local",
        "userName": "ada",
        "callerContext": {"awsSdkVersion": "pyfaas", "clientId": "web"},
        "request": {"userAttributes": ADA, "validationData": {"a": "b"}},
        "response": {"autoConfirmUser": None, "autoVerifyEmail": None, "autoVerifyPhone": None},
    }


def test_what_the_function_answers_is_given() -> None:
    with Runtime([hook("pre_sign_up", {"autoConfirmUser": True})]) as runtime:
        assert runtime.auth.pre_sign_up("ada", ADA) == {"autoConfirmUser": True}
        assert runtime.auth.post_confirmation("ada", ADA) == {}, "nobody has that hook"


@pytest.mark.anyio
async def test_the_async_verbs_do_the_same() -> None:
    with Runtime([hook("custom_message", {"emailSubject": "Hello"})]) as runtime:
        told = await runtime.auth.acustom_message("ada", ADA, way="ForgotPassword", code_parameter="####")
    assert told == {"emailSubject": "Hello"}


@pytest.mark.parametrize("name", HOOKS)
def test_each_hook_has_both_verbs(name: str) -> None:
    answers = {"a dict": {}, "a list": [], "a text": "x", "True or False": True}
    response = {field: answers[kind] for field, kind in HOOKS[name].response.items()}
    with Runtime([hook(name, response)]) as runtime:
        assert getattr(runtime.auth, name)("ada", ADA) == response
        assert hasattr(runtime.auth, f"a{name}")


def test_the_hooks_that_may_be_declared_are_those_that_are_asked() -> None:
    assert set(NAMES) == set(HOOKS)


def test_a_function_that_raises_refuses() -> None:
    with Runtime([hook("pre_authentication", "not today")]) as runtime, pytest.raises(FunctionError) as refused:
        runtime.auth.pre_authentication("ada", ADA)
    assert (refused.value.error_type, refused.value.message) == ("PermissionError", "not today")


@pytest.mark.parametrize("dies", ["once", "always"])
def test_one_that_could_not_answer_is_asked_up_to_three_times(dies: str, tmp_path: Path) -> None:
    asked = str(tmp_path / "asked")

    def die(event: Any) -> Any:
        import os

        file = os.open(asked, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(file, b"x")
        if dies == "always" or os.fstat(file).st_size == 1:
            os._exit(1)
        return event

    declared: Any = function(name="die", trigger=auth("pre_sign_up"), writes=[PLACE])(die)
    with Runtime([declared]) as runtime:
        if dies == "once":
            assert runtime.auth.pre_sign_up("ada", ADA) == {}
        else:
            with pytest.raises(FunctionError):
                runtime.auth.pre_sign_up("ada", ADA)
    assert len(Path(asked).read_text()) == (2 if dies == "once" else 3)


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ({"autoConfirmUser": "yes"}, "response['autoConfirmUser']='yes': must be True or False"),
        ({"admin": True}, "response['admin']: pre_sign_up may answer autoConfirmUser, autoVerifyEmail"),
    ],
)
def test_an_answer_that_is_none_is_told_of(response: Any, told: str) -> None:
    with Runtime([hook("pre_sign_up", response)]) as runtime, pytest.raises(BadResponse) as bad:
        runtime.auth.pre_sign_up("ada", ADA)
    assert told in bad.value.message


@pytest.mark.parametrize("answer", [None, [], {}, {"response": None}, {"response": {"issueTokens": True}}])
def test_only_the_event_is_an_answer(answer: Any) -> None:
    with pytest.raises(NoAnswer):
        response_of("pre_sign_up", answer)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"user": ""}, "user='': must be a text of 1 to 128 characters"),
        ({"user": 7}, "user=7: must be a text of 1 to 128 characters"),
        ({"attributes": {"a": 1}}, "attributes={'a': 1}: must be a dict of texts to texts"),
        ({"attributes": None}, "attributes=None: must be a dict of texts to texts"),
        ({"way": "Sideways"}, "way='Sideways': must be one of SignUp, AdminCreateUser, ExternalProvider"),
        ({"password": "x"}, "password='x': pre_sign_up is asked validation_data, client_metadata"),
        ({"validation_data": 5}, "validation_data=5: must be a dict"),
    ],
)
def test_what_may_not_be_asked_is_refused(arguments: dict[str, Any], told: str) -> None:
    with Runtime([hook("pre_sign_up", {})]) as runtime, pytest.raises(ConfigurationError) as refused:
        runtime.auth.pre_sign_up(**{"user": "ada", "attributes": ADA, **arguments})
    assert told in str(refused.value)


def test_a_hook_that_is_paused_lets_nobody_in() -> None:
    with Runtime([hook("pre_sign_up", {})]) as runtime:
        (mapping,) = runtime.mappings()
        assert (mapping.source, mapping.target) == ("auth/pre_sign_up", "function/pre-sign-up")
        mapping.pause()
        with pytest.raises(InvokeError, match="the hook 'pre_sign_up' is paused"):
            runtime.auth.pre_sign_up("ada", ADA)
        mapping.resume()
        assert runtime.auth.pre_sign_up("ada", ADA) == {}
        with pytest.raises(ConfigurationError, match="this trigger has no options"):
            mapping.change(size=1)


def test_what_a_trigger_may_not_be_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="hook='sign_up': must be 'pre_sign_up' or"):
        auth("sign_up")
    with pytest.raises(ConfigurationError, match="timeout=6: must be at most 5 with an auth trigger, as in AWS"):
        hook("pre_sign_up", {}, timeout=6)
    with pytest.raises(ConfigurationError, match="'other' and 'pre-sign-up' both have the hook 'pre_sign_up'"):
        Runtime([hook("pre_sign_up", {}), hook("pre_sign_up", {}, name="other")]).open()
