"""
EventBridge's pattern language: which events does a rule want?  (pure)

    compile_pattern({"source": ["shop"], "detail": {"price": [{"numeric": [">", 10]}]}}) ──► Pattern
    Pattern.matches(event) ──► bool

A pattern mirrors the event: objects go down, and every leaf is a list of which one must fit. What the pattern does not
name is ignored. A list in the event fits if one of its elements does, and of a list of objects one element must fit
all of what stands below. Used when a rule is declared, and for every event.

AWS leaves two things open: ``300`` equals ``300.0`` here (both are JSON's number), and null counts as present.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias

from pyfaas.errors import ConfigurationError

Test: TypeAlias = Callable[[Any], bool]
Path: TypeAlias = "tuple[str, ...]"

ALTERNATIVES = 1_000  # as in AWS

_MISSING = object()
_NUMBERS = (int, float)
_LITERALS = (str, int, float, bool, type(None))
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "=": lambda left, right: left == right,
    ">": lambda left, right: left > right,
    ">=": lambda left, right: left >= right,
    "<": lambda left, right: left < right,
    "<=": lambda left, right: left <= right,
}


def compile_pattern(pattern: Any, where: str = "pattern") -> Pattern:
    """
    Read a pattern, an object or its JSON text; ``where`` begins the path in messages.

    Raises ConfigurationError: where it is wrong, and what would be right.
    """
    if isinstance(pattern, str):
        try:
            pattern = json.loads(pattern)
        except ValueError as error:
            raise ConfigurationError(f"{where}={pattern!r}: must be JSON ({error})") from None
    return Pattern(_alternatives(pattern, where))


class Pattern:
    """What one rule wants: one of several alternatives, of which each is without ``$or``."""

    __slots__ = ("_alternatives",)

    def __init__(self, alternatives: list[_Node]) -> None:
        self._alternatives = alternatives

    def matches(self, event: Any) -> bool:
        """Tell whether an event fits."""
        return any(one.fits_below(event) for one in self._alternatives)

    def anchors(self) -> Iterator[list[list[tuple[Path, Any]]]]:
        """
        Give, for each alternative, sets of values of which an event that fits it has at least one: for an index.

        A value stands at a path, and is in the form of ``literal_key``.
        """
        return (list(one.anchors(())) for one in self._alternatives)


class _Node:
    """What must fit at a place: what stands there itself, and, where that is an object, what stands below."""

    __slots__ = ("below", "leaves")

    def __init__(self, leaves: tuple[_Leaf, ...] = (), below: dict[str, _Node] | None = None) -> None:
        self.leaves = leaves
        self.below = below or {}

    def fits(self, value: Any) -> bool:
        return all(leaf.fits(value) for leaf in self.leaves) and (not self.below or self.fits_below(value))

    def fits_below(self, value: Any) -> bool:
        if isinstance(value, list) and value:
            return any(self.fits_below(one) for one in value)
        if not isinstance(value, dict):
            value = {}  # nothing is there: what must be absent is
        return all(node.fits(value.get(name, _MISSING)) for name, node in self.below.items())

    def anchors(self, path: Path) -> Iterator[list[tuple[Path, Any]]]:
        for leaf in self.leaves:
            if leaf.literals_only:
                yield [(path, literal) for literal in leaf.literals]
        for name, node in self.below.items():
            yield from node.anchors((*path, name))

    def __and__(self, other: _Node) -> _Node:
        below = dict(self.below)
        for name, node in other.below.items():
            below[name] = below[name] & node if name in below else node
        return _Node(self.leaves + other.leaves, below)


def _alternatives(pattern: Any, where: str) -> list[_Node]:
    """Read an object: every way to fit it."""
    if not isinstance(pattern, dict) or not pattern:
        raise _refuse(where, pattern, "an object with at least one field")
    found = [_Node()]
    for name, wanted in pattern.items():
        if not isinstance(name, str):
            raise _refuse(where, name, "a field's name")
        place = f"{where}.{name}"
        options = _options(name, wanted, place)
        if len(found) * len(options) > ALTERNATIVES:
            raise _refuse(place, wanted, f"less: with all of $or there are over {ALTERNATIVES:,} ways to fit")
        found = [one & option for one in found for option in options]
    return found


def _options(name: str, wanted: Any, where: str) -> list[_Node]:
    """Read one field of an object."""
    if name == "$or":
        return [node for choice, place in _choices(wanted, where) for node in _alternatives(choice, place)]
    if isinstance(wanted, list):
        return [_Node(below={name: _Node((_Leaf(wanted, where),))})]
    if isinstance(wanted, dict):
        return [_Node(below={name: node}) for node in _alternatives(wanted, where)]
    raise _refuse(where, wanted, f"an object or a list, such as [{json.dumps(wanted, default=repr)}]")


class _Leaf:
    """A list in a pattern: one of it must fit one of the values that stand there."""

    __slots__ = ("_absent", "_exists", "_tests", "literals")

    def __init__(self, wanted: list[Any], where: str) -> None:
        if not wanted:
            raise _refuse(where, wanted, "a list of what may stand there: an empty one fits nothing")
        literals = [one for one in wanted if isinstance(one, _LITERALS)]
        self.literals = {literal_key(one) for one in literals}
        self._exists = self._absent = False
        self._tests: list[Test] = []
        for number, one in enumerate(wanted):
            if isinstance(one, _LITERALS):
                continue
            place = f"{where}[{number}]"
            name, argument = _operator(one, place)
            if name == "exists":
                if type(argument) is not bool:
                    raise _refuse(f"{place}.exists", argument, "true or false")
                self._exists |= argument
                self._absent |= not argument
            elif name in _OPERATORS:
                self._tests.append(_OPERATORS[name](argument, f"{place}.{name}"))
            else:
                raise _refuse(place, one, f"a value, or an object with one of {', '.join((*_OPERATORS, 'exists'))}")

    def fits(self, value: Any) -> bool:
        if isinstance(value, (dict, list)) or value is _MISSING:
            found = list(leaves(value))
            if not found:
                return self._absent
            return any(map(self._fits_one, found))
        return self._fits_one(value)

    def _fits_one(self, value: Any) -> bool:
        return (
            self._exists
            or literal_key(value) in self.literals
            or (bool(self._tests) and any(test(value) for test in self._tests))
        )

    @property
    def literals_only(self) -> bool:
        """Whether a value fits by being one of the literals, and by nothing else."""
        return not (self._tests or self._exists or self._absent)


def leaves(value: Any) -> Iterator[Any]:
    """Give the values that stand at a place of an event: one, those of a list, or none."""
    if isinstance(value, list):
        for one in value:
            yield from leaves(one)
    elif value is not _MISSING and not isinstance(value, dict):
        yield value


def literal_key(value: Any) -> Any:
    """Give a value such that what JSON tells apart is unequal: Python takes True for 1."""
    return (value,) if isinstance(value, bool) else value


# -- operators ---------------------------------------------------------------------------------------------------------


def _choices(wanted: Any, where: str) -> Iterator[tuple[Any, str]]:
    """Give the objects of ``$or``, and where they stand."""
    if not isinstance(wanted, list) or len(wanted) < 2:
        raise _refuse(where, wanted, "a list of two or more objects")
    for number, one in enumerate(wanted):
        place = f"{where}[{number}]"
        reserved = [name for name in one if name in (*_OPERATORS, "exists")] if isinstance(one, dict) else []
        if reserved:
            raise _refuse(place, one, f"an object of fields; {reserved[0]!r} is an operator")
        yield one, place


def _operator(one: Any, where: str) -> tuple[str, Any]:
    if not isinstance(one, dict) or len(one) != 1:
        raise _refuse(where, one, "a text, a number, true, false, null, or an object with one operator")
    return next(iter(one.items()))


def _text(argument: Any, where: str, *, empty: bool = True) -> str:
    if not isinstance(argument, str) or not (argument or empty):
        raise _refuse(where, argument, "a text" if empty else "a text that is not empty")
    return argument


def _affix(name: str) -> Callable[[Any, str], Test]:
    """Make ``prefix`` or ``suffix``, also with ``{"equals-ignore-case": text}`` below."""

    def begins(value: str, wanted: str) -> bool:
        return value.startswith(wanted) if name == "prefix" else value.endswith(wanted)

    def make(argument: Any, where: str) -> Test:
        if isinstance(argument, dict):
            inner, wanted = _operator(argument, where)
            if inner != "equals-ignore-case":
                raise _refuse(where, argument, 'a text or {"equals-ignore-case": text}')
            folded = _text(wanted, f"{where}.{inner}", empty=False).casefold()
            return lambda value: isinstance(value, str) and begins(value.casefold(), folded)
        text = _text(argument, where)
        return lambda value: isinstance(value, str) and begins(value, text)

    return make


def _ignore_case(argument: Any, where: str) -> Test:
    folded = _text(argument, where).casefold()
    return lambda value: isinstance(value, str) and value.casefold() == folded


def _wildcard(argument: Any, where: str) -> Test:
    first, *rest = pieces = _pieces(_text(argument, where), where)
    if not rest:
        return lambda value: bool(value == first)
    last, between = pieces[-1], pieces[1:-1]

    def fits(value: Any) -> bool:
        if not isinstance(value, str) or not value.startswith(first) or not value.endswith(last):
            return False
        at, end = len(first), len(value) - len(last)
        for piece in between:  # each as early as it can be: no choice, so no going back
            at = value.find(piece, at, max(end, 0))
            if at < 0:
                return False
            at += len(piece)
        return at <= end

    return fits


def _pieces(text: str, where: str) -> list[str]:
    r"""Give what stands between the stars; ``\*`` and ``\\`` are a star and a backslash."""
    pieces, at, star = [""], 0, False
    while at < len(text):
        letter = text[at]
        if letter == "*":
            if star:
                raise _refuse(where, text, "a text without two stars in a row")
            pieces.append("")
        elif letter == "\\":
            at += 1
            if text[at : at + 1] not in ("*", "\\"):
                raise _refuse(where, text, r"a text in which a backslash stands before a star or a backslash")
            pieces[-1] += text[at]
        else:
            pieces[-1] += letter
        star = letter == "*"
        at += 1
    return pieces


def _numeric(argument: Any, where: str) -> Test:
    right = 'a list such as [">", 0, "<=", 5]'
    if not isinstance(argument, list) or not argument or len(argument) % 2 or len(argument) > 4:
        raise _refuse(where, argument, right)
    pairs = list(zip(argument[::2], argument[1::2], strict=True))
    for sign, bound in pairs:
        if not isinstance(sign, str) or sign not in _COMPARE or not _is_number(bound):
            raise _refuse(where, argument, right)
    if len(pairs) == 2 and {pairs[0][0][0], pairs[1][0][0]} != {"<", ">"}:
        raise _refuse(where, argument, "one bound from below and one from above")
    tests = [(_COMPARE[sign], bound) for sign, bound in pairs]
    return lambda value: _is_number(value) and all(compare(value, bound) for compare, bound in tests)


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def _cidr(argument: Any, where: str) -> Test:
    try:
        network = ip_network(_text(argument, where), strict=False)
    except ValueError:
        raise _refuse(where, argument, 'a block of addresses, such as "10.0.0.0/24"') from None

    def fits(value: Any) -> bool:
        try:
            return isinstance(value, str) and ip_address(value) in network
        except ValueError:
            return False

    return fits


def _anything_but(argument: Any, where: str) -> Test:
    if isinstance(argument, dict):
        name, wanted = _operator(argument, where)
        if name not in _BUT:
            raise _refuse(where, argument, f"an object with one of {', '.join(_BUT)}")
        tests = [_OPERATORS[name](one, f"{where}.{name}") for one in _non_empty(wanted, f"{where}.{name}")]
        return lambda value: not any(test(value) for test in tests)
    unwanted = _non_empty(argument, where)
    for kind in (str, _NUMBERS):
        if all(isinstance(one, kind) and not isinstance(one, bool) for one in unwanted):
            keys = set(map(literal_key, unwanted))
            return lambda value: literal_key(value) not in keys
    raise _refuse(where, argument, "a text, a number, or a list of nothing but texts or nothing but numbers")


def _non_empty(argument: Any, where: str) -> list[Any]:
    if argument == []:
        raise _refuse(where, argument, "a list with at least one value")
    return argument if isinstance(argument, list) else [argument]


_OPERATORS: dict[str, Callable[[Any, str], Test]] = {
    "prefix": _affix("prefix"),
    "suffix": _affix("suffix"),
    "equals-ignore-case": _ignore_case,
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
}
_BUT = ("prefix", "suffix", "equals-ignore-case", "wildcard")


def _refuse(where: str, value: Any, right: str) -> ConfigurationError:
    return ConfigurationError(f"{where}={value!r}: must be {right}")
