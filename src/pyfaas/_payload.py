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
from decimal import Decimal
from itertools import chain
from typing import Any

from pyfaas import limits
from pyfaas.errors import BadResponse, InvalidEvent, PayloadTooLarge

_SCALARS = frozenset({str, int, float, bool, type(None)})
_STRINGS = frozenset({str})
_PLAIN = frozenset({str, int, bool, type(None)})


class _Refused(Exception):
    """The value cannot be JSON; the text says where and why."""


# -- looking at a value ------------------------------------------------------------------------------------------------


def _check(value: Any, budget: int) -> None:
    """Refuse what JSON cannot carry as it is: deep nests, cycles, keys that are not strings. Level by level."""
    level: Any = (value,)
    for _ in range(limits.NESTING + 1):
        types = set(map(type, level))
        if types <= _SCALARS:
            return
        mappings = {kind for kind in types if issubclass(kind, dict)}
        sequences = {kind for kind in types if issubclass(kind, (list, tuple))}
        if not mappings and not sequences:
            return
        dicts = [item for item in level if type(item) in mappings]
        keys = set(map(type, chain.from_iterable(dicts)))
        if not keys <= _STRINGS and not all(issubclass(kind, str) for kind in keys):
            raise _Refused("a key is not a string")
        lists = [item for item in level if type(item) in sequences]
        # An element takes two bytes at the least, so this also ends values that share their parts beyond measure.
        budget -= 2 * (sum(map(len, dicts)) + sum(map(len, lists)))
        if budget < 0:
            raise OverflowError
        level = list(chain(chain.from_iterable(map(dict.values, dicts)), chain.from_iterable(lists)))
    raise _Refused("nested too deep")


def _culprit(value: Any, name: str) -> str:
    """Find what _check or the encoder refused, and name its path; called once all is lost, so it may be slow."""
    stack: list[tuple[str, Any, tuple[int, ...]]] = [(name, value, ())]
    while stack:
        path, item, above = stack.pop()
        if id(item) in above:
            return f"{path} contains itself"
        if isinstance(item, (dict, list, tuple)):
            if len(above) >= limits.NESTING:
                return f"{_short(path)} is nested deeper than {limits.NESTING} levels"
            inside = (*above, id(item))
            pairs = item.items() if isinstance(item, dict) else enumerate(item)
            children = []
            for key, child in pairs:
                if isinstance(item, dict):
                    if not isinstance(key, str):
                        return f"{path} has the key {key!r} of type {type(key).__name__}; keys must be strings"
                    if _has_surrogate(key):
                        return f"{path} has the key {ascii(key)}, which holds a lone surrogate and is not UTF-8 text"
                children.append((f"{path}[{key!r}]", child, inside))
            stack.extend(reversed(children))
        elif isinstance(item, float):
            if item != item or item in (float("inf"), float("-inf")):
                return f"{path} is {item!r}; JSON has no such number"
        elif isinstance(item, str):
            if _has_surrogate(item):
                return f"{path} holds a lone surrogate and is not UTF-8 text"
        elif item is not None and not isinstance(item, int):
            return f"{path} is of type {type(item).__name__}, which is not JSON"
    return f"{name} changed while it was read"


def _short(path: str) -> str:
    return path if len(path) <= 120 else f"{path[:60]}...{path[-40:]}"


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
    if isinstance(value, Decimal):
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


def encode_event(event: Any) -> bytes:
    """
    Give the event as compact UTF-8 JSON.

    Raises InvalidEvent naming the path of what JSON cannot carry, PayloadTooLarge over 6,291,456 bytes.
    """
    try:
        # Most events are a flat dict of scalars; they need one look.
        if type(event) is dict and set(map(type, event)) <= _STRINGS and set(map(type, event.values())) <= _SCALARS:
            payload: bytes = "".join(_event_chunks(event, 0)).encode()
        else:
            _check(event, limits.REQUEST_BYTES)
            payload = "".join(_event_chunks(event, 0)).encode()
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
        if type(result) not in _PLAIN:
            _check(result, limits.RESPONSE_BYTES)
        payload: bytes = "".join(_result_chunks(result, 0)).encode()
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


_scan = json.scanner.make_scanner(json.JSONDecoder(parse_constant=_refuse_constant))
_NOT_STRUCTURE = bytes(code for code in range(256) if code not in b'[]{}"')


def is_shallow(payload: bytes) -> bool:
    """
    Tell whether the JSON text nests at most 200 deep (a text that is not JSON may get either answer).

    Every step is one pass of C code over the text. Text inside strings is taken out by parity: dropping a pair of
    adjacent quotes leaves every other byte as far inside or outside of strings as it was.
    """
    if payload.count(b"[") + payload.count(b"{") <= limits.NESTING:
        return True
    rest = payload
    if b"\\" in rest:
        rest = rest.replace(b"\\\\", b"").replace(b'\\"', b"")
    rest = rest.translate(None, _NOT_STRUCTURE).replace(b'""', b"")
    if b'"' in rest:
        rest = b"".join(rest.split(b'"')[::2])
    for _ in range(limits.NESTING):
        if not rest:
            return True
        rest = rest.replace(b"[]", b"").replace(b"{}", b"")
    return not rest


def decode_event(payload: bytes) -> Any:
    """Parse what the host sent; the host is trusted and has checked the nesting."""
    return _scan(payload.decode(), 0)[0]


def decode_result(payload: bytes) -> Any:
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
