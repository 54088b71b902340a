"""The rules of event source mappings, each by name."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas import limits
from pyfaas._sources.batches import Filters, Pollers, cut, failed

IDS = ["a", "b", "c"]


def entries(*ids: Any) -> dict[str, Any]:
    return {"batchItemFailures": [{"itemIdentifier": one} for one in ids]}


# -- what a function reports -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response", [None, {}, "", {"batchItemFailures": []}, {"batchItemFailures": None}, {"x": 1}])
def test_an_empty_report_means_success(response: Any) -> None:
    assert failed(response, IDS) == set()


def test_what_is_reported_comes_back() -> None:
    assert failed(entries("c", "a"), IDS) == {"a", "c"}
    assert failed(entries("a", "a"), IDS) == {"a"}


@pytest.mark.parametrize(
    "response",
    [
        entries("a", "nobody"),
        entries(""),
        entries(None),
        entries(7),
        {"batchItemFailures": [{"itemId": "a"}]},
        {"batchItemFailures": ["a"]},
        {"batchItemFailures": {"itemIdentifier": "a"}},
        {"batchItemFailures": "a"},
        ["a"],
        "text",
        7,
        True,
    ],
)
def test_a_report_that_makes_no_sense_fails_the_whole_batch(response: Any) -> None:
    assert failed(response, IDS) is None


def test_an_identifier_that_cannot_be_looked_up_fails_the_whole_batch() -> None:
    assert failed(entries(["a"]), IDS) is None
    assert failed(entries({"a": 1}), IDS) is None


# -- batches -----------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(min_value=1, max_value=3_000_000), max_size=12), st.integers(min_value=1, max_value=5))
def test_batches_keep_the_order_and_both_limits(sizes: list[int], size: int) -> None:
    items = [(number, b'"' + b"x" * length + b'"') for number, length in enumerate(sizes)]
    batches = list(cut(items, size))
    assert [one for batch in batches for one in batch.items] == [*range(len(sizes))]
    for batch in batches:
        assert 0 < len(batch.items) <= size
        assert len(batch.payload) <= limits.REQUEST_BYTES
        assert len(json.loads(batch.payload)["Records"]) == len(batch.items)
    for one, after in itertools.pairwise(batches):
        first_of_next = len(items[after.items[0]][1]) + 1
        assert len(one.items) == size or len(one.payload) + first_of_next > limits.REQUEST_BYTES


# -- filters -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "data", "wanted"),
    [
        ({"body": {"a": [1]}}, '{"a": 1}', True),
        ({"body": {"a": [1]}}, '{"a": 2}', False),
        ({"body": {"a": [1]}}, "a", False),  # another form: dropped
        ({"body": {"a": [1]}}, "[1]", False),
        ({"body": ["plain"]}, "plain", True),
        ({"body": ["plain"]}, '{"a": 1}', False),
        ({"body": [{"prefix": "pl"}]}, "plain", True),
        ({"attributes": {"n": ["1"]}}, "anything", True),
    ],
)
def test_a_pattern_is_of_the_form_of_the_data(pattern: Any, data: str, wanted: bool) -> None:
    filters = Filters([json.dumps(pattern)], "body")
    assert filters.fits({"body": data, "attributes": {"n": "1"}}, data) is wanted


def test_one_pattern_of_several_is_enough() -> None:
    filters = Filters(['{"body": ["a"]}', '{"body": ["b"]}'], "body")
    assert [filters.fits({}, data) for data in "abc"] == [True, True, False]


def test_without_patterns_all_is_wanted() -> None:
    assert Filters([], "body").fits({}, "x")
    assert not Filters([], "body")


def test_a_deep_body_is_no_json_here() -> None:
    assert not Filters(['{"body": {"a": [1]}}'], "body").fits({}, "[" * 100_000)


# -- pollers -----------------------------------------------------------------------------------------------------------


def test_it_begins_with_five_and_grows_by_five_a_second_while_all_are_busy() -> None:
    pollers = Pollers(None)
    assert pollers.allowed(0.0, 0) == 5
    assert pollers.allowed(1.0, 5) == 5
    assert pollers.allowed(2.0, 5) == 10
    assert pollers.allowed(3.0, 6) == 10
    assert pollers.allowed(9.0, 10) == 10
    assert pollers.allowed(10.0, 10) == 15


def test_there_are_never_more_than_1250() -> None:
    pollers = Pollers(None)
    pollers.allowed(0.0, 5)
    assert pollers.allowed(1e6, 5) == 1250
    assert pollers.more_at(0.0) == float("inf")


@pytest.mark.parametrize("most", [1, 3, 2000])
def test_max_concurrency_is_the_limit(most: int) -> None:
    pollers = Pollers(most)
    assert pollers.allowed(0.0, 0) == min(most, 5)
    pollers.allowed(0.0, most)
    assert pollers.allowed(1e6, most) == most


def test_failures_halve_them_down_to_two() -> None:
    pollers = Pollers(None)
    pollers.back_off()
    assert pollers.allowed(0.0, 0) == 2
    pollers.back_off()
    assert pollers.allowed(0.0, 0) == 2
