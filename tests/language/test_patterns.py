"""EventBridge's patterns: every operator by its own line, all together against a slow, obvious model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas import ConfigurationError
from pyfaas._language.patterns import ALTERNATIVES, compile_pattern
from pyfaas._language.rules import Rules


def fits(pattern: Any, event: Any) -> bool:
    return compile_pattern(pattern).matches(event)


# -- each operator -----------------------------------------------------------------------------------------------------

CASES: list[tuple[list[Any], list[Any], list[Any]]] = [
    # what stands in the pattern, what fits, what does not
    (["a"], ["a", ["a", "b"], [["a"]]], ["A", "ab", "", 1, None, [], {"a": "a"}]),
    ([""], [""], ["a", None]),
    ([None], [None], ["", 0, False]),
    ([300], [300, 300.0, 3.0e2], ["300", 301, True]),
    ([1], [1], [True]),
    ([True], [True], [1, "true", False]),
    ([False], [False], [0, None]),
    ([{"prefix": "ab"}], ["ab", "abc"], ["a", "Ab", 1, None]),
    ([{"prefix": {"equals-ignore-case": "AB"}}], ["ab", "Abc"], ["a"]),
    ([{"suffix": ".png"}], [".png", "a.png"], ["a.PNG", "png"]),
    ([{"suffix": {"equals-ignore-case": ".png"}}], ["a.PNG"], ["png"]),
    ([{"equals-ignore-case": "Alice"}], ["alice", "ALICE"], ["alic", 1]),
    ([{"wildcard": "a*b"}], ["ab", "aab", "axxb"], ["a", "abc", "ba", 1]),
    ([{"wildcard": "a*a"}], ["aa", "aba"], ["a"]),
    ([{"wildcard": "*x*y*"}], ["xy", "axbyc"], ["yx"]),
    ([{"wildcard": "*ab*abc"}], ["ababc", "abxabc"], ["abc", "abab"]),
    ([{"wildcard": "plain"}], ["plain"], ["plainer"]),
    ([{"wildcard": r"a\*b\\*"}], ["a*b\\", "a*b\\c"], ["axb\\", "a*b"]),
    ([{"anything-but": "a"}], ["b", "", 1, None, ["a", "b"]], ["a", ["a"], []]),
    ([{"anything-but": 1}], [2, "1", True], [1, 1.0]),
    ([{"anything-but": ["a", "b"]}], ["c"], ["a", "b"]),
    ([{"anything-but": {"prefix": "a"}}], ["b", 1], ["a", "ab"]),
    ([{"anything-but": {"suffix": ["a", "b"]}}], ["c"], ["xa", "xb"]),
    ([{"anything-but": {"equals-ignore-case": "a"}}], ["b"], ["A"]),
    ([{"anything-but": {"wildcard": "*/x/*"}}], ["/y/"], ["/x/y"]),
    ([{"numeric": ["=", 5]}], [5, 5.0], ["5", 6, True]),
    ([{"numeric": [">", 0, "<=", 5]}], [0.1, 5], [0, 5.1, None]),
    ([{"numeric": ["<", 0]}], [-1], [0]),
    ([{"cidr": "10.0.0.0/24"}], ["10.0.0.255"], ["10.0.1.0", "x", 1, "::1"]),
    ([{"cidr": "2001:db8::/32"}], ["2001:db8::1"], ["2001:db9::1", "10.0.0.1"]),
    ([{"exists": True}], [None, 0, "", ["a"]], [[], {"a": 1}]),
    ([{"exists": False}], [[], {"a": 1}], [None, 0, ["a"]]),
    (["a", {"prefix": "b"}, {"numeric": [">", 3]}], ["a", "bc", 4], ["c", 3]),
]


@pytest.mark.parametrize(("wanted", "yes", "no"), CASES, ids=str)
def test_an_operator_takes_what_it_should_and_nothing_else(wanted: list[Any], yes: list[Any], no: list[Any]) -> None:
    assert [value for value in yes if not fits({"at": wanted}, {"at": value})] == []
    assert [value for value in no if fits({"at": wanted}, {"at": value})] == []


def test_a_field_that_is_missing_fits_only_what_must_be_absent() -> None:
    for wanted, *_ in CASES:
        assert fits({"at": wanted}, {}) == (wanted == [{"exists": False}])
    assert fits({"detail": {"deep": {"at": [{"exists": False}]}}}, {"detail": 1})


def test_all_fields_must_fit_and_of_an_or_one() -> None:
    pattern = {"source": ["shop"], "$or": [{"price": [{"numeric": [">", 9]}]}, {"detail": {"rush": [True]}}]}
    assert fits(pattern, {"source": "shop", "price": 10})
    assert fits(pattern, {"source": "shop", "price": 1, "detail": {"rush": True}})
    assert not fits(pattern, {"source": "shop", "price": 1})
    assert not fits(pattern, {"price": 10})


def test_of_a_list_of_objects_one_must_fit_all_of_it() -> None:
    event = {"items": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}]}
    assert fits({"items": {"sku": ["a"], "count": [1]}}, event)
    assert not fits({"items": {"sku": ["a"], "count": [2]}}, event)
    assert not fits({"items": {"sku": ["a"]}, "$or": [{"items": {"count": [2]}}, {"other": [1]}]}, event)


def test_a_pattern_may_be_json_text() -> None:
    assert fits('{"a": ["b"]}', {"a": "b"})


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("{", "pattern='{': must be JSON"),
        ([], "pattern=[]: must be an object with at least one field"),
        ({}, "pattern={}: must be an object with at least one field"),
        ({"a": {}}, "pattern.a={}: must be an object with at least one field"),
        ({"a": "b"}, "pattern.a='b': must be an object or a list, such as ['b']".replace("'b']", '"b"]')),
        ({"a": []}, "pattern.a=[]: must be a list of what may stand there"),
        ({"a": [["b"]]}, "pattern.a[0]=['b']: must be a text, a number"),
        ({"a": {"b": [1, {"c": 1}]}}, "pattern.a.b[1]={'c': 1}: must be a value, or an object with one of prefix"),
        ({"a": [{"prefix": "a", "suffix": "b"}]}, "one operator"),
        ({"a": [{"prefix": 1}]}, "pattern.a[0].prefix=1: must be a text"),
        ({"a": [{"prefix": {"wildcard": "a"}}]}, 'must be a text or {"equals-ignore-case": text}'),
        ({"a": [{"wildcard": "a**b"}]}, "without two stars in a row"),
        ({"a": [{"wildcard": r"a\b"}]}, "a backslash stands before a star or a backslash"),
        ({"a": [{"exists": "yes"}]}, "pattern.a[0].exists='yes': must be true or false"),
        ({"a": [{"cidr": "10.0.0.0/33"}]}, "must be a block of addresses"),
        ({"a": [{"numeric": [">"]}]}, 'must be a list such as [">", 0, "<=", 5]'),
        ({"a": [{"numeric": ["!", 1]}]}, "must be a list such as"),
        ({"a": [{"numeric": [">", "1"]}]}, "must be a list such as"),
        ({"a": [{"numeric": [">", 1, ">=", 2]}]}, "one bound from below and one from above"),
        ({"a": [{"anything-but": []}]}, "a list with at least one value"),
        ({"a": [{"anything-but": ["a", 1]}]}, "nothing but texts or nothing but numbers"),
        ({"a": [{"anything-but": {"cidr": "::/0"}}]}, "an object with one of prefix, suffix"),
        ({"$or": [{"a": [1]}]}, "pattern.$or=[{'a': [1]}]: must be a list of two or more objects"),
        ({"$or": [{"a": [1]}, 2]}, "pattern.$or[1]=2: must be an object"),
        ({"$or": [{"a": [1]}, {"prefix": [1]}]}, "'prefix' is an operator"),
    ],
)
def test_a_bad_pattern_is_refused_with_where_and_why(pattern: Any, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        compile_pattern(pattern)
    assert told in str(caught.value)


def test_a_pattern_of_too_many_ways_is_refused() -> None:
    ten = [{f"f{number}": [1]} for number in range(10)]
    compile_pattern({"a": {"$or": ten}, "b": {"$or": ten}, "c": {"$or": ten}})
    with pytest.raises(ConfigurationError, match=f"over {ALTERNATIVES:,} ways"):
        compile_pattern({name: {"$or": ten} for name in "abcd"})


# -- against a model ---------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(["x", "xy", "", 1, 2.5, True, None])
TESTS = st.one_of(
    VALUES,
    st.builds(lambda text: {"prefix": text}, st.sampled_from(["x", "y"])),
    st.builds(lambda text: {"anything-but": text}, st.sampled_from(["x", "xy", 1])),
    st.builds(lambda bound: {"numeric": [">", bound]}, st.integers(0, 3)),
    st.builds(lambda flag: {"exists": flag}, st.booleans()),
)
LEAVES = st.lists(TESTS, min_size=1, max_size=2)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(NAMES, inner, min_size=1, max_size=2)


def with_or(plain: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    both = st.lists(plain, min_size=2, max_size=2)
    return plain | st.builds(lambda one, choices: {**one, "$or": choices}, plain, both)


PATTERNS = with_or(objects(LEAVES | with_or(objects(LEAVES))))
FLAT = st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=2), max_size=3)
EVENTS = st.dictionaries(NAMES, VALUES | st.lists(VALUES, max_size=2) | FLAT | st.lists(FLAT, max_size=2), max_size=3)


def choices(value: Any) -> Iterator[Any]:
    """Give the event with one element in the place of each list, in every way; an empty one leaves nothing."""
    if isinstance(value, list):
        for one in value:
            yield from choices(one)
        if not value:
            yield ...
    elif isinstance(value, dict):
        for row in itertools.product(*(choices(one) for one in value.values())):
            yield {name: one for name, one in zip(value, row, strict=True) if one is not ...}
    else:
        yield value


def plainly(pattern: Any, value: Any) -> bool:
    """Tell whether an event without lists fits."""
    if isinstance(pattern, dict):
        value = value if isinstance(value, dict) else {}
        return all(
            any(plainly(one, value) for one in wanted) if name == "$or" else plainly(wanted, value.get(name, ...))
            for name, wanted in pattern.items()
        )
    there = value is not ... and not isinstance(value, dict)
    return any(one_fits(one, value, there=there) for one in pattern)


def one_fits(one: Any, value: Any, *, there: bool) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    match one:
        case {"exists": flag}:
            return bool(there == flag)
        case _ if not there:
            return False
        case {"prefix": text}:
            return isinstance(value, str) and value.startswith(text)
        case {"anything-but": other}:
            return bool(value != other) or isinstance(value, bool)
        case {"numeric": [_, bound]}:
            return bool(number and value > bound)
    return bool(value == one) and isinstance(value, bool) == isinstance(one, bool)


@given(pattern=PATTERNS, event=EVENTS)
def test_patterns_agree_with_a_model_that_tries_everything(pattern: Any, event: Any) -> None:
    assert fits(pattern, event) == any(plainly(pattern, one) for one in choices(event))


@given(patterns=st.lists(PATTERNS, max_size=6), events=st.lists(EVENTS, max_size=3), dropped=st.sets(st.integers(0, 5)))
def test_many_rules_at_once_find_what_each_alone_does(
    patterns: list[Any], events: list[Any], dropped: set[int]
) -> None:
    rules: Rules[int] = Rules()
    for number, pattern in enumerate(patterns):
        rules.add(number, compile_pattern({"other": ["x"]}))
        rules.add(number, compile_pattern(pattern))
    for number in dropped:
        rules.discard(number)
    left = {number: pattern for number, pattern in enumerate(patterns) if number not in dropped}
    assert len(rules) == len(left)
    for event in events:
        found = rules.matching(event)
        assert sorted(found) == [number for number, pattern in left.items() if fits(pattern, event)]


def test_rules_that_share_all_but_one_value_are_told_apart_by_it() -> None:
    rules: Rules[int] = Rules()
    for number in range(1000):
        rules.add(number, compile_pattern({"source": ["shop"], "detail": {"customer": [f"c{number}"]}, "type": ["x"]}))
    event = {"source": "shop", "type": "x", "detail": {"customer": "c7"}}
    assert rules.matching(event) == [7]
    assert len(list(rules._root.candidates(event))) <= 2
