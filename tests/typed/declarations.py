"""What type checkers make of ``@function``; nothing here runs, mypy and pyright read it."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypedDict

from pyfaas import (
    Context,
    Function,
    FunctionStatistics,
    Outcome,
    Report,
    Runtime,
    RuntimeStatistics,
    Submission,
    function,
)

if TYPE_CHECKING:
    from typing_extensions import assert_type  # noqa: TC004 - nothing here runs


class Order(TypedDict):
    item: str
    count: int


@function
def event_alone(event: Order) -> int:
    return event["count"]


@function
def with_context(event: Order, context: Context) -> str:
    return context.aws_request_id


@function
async def event_alone_async(event: Order) -> list[int]:
    return [event["count"]]


@function
async def with_context_async(event: Order, context: Context) -> dict[str, Any]:
    return {"id": context.aws_request_id}


@function(memory=256, timeout=10)
def event_alone_options(event: Order) -> int:
    return event["count"]


@function(name="other", environment={"LEVEL": "3"})
def with_context_options(event: Order, context: Context) -> str:
    return context.aws_request_id


@function(timeout=0.5)
async def event_alone_async_options(event: Order) -> list[int]:
    return [event["count"]]


@function(provisioned_concurrency=0)
async def with_context_async_options(event: Order, context: Context) -> dict[str, Any]:
    return {"id": context.aws_request_id}


@function
def context_may_be_left_out(event: Order, context: Context | None = None) -> int:
    return event["count"]


@function
def nothing_comes_back(event: Order) -> None: ...


class House:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def scale(self, event: int) -> float:
        return event * self.factor


def power(exponent: int, event: int) -> int:
    return int(event**exponent)


def declared() -> None:
    assert_type(event_alone, Function[Order, int])
    assert_type(with_context, Function[Order, str])
    assert_type(event_alone_async, Function[Order, list[int]])
    assert_type(with_context_async, Function[Order, dict[str, Any]])
    assert_type(event_alone_options, Function[Order, int])
    assert_type(with_context_options, Function[Order, str])
    assert_type(event_alone_async_options, Function[Order, list[int]])
    assert_type(with_context_async_options, Function[Order, dict[str, Any]])
    assert_type(nothing_comes_back, Function[Order, None])
    assert_type(function(House(2).scale), Function[int, float])
    function(functools.partial(power, 3)).invoke(2)  # checkers differ in what a partial still takes
    assert_type(event_alone.name, str)


def called(order: Order) -> None:
    assert_type(event_alone.invoke(order), int)
    assert_type(with_context.invoke(order), str)
    assert_type(event_alone_async.invoke(order), list[int])
    assert_type(event_alone.submit(order, delay=1, idempotency_key="k"), str)
    assert_type(event_alone.try_invoke(order), Outcome)
    assert_type(event_alone.try_invoke(order).report, Report)
    assert_type(event_alone.map([order]), Iterator[int])
    assert_type(event_alone.try_map(iter([order])), Iterator[Outcome])
    assert_type(next(event_alone_async.map([order])), list[int])
    event_alone(order)
    with_context(order, Context("name"))


async def called_from_async_code(order: Order, orders: AsyncIterator[Order]) -> None:
    assert_type(await event_alone.ainvoke(order), int)
    assert_type(await event_alone.asubmit(order), str)
    assert_type(await with_context_async.ainvoke(order), dict[str, Any])
    assert_type(await event_alone.atry_invoke(order), Outcome)
    assert_type(event_alone.amap([order]), AsyncIterator[int])
    assert_type(event_alone.amap(orders), AsyncIterator[int])
    assert_type(event_alone.atry_map(orders), AsyncIterator[Outcome])
    async for value in event_alone_async.amap(orders):
        assert_type(value, list[int])


def of_a_runtime(order: Order) -> None:
    with Runtime([event_alone], concurrency=10, when_full="wait", keep_alive=1.5) as runtime:
        assert_type(runtime, Runtime)
        assert_type(runtime.invoke(event_alone, order), int)
        assert_type(runtime.try_invoke(event_alone, order), Outcome)
        assert_type(next(runtime.map(with_context_async, [order])), dict[str, Any])
        assert_type(next(runtime.try_map(with_context, [order])), Outcome)
        assert_type(runtime.submit(event_alone, order), str)
        assert_type(runtime.wait("id", 1.0), Submission | None)
        assert_type(runtime.statistics(), RuntimeStatistics)
        assert_type(runtime.function_statistics(event_alone), FunctionStatistics)
        runtime.map(event_alone, [order]).close()


async def of_a_runtime_in_async_code(order: Order) -> None:
    async with Runtime() as runtime:
        assert_type(runtime, Runtime)
        assert_type(await runtime.ainvoke(event_alone_async, order), list[int])
        assert_type(await runtime.atry_invoke(event_alone, order), Outcome)
        await runtime.amap(event_alone, [order]).aclose()


def what_is_wrong(order: Order) -> Coroutine[Any, Any, int]:
    """Each line must be refused: an ignore that is not needed is an error by itself (mypy's strict mode)."""
    event_alone.invoke("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with_context.map([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    event_alone.invoke(order, tenant=3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    event_alone.memory  # type: ignore[attr-defined]  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]
    function(lambda: 1)  # type: ignore[arg-type, misc]  # pyright: ignore  # noqa: PGH003
    function(memory="256")  # type: ignore[call-overload]  # pyright: ignore  # noqa: PGH003
    function(memroy=256)  # type: ignore[call-overload]  # pyright: ignore  # noqa: PGH003
    return event_alone.ainvoke(order)
