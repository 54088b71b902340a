"""Routes: the most specific one that fits, as API Gateway chooses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas import ConfigurationError
from pyfaas._language.routes import DEFAULT, Router, parse


def router(*routes: str) -> Router[str]:
    made: Router[str] = Router()
    for route in routes:
        made.add(parse(route), route)
    return made


def found(made: Router[str], request: str) -> str | None:
    match = made.find(*request.split(" ", 1))
    return None if match is None else match.target


@pytest.mark.parametrize(
    ("request_", "route"),
    [
        ("GET /pets/dog/1", "GET /pets/dog/1"),
        ("GET /pets/dog/2", "GET /pets/dog/{id}"),
        ("GET /pets/cat/1", "GET /pets/{proxy+}"),
        ("GET /pets/cat", "GET /pets/{proxy+}"),
        ("POST /test/5", "ANY /{proxy+}"),
        ("GET /pets", "ANY /{proxy+}"),
        ("GET /", DEFAULT),
        ("DELETE /pets/dog/1", "ANY /{proxy+}"),
    ],
)
def test_the_most_specific_route_wins_as_in_the_documentation_of_api_gateway(request_: str, route: str) -> None:
    made = router("GET /pets/dog/1", "GET /pets/dog/{id}", "GET /pets/{proxy+}", "ANY /{proxy+}", DEFAULT)
    assert found(made, request_) == route


def test_a_method_goes_before_any() -> None:
    made = router("ANY /a", "GET /a")
    assert (found(made, "GET /a"), found(made, "PUT /a")) == ("GET /a", "ANY /a")


def test_where_a_specific_path_has_no_route_for_the_method_the_next_is_tried() -> None:
    made = router("GET /a/b", "POST /a/{x}", "PUT /{all+}")
    assert found(made, "GET /a/b") == "GET /a/b"
    assert found(made, "POST /a/b") == "POST /a/{x}"
    assert found(made, "PUT /a/b") == "PUT /{all+}"
    assert found(made, "PATCH /a/b") is None


def test_parameters_are_decoded_and_a_slash_in_one_stays_in_it() -> None:
    match = router("GET /users/{id}/files/{path+}").find("GET", "/users/a%2Fb%20c/files/x/y%3F/z")
    assert match is not None
    assert match.parameters == {"id": "a/b c", "path": "x/y?/z"}


def test_a_variable_is_never_empty_and_a_slash_at_the_end_counts() -> None:
    made = router("GET /a/{x}", "GET /b", "GET /c/{all+}")
    assert [found(made, f"GET {path}") for path in ("/a/", "/b/", "/b", "/c/", "/c", "/c//")] == [
        None, None, "GET /b", None, None, None,
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("GET orders", "must be a method"),
        ("FETCH /orders", "must be a method"),
        ("get /orders", "must be a method"),
        ("/orders", "must be a method"),
        (None, "must be a method"),
        ("GET /{a+}/b", "takes all that is left, so it must stand at the end"),
        ("GET /{a}/{a}", "the variable 'a' stands there twice"),
        ("GET /a{b}", "'a{b}' must be a text without any of"),
        ("GET /{}", "'{}' must be a text without any of"),
        ("GET /a?b", "'a?b' must be a text without any of"),
        ("GET /a b", "'a b' must be a text without any of"),
    ],
)
def test_a_bad_route_is_refused(route: object, told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        parse(route)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("one", "other"), [("GET /a", "GET /a"), ("GET /{x}", "GET /{y}"), ("ANY /{x+}", "ANY /{y+}"), (DEFAULT, DEFAULT)]
)
def test_two_that_take_the_same_requests_are_refused(one: str, other: str) -> None:
    with pytest.raises(ConfigurationError):
        router(one, other)


_parts = st.lists(st.sampled_from(["a", "b", "{x}", "{y}"]), min_size=1, max_size=3)


@given(
    routes=st.lists(st.tuples(st.sampled_from(["GET", "ANY"]), _parts, st.booleans()), max_size=6),
    path=st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4),
)
def test_it_finds_what_a_slow_search_finds(routes: list[tuple[str, list[str], bool]], path: list[str]) -> None:
    """The model: of all routes that fit, the one whose segments are the most specific from left to right."""
    made: Router[str] = Router()
    known: list[tuple[str, list[str]]] = []
    for method, parts, greedy in routes:
        segments = [f"{{v{at}}}" if part.startswith("{") else part for at, part in enumerate(parts)]
        segments += ["{rest+}"] if greedy else []
        text = f"{method} /{'/'.join(segments)}"
        try:
            made.add(parse(text), text)
        except ConfigurationError:
            continue
        known.append((text, segments))

    def rank(segments: list[str]) -> list[int] | None:
        ranks: list[int] = []
        for at, segment in enumerate(segments):
            if at >= len(path):
                return None
            if segment.endswith("+}"):
                return [*ranks, 2]
            if not segment.startswith("{") and segment != path[at]:
                return None
            ranks.append(1 if segment.startswith("{") else 0)
        return ranks if len(segments) == len(path) else None

    fitting = [(ranks, text.startswith("ANY"), text) for text, parts in known if (ranks := rank(parts)) is not None]
    best = min(fitting)[2] if fitting else None
    assert found(made, f"GET /{'/'.join(path)}") == best
