"""JSON in and out: what passes is what json makes of it, what cannot pass is named with its path."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict
from decimal import Decimal
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyfaas import BadResponse, InvalidEvent, PayloadTooLarge, limits
from pyfaas._payload import decode_event, decode_result, encode_event, encode_result, is_shallow
from support import output_of

texts = st.text(st.characters(exclude_categories=["Cs"]))
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=20
)


def nested(depth: int, kind: str = "list") -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if kind == "list" else {"a": value}
    return value


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def compact(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


# -- what passes -------------------------------------------------------------------------------------------------------


@given(values)
def test_an_event_travels_as_compact_utf8_json_and_arrives_as_it_was(value: Any) -> None:
    payload = encode_event(value)
    assert payload == compact(value)
    assert decode_event(payload) == value


@given(values)
def test_a_result_travels_as_compact_utf8_json_and_arrives_as_it_was(value: Any) -> None:
    payload = encode_result(value)
    assert payload == compact(value)
    assert decode_result(payload) == value


class Colour(IntEnum):
    RED = 1


class Text(str):
    __slots__ = ()


@pytest.mark.parametrize(
    ("value", "payload"),
    [
        ((1, (2, 3)), b"[1,[2,3]]"),
        (OrderedDict(a=1), b'{"a":1}'),
        (Colour.RED, b"1"),
        ({Text("a"): Text("b")}, b'{"a":"b"}'),
        ({"a": Colour.RED, "b": [OrderedDict(c=())]}, b'{"a":1,"b":[{"c":[]}]}'),
        (10**300, b"1" + b"0" * 300),
        (-0.0, b"-0.0"),
        (None, b"null"),
        ("\u2028 é \U0001f600 \x00", '"\u2028 é \U0001f600 \\u0000"'.encode()),
    ],
)
def test_subclasses_and_tuples_pass_as_what_json_makes_of_them(value: Any, payload: bytes) -> None:
    assert encode_event(value) == payload
    assert encode_result(value) == payload


def test_a_decimal_in_a_result_becomes_a_number_as_in_aws() -> None:
    assert encode_result({"a": Decimal(3), "b": Decimal("2.5"), "c": Decimal("1E+3")}) == b'{"a":3,"b":2.5,"c":1000}'


def test_a_decimal_in_an_event_is_refused() -> None:
    with pytest.raises(InvalidEvent, match=r"event\['a'\] is of type Decimal, which is not JSON"):
        encode_event({"a": Decimal(3)})


# -- what cannot pass --------------------------------------------------------------------------------------------------

cycle: list[Any] = []
cycle.append({"again": cycle})

REFUSED = [
    ({"a": [1, {"b": float("nan")}]}, "['a'][1]['b'] is nan; JSON has no such number"),
    ([float("inf")], "[0] is inf; JSON has no such number"),
    (float("-inf"), " is -inf; JSON has no such number"),
    ({"a": "\ud800"}, "['a'] holds a lone surrogate and is not UTF-8 text"),
    ({"\udfff": 1}, r" has the key '\udfff', which holds a lone surrogate and is not UTF-8 text"),
    ({1: 2}, " has the key 1 of type int; keys must be strings"),
    ({"a": {None: 2}}, "['a'] has the key None of type NoneType; keys must be strings"),
    ({"a": [{(1, 2): 2}]}, "['a'][0] has the key (1, 2) of type tuple; keys must be strings"),
    ({"a": {True: 1}}, "['a'] has the key True of type bool; keys must be strings"),
    (cycle, "[0]['again'] contains itself"),
]
NOT_JSON = [
    ({"a": b"bytes"}, "['a']", "bytes"),
    ([{1, 2}], "[0]", "set"),
    (object(), "", "object"),
    ({"a": {"b": UserDict()}}, "['a']['b']", "UserDict"),
    (1j, "", "complex"),
]


@pytest.mark.parametrize(("value", "told"), REFUSED)
def test_an_event_that_json_cannot_carry_is_refused_with_the_path_of_the_culprit(value: Any, told: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        encode_event(value)
    assert str(refused.value) == f"the event cannot be sent as JSON: event{told}"


@pytest.mark.parametrize(("value", "told"), REFUSED)
def test_a_result_that_json_cannot_carry_is_a_marshal_error_with_the_path(value: Any, told: str) -> None:
    with pytest.raises(BadResponse) as refused:
        encode_result(value)
    assert refused.value.error_type == "Runtime.MarshalError"
    assert refused.value.message == f"Unable to marshal response: result{told}"


@pytest.mark.parametrize(("value", "path", "kind"), NOT_JSON)
def test_an_object_is_refused_with_its_type(value: Any, path: str, kind: str) -> None:
    with pytest.raises(InvalidEvent) as refused:
        encode_event(value)
    assert str(refused.value) == f"the event cannot be sent as JSON: event{path} is of type {kind}, which is not JSON"
    with pytest.raises(BadResponse) as bad:
        encode_result(value)
    assert bad.value.message == f"Unable to marshal response: Object of type {kind} is not JSON serializable"


def test_an_integer_too_long_to_be_written_is_refused_as_such() -> None:
    """Python refuses to write integers of more than 4,300 digits (those versions that do)."""
    huge = {"a": [10**5000]}
    try:
        str(huge["a"][0])
    except ValueError:
        with pytest.raises(InvalidEvent, match=r"event\['a'\]\[0\] is an integer of more than"):
            encode_event(huge)
        with pytest.raises(BadResponse, match=r"result\['a'\]\[0\] is an integer of more than"):
            encode_result(huge)


# -- depth -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_two_hundred_levels_pass_and_one_more_is_refused(kind: str) -> None:
    assert decode_event(encode_event(nested(200, kind))) == nested(200, kind)
    assert decode_result(encode_result(nested(200, kind))) == nested(200, kind)
    with pytest.raises(InvalidEvent, match="is nested deeper than 200 levels"):
        encode_event(nested(201, kind))
    with pytest.raises(BadResponse, match="is nested deeper than 200 levels"):
        encode_result(nested(201, kind))


def test_the_path_to_something_deep_is_cut_short() -> None:
    with pytest.raises(InvalidEvent) as refused:
        encode_event(nested(100_000))
    assert len(str(refused.value)) < 250


def test_a_deep_text_from_a_sandbox_is_refused_before_it_is_parsed() -> None:
    for text in (b"[" * 201 + b"]" * 201, b"[" * 1_000_000, b'{"a":' * 201 + b"1" + b"}" * 201):
        with pytest.raises(ValueError, match="nested deeper than 200 levels"):
            decode_result(text)


tricky = st.text(st.sampled_from('[]{}"\\a,:/é'), max_size=12)
tricky_values = st.recursive(
    tricky | st.integers(0, 9),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(tricky, inner, max_size=3),
    max_leaves=30,
)


@given(st.lists(tricky_values, max_size=30), st.integers(190, 205))
@example([{"": [[]]}], 196)
def test_depth_is_told_right_whatever_stands_in_strings(parts: list[Any], around: int) -> None:
    """Brackets, quotes and backslashes inside of strings do not count, next to any real nesting."""
    inner = [parts, *("[" * 50, '"' * 3, "\\" * 5, '\\"[')]
    for ascii_only in (True, False):
        text = json.dumps(inner, ensure_ascii=ascii_only, separators=(",", ":")).encode()
        assert is_shallow(b"[" * around + text + b"]" * around) == (around + depth_of(inner) <= limits.NESTING)


@given(st.integers(0, 400), st.integers(0, 400))
def test_many_brackets_side_by_side_are_not_deep(lists: int, dicts: int) -> None:
    assert is_shallow(compact([[[]] * lists, {str(number): {} for number in range(dicts)}]))


def test_the_worst_text_overflows_no_stack_however_small() -> None:
    """Under a raised recursion limit, in a thread with a stack of 128 KB, where json.loads would die."""
    program = """
        import sys, threading
        from pyfaas._payload import decode_result
        sys.setrecursionlimit(10**6)
        threading.stack_size(131_072)
        told = []
        def look():
            for text in (b"[" * 5_000_000, b'{"a":' * 100_000, b'"' + b"[" * 100_000, b'["\\\\"' + b"[" * 100_000):
                try:
                    decode_result(text)
                except ValueError as error:
                    told.append(str(error)[:6])
            told.append(len(str(decode_result(b"[" * 200 + b"]" * 200))))
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        print(len(told), told[0], told[-1])
    """
    assert output_of(program) == "5 nested 400"


# -- size --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("letter", ["a", "é", "\U0001f600"])
def test_an_event_of_exactly_six_megabytes_passes_and_a_byte_more_is_refused(letter: str) -> None:
    """Bytes of UTF-8 count, not characters."""
    width = len(letter.encode())
    text = letter * ((limits.REQUEST_BYTES - 2) // width)
    text += "a" * (limits.REQUEST_BYTES - 2 - len(text.encode()))
    assert len(encode_event(text)) == 6_291_456
    with pytest.raises(PayloadTooLarge) as refused:
        encode_event(text + "a")
    assert str(refused.value) == (
        "Request must be smaller than 6291456 bytes for the InvokeFunction operation; "
        "the event has 6291457 bytes of JSON"
    )


def test_a_result_of_exactly_the_limit_passes_and_a_byte_more_is_refused() -> None:
    text = "a" * (limits.RESPONSE_BYTES - 2)
    assert len(encode_result(text)) == 6_291_556
    with pytest.raises(BadResponse) as refused:
        encode_result(text + "a")
    assert refused.value.to_lambda() == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }


def test_a_value_that_shares_its_parts_beyond_measure_ends_early() -> None:
    """Ten lists of ten of ten ...: a kilobyte in memory, more text than any disk holds."""
    bomb: Any = "x"
    for _ in range(30):
        bomb = [bomb] * 10
    with pytest.raises(PayloadTooLarge):
        encode_event(bomb)
    with pytest.raises(BadResponse, match="exceeded maximum allowed payload size"):
        encode_result({"bomb": bomb})


def test_the_culprit_is_found_beside_a_value_that_shares_its_parts_beyond_measure() -> None:
    """The search for it goes level by level; into the other value it would never end."""
    bomb: Any = "x"
    for _ in range(30):
        bomb = [bomb] * 10
    with pytest.raises(InvalidEvent, match=r"event\[1\] has the key 1 of type int"):
        encode_event([bomb, {1: 2}])


# -- what a sandbox may send -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"", b"nul", b"NaN", b"[Infinity]", b'{"a":-Infinity}', b"1 2", b'"', b"\xff", b"[1,]", b'"\xed\xa0\x80"', b"{}x"],
)
def test_what_is_not_one_json_text_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text will do
        decode_result(text)


@given(st.binary(max_size=200) | st.text(st.sampled_from('[]{}":,\\u0 tn1.-e'), max_size=60).map(str.encode))
def test_any_bytes_give_a_value_or_a_value_error(text: bytes) -> None:
    try:
        value = decode_result(text)
    except ValueError:
        return
    assert value == json.loads(text)
