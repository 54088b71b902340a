"""The worker's loader, called here in place: what it finds, and how it tells of exceptions."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import handlers
from pyfaas import InitFailed, limits
from pyfaas._sandbox import loader


def caught(make: Any) -> BaseException:
    try:
        make()
    except BaseException as error:
        return error
    raise AssertionError


def test_a_reference_gives_the_handler_of_the_function() -> None:
    assert loader.load(("reference", "handlers", "echo")) is handlers.echo.handler


def test_a_value_gives_what_was_pickled() -> None:
    assert loader.load(("value", pickle.dumps(len))) is len


@pytest.mark.parametrize("name", ["nope", "calls", "echo.nope", "Context"])
def test_a_name_that_is_no_function_is_missing(name: str) -> None:
    with pytest.raises(InitFailed) as failed:
        loader.load(("reference", "handlers", name))
    assert failed.value.error_type == "Runtime.HandlerNotFound"
    assert failed.value.message == f"Handler '{name}' missing on module 'handlers'"


def test_a_value_that_cannot_be_unpickled_tells_its_error() -> None:
    with pytest.raises(InitFailed) as failed:
        loader.load(("value", b"not a pickle"))
    assert failed.value.error_type == "UnpicklingError"


@pytest.mark.parametrize(
    ("code", "status"), [(None, 0), (0, 0), (3, 3), (255, 255), (256, 0), (-1, 255), ("text", 1), ([], 1), (True, 1)]
)
def test_an_exit_has_the_status_that_the_interpreter_would_end_with(
    code: Any, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert loader.exit_code_of(SystemExit(code)) == status
    assert capsys.readouterr().err == (f"{code}\n" if isinstance(code, (str, list)) else "")


def test_a_message_is_cut_and_made_text() -> None:
    assert loader.message_of(ValueError("x" * 10**6)) == "x" * limits.TRACE_CHARACTERS
    assert loader.message_of(ValueError("\ud800")) == "\\ud800"


def test_a_long_stack_keeps_both_its_ends() -> None:
    def down(level: int) -> None:
        if level:
            other(level - 1)
        raise ValueError

    def other(level: int) -> None:  # two in turn: frames that repeat themselves are folded
        down(level)

    stack = loader.stack_of(caught(lambda: down(200)))
    assert len(stack) == 100
    assert "in caught" in stack[0]
    assert stack[-1].splitlines()[1].strip() == "raise ValueError"


def test_a_traceback_is_bounded_whatever_it_holds() -> None:
    def long_chain() -> None:
        error: BaseException | None = None
        for number in range(500):
            made = ValueError("y" * 1_000 + str(number))
            made.__cause__ = error
            error = made
        assert error is not None
        raise error

    text = loader.trace_text(caught(long_chain))
    assert len(text) <= limits.TRACE_CHARACTERS + 10
    assert "\n...\n" in text


def test_a_chain_that_bites_its_tail_is_told() -> None:
    def bite() -> None:
        first, second = ValueError("first"), ValueError("second")
        first.__context__, second.__context__ = second, first
        raise first

    assert "ValueError: first" in loader.trace_text(caught(bite))


def test_an_exception_that_cannot_be_told_is_told_so() -> None:
    class Sulky(Exception):
        def __str__(self) -> str:
            raise SystemExit

    error = caught(lambda: (_ for _ in ()).throw(Sulky()))
    assert loader.message_of(error) == "<exception str() failed: SystemExit>"
    assert "Sulky" in loader.trace_text(error)
