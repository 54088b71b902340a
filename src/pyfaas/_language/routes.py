"""
Routes, in API Gateway's language: ``GET /orders/{id}``, ``ANY /files/{path+}``, ``$default``.  (pure)

    parse(text) ──► Route          Router: add(route, target) ──► find(method, path) ──► target, parameters

The most specific route wins: a literal segment before ``{name}``, that before ``{name+}``, those before ``$default``,
and a method before ``ANY``. Where a more specific path has no route for the method, the next one is tried.
"""

from __future__ import annotations

import re
from typing import Generic, NamedTuple, TypeVar
from urllib.parse import unquote

import attrs

from pyfaas.errors import ConfigurationError

T = TypeVar("T")

DEFAULT = "$default"
METHODS = ("ANY", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
_VARIABLE = re.compile(r"\{([a-zA-Z_][a-zA-Z0-9_.-]*)(\+?)\}")
_LITERAL = re.compile(r"[^{}?#\s%]*")


class Route(NamedTuple):
    """One route. ``segments`` are those of the path; of a variable its name is in ``variables``, else None is there."""

    key: str
    method: str
    segments: tuple[str, ...] = ()
    variables: tuple[str | None, ...] = ()
    is_greedy: bool = False  # the last variable takes all that is left

    @property
    def path(self) -> str:
        """Its path as it was declared; API Gateway's for what no other route takes."""
        return self.key.partition(" ")[2] or "/{proxy+}"

    @property
    def is_default(self) -> bool:
        """Whether it takes what no other one does."""
        return self.key == DEFAULT


@attrs.frozen
class Match(Generic[T]):
    """What a request leads to: the route's target, its path parameters by name."""

    target: T
    parameters: dict[str, str]


def parse(text: object) -> Route:
    """Read a route. Raises ConfigurationError saying what is wrong."""
    if text == DEFAULT:
        return Route(DEFAULT, "ANY")
    method, _, path = text.partition(" ") if isinstance(text, str) else ("", "", "")
    if method not in METHODS or not path.startswith("/"):
        right = f"a method ({', '.join(METHODS)}), a space and a path, such as 'GET /orders/{{id}}', or {DEFAULT!r}"
        raise ConfigurationError(f"route={text!r}: must be {right}")
    segments = tuple(path[1:].split("/"))
    variables: list[str | None] = []
    is_greedy = False
    for number, segment in enumerate(segments, 1):
        found = _VARIABLE.fullmatch(segment)
        if found is None and not _LITERAL.fullmatch(segment):
            raise ConfigurationError(
                f"route={text!r}: {segment!r} must be a text without any of {{}}?#% and spaces, {{name}} or {{name+}}"
            )
        if found is not None and found[2] and number < len(segments):
            raise ConfigurationError(f"route={text!r}: {segment!r} takes all that is left, so it must stand at the end")
        if found is not None and found[1] in variables:
            raise ConfigurationError(f"route={text!r}: the variable {found[1]!r} stands there twice")
        variables.append(None if found is None else found[1])
        is_greedy = found is not None and bool(found[2])
    return Route(f"{method} {path}", method, segments, tuple(variables), is_greedy)


class _Node(Generic[T]):
    """What follows of a path: literal segments, one variable, a greedy one; and the routes that end here."""

    def __init__(self) -> None:
        self.literal: dict[str, _Node[T]] = {}
        self.variable: _Node[T] | None = None
        self.ends: dict[str, tuple[Route, T]] = {}
        self.greedy: dict[str, tuple[Route, T]] = {}


class Router(Generic[T]):
    """Many routes; finds the most specific that fits."""

    def __init__(self) -> None:
        self._root: _Node[T] = _Node()
        self._default: T | None = None

    def add(self, route: Route, target: T) -> None:
        """Add a route. Raises ConfigurationError where the same requests lead to another target already."""
        if route.is_default:
            if self._default is not None:
                raise ConfigurationError(f"route={route.key!r}: there are two of it")
            self._default = target
            return
        node = self._root
        last = len(route.segments) - 1
        for number, (segment, variable) in enumerate(zip(route.segments, route.variables, strict=True)):
            if variable is None:
                node = node.literal.setdefault(segment, _Node())
            elif not (route.is_greedy and number == last):
                node.variable = node.variable or _Node()
                node = node.variable
        ends = node.greedy if route.is_greedy else node.ends
        if route.method in ends:
            raise ConfigurationError(f"route={route.key!r}: {ends[route.method][0].key!r} takes the same requests")
        ends[route.method] = (route, target)

    def find(self, method: str, path: str) -> Match[T] | None:
        """Find what a request leads to; ``path`` is percent-encoded, as it came. None where no route fits."""
        segments = [unquote(segment) for segment in path[1:].split("/")]
        found = _find(self._root, method, segments, 0)
        if found is None:
            return None if self._default is None else Match(self._default, {})
        route, target = found
        return Match(target, _parameters(route, segments))


def _find(node: _Node[T], method: str, segments: list[str], at: int) -> tuple[Route, T] | None:
    if at == len(segments):
        return node.ends.get(method) or node.ends.get("ANY")
    segment = segments[at]
    if segment in node.literal:
        found = _find(node.literal[segment], method, segments, at + 1)
        if found is not None:
            return found
    if node.variable is not None and segment:
        found = _find(node.variable, method, segments, at + 1)
        if found is not None:
            return found
    if any(segments[at:]):
        return node.greedy.get(method) or node.greedy.get("ANY")
    return None


def _parameters(route: Route, segments: list[str]) -> dict[str, str]:
    last = len(route.variables) - 1
    return {
        variable: "/".join(segments[number:]) if route.is_greedy and number == last else segments[number]
        for number, variable in enumerate(route.variables)
        if variable is not None
    }
