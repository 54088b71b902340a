"""The tree of errors: who must act, what is told, and that all of them pickle and copy."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
import traceback
from typing import Any

import pytest

import pyfaas
from pyfaas import errors

TREE = {
    "PyfaasError": "Exception",
    "ConfigurationError": "PyfaasError",
    "InvokeError": "PyfaasError",
    "InvalidEvent": "InvokeError",
    "PayloadTooLarge": "InvokeError",
    "Throttled": "InvokeError",
    "FunctionNotFound": "InvokeError",
    "AccessDenied": "InvokeError",
    "NoSuchKey": "InvokeError",
    "ConnectionGone": "InvokeError",
    "AlreadyInProgress": "InvokeError",
    "PayloadMismatch": "InvokeError",
    "EventExpired": "InvokeError",
    "FunctionError": "PyfaasError",
    "HandlerFailed": "FunctionError",
    "InitFailed": "FunctionError",
    "TimedOut": "FunctionError",
    "OutOfMemory": "FunctionError",
    "SandboxDied": "FunctionError",
    "BadResponse": "FunctionError",
    "HostError": "PyfaasError",
    "CannotConfine": "HostError",
    "StoreUnavailable": "HostError",
    "EngineUnavailable": "HostError",
    "InternalError": "PyfaasError",
}
KINDS = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, errors.PyfaasError)]


def example(kind: type[errors.PyfaasError]) -> Any:
    if issubclass(kind, errors.FunctionError):
        return kind("it broke", "Some.Type", ["  File x\n"], "an-id", "Traceback:\nBoom\n")
    if kind is errors.Throttled:
        return errors.Throttled("busy", "ReservedFunctionConcurrentInvocationLimitExceeded", 2.5)
    return kind("what happened")


def test_the_tree_is_the_one_that_is_drawn() -> None:
    assert {kind.__name__: kind.__mro__[1].__name__ for kind in KINDS} == TREE
    for name in TREE:
        assert name in (errors.__doc__ or "")
        assert getattr(pyfaas, name) is getattr(errors, name)


def test_what_you_wrote_wrong_is_a_value_error_too() -> None:
    assert issubclass(errors.ConfigurationError, ValueError)
    assert issubclass(errors.InvalidEvent, ValueError)


@pytest.mark.parametrize("kind", KINDS)
def test_each_one_says_whose_matter_it_is(kind: type[errors.PyfaasError]) -> None:
    assert kind.__doc__


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
def test_each_one_pickles_and_copies_whole(kind: type[errors.PyfaasError], way: Any) -> None:
    error = example(kind)
    again = way(error)
    assert type(again) is kind
    assert str(again) == str(error)
    assert vars(again) == vars(error)
    assert traceback.format_exception_only(type(again), again) == traceback.format_exception_only(kind, error)


def test_a_throttled_call_says_why_and_when_to_come_again() -> None:
    error = errors.Throttled("busy")
    assert (str(error), error.reason, error.retry_after) == ("busy", "ConcurrentInvocationLimitExceeded", 1.0)


@pytest.mark.parametrize("kind", [errors.HandlerFailed, errors.InitFailed, errors.FunctionError, errors.BadResponse])
def test_what_the_runtime_tells_has_four_keys(kind: type[errors.FunctionError]) -> None:
    told = kind("m", "T", ["s"], "id").to_lambda()
    assert list(told.items()) == [
        ("errorMessage", "m"),
        ("errorType", "T"),
        ("requestId", "id"),
        ("stackTrace", ["s"]),
    ]


@pytest.mark.parametrize("kind", [errors.TimedOut, errors.OutOfMemory, errors.SandboxDied])
def test_what_the_platform_tells_has_two_keys_the_other_way_round(kind: type[errors.FunctionError]) -> None:
    assert list(kind("m", "T", None, "id").to_lambda().items()) == [("errorType", "T"), ("errorMessage", "m")]


def test_a_result_that_is_too_large_has_two_keys() -> None:
    told = errors.BadResponse("m", "Function.ResponseSizeTooLarge").to_lambda()
    assert list(told.items()) == [("errorMessage", "m"), ("errorType", "Function.ResponseSizeTooLarge")]


def test_the_json_is_a_copy() -> None:
    error = errors.HandlerFailed("m", "T", ["s"])
    error.to_lambda()["stackTrace"].append("x")
    assert error.stack_trace == ["s"]


def test_the_remote_traceback_is_shown_once() -> None:
    error = errors.HandlerFailed("m", "T", remote_traceback="Traceback of the sandbox\n")
    shown = "".join(traceback.format_exception_only(type(error), error))
    assert shown.count("Traceback of the sandbox") == 1
    if sys.version_info >= (3, 11):
        assert str(error) == "T: m"


def test_control_characters_are_shown_as_escapes() -> None:
    error = errors.HandlerFailed("a\x1b[2Jb\rc\x9b\ud800\td\ne", "T")
    assert str(error) == "T: a\\x1b[2Jb\\rc\\x9b\\ud800\td\ne"
    assert error.message == "a\x1b[2Jb\rc\x9b\ud800\td\ne"
