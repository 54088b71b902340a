"""``@function``: what may be a handler, what it becomes, how it is called in place, how it pickles."""

from __future__ import annotations

import asyncio
import copy
import functools
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import handlers
from pyfaas import ConfigurationError, Context, Function, Runtime, function
from pyfaas.functions import declared


def logged(handler: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator like any other."""

    @functools.wraps(handler)
    def inner(*arguments: Any) -> Any:
        return ["logged", handler(*arguments)]

    return inner


class Tools:
    """Methods where it makes sense."""

    def __init__(self, factor: int) -> None:
        self.factor = factor

    def scale(self, event: int) -> int:
        return event * self.factor

    def __call__(self, event: int, context: Any) -> int:
        return event + self.factor

    @staticmethod
    def plain(event: int) -> int:
        return event + 1

    @classmethod
    def build(cls, event: int) -> str:
        return f"{cls.__name__} {event}"


def raised(power: int, event: int, context: Any) -> int:
    return int(event**power)


# -- what may be a handler ---------------------------------------------------------------------------------------------


def test_bare_and_with_options() -> None:
    @function
    def bare(event: Any) -> str:
        """Its docstring."""
        return "bare"

    @function(memory=256, timeout=10, name="other-name")
    def with_options(event: Any) -> str:
        return "with"

    assert isinstance(bare, Function)
    assert (bare.name, bare.__name__, bare.__doc__) == ("bare", "bare", "Its docstring.")
    assert (with_options.name, with_options.__name__) == ("other-name", "with_options")
    assert repr(bare) == "<Function 'bare' memory=128 timeout=3>"
    assert repr(with_options) == "<Function 'other-name' memory=256 timeout=10>"


HANDLERS: list[tuple[str, Any, Any]] = [
    ("a plain function", Tools.plain, 3),
    ("a bound method", Tools(5).scale, 10),
    ("an object that is called", Tools(5), 7),
    ("a partial", functools.partial(raised, 3), 8),
    ("a lambda", lambda event: event - 1, 1),
    ("a class method, bound", Tools.build, "Tools 2"),
    ("what a decorator returns", logged(Tools.plain), ["logged", 3]),
    ("a function of the standard library", functools.partial(max, 1), 2),
    ("a builtin", abs, 2),
]


@pytest.mark.parametrize(("handler", "value"), [one[1:] for one in HANDLERS], ids=[one[0] for one in HANDLERS])
def test_many_things_may_be_a_handler_in_place_and_in_a_sandbox(
    session_runtime: Runtime, handler: Any, value: Any
) -> None:
    declare = function(name="any")(handler)
    assert declare(2) == value
    assert session_runtime.invoke(declare, 2) == value


def test_a_static_method_is_declared_in_its_class(session_runtime: Runtime) -> None:
    class House:
        @function
        @staticmethod
        def inner(event: int) -> int:
            return event + 1

    assert House.inner(1) == 2
    assert session_runtime.invoke(House.inner, 1) == 2


def test_an_async_handler_gives_its_coroutine_in_place_and_its_value_in_a_sandbox(session_runtime: Runtime) -> None:
    """One loop per sandbox, kept between calls."""
    assert asyncio.run(handlers.later("x", Context()))[0] == "x"
    first, second = (session_runtime.invoke(handlers.later, number) for number in (1, 2))
    assert (first[0], second[0]) == (1, 2)
    assert first[1] == second[1]


def test_async_callables_of_every_kind_are_awaited(session_runtime: Runtime) -> None:
    class Caller:
        async def __call__(self, event: int) -> int:
            return event + 1

        async def method(self, event: int, context: Any) -> int:
            return event + 2

    async def plain(event: int, more: int) -> int:
        return event + more

    assert session_runtime.invoke(function(Caller()), 1) == 2
    assert session_runtime.invoke(function(Caller().method), 1) == 3
    assert session_runtime.invoke(function(functools.partial(plain, more=3)), 1) == 4


CONTEXTS: list[tuple[Any, bool]] = [
    (lambda event: 0, False),
    (lambda event, context: 0, True),
    (lambda event, context=None: 0, True),
    (lambda event, _=None: 0, True),
    (lambda event, ctx=None: 0, True),
    (lambda event, lambda_context=None: 0, True),
    (lambda event, limit=10: 0, False),
    (lambda event, anything: 0, True),
    (lambda *arguments: 0, True),
    (lambda event, *rest: 0, True),
    (lambda event, *, option=1: 0, False),
    (lambda event, **options: 0, False),
    (lambda event, context, more=None: 0, True),
    (lambda event=None: 0, False),
]


@pytest.mark.parametrize(("handler", "takes"), CONTEXTS)
def test_whether_it_takes_the_context_is_read_from_its_signature(handler: Any, takes: bool) -> None:
    assert function(handler).takes_context is takes
    assert function(handler)({}) == 0


@pytest.mark.parametrize(
    "handler", [lambda: 0, lambda a, b, c: 0, lambda *, event: 0, lambda event, context, *, needed: 0]
)
def test_another_signature_is_refused(handler: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"a handler takes \(event, context\) or \(event\)"):
        function(handler)


def test_empty_brackets_are_the_decorator() -> None:
    @function()
    def handler(event: Any) -> int:
        return 1

    assert handler(None) == 1


@pytest.mark.parametrize("value", [1, "name", [], object()])
def test_what_cannot_be_called_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="must be a callable"):
        function(value)


def test_a_method_without_its_object_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigurationError, match=r"a method has no object here: .*function\(the_object\.scale\)"):
        function(Tools.scale)  # type: ignore[arg-type]


def test_a_classmethod_in_its_class_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigurationError, match=r"use function\(TheClass.method\) after the class"):
        function(classmethod(lambda cls, event: 0))  # type: ignore[call-overload]


def test_a_handler_is_declared_once() -> None:
    with pytest.raises(ConfigurationError, match="is a function already"):
        function(handlers.echo)


@pytest.mark.parametrize(("qualname", "name"), [("<lambda>", "lambda"), ("x" * 80, "x" * 64), ("größe", "gre")])
def test_the_default_name_is_made_of_what_a_name_may_have(qualname: str, name: str) -> None:
    def handler(event: Any) -> None: ...

    handler.__qualname__ = f"test.<locals>.{qualname}"
    assert function(handler).name == name


# -- what it becomes ---------------------------------------------------------------------------------------------------


def test_it_is_called_in_place_like_the_handler_it_was_made_from() -> None:
    """No sandbox, any object may come and go; a context is made where none is given."""

    @function
    def handler(event: Any, context: Context) -> Any:
        return [event, context.function_name]

    thing = object()
    assert handler(thing) == [thing, "handler"]
    assert handler(thing, Context("mine")) == [thing, "mine"]
    wrapped: Any = vars(handler)["__wrapped__"]
    assert wrapped(thing, Context("mine")) == [thing, "mine"]


def test_it_is_frozen() -> None:
    with pytest.raises(AttributeError):
        handlers.echo.module = "other"
    with pytest.raises(AttributeError):
        handlers.echo.options.memory = 256
    with pytest.raises(AttributeError):
        del handlers.echo.module


def test_it_is_compared_by_identity() -> None:
    assert handlers.echo == handlers.echo
    assert handlers.echo != handlers.count
    assert len({handlers.echo, handlers.count, handlers.echo}) == 2


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_pickles_by_name(protocol: int) -> None:
    assert pickle.loads(pickle.dumps(handlers.echo, protocol)) is handlers.echo
    assert copy.copy(handlers.echo) is handlers.echo
    assert copy.deepcopy(handlers.echo) is handlers.echo


def test_unpickling_a_name_that_is_no_function_here_says_so() -> None:
    pickled = pickle.dumps(handlers.echo).replace(b"echo", b"calls"[:4].replace(b"call", b"nope"))
    with pytest.raises(ConfigurationError, match=r"handlers\.nope: no function is declared under this name here"):
        pickle.loads(pickled)


def test_what_stands_at_the_top_of_a_module_is_known_by_its_name() -> None:
    assert declared["handlers", "echo"] is handlers.echo
    before = dict(declared)
    function(lambda event: None)
    assert declared == before


def test_it_has_every_verb_and_its_async_twin() -> None:
    for verb in ("invoke", "try_invoke", "map", "try_map"):
        assert callable(getattr(Function, verb))
        assert callable(getattr(Function, f"a{verb}"))
    assert callable(Function.statistics)


def test_its_verbs_run_in_the_runtime_that_is_meant(runtime: Runtime) -> None:
    assert handlers.add_one.invoke(1) == 2
    assert handlers.add_one.try_invoke(1).value == 2
    assert list(handlers.add_one.map([1, 2])) == [2, 3]
    assert [outcome.value for outcome in handlers.add_one.try_map([1, 2])] == [2, 3]
    told = handlers.add_one.statistics()
    assert (told.name, told.invocations, told.errors) == ("add_one", 6, 0)
    assert runtime.function_statistics(handlers.add_one) == told


@pytest.mark.anyio
async def test_its_async_verbs_do_too() -> None:
    async with Runtime():
        assert await handlers.add_one.ainvoke(1) == 2
        assert (await handlers.add_one.atry_invoke(1)).value == 2
        assert [value async for value in handlers.add_one.amap([1, 2])] == [2, 3]
        assert [outcome.value async for outcome in handlers.add_one.atry_map([1, 2])] == [2, 3]


@pytest.mark.parametrize("verb", ["invoke", "submit"])
def test_a_sandbox_may_not_call_what_was_not_granted_and_is_told_what_grant_it_needs(
    session_runtime: Runtime, verb: str
) -> None:
    @function
    def outer(event: str) -> str:
        try:
            getattr(handlers.echo, event)(1)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "it ran"

    told = session_runtime.invoke(outer, verb)
    assert told.startswith(f"AccessDenied: 'outer' may not {verb} function 'echo'")
    assert f"allow=[echo.{verb}]" in told


def test_a_function_is_a_plain_callable_inside_a_sandbox(session_runtime: Runtime) -> None:
    assert session_runtime.invoke(function(lambda event: handlers.add_one(event) + 0), 1) == 2
