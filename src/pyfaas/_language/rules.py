"""
Many patterns at once: which rules does an event fit?  (pure)

    add(key, pattern) ──► filed under values of which a fitting event has at least one
    matching(event)   ──► what is filed under the event's values, and fits; what could not be filed is always tried

Ten thousand rules that differ in one value cost an event as much as the few that share its values.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any, Generic, TypeVar

from pyfaas._language.patterns import Path, Pattern, leaves, literal_key

Key = TypeVar("Key", bound=Hashable)


class Rules(Generic[Key]):
    """The patterns of many rules, by the rules' keys."""

    def __init__(self) -> None:
        self._patterns: dict[Key, tuple[Pattern, list[tuple[Path, Any]]]] = {}
        self._root = _Level[Key]()
        self._loose: dict[Key, None] = {}  # in the order in which they came

    def __len__(self) -> int:
        return len(self._patterns)

    def add(self, key: Key, pattern: Pattern) -> None:
        """File a rule; one of the same key is replaced."""
        self.discard(key)
        # The rarest values so far: what all rules share (a source, say) would narrow nothing down.
        rarest: list[list[tuple[Path, Any]]] = [
            min(reversed(options), key=self._crowd, default=[]) for options in pattern.anchors()
        ]
        chosen = list(dict.fromkeys(anchor for anchors in rarest for anchor in anchors))
        if not all(rarest):
            chosen = []
            self._loose[key] = None
        self._patterns[key] = (pattern, chosen)
        for path, value in chosen:
            self._root.at(path).filed.setdefault(value, {})[key] = None

    def discard(self, key: Key) -> None:
        """Take a rule out, if it is there."""
        _, chosen = self._patterns.pop(key, (None, []))
        self._loose.pop(key, None)
        for path, value in chosen:
            filed = self._root.at(path).filed
            del filed[value][key]
            if not filed[value]:
                del filed[value]

    def matching(self, event: Any) -> list[Key]:
        """Give the keys of the rules that an event fits, each once."""
        candidates = dict.fromkeys(self._root.candidates(event))
        candidates.update(self._loose)
        patterns = self._patterns
        return [key for key in candidates if patterns[key][0].matches(event)]

    def _crowd(self, anchors: list[tuple[Path, Any]]) -> int:
        return sum(len(self._root.at(path).filed.get(value, ())) for path, value in anchors)


class _Level(Generic[Key]):
    """What is filed under the values at one path, and below it."""

    __slots__ = ("below", "filed")

    def __init__(self) -> None:
        self.below: dict[str, _Level[Key]] = {}
        self.filed: dict[Any, dict[Key, None]] = {}

    def at(self, path: Path) -> _Level[Key]:
        level = self
        for name in path:
            level = level.below.setdefault(name, _Level())
        return level

    def candidates(self, value: Any) -> Iterator[Key]:
        if self.filed:
            for leaf in leaves(value):
                yield from self.filed.get(literal_key(leaf), ())
        if self.below:
            for one in value if isinstance(value, list) else (value,):
                yield from self._candidates_below(one)

    def _candidates_below(self, value: Any) -> Iterator[Key]:
        if isinstance(value, list):
            for one in value:
                yield from self._candidates_below(one)
        elif isinstance(value, dict):
            below = self.below
            for name in below if len(below) < len(value) else value:
                if name in below and name in value:
                    yield from below[name].candidates(value[name])
