"""Handlers that abuse the ways out of their sandbox: output, the control socket, results, errors (cases 30 to 38)."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest

from attacks import handlers
from attacks.harness import KILL_SECONDS, Arena
from pyfaas import BadResponse, HandlerFailed, Outcome, OutOfMemory, Runtime, SandboxDied, TimedOut, limits
from pyfaas._sandbox import protocol
from support import wait_until

BREACH = "the sandbox broke the protocol"


# -- output ------------------------------------------------------------------------------------------------------------


def test_a_hundred_megabytes_printed_are_dropped_past_the_first(arena: Arena) -> None:
    def check(outcome: Outcome) -> None:
        assert arena.idle_sandbox(handlers.writes_much).log_bytes() <= 2 * limits.LOG_BYTES

    outcome = arena.attack(handlers.writes_much, event="print", within=15.0, check=check)
    assert outcome.value == "written"
    assert "more bytes of output were dropped" in outcome.log
    assert len(outcome.log.encode()) <= limits.LOG_TAIL_BYTES


@pytest.mark.parametrize("how", ["descriptors", "program"])
def test_a_hundred_megabytes_past_python_are_freed_after_the_call(arena: Arena, how: str) -> None:
    def check(outcome: Outcome) -> None:
        assert arena.idle_sandbox(handlers.writes_much).log_bytes() <= 2 * limits.LOG_BYTES

    outcome = arena.attack(handlers.writes_much, event=how, within=15.0, check=check)
    assert outcome.value == "written"
    assert len(outcome.log.encode()) <= limits.LOG_TAIL_BYTES


def test_output_counts_as_memory(arena: Arena) -> None:
    arena.attack(handlers.writes_without_end, OutOfMemory, within=5.0)


@pytest.mark.parametrize("how", ["sparse", "shrunk", "closed"])
def test_a_bent_log_costs_its_own_function_only(arena: Arena, how: str) -> None:
    outcome = arena.attack(handlers.bends_its_log, event=how)
    assert outcome.value == "bent"
    assert len(outcome.log.encode()) <= limits.LOG_TAIL_BYTES


# -- descriptors -------------------------------------------------------------------------------------------------------


def test_a_sandbox_inherits_its_socket_its_log_and_nothing_else(tmp_path: Path) -> None:
    """Not even what the host left open for its children when the first sandbox was made."""
    with (tmp_path / "of the host").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        with Runtime() as runtime:
            for function in (handlers.lists_its_descriptors, handlers.opens_files):
                runtime.invoke(function, handlers.WORK)
            found = runtime.invoke(handlers.lists_its_descriptors, handlers.ATTACK)
    kinds = sorted(re.split("[: ]", what)[0] for what in found.values())
    assert kinds == ["/dev/null", "/memfd", "/memfd", "/memfd", "socket"], found


@pytest.mark.parametrize("size", [1, 33, 4_096])
def test_rubbish_in_every_descriptor_is_a_breach(arena: Arena, size: int) -> None:
    outcome = arena.attack(handlers.writes_to_every_descriptor, SandboxDied, event=size, within=KILL_SECONDS)
    assert BREACH in str(outcome.error)


@pytest.mark.parametrize(
    "how",
    [
        "close, then return",
        "close, then sleep",
        "shut down writing",
        "shut down reading",
        "close all",
    ],
)
def test_a_sandbox_that_closes_its_socket_in_mid_call_has_died(arena: Arena, how: str) -> None:
    """... at once, not at its time-out of 5 s. Where it can still answer it does, and dies of what it did."""
    if how == "shut down reading":
        outcome = arena.attack(handlers.closes_the_wire, event=how, within=KILL_SECONDS)
        assert outcome.value == "returned"
    else:
        arena.attack(handlers.closes_the_wire, SandboxDied, event=how, within=KILL_SECONDS)


@pytest.mark.parametrize("how", ["put another file in its place", "leave it to a child"])
def test_a_sandbox_that_lets_go_of_its_socket_is_killed_at_its_time_out_at_the_latest(arena: Arena, how: str) -> None:
    """A child that holds the socket on keeps it open; all of them end together."""
    with arena.surroundings(handlers.lets_go_of_the_wire):
        sandbox = arena.idle_sandbox(handlers.lets_go_of_the_wire)
        arena.remember(sandbox)
        outcome = arena.runtime.try_invoke(handlers.lets_go_of_the_wire, how)
        assert type(outcome.error) in (SandboxDied, TimedOut)
        arena.assert_gone(sandbox)


# -- forged frames -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "frame",
    [
        {"frames": 2},
        {"sequence": 1},
        {"sequence": -1},
        {"sequence": 2**31},
        {"size": 0xFFFFFFFF},
        {"size": 0x80000000},
        {"size": 2**30},
        {"size": limits.RESPONSE_BYTES + 1},
        {"kind": protocol.ERROR, "size": limits.ERROR_BYTES + 1},
        *({"kind": kind} for kind in (0, 1, 2, 16, protocol.HELLO, protocol.READY, protocol.FAULT, 22, 255)),
    ],
    ids=str,
)
def test_a_forged_frame_kills_the_sandbox_at_once(arena: Arena, frame: dict[str, Any]) -> None:
    """Two answers, a wrong number, a negative or a huge size, bytes left over, a kind that is unknown or not due."""
    arena.attack(handlers.forges, SandboxDied, event=frame, within=KILL_SECONDS)


def test_a_truncated_frame_is_waited_for_until_the_time_out(arena: Arena) -> None:
    arena.attack(handlers.truncates, TimedOut, event="sleep", after=0.3)


def test_a_truncated_frame_and_an_exit_are_a_death(arena: Arena) -> None:
    arena.attack(handlers.truncates, SandboxDied, event="exit", within=KILL_SECONDS)


def test_a_truncated_frame_swallows_the_real_answer_and_nothing_else(arena: Arena) -> None:
    with arena.surroundings(handlers.truncates):
        sandbox = arena.idle_sandbox(handlers.truncates)
        arena.remember(sandbox)
        outcome = arena.runtime.try_invoke(handlers.truncates, "return")
        assert type(outcome.error) in (BadResponse, SandboxDied, TimedOut)
        arena.assert_gone_soon(sandbox)


@pytest.mark.parametrize(
    "frame",
    [
        {"payload": "["},
        {"payload": ""},
        {"payload": "NaN"},
        {"payload": "1 2"},
        {"payload": '"\\ud800'},
        {"payload": '"two bytes of it"', "size": 2},
        {"payload": "ff00fe", "hex": True},
        {"payload": "[", "end": "]", "times": 3_000_000},
        {"payload": "[", "end": "]", "times": 201},
        {"payload": '{"a":', "times": 1_000_000},
        {"payload": "1", "times": 6_000_000},
        {"kind": protocol.ERROR, "payload": "["},
        {"kind": protocol.ERROR, "payload": "{}"},
        {"kind": protocol.ERROR, "payload": "[1]"},
        {"kind": protocol.ERROR, "payload": "[", "end": "]", "times": 131_072},
        {"kind": protocol.ERROR, "payload": '{"a":', "times": 50_000},
        {
            "kind": protocol.ERROR,
            "payload": json.dumps({"errorMessage": 1, "errorType": [], "stackTrace": {}, "trace": None}),
        },
    ],
    ids=lambda frame: repr(frame)[:60],
)
def test_a_frame_that_holds_no_result_is_a_bad_response(arena: Arena, frame: dict[str, Any]) -> None:
    """Not JSON, not text, not one text, nested deep, no error: refused before a parser could be hurt by it."""
    with arena.surroundings(handlers.forges):
        sandbox = arena.idle_sandbox(handlers.forges)
        arena.remember(sandbox)
        began_at = time.monotonic()
        outcome = arena.runtime.try_invoke(handlers.forges, frame)
        assert time.monotonic() - began_at < 2 * KILL_SECONDS
        assert type(outcome.error) is BadResponse, outcome
        arena.assert_gone_soon(sandbox)


def test_measurements_that_cannot_be_are_not_believed(arena: Arena) -> None:
    """NaN seconds, a log that ends at 2**64: the host's own clock and file decide."""
    with arena.surroundings(handlers.lies_about_itself):
        sandbox = arena.idle_sandbox(handlers.lies_about_itself)
        outcome = arena.runtime.try_invoke(handlers.lies_about_itself, handlers.ATTACK)
        assert outcome.value == "lied"
        assert 0.0 <= outcome.report.duration_ms <= 5_000
        assert outcome.report.max_memory_mb > 0
        assert "END RequestId" in outcome.log
        wait_until(sandbox.is_gone)  # it exits behind its answer


# -- answers that are not due ------------------------------------------------------------------------------------------


def test_a_second_reply_is_never_taken_for_another_invocations(arena: Arena) -> None:
    """The first one counts, it is the handler's own word; the second one kills the sandbox."""
    with arena.surroundings(handlers.replies_twice):
        sandbox = arena.idle_sandbox(handlers.replies_twice)
        arena.remember(sandbox)
        outcome = arena.runtime.try_invoke(handlers.replies_twice, handlers.ATTACK)
        if outcome.error is None:  # else both came at once
            assert outcome.value == "first"
        else:
            assert type(outcome.error) is SandboxDied
            assert BREACH in str(outcome.error)
        _next_is_its_own_or_dies(arena, handlers.replies_twice)
        arena.assert_gone_soon(sandbox)


@pytest.mark.parametrize("sequence", [0, 1, 2])
def test_a_late_reply_from_a_thread_is_never_taken_for_another_invocations(
    arena: Arena, tmp_path: Path, sequence: int
) -> None:
    """
    It arrives while nothing is due, under the number of its own invocation or of one to come.

    What bears the number of the very next invocation is the function's own word on it, said early: it may be taken
    for that one, and for no other; the answer that the worker then gives is one too many.
    """
    when, sent = tmp_path / "when", tmp_path / "sent"
    with arena.surroundings(handlers.replies_late):
        sandbox = arena.idle_sandbox(handlers.replies_late)
        arena.remember(sandbox)
        event = {"when": str(when), "sent": str(sent), "sequence": sequence}
        assert arena.runtime.invoke(handlers.replies_late, event) == "in time"
        when.touch()
        wait_until(sent.exists)
        _next_is_its_own_or_dies(arena, handlers.replies_late, "late" if sequence == 1 else handlers.DONE)
        _next_is_its_own_or_dies(arena, handlers.replies_late)
        arena.assert_gone_soon(sandbox)


def _next_is_its_own_or_dies(arena: Arena, function: Any, early: str = handlers.DONE) -> None:
    """It gets its own answer, or an error that says what was done to it; the one after that works."""
    outcome = arena.runtime.try_invoke(function, handlers.WORK)
    if outcome.error is None:
        assert outcome.value in (handlers.DONE, early)
    else:
        assert type(outcome.error) is SandboxDied
        assert BREACH in str(outcome.error)


# -- results -----------------------------------------------------------------------------------------------------------


def test_a_result_of_a_gigabyte_is_out_of_memory(arena: Arena) -> None:
    arena.attack(handlers.returns_a_gigabyte, OutOfMemory, within=5.0)


def test_a_result_that_is_too_large_is_refused_in_the_sandbox(arena: Arena) -> None:
    outcome = arena.attack(handlers.returns_text, BadResponse, event=limits.RESPONSE_BYTES - 1, within=5.0)
    assert outcome.error.error_type == "Function.ResponseSizeTooLarge"  # type: ignore[union-attr]


def test_a_result_of_the_largest_size_is_taken(arena: Arena) -> None:
    outcome = arena.attack(handlers.returns_text, event=limits.RESPONSE_BYTES - 2, within=5.0)
    assert len(outcome.payload) == limits.RESPONSE_BYTES


@pytest.mark.parametrize(("of", "depth"), [("lists", 1_000_000), ("dicts", 100_000), ("tuples", 201)])
def test_a_deep_nest_is_a_bad_response(arena: Arena, of: str, depth: int) -> None:
    outcome = arena.attack(handlers.returns_a_deep_nest, BadResponse, event={"of": of, "depth": depth}, within=20.0)
    assert "nested deeper than 200 levels" in str(outcome.error)


@pytest.mark.parametrize("of", ["lists", pytest.param("tuples", marks=pytest.mark.long)])
def test_ten_million_levels_are_a_bad_response(arena: Arena, of: str) -> None:
    event = {"of": of, "depth": 10_000_000}
    outcome = arena.attack(handlers.returns_a_deep_nest, BadResponse, event=event, within=30.0)
    assert "nested deeper than 200 levels" in str(outcome.error)


def test_two_hundred_levels_are_taken(arena: Arena) -> None:
    outcome = arena.attack(handlers.returns_a_deep_nest, event={"of": "lists", "depth": 200}, within=5.0)
    assert outcome.payload == b"[" * 200 + b"null" + b"]" * 200


def test_six_megabytes_of_empty_lists_are_taken_and_freed(arena: Arena) -> None:
    """2,097,151 lists are 135 MB of objects in the host, while the caller holds them."""
    count = limits.RESPONSE_BYTES // 3 - 1
    with arena.surroundings(handlers.returns_many_lists):
        value = arena.runtime.invoke(handlers.returns_many_lists, count)
        assert len(value) == count
        assert value[0] == value[-1] == []
        del value


def test_a_cycle_is_a_bad_response(arena: Arena) -> None:
    outcome = arena.attack(handlers.returns_a_cycle, BadResponse, within=5.0)
    assert "contains itself" in str(outcome.error)


@pytest.mark.parametrize("how", ["object", "inside", "text", "raised", "pickled", "pickled as text"])
def test_what_reduces_to_code_runs_nothing_in_the_host(arena: Arena, tmp_path: Path, how: str) -> None:
    path = tmp_path / "code ran"
    with arena.surroundings(handlers.returns_what_reduces):
        outcome = arena.runtime.try_invoke(handlers.returns_what_reduces, {"path": str(path), "how": how})
        if how == "text":
            assert outcome.value == "harmless"
            assert type(outcome.value) is str
        elif how == "raised":
            assert type(outcome.error) is HandlerFailed
        else:
            assert type(outcome.error) is BadResponse, outcome
            assert outcome.error.error_type == "Runtime.MarshalError"
    assert not path.exists()


# -- exceptions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "error_type", "told"),
    [
        ("two arguments", "TwoArguments", "this and that"),
        ("does not pickle", "Locked", "locked"),
        ("huge argument", "ValueError", "xxxx"),
        ("many arguments", "ValueError", "(0, 1, 2"),
        ("cause cycle", "ValueError", "first"),
        ("own cause", "ValueError", "mine"),
        ("long chain", "ValueError", "19999"),
        ("surrogate", "ValueError", "\\ud800"),
        ("terminal escapes", "ValueError", "owned"),
        ("keyboard interrupt", "KeyboardInterrupt", ""),
        ("generator exit", "GeneratorExit", ""),
        ("deep", "RecursionError", "maximum recursion depth exceeded"),
        ("str lies", "LiesInStr", "<exception str() failed: TypeError>"),
        ("str raises", "RaisesInStr", "<exception str() failed: RuntimeError>"),
        ("str exits", "ExitsInStr", "<exception str() failed: SystemExit>"),
    ],
)
def test_any_exception_is_told(arena: Arena, what: str, error_type: str, told: str) -> None:
    """Two arguments, no pickle, 50 MB of text, a cycle of causes, a text that raises: the caller reads what it can."""
    outcome = arena.attack(handlers.raises, HandlerFailed, event=what)
    error = outcome.error
    assert isinstance(error, HandlerFailed)
    assert error.error_type == error_type
    assert told in error.message
    assert len(json.dumps(error.to_lambda())) <= 2 * limits.ERROR_BYTES
    assert "\x1b" not in str(error)


def test_an_exception_whose_class_has_no_name_is_told_or_is_a_death(arena: Arena) -> None:
    with arena.surroundings(handlers.raises):
        outcome = arena.runtime.try_invoke(handlers.raises, "no name")
        assert type(outcome.error) in (HandlerFailed, SandboxDied)


def test_an_exception_whose_text_never_ends_is_killed_at_its_time_out(arena: Arena) -> None:
    arena.attack(handlers.raises_without_end, TimedOut, after=0.3)


# -- objects that lie --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("liar", handlers.LIARS)
def test_objects_that_lie_get_an_honest_answer(arena: Arena, liar: str) -> None:
    """The result is plain JSON of plain types, or the call fails with an error of its own."""
    with arena.surroundings(handlers.returns_a_liar):
        outcome = arena.runtime.try_invoke(handlers.returns_a_liar, liar)
        if outcome.error is None:
            assert "forged" not in repr(outcome.value)
            assert json.loads(outcome.payload) == outcome.value
        else:
            assert type(outcome.error) in (BadResponse, HandlerFailed, SandboxDied), repr(outcome.error)


def test_huge_integers_are_refused(arena: Arena) -> None:
    """Python bounds the digits that it turns into text; the caller hears of it as of any other bad result."""
    arena.attack(handlers.returns_a_huge_integer, BadResponse, within=5.0)


def test_a_flood_of_frames_is_a_breach(arena: Arena) -> None:
    """A megabyte of answers: the second one was not due."""
    arena.attack(handlers.forges, SandboxDied, event={"frames": 30_000, "payload": "1"}, within=KILL_SECONDS)
