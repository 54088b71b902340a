"""
From what the host says of a handler to the callable itself. (worker side; standard library only)

    ("reference", module, qualname)   imported here, the name must yield what ``@function`` made
    ("value", bytes)                  a pickle that the host made of the handler

Raises InitFailed with the error types and texts of AWS Lambda's Python runtime.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from pyfaas import limits
from pyfaas.errors import InitFailed

_HOUSE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep


def load(handler: tuple[Any, ...]) -> Callable[..., Any]:
    """Find the handler."""
    if handler[0] == "value":
        return _unpickle(handler[1])
    _, module_name, qualname = handler
    return _import(module_name, qualname)


def _import(module_name: str, qualname: str) -> Callable[..., Any]:
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        told = f"Unable to import module '{module_name}': {error}"
        raise InitFailed(told, "Runtime.ImportModuleError", remote_traceback=trace_text(error)) from None
    except SyntaxError as error:
        told = f"Syntax error in module '{module_name}': {error}"
        frame = f'  File "{error.filename}" Line {error.lineno}\n    {(error.text or "").strip()}'
        raise InitFailed(told, "Runtime.UserCodeSyntaxError", [frame]) from None
    except Exception as error:
        raise _failed(error) from None
    for part in qualname.split("."):
        found = getattr(found, part, None)
    handler = getattr(found, "handler", None)
    if not callable(handler):
        told = f"Handler '{qualname}' missing on module '{module_name}'"
        raise InitFailed(told, "Runtime.HandlerNotFound")
    return handler  # type: ignore[no-any-return]


def _unpickle(pickled: bytes) -> Callable[..., Any]:
    import pickle

    try:
        # The host made these bytes for this worker; nothing ever travels the other way like this.
        return pickle.loads(pickled)  # type: ignore[no-any-return]  # noqa: S301
    except ModuleNotFoundError as error:
        told = f"Unable to import module '{error.name}': {error}"
        raise InitFailed(told, "Runtime.ImportModuleError", remote_traceback=trace_text(error)) from None
    except Exception as error:
        raise _failed(error) from None


def _failed(error: BaseException) -> InitFailed:
    """Tell of user code that raised while it was loaded; a missing variable names the option that gives it."""
    told = message_of(error)
    if isinstance(error, KeyError) and _comes_from_environ(error):
        told += f" (a sandbox does not see the host's environment: declare environment={{{error.args[0]!r}: ...}})"
    return InitFailed(told, type(error).__name__, stack_of(error), remote_traceback=trace_text(error))


def _comes_from_environ(error: BaseException) -> bool:
    frames = list(traceback.walk_tb(error.__traceback__))
    # By its code, not by its file: from Python 3.11 on that module is frozen and has another name for it.
    return bool(frames) and frames[-1][0].f_code is type(os.environ).__getitem__.__code__


# -- telling of an exception -------------------------------------------------------------------------------------------


def message_of(error: BaseException) -> str:
    """Give ``str(error)``, or what can be said where even that fails."""
    try:
        told = str(error)
    except BaseException as second:
        told = f"<exception str() failed: {type(second).__name__}>"
    return _text(told[: limits.TRACE_CHARACTERS])


def stack_of(error: BaseException) -> list[str]:
    """Give the frames as AWS does: one text each, those of the runtime in front of the handler's left out."""
    try:
        frames = traceback.extract_tb(error.__traceback__)
        while frames and frames[0].filename.startswith(_HOUSE):
            del frames[0]
        return [_text(line[:4096]) for line in traceback.format_list(_ends(frames))]
    except Exception:  # a traceback of the handler's making
        return []


def _ends(frames: list[Any]) -> list[Any]:
    return frames if len(frames) <= 100 else [*frames[:50], *frames[-50:]]


def trace_text(error: BaseException) -> str:
    """Give the whole traceback with its causes, without the runtime's frames."""
    try:
        told = traceback.TracebackException.from_exception(error, limit=-100, compact=True)
        _without_house(told)
        text = "".join(told.format())
    except BaseException as second:  # exceptions may be made so that they cannot be told
        text = f"{type(error).__name__} (its traceback could not be told: {type(second).__name__})\n"
    half = limits.TRACE_CHARACTERS // 2
    return _text(text if len(text) <= 2 * half else f"{text[:half]}\n...\n{text[-half:]}")


def _without_house(told: traceback.TracebackException) -> None:
    seen: set[int] = set()
    open_ends: list[traceback.TracebackException | None] = [told]
    while open_ends:
        one = open_ends.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        while one.stack and one.stack[0].filename.startswith(_HOUSE):
            del one.stack[0]
        open_ends += [one.__cause__, one.__context__]


def _text(told: str) -> str:
    """Make it text that UTF-8 can carry."""
    return told.encode("utf-8", "backslashreplace").decode()


def exit_code_of(error: SystemExit) -> int:
    """Give the status that the interpreter would end with."""
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1
