"""Input transformers, as EventBridge has them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyfaas import ConfigurationError
from pyfaas._language.transform import compile_transform

EVENT = {
    "id": "7",
    "detail-type": "Order",
    "detail": {"user": 'An "n" a', "items": [{"n": 1}, {"n": 2}], "none": None, "n": 1.5, "yes": True},
}
RESERVED = {"aws.events.rule-name": "mine", "aws.events.event.ingestion-time": "2030-01-31T09:00:00Z"}


def changed(**transform: Any) -> Any:
    return json.loads(compile_transform(transform)(EVENT, RESERVED))


def test_an_input_is_what_it_is() -> None:
    assert changed(input={"a": [1]}) == {"a": [1]}
    assert changed(input="<text>") == "<text>"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("$", EVENT),
        ("$.detail.items[1].n", 2),
        ("$.detail-type", "Order"),
        ("$['detail-type']", "Order"),
        ("$.detail.items[2]", None),
        ("$.nothing.there", None),
        ("$.id.deeper", None),
    ],
)
def test_a_path_is_a_part_of_the_event(path: str, value: Any) -> None:
    assert changed(path=path) == value


def test_a_variable_within_quotes_is_text_and_outside_it_is_json() -> None:
    paths = {"user": "$.detail.user", "items": "$.detail.items", "n": "$.detail.n", "yes": "$.detail.yes"}
    template = '{"to": <user>, "text": "<user> has <items>, <n>, <yes>", "items": <items>}'
    assert changed(paths=paths, template=template) == {
        "to": 'An "n" a',
        "text": 'An "n" a has [{"n":1},{"n":2}], 1.5, true',
        "items": [{"n": 1}, {"n": 2}],
    }


def test_what_the_event_does_not_have_is_null_and_nothing() -> None:
    assert changed(paths={"x": "$.x"}, template='[<x>, "<x>"]') == [None, ""]


def test_a_quote_that_is_escaped_ends_nothing() -> None:
    assert changed(paths={"id": "$.id"}, template=r'"a \" <id> \\"') == 'a " 7 \\'


def test_the_reserved_names_are_filled_in() -> None:
    template = '[<aws.events.rule-name>, "<aws.events.event.ingestion-time>", <aws.events.event.json>]'
    assert changed(template=template) == ["mine", "2030-01-31T09:00:00Z", EVENT]


@pytest.mark.parametrize(
    ("transform", "told"),
    [
        ({"template": "<x> came"}, "template='<x>': must be one of"),
        ({"template": "plain text"}, "must be JSON once its variables are filled in"),
        ({"template": ""}, "template='': must be a text"),
        ({"template": "<x>", "paths": {"x": "detail"}}, "must be a path such as"),
        ({"template": "<x>", "paths": {"x": "$.a["}}, "must be a path such as"),
        ({"template": "1", "paths": {"aws.x": "$"}}, "do not begin with"),
        ({"template": "1", "paths": {"a b": "$"}}, "names of letters"),
        ({"template": "1", "paths": {str(n): "$" for n in range(101)}}, "at most 100"),
        ({"path": 7}, "path=7: must be a path"),
    ],
)
def test_a_bad_one_says_where(transform: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        compile_transform(transform)
