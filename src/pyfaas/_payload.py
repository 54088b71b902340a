"""
JSON in and out, within size and depth: what an event is on its way to a worker and a result on its way back.

    host: encode_event ──► worker: decode_event ──► handler ──► worker: encode_result ──► host: decode_result

Both sides import this file. Encoding looks at the whole value first, level by level and never by recursion, so that a
cycle, a deep nest or a key that JSON would silently turn into text is refused before any C code walks into it.
Decoding bounds the nesting of the text before it parses: ``json.loads`` of a deep text overflows the C stack of a small
thread on every Python, and of any thread where somebody raised the recursion limit.
"""

from __future__ import annotations

import json
import json.encoder
import json.scanner
import math
import sys
from collections import deque
from itertools import accumulate, chain
from typing import Any

from pyfaas import limits
from pyfaas.errors import BadResponse, InvalidEvent, PayloadTooLarge

_SCALARS = frozenset({str, int, float, bool, type(None)})
_STRINGS = frozenset({str})
_FEW = 32  # containers on one level; from here on looking at all at once is faster


class _Refused(Exception):
    """The value cannot be JSON; the text says where and why."""


# -- looking at a value ------------------------------------------------------------------------------------------------


def _check(value: Any, budget: int) -> None:
    """
    Refuse what JSON cannot carry as it is: deep nests, cycles, keys that are not strings. Level by level.

    What is neither scalar nor container is left to the encoder, which refuses it by its type.
    """
    level = [value]
    for _ in range(limits.NESTING):
        if len(level) < _FEW:
            level, size = _look_at_few(level)
        else:
            level, size = _look_at_many(level)
        if not level:
            return
        # An element takes two bytes at the least, so this also ends values that share their parts beyond measure.
        budget -= 2 * size
        if budget < 0:
            raise OverflowError
    if any(isinstance(item, (dict, list, tuple)) for item in level):
        raise _Refused("nested too deep")


def _look_at_few(level: list[Any]) -> tuple[list[Any], int]:
    """Give the containers within these values, and how many values that were; one container after the other."""
    below: list[Any] = []
    size = 0
    for item in level:
        if isinstance(item, dict):
            if not _STRINGS.issuperset(map(type, item)) and not all(isinstance(key, str) for key in item):
                raise _Refused("a key is not a string")
            values: Any = item.values()
        elif isinstance(item, (list, tuple)):
            values = item
        else:
            continue
        size += len(values)
        if not _SCALARS.issuperset(map(type, values)):
            below += [value for value in values if type(value) not in _SCALARS]
    return below, size


def _look_at_many(level: list[Any]) -> tuple[list[Any], int]:
    """Do the same for all of them at once: more look-ups, but each is one pass of C code."""
    types = set(map(type, level))
    mappings = {kind for kind in types if issubclass(kind, dict)}
    sequences = {kind for kind in types if issubclass(kind, (list, tuple))}
    dicts = [item for item in level if type(item) in mappings]
    lists = [item for item in level if type(item) in sequences]
    keys = set(map(type, chain.from_iterable(dicts)))
    if not all(issubclass(kind, str) for kind in keys):
        raise _Refused("a key is not a string")
    size = sum(map(len, dicts)) + sum(map(len, lists))
    values = chain(chain.from_iterable(map(dict.values, dicts)), chain.from_iterable(lists))
    return [value for value in values if type(value) not in _SCALARS], size


def _culprit(value: Any, name: str) -> str:
    """
    Find what _check or the encoder refused, and name its path; called once all is lost, so it may be slow.

    Level by level too: what _check did not get to may be larger than any memory.
    """
    line: deque[tuple[str, Any, tuple[int, ...]]] = deque([(name, value, ())])
    while line:
        path, item, above = line.popleft()
        if id(item) in above:
            return f"{_short(path)} contains itself"
        if not isinstance(item, (dict, list, tuple)):
            fault = _fault_of_leaf(item)
        elif len(above) >= limits.NESTING:
            fault = f"is nested deeper than {limits.NESTING} levels"
        else:
            fault = _fault_of_keys(item) if isinstance(item, dict) else ""
            pairs = item.items() if isinstance(item, dict) else enumerate(item)
            inside = (*above, id(item))
            line.extend((f"{path}[{key!r}]", child, inside) for key, child in pairs)
        if fault:
            return f"{_short(path)} {fault}"
    return f"{name} changed while it was read"


def _fault_of_keys(item: dict[Any, Any]) -> str:
    for key in item:
        if not isinstance(key, str):
            return f"has the key {key!r} of type {type(key).__name__}; keys must be strings"
        if _has_surrogate(key):
            return f"has the key {key!a}, which holds a lone surrogate and is not UTF-8 text"
    return ""


def _fault_of_leaf(item: Any) -> str:
    if isinstance(item, float):
        return "" if math.isfinite(item) else f"is {item!r}; JSON has no such number"
    if isinstance(item, str):
        return "holds a lone surrogate and is not UTF-8 text" if _has_surrogate(item) else ""
    if isinstance(item, int):
        return "" if _can_be_written(item) else f"is an integer of more than {sys.get_int_max_str_digits():,} digits"
    return "" if item is None else f"is of type {type(item).__name__}, which is not JSON"


def _short(path: str) -> str:
    return path if len(path) <= 120 else f"{path[:60]}...{path[-40:]}"


def _can_be_written(number: int) -> bool:
    """Python bounds the digits of an integer's text (3.10.7 and later)."""
    try:
        int.__repr__(number)
    except ValueError:
        return False
    return True


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


# -- encoding ----------------------------------------------------------------------------------------------------------


def _no_default(value: object) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def _decimal_default(value: object) -> Any:
    """AWS's Python runtime sends a Decimal as a JSON number; here it travels as the nearest int or float."""
    decimal = sys.modules.get("decimal")  # if nobody has imported it, this is none
    if decimal is not None and isinstance(value, decimal.Decimal):
        return int(value) if value.is_finite() and value == value.to_integral_value() else float(value)
    return _no_default(value)


def _make_encoder(default: Any) -> Any:
    """
    Build the C encoder once (the json module builds one a call, a third of the time of a small event).

    Without markers it would not see a cycle, but ``_check`` has already looked.
    """
    make = getattr(json.encoder, "c_make_encoder", None)
    escape = getattr(json.encoder, "c_encode_basestring", None)
    if make is None or escape is None:  # not CPython
        encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=default)
        return lambda value, _level: encoder.iterencode(value)
    return make(None, default, escape, None, ":", ",", False, False, False)


_event_chunks = _make_encoder(_no_default)
_result_chunks = _make_encoder(_decimal_default)


# What a JSON string must escape, as bytes of UTF-8.
_ESCAPED = (*range(0x20), ord('"'), ord("\\"))
_LONG_TEXT = 65_536


def _encode_plain_text(value: Any) -> bytes:
    """
    Give a long text (a page, a document in base64) as JSON if nothing in it needs an escape, else ``b""``.

    Thirty-four searches take a third of the time that the encoder takes to copy it character by character.
    """
    if type(value) is not str or len(value) < _LONG_TEXT:
        return b""
    raw = value.encode()
    return b"" if any(code in raw for code in _ESCAPED) else b'"%b"' % raw


def encode_event(event: Any) -> bytes:
    """
    Give the event as compact UTF-8 JSON.

    Raises InvalidEvent naming the path of what JSON cannot carry, PayloadTooLarge over 6,291,456 bytes.
    """
    try:
        if type(event) not in _SCALARS:
            _check(event, limits.REQUEST_BYTES)
        payload = _encode_plain_text(event) or "".join(_event_chunks(event, 0)).encode()
    except OverflowError:
        raise PayloadTooLarge(_too_large(None)) from None
    except (_Refused, TypeError, ValueError, RecursionError):
        raise InvalidEvent(f"the event cannot be sent as JSON: {_culprit(event, 'event')}") from None
    if len(payload) > limits.REQUEST_BYTES:
        raise PayloadTooLarge(_too_large(len(payload)))
    return payload


def _too_large(size: int | None) -> str:
    # The first sentence is AWS's own.
    told = f"Request must be smaller than {limits.REQUEST_BYTES} bytes for the InvokeFunction operation"
    return told if size is None else f"{told}; the event has {size} bytes of JSON"


def encode_result(result: Any) -> bytes:
    """
    Give the result as compact UTF-8 JSON; called in the worker.

    Raises BadResponse with AWS's error types: ``Runtime.MarshalError`` and ``Function.ResponseSizeTooLarge``.
    """
    try:
        if type(result) not in _SCALARS:
            _check(result, limits.RESPONSE_BYTES)
        payload = _encode_plain_text(result) or "".join(_result_chunks(result, 0)).encode()
    except OverflowError:
        raise _response_too_large() from None
    except TypeError as error:
        raise BadResponse(f"Unable to marshal response: {error}", "Runtime.MarshalError") from None
    except (_Refused, ValueError, RecursionError):
        told = f"Unable to marshal response: {_culprit(result, 'result')}"
        raise BadResponse(told, "Runtime.MarshalError") from None
    if len(payload) > limits.RESPONSE_BYTES:
        raise _response_too_large()
    return payload


def _response_too_large() -> BadResponse:
    return BadResponse(
        f"Response payload size exceeded maximum allowed payload size ({limits.RESPONSE_BYTES} bytes).",
        "Function.ResponseSizeTooLarge",
    )


# -- decoding ----------------------------------------------------------------------------------------------------------


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_scan: Any = json.scanner.make_scanner(json.JSONDecoder(parse_constant=_refuse_constant))  # type: ignore[arg-type]
_NOT_STRUCTURE = bytes(code for code in range(256) if code not in b'[]{}"')
_AS_SQUARE = bytes.maketrans(b"{}", b"[]")  # else a round below would take off two levels of [{}]
_AS_STEPS = bytes.maketrans(b"[]", b"\x01\xff")  # read as signed bytes: one down, one up
_ROUNDS = 8


def is_shallow(payload: bytes | bytearray) -> bool:
    """
    Tell whether the JSON text nests at most 200 deep (a text that is not JSON may get either answer).

    Every step is one pass of C code over the text. Text inside strings is taken out by parity: dropping a pair of
    adjacent quotes leaves every other byte as far inside or outside of strings as it was.
    """
    # A search for what is not there takes a twentieth of counting it.
    brackets = payload.count(b"[") if b"[" in payload else 0
    if b"{" in payload:
        brackets += payload.count(b"{")
    if brackets <= limits.NESTING:
        return True
    rest = payload
    if b"\\" in rest:
        rest = rest.replace(b"\\\\", b"").replace(b'\\"', b"")
    rest = rest.translate(_AS_SQUARE, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in rest:
        rest = b"".join(rest.split(b'"')[::2])
    for _ in range(_ROUNDS):  # each takes the innermost level off, and soon nothing of an honest text is left
        if not rest:
            return True
        rest = rest.replace(b"[]", b"")
    steps = memoryview(rest.translate(_AS_STEPS)).cast("b")
    return max(accumulate(steps), default=0) <= limits.NESTING - _ROUNDS


def decode_event(payload: bytes | bytearray) -> Any:
    """Parse what the host sent; the host is trusted and has checked the nesting."""
    return _scan(payload.decode(), 0)[0]


def decode_result(payload: bytes | bytearray) -> Any:
    """Parse what a worker sent. Raises ValueError for anything but one shallow JSON text."""
    if not is_shallow(payload):
        raise ValueError(f"nested deeper than {limits.NESTING} levels")
    text = payload.decode()
    try:
        value, end = _scan(text, 0)
    except StopIteration:
        raise ValueError("not JSON") from None
    if end != len(text):
        raise ValueError("more than one JSON text")
    return value


# -- what may hold bytes -----------------------------------------------------------------------------------------------


def packed(value: Any) -> Any:
    """Write down, as JSON, what may hold bytes."""
    if isinstance(value, bytes):
        import base64

        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {name: packed(one) for name, one in value.items()}
    return [packed(one) for one in value] if isinstance(value, (list, tuple)) else value


def unpacked(told: Any) -> Any:
    """Read it again; what it is is not looked at. Raises ValueError."""
    if isinstance(told, dict):
        if told.keys() == {"bytes"} and isinstance(told["bytes"], str):
            import base64

            return base64.b64decode(told["bytes"])
        return {name: unpacked(one) for name, one in told.items()}
    return [unpacked(one) for one in told] if isinstance(told, list) else told
