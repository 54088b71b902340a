"""``to_lambda()`` is the very JSON that AWS Lambda answers, key order and all, for every way in which a call fails."""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import handlers
from pyfaas import (
    BadResponse,
    Function,
    FunctionError,
    HandlerFailed,
    InitFailed,
    Outcome,
    OutOfMemory,
    Runtime,
    SandboxDied,
    TimedOut,
    function,
)
from support import kill, wait_until

WriteModule = Callable[[str], ModuleType]


def check(outcome: Outcome, kind: type[FunctionError], expected: dict[str, Any]) -> None:
    """It failed in this way, and its JSON is this, to the byte."""
    assert not outcome.ok
    assert type(outcome.error) is kind
    assert json.dumps(outcome.error.to_lambda()) == json.dumps(expected)
    assert outcome.error.request_id in (outcome.request_id, "")
    with pytest.raises(kind):
        _ = outcome.value
    assert outcome.payload == b""


def frame(handler: Callable[..., Any], below: int, code: str) -> str:
    """Write a frame as traceback.format_list does, for the n-th line below a handler's ``def``."""
    line = handler.__code__.co_firstlineno + below
    return f'  File "{handler.__code__.co_filename}", line {line}, in {handler.__name__}\n    {code}\n'


def dead(outcome: Outcome, error_type: str, reason: str) -> dict[str, Any]:
    return {"errorType": error_type, "errorMessage": f"RequestId: {outcome.request_id} Error: {reason}"}


# -- the handler raises ------------------------------------------------------------------------------------------------


def test_a_handler_raises(session_runtime: Runtime) -> None:
    def handler(event: Any, context: Any) -> None:
        raise Exception("Handler fails")

    outcome = session_runtime.try_invoke(function(handler), {})
    expected = {
        "errorMessage": "Handler fails",
        "errorType": "Exception",
        "requestId": outcome.request_id,
        "stackTrace": [frame(handler, 1, 'raise Exception("Handler fails")')],
    }
    check(outcome, HandlerFailed, expected)


def test_the_error_type_is_the_bare_name_of_the_class(session_runtime: Runtime) -> None:
    def handler(event: Any) -> None:
        class Odd(LookupError):
            pass

        raise Odd("a", 1)

    error = session_runtime.try_invoke(function(handler), {}).error
    assert isinstance(error, HandlerFailed)
    assert error.to_lambda()["errorType"] == "Odd"
    assert error.to_lambda()["errorMessage"] == "('a', 1)"


def test_every_frame_of_the_handler_is_told_and_none_of_the_runtime(session_runtime: Runtime) -> None:
    error = session_runtime.try_invoke(handlers.caused, {}).error
    assert isinstance(error, HandlerFailed)
    names = [line.splitlines()[0].rpartition(" ")[2] for line in error.stack_trace]
    assert names == ["caused", "raise_with_cause"]


def test_the_causes_are_readable_in_the_host(session_runtime: Runtime) -> None:
    """As a note of the exception, or before Python 3.11 as a part of its text."""
    with pytest.raises(HandlerFailed) as caught:
        session_runtime.invoke(handlers.caused, {})
    shown = "".join(traceback.format_exception(caught.value))
    assert "In the sandbox:" in shown
    assert "KeyError: 'missing'" in shown
    assert "The above exception was the direct cause of the following exception" in shown
    assert "RuntimeError: it had a reason" in shown
    assert shown.index("KeyError: 'missing'") < shown.rindex("RuntimeError: it had a reason\n")
    assert "worker.py" not in caught.value.remote_traceback


def exotic_exit(event: Any) -> None:
    raise KeyboardInterrupt


def exotic_base(event: Any) -> None:
    class Base(BaseException):
        pass

    raise Base("of all")


def exotic_text(event: Any) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    raise Mute


def exotic_recursion(event: Any) -> None:
    exotic_recursion(event)


def exotic_surrogate(event: Any) -> None:
    raise ValueError("\ud800")


@pytest.mark.parametrize(
    ("handler", "error_type", "message"),
    [
        (exotic_exit, "KeyboardInterrupt", ""),
        (exotic_base, "Base", "of all"),
        (exotic_text, "Mute", "<exception str() failed: ZeroDivisionError>"),
        (exotic_recursion, "RecursionError", "maximum recursion depth exceeded"),
        (exotic_surrogate, "ValueError", "\\ud800"),
    ],
)
def test_odd_exceptions_are_answers_too(
    session_runtime: Runtime, handler: Callable[..., Any], error_type: str, message: str
) -> None:
    error = session_runtime.try_invoke(function(handler), {}).error
    assert isinstance(error, HandlerFailed)
    assert error.error_type == error_type
    assert error.message.startswith(message)


def test_what_a_terminal_would_obey_is_shown_as_escapes(session_runtime: Runtime) -> None:
    with pytest.raises(HandlerFailed) as caught:
        session_runtime.invoke(handlers.fail, "\x1b[31mred\x07")
    shown = "".join(traceback.format_exception(caught.value))
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert caught.value.message == "\x1b[31mred\x07"


# -- the module does not load ------------------------------------------------------------------------------------------


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WriteModule]:
    """A module that imports well here, and then has another text when the sandbox comes to import it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    file = tmp_path / "travelling.py"
    file.write_text("from pyfaas import function\n\n@function\ndef handler(event):\n    return 'fine'\n")
    module = importlib.import_module("travelling")

    def write(text: str) -> ModuleType:
        file.write_text(text)
        return module

    yield write
    del sys.modules["travelling"]


def init_error(message: str, error_type: str, stack: list[str]) -> dict[str, Any]:
    return {"errorMessage": message, "errorType": error_type, "requestId": "", "stackTrace": stack}


def test_a_module_imports_what_is_not_there(session_runtime: Runtime, write_module: WriteModule) -> None:
    module = write_module("import not_there\n")
    outcome = session_runtime.try_invoke(module.handler, {})
    told = "Unable to import module 'travelling': No module named 'not_there'"
    check(outcome, InitFailed, init_error(told, "Runtime.ImportModuleError", []))


def test_a_module_itself_is_not_there_any_more(session_runtime: Runtime, write_module: WriteModule) -> None:
    module = write_module("")
    session_runtime.try_invoke(module.handler, {})  # by now it is known how the handler travels
    os.unlink(module.__file__ or "")
    outcome = session_runtime.try_invoke(module.handler, {})
    told = "Unable to import module 'travelling': No module named 'travelling'"
    check(outcome, InitFailed, init_error(told, "Runtime.ImportModuleError", []))


def test_a_module_lacks_the_handler(session_runtime: Runtime, write_module: WriteModule) -> None:
    module = write_module("other = 1\n")
    told = "Handler 'handler' missing on module 'travelling'"
    outcome = session_runtime.try_invoke(module.handler, {})
    check(outcome, InitFailed, init_error(told, "Runtime.HandlerNotFound", []))


def test_a_module_has_a_syntax_error(session_runtime: Runtime, write_module: WriteModule) -> None:
    module = write_module("a = 1\n\nb = = 2\n")
    told = "Syntax error in module 'travelling': invalid syntax (travelling.py, line 3)"
    stack = [f'  File "{module.__file__}" Line 3\n    b = = 2']
    outcome = session_runtime.try_invoke(module.handler, {})
    check(outcome, InitFailed, init_error(told, "Runtime.UserCodeSyntaxError", stack))


def test_a_module_raises_while_it_is_imported(session_runtime: Runtime, write_module: WriteModule) -> None:
    """The real name of the class, no request, and importlib's frames."""
    module = write_module("def deep():\n    raise Exception('Failed')\n\ndeep()\n")
    error = session_runtime.try_invoke(module.handler, {}).error
    assert isinstance(error, InitFailed)
    told = error.to_lambda()
    assert list(told) == ["errorMessage", "errorType", "requestId", "stackTrace"]
    assert (told["errorMessage"], told["errorType"], told["requestId"]) == ("Failed", "Exception", "")
    assert any("importlib" in line for line in told["stackTrace"])
    assert told["stackTrace"][-1] == f"  File \"{module.__file__}\", line 2, in deep\n    raise Exception('Failed')\n"


def test_a_variable_that_only_the_host_has_names_the_option_that_gives_it(
    session_runtime: Runtime, write_module: WriteModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE", "here")
    module = write_module("import os\nos.environ['DATABASE']\n")
    with pytest.raises(InitFailed, match=r"declare environment=\{'DATABASE': \.\.\.\}"):
        session_runtime.invoke(module.handler, {})


def test_a_module_exits_while_it_is_imported(session_runtime: Runtime, write_module: WriteModule) -> None:
    module = write_module("import sys\nsys.exit(0)\n")
    outcome = session_runtime.try_invoke(module.handler, {})
    check(outcome, SandboxDied, dead(outcome, "Runtime.ExitError", "Runtime exited without providing a reason"))


def test_an_init_that_failed_is_tried_again_by_the_next_call(
    session_runtime: Runtime, write_module: WriteModule
) -> None:
    module = write_module("1 / 0\n")
    with pytest.raises(InitFailed):
        session_runtime.invoke(module.handler, {})
    write_module("from pyfaas import function\n@function\ndef handler(event):\n    return 'mended, and longer'\n")
    assert session_runtime.invoke(module.handler, {}) == "mended, and longer"


# -- the result cannot be taken ----------------------------------------------------------------------------------------


def test_a_result_is_not_json(session_runtime: Runtime) -> None:
    outcome = session_runtime.try_invoke(function(lambda event: {1, 2}), {})
    expected = {
        "errorMessage": "Unable to marshal response: Object of type set is not JSON serializable",
        "errorType": "Runtime.MarshalError",
        "requestId": outcome.request_id,
        "stackTrace": [],
    }
    check(outcome, BadResponse, expected)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        ("[float('nan')]", "result[0] is nan; JSON has no such number"),
        ("{1: 2}", "result has the key 1 of type int; keys must be strings"),
        ("'\\ud800'", "result holds a lone surrogate and is not UTF-8 text"),
        ("__import__('functools').reduce(lambda a, b: [a], range(201), 1)", "is nested deeper than 200 levels"),
    ],
)
def test_a_result_that_json_cannot_carry_is_named_with_its_path(session_runtime: Runtime, make: str, told: str) -> None:
    error = session_runtime.try_invoke(function(handlers.evaluate), make).error
    assert isinstance(error, BadResponse)
    assert error.error_type == "Runtime.MarshalError"
    assert error.message.startswith("Unable to marshal response: result")
    assert error.message.endswith(told)


def test_a_result_of_the_limit_passes_and_a_byte_more_does_not(session_runtime: Runtime) -> None:
    make: Function[int, str] = function(timeout=20)(lambda event: "x" * event)
    assert len(session_runtime.invoke(make, 6_291_554)) == 6_291_554
    outcome = session_runtime.try_invoke(make, 6_291_555)
    expected = {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }
    check(outcome, BadResponse, expected)


# -- the process ends --------------------------------------------------------------------------------------------------


def test_a_call_takes_too_long(session_runtime: Runtime) -> None:
    outcome = session_runtime.try_invoke(handlers.hang, {})
    check(outcome, TimedOut, dead(outcome, "Sandbox.Timedout", "Task timed out after 0.20 seconds"))
    assert outcome.report.status == "timeout"
    assert outcome.report.duration_ms >= 190


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("sys.exit(0)", "Runtime exited without providing a reason"),
        ("sys.exit()", "Runtime exited without providing a reason"),
        ("os._exit(0)", "Runtime exited without providing a reason"),
        ("sys.exit(127)", "Runtime exited with error: exit status 127"),
        ("os._exit(3)", "Runtime exited with error: exit status 3"),
        ("sys.exit('a reason')", "Runtime exited with error: exit status 1"),
        ("ctypes.string_at(0)", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_handler_ends_its_process(session_runtime: Runtime, code: str, reason: str) -> None:
    def handler(event: str) -> None:
        import ctypes
        import os
        import sys

        exec(event, {"ctypes": ctypes, "os": os, "sys": sys})

    outcome = session_runtime.try_invoke(function(handler), code)
    check(outcome, SandboxDied, dead(outcome, "Runtime.ExitError", reason))


def test_a_sandbox_is_killed_from_outside(session_runtime: Runtime, tmp_path: Path) -> None:
    told: list[Outcome] = []
    event = {"began": str(tmp_path / "began"), "until": str(tmp_path / "never")}
    caller = threading.Thread(target=lambda: told.append(session_runtime.try_invoke(handlers.until_there, event)))
    caller.start()
    wait_until(lambda: os.path.exists(event["began"]))
    (sandbox,) = [box for box in tuple(session_runtime._pool.running) if box.shelf.function is handlers.until_there]
    kill(sandbox.pid)
    caller.join(10)
    expected = dead(told[0], "Runtime.ExitError", "Runtime exited with error: signal: killed")
    check(told[0], SandboxDied, expected)


def test_a_handler_runs_out_of_memory(session_runtime: Runtime) -> None:
    def handler(event: Any) -> None:
        kept = []
        while True:
            kept.append(bytearray(1_000_000))

    outcome = session_runtime.try_invoke(function(handler, memory=128, timeout=30), {})  # type: ignore[call-overload]
    check(outcome, OutOfMemory, dead(outcome, "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"))
    assert outcome.report.max_memory_mb == outcome.report.memory_mb == 128
    assert outcome.report.status == "error"


def test_a_handler_uses_more_cpu_time_than_it_may(session_runtime: Runtime) -> None:
    def handler(event: Any) -> None:
        while True:
            pass

    declared: Function[Any, Any] = function(cpu_seconds=0.2, timeout=30)(handler)
    outcome = session_runtime.try_invoke(declared, {})
    told = "Runtime exited with error: signal: CPU time limit exceeded"
    check(outcome, SandboxDied, dead(outcome, "Runtime.ExitError", told))


# -- afterwards --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["raise ValueError", "os._exit(1)", "time.sleep(9)", "ctypes.string_at(0)"])
def test_after_any_failure_the_next_call_works(session_runtime: Runtime, code: str) -> None:
    def handler(event: str) -> str:
        import ctypes
        import os
        import time

        exec(event, {"ctypes": ctypes, "os": os, "time": time})
        return "fine"

    declared: Function[str, str] = function(timeout=0.3)(handler)
    assert session_runtime.try_invoke(declared, code).error is not None
    assert session_runtime.invoke(declared, "pass") == "fine"


def test_globals_survive_an_exception_but_not_a_crash(runtime: Runtime) -> None:
    """As AWS: a raised exception does not reset the environment, an exit does; its directory is kept in both."""

    def handler(event: str) -> list[Any]:
        import os
        import sys

        seen = sys.__dict__.setdefault("seen", [])
        seen.append(event)
        with open("seen", "a") as file:
            file.write(event)
        if event == "raise":
            raise ValueError
        if event == "exit":
            os._exit(1)
        with open("seen") as file:
            return [seen, file.read()]

    declared = function(handler)
    assert declared.invoke("a") == [["a"], "a"]
    assert not declared.try_invoke("raise").ok
    assert declared.invoke("b") == [["a", "raise", "b"], "araiseb"]
    assert not declared.try_invoke("exit").ok
    assert declared.invoke("c") == [["c"], "araisebexitc"]
