"""Every option of ``@function`` and ``Runtime``: what passes, and errors that name field, value and what is right."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from pyfaas import ConfigurationError, FixedTime, Runtime, function
from pyfaas.options import Options
from pyfaas.testing import ManualClock


def make_handler() -> Callable[[Any], Any]:
    """A local one: what is declared at the top of a module would be served, and provisioned, by every runtime."""

    def handler(event: Any) -> Any:
        return event

    return handler


handler = make_handler()


def refused(**options: Any) -> str:
    """Declare with these options; they must be refused, with what?"""
    with pytest.raises(ConfigurationError) as caught:
        function(**options)(handler)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


SECONDS = "must be a number of seconds from {} to {}"
TRIGGERS = "a handle, orders.batches(...), clicks.records(...), shop.rule(...), schedule(...), http(...), or a list"
WRONG: list[tuple[str, list[Any], str]] = [
    ("name", ["", "a b", "ä", "a" * 65, "a.b", None, 1], "must be 1 to 64 letters, digits, hyphens and underscores"),
    ("memory", [127, 10_241, 128.0, "128", None, True], "must be a whole number from 128 to 10,240"),
    ("timeout", [0, 0.049, 900.1, float("nan"), float("inf"), "3", None, True], SECONDS.format("0.05", "900")),
    ("environment", [None, ["A=1"], "A=1"], "must be a dict of text to text"),
    ("ephemeral_storage", [511, 10_241, None, 512.5], "must be a whole number from 512 to 10,240"),
    ("cpu", [0, -1, "all", 65, True, float("nan")], 'must be a number of vCPUs above 0, "proportional" or None'),
    ("trigger", ["GET /", 7, {"a": 1}], f"must be {TRIGGERS}"),
    ("cpu_seconds", [0, -1, "1", True, float("nan")], SECONDS.format("0.05", "1e+06") + " or None"),
    ("network", [None, 0, 1, "yes"], "must be True or False"),
    ("reads", ["/etc", None, {"/etc"}], "must be a list"),
    ("reads", [["etc"], ["/etc", 1], ["~/data"]], "must be a list of absolute paths"),
    ("reads", [["/"], ["/tmp"], ["/proc/"]], "must be a list of paths; /, /dev, /proc and /tmp are the sandbox's own"),
    ("writes", ["/srv", None], "must be a list"),
    ("writes", [["srv"], [""]], "must be a list of absolute paths"),
    ("writes", [["/dev"], ["/etc/.."]], "must be a list of paths; /, /dev, /proc and /tmp are the sandbox's own"),
    ("allow", ["queue:a:send", 7], "must be a list"),
    ("reserved_concurrency", [-1, 1.0, "1", True], "must be a whole number, at least 0 or None"),
    ("provisioned_concurrency", [-1, 1_001, None, 1.5], "must be a whole number from 0 to 1,000"),
    ("snap_start", [None, 1], "must be True or False"),
    ("preload", ["numpy", None], "must be a list"),
    ("retries", [-1, 3, None, 1.0], "must be a whole number from 0 to 2"),
    ("max_event_age", [59, 21_601, None, "60"], SECONDS.format("60", "21600")),
    ("on_success", [7], "must be a function, a queue with fifo=False, a topic, a bus, a bucket, or None"),
    ("on_failure", ["queue"], "must be a function, a queue with fifo=False, a topic, a bus, a bucket, or None"),
    ("dead_letter", ["queue"], "must be a queue with fifo=False, a topic, or None"),
    ("idempotency", [7], 'must be a JMESPath expression such as "order_id", an Idempotency(...), or None'),
    ("layers", ["layer", None], "must be a list"),
    ("tenant_isolated", [None, "yes"], "must be True or False"),
    ("fresh", [None, 1], "must be True or False"),
    ("max_invocations", [0, -1, 1.0, True], "must be a whole number, at least 1 or None"),
    ("description", [None, 1, "x" * 257], "must be text of at most 256 characters"),
]


@pytest.mark.parametrize(
    ("field", "value", "right"), [(field, value, right) for field, values, right in WRONG for value in values]
)
def test_a_wrong_value_is_refused_with_the_field_the_value_and_what_is_right(
    field: str, value: Any, right: str
) -> None:
    assert refused(**{field: value}) == f"{field}={value!r}: {right}"


RIGHT: list[tuple[str, list[Any]]] = [
    ("name", ["a", "A-b_9", "x" * 64]),
    ("memory", [128, 10_240]),
    ("timeout", [0.05, 1, 900, 900.0]),
    ("environment", [{}, {"AB": ""}, {"Ab_1": "ä"}]),
    ("ephemeral_storage", [512, 10_240]),
    ("cpu_seconds", [None, 0.05, 10]),
    ("reserved_concurrency", [None, 0, 1_000]),
    ("provisioned_concurrency", [0, 1_000]),
    ("max_invocations", [None, 1, 10**9]),
    ("description", ["", "ä" * 256]),
]


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in RIGHT for value in values])
def test_a_value_within_its_range_is_kept(field: str, value: Any) -> None:
    declared = function(**{field: value})(handler)
    assert getattr(declared.options, field) == value


LATER: dict[str, Any] = {
    "layers": ["layer"],
}


@pytest.mark.parametrize("field", LATER)
def test_an_option_whose_machinery_comes_later_says_so(field: str) -> None:
    """It never pretends; and what asks for nothing passes."""
    value = LATER[field]
    assert refused(**{field: value}) == f"{field}={value!r}: is not available yet"
    plain = getattr(Options(name="plain"), field)
    function(**{field: plain})(handler)


@pytest.mark.parametrize("field", ["reads", "writes", "allow", "preload", "layers"])
def test_an_empty_list_asks_for_nothing(field: str) -> None:
    nothing: list[Any] = [[], ()]
    for value in nothing:
        function(**{field: value})(handler)


def test_every_option_of_the_signature_is_checked_here() -> None:
    """A new option must come into this file."""
    here = {field for field, _, _ in WRONG} | LATER.keys()
    assert here == {
        "name", "trigger", "memory", "timeout", "environment", "ephemeral_storage", "cpu", "cpu_seconds", "network",
        "reads", "writes", "allow", "reserved_concurrency", "provisioned_concurrency", "snap_start", "preload",
        "retries", "max_event_age", "on_success", "on_failure", "dead_letter", "idempotency", "layers",
        "tenant_isolated", "fresh", "max_invocations", "description",
    }  # fmt: skip
    for field in here:
        assert hasattr(Options(name="x"), field)


def test_an_option_that_does_not_exist_is_named() -> None:
    assert refused(memroy=128) == "@function has no option 'memroy'"
    assert "ardour" in refused(ardour=2, memory=256)


def test_a_wrong_option_shows_at_its_own_line() -> None:
    """Already where ``@function(...)`` is called, before it gets the handler."""
    with pytest.raises(ConfigurationError, match="memory=1"):
        function(memory=1)


# -- the environment ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["A", "1A", "_A", "A-B", "Ä_", "", "A=B", 1])
def test_a_variable_needs_a_name_that_aws_takes(name: Any) -> None:
    told = f"environment={name!r}: must be names of 2 or more letters, digits and underscores, a letter first"
    assert refused(environment={name: "x"}) == told


@pytest.mark.parametrize(
    "name", ["AWS_REGION", "AWS_LAMBDA_FUNCTION_NAME", "AWS_SECRET_ACCESS_KEY", "LAMBDA_TASK_ROOT"]
)
def test_a_reserved_variable_is_refused(name: str) -> None:
    assert refused(environment={name: "x"}) == f"environment={name!r}: must be no name that is reserved for the runtime"


@pytest.mark.parametrize("value", [1, None, "a\0b", b"x"])
def test_a_variable_needs_text(value: Any) -> None:
    assert refused(environment={"AB": value}) == f"environment['AB']={value!r}: must be text without NUL"


def test_an_environment_may_have_4096_bytes_of_json_and_not_one_more() -> None:
    fits = "x" * (4_096 - len('{"AB":""}'))
    function(environment={"AB": fits})(handler)
    assert refused(environment={"AB": fits + "x"}) == "environment='4,097 bytes': must be at most 4,096 bytes as JSON"


def test_more_provisioned_than_reserved_is_refused() -> None:
    function(reserved_concurrency=2, provisioned_concurrency=2)(handler)
    told = refused(reserved_concurrency=2, provisioned_concurrency=3)
    assert told == "provisioned_concurrency=3: must be at most reserved_concurrency=2"


def test_the_defaults_are_those_of_the_plan() -> None:
    options = function(handler).options
    assert (options.memory, options.timeout, options.ephemeral_storage) == (128, 3, 512)
    assert options.environment == {}
    assert options.cpu_seconds is None
    assert (options.reserved_concurrency, options.provisioned_concurrency, options.max_invocations) == (None, 0, None)
    assert options.name == "handler"


def test_the_cpu_allowance_is_the_timeout_on_all_cores_and_a_second() -> None:
    import os

    assert function(timeout=2)(handler).options.cpu_allowance() == 2 * (os.cpu_count() or 1) + 1
    assert function(cpu_seconds=0.5)(handler).options.cpu_allowance() == 0.5


# -- the runtime's -----------------------------------------------------------------------------------------------------

RUNTIME_WRONG: list[tuple[str, list[Any], str]] = [
    ("concurrency", [0, -1, 1_001, 1.0, "10", None, True], "must be a whole number from 1 to 1,000"),
    ("when_full", ["", "block", None, 1, True], "must be 'raise' or 'wait'"),
    ("confinement", ["", "none", None, False], "must be 'best' or 'strict' or 'off'"),
    ("drain", [-1, 3_601, "5", None, True], "must be a number of seconds from 0 to 3600"),
    ("durability", ["", "none", None], "must be 'full' or 'normal'"),
    (
        "keep_alive",
        [-1, "5", None, True, float("nan"), FixedTime],
        "must be a number of seconds, at least 0, or a policy",
    ),
    ("functions", [1, "name", [handler]], "must be a module, a list of functions, or None"),
    ("store", ["", ":memory:", "file:x", 5, b"x"], "must be the path of a file, or None for a store in memory"),
    ("clock", [5, "now", ManualClock], "must be a clock such as pyfaas.testing.ManualClock()"),
]


@pytest.mark.parametrize(
    ("field", "value", "right"), [(field, value, right) for field, values, right in RUNTIME_WRONG for value in values]
)
def test_a_runtime_refuses_a_wrong_value_likewise(field: str, value: Any, right: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Runtime(**{field: value})
    assert str(caught.value).startswith(f"{field}={value!r}: {right}")


@pytest.mark.parametrize(("field", "value"), [("engine", "ray")])
def test_what_a_runtime_cannot_do_yet_says_so(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Runtime(**{field: value})
    assert str(caught.value) == f"{field}={value!r}: is not available yet"


def test_every_option_of_a_runtime_is_checked_here() -> None:
    here = {field for field, _, _ in RUNTIME_WRONG} | {"engine"}
    assert here == set(inspect.signature(Runtime).parameters)


def test_a_runtime_takes_the_ends_of_every_range() -> None:
    Runtime([], concurrency=1, when_full="wait", keep_alive=0, confinement="strict", drain=0, durability="normal")
    Runtime(None, concurrency=1_000, when_full="raise", keep_alive=float("inf"), confinement="best", drain=3_600)
