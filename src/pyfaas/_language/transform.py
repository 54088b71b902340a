"""
EventBridge's input transformers: another event of an event.  (pure)

    {"input": 7}                                        this, whatever came              (AWS: Input)
    {"path": "$.detail.user"}                           a part of it                     (AWS: InputPath)
    {"paths": {"name": "$.detail.user"},                a text with variables, which is  (AWS: InputTransformer)
     "template": '{"hello": <name>, "at": "<time>"}'}   JSON once they are filled in

A variable within quotes is filled in as text, one outside as JSON. What the event does not have is null there, and
nothing within quotes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pyfaas.errors import ConfigurationError

Change: TypeAlias = Callable[[Any, Mapping[str, Any]], str]

_STEP = re.compile(r"\.([A-Za-z0-9_-]+)|\[([0-9]+)\]|\['([^']+)'\]")
_VARIABLE = re.compile(r"<([A-Za-z0-9_.-]+)>")
_PATHS = 100
_EVENT = "aws.events.event.json"
RESERVED = (
    _EVENT,
    "aws.events.event",
    "aws.events.rule-name",
    "aws.events.rule-arn",
    "aws.events.event.ingestion-time",
)


def compile_transform(transform: Mapping[str, Any]) -> Change:
    """
    Read one of the three forms; the change gives JSON of an event and of what ``RESERVED`` names.

    Raises ConfigurationError, saying which part is wrong and what would be right.
    """
    if "template" in transform:
        return _template(transform["template"], transform.get("paths") or {})
    if "path" in transform:
        steps = _steps("path", transform["path"])
        return lambda event, _: _json(_at(event, steps))
    fixed = _json(transform["input"])
    return lambda *_: fixed


def _template(template: Any, paths: Any) -> Change:
    if not isinstance(template, str) or not template:
        raise _refuse("template", template, "a text")
    if not isinstance(paths, Mapping) or len(paths) > _PATHS:
        raise _refuse("paths", paths, f"a dict of at most {_PATHS} names to paths")
    found = {name: _steps(f"paths[{name!r}]", path) for name, path in paths.items()}
    for name in found:
        if not isinstance(name, str) or not _VARIABLE.fullmatch(f"<{name}>") or name.startswith("aws."):
            raise _refuse("paths", name, 'names of letters, digits, "_", "-" and ".", which do not begin with "aws."')
    pieces = list(_pieces(template, found))

    def change(event: Any, reserved: Mapping[str, Any]) -> str:
        return "".join(piece if isinstance(piece, str) else _filled(*piece, event, reserved) for piece in pieces)

    _check_json(template, pieces)
    return change


_Piece: TypeAlias = "str | tuple[Any, bool]"


def _pieces(template: str, paths: Mapping[str, Any]) -> list[_Piece]:
    """Take a template apart: texts, and variables with whether they stand within quotes."""
    pieces: list[_Piece] = []
    at, quoted = 0, False
    for match in _VARIABLE.finditer(template):
        name = match[1]
        if name not in paths and name not in RESERVED:
            known = ", ".join(f"<{one}>" for one in (*paths, *RESERVED))
            raise _refuse("template", match[0], f"one of {known}")
        text = template[at : match.start()]
        quoted ^= len(re.findall(r'(?<!\\)(?:\\\\)*"', text)) % 2 == 1
        pieces += [text, (paths.get(name, name), quoted)]
        at = match.end()
    return [*pieces, template[at:]]


def _filled(what: Any, quoted: bool, event: Any, reserved: Mapping[str, Any]) -> str:
    if what in (_EVENT, "aws.events.event"):
        value = event
    else:
        value = reserved.get(what) if isinstance(what, str) else _at(event, what)
    if not quoted:
        return _json(value)
    if value is None:
        return ""
    return _json(value if isinstance(value, str) else _json(value))[1:-1]


def _check_json(template: str, pieces: list[_Piece]) -> None:
    """Refuse a template that is no JSON, whatever is filled in."""
    text = "".join(piece if isinstance(piece, str) else "" if piece[1] else "null" for piece in pieces)
    try:
        json.loads(text)
    except ValueError as error:
        right = f"JSON once its variables are filled in ({error}); a text is written with its quotes, '\"<name> came\"'"
        raise _refuse("template", template, right) from None


def _steps(field: str, path: Any) -> tuple[str | int, ...]:
    """Read a path such as ``$.detail.items[0]``."""
    if not isinstance(path, str) or not path.startswith("$") or _STEP.sub("", path[1:]):
        raise _refuse(field, path, "a path such as $.detail.items[0].name")
    return tuple(int(number) if number else name or quoted for name, number, quoted in _STEP.findall(path[1:]))


def _at(event: Any, steps: tuple[str | int, ...]) -> Any:
    for step in steps:
        if isinstance(step, int) and isinstance(event, list) and step < len(event):
            event = event[step]
        elif isinstance(step, str) and isinstance(event, dict):
            event = event.get(step)
        else:
            return None
    return event


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _refuse(field: str, value: Any, right: str) -> ConfigurationError:
    return ConfigurationError(f"{field}={value!r}: must be {right}")
