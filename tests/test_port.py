"""Which runtime a call without one means: the one entered, else the only one open, else the default one."""

from __future__ import annotations

import threading

import anyio
import anyio.to_thread
import pytest

import handlers
from pyfaas import ConfigurationError, Runtime, _port
from support import output_of


def test_the_one_that_was_entered_is_meant(runtime: Runtime) -> None:
    assert _port.current() is runtime
    with Runtime() as inner:
        assert _port.current() is inner
        handlers.echo.invoke(1)
        assert handlers.echo.statistics().invocations == 1
    assert _port.current() is runtime
    assert handlers.echo.statistics().invocations == 0


def test_in_another_thread_several_open_ones_are_ambiguous(runtime: Runtime) -> None:
    """A thread starts with an empty context, where nothing was entered."""
    told: list[str] = []

    def call() -> None:
        try:
            handlers.echo.invoke(1)
        except ConfigurationError as error:
            told.append(str(error))

    with Runtime() as second:
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
        (text,) = told
        assert "runtimes are open" in text
        assert repr(runtime)[:10] in text
        assert repr(second)[:10] in text
        assert "runtime.invoke(function, event)" in text
        assert second.invoke(handlers.echo, 1) == 1


@pytest.mark.anyio
async def test_each_task_means_the_one_that_it_entered() -> None:
    seen = {}

    async def enter(name: str) -> None:
        async with Runtime() as opened:
            assert await handlers.echo.ainvoke(name) == name
            await anyio.sleep(0.01)
            seen[name] = _port.current() is opened
            assert handlers.echo.statistics().invocations == 1

    async with anyio.create_task_group() as group:
        group.start_soon(enter, "one")
        group.start_soon(enter, "two")
    assert seen == {"one": True, "two": True}


@pytest.mark.anyio
async def test_a_worker_thread_of_a_task_means_what_the_task_entered() -> None:
    async with Runtime() as opened:
        assert await anyio.to_thread.run_sync(_port.current) is opened


def test_the_only_one_that_is_open_is_meant_in_every_thread() -> None:
    program = """
        import threading
        from pyfaas import Runtime, function, _port
        with Runtime() as runtime:
            thread = threading.Thread(target=lambda: print(_port.current() is runtime))
            thread.start()
            thread.join()
    """
    assert output_of(program) == "True"


def test_without_any_a_default_one_is_made_and_closed_at_exit() -> None:
    program = """
        import os
        from pyfaas import function, _port
        @function
        def double(event):
            return event * 2
        print(double.invoke(4), double.invoke(5), double.statistics().cold_starts, len(_port.all_open()))
    """
    assert output_of(program) == "8 10 1 1"


def test_a_default_one_that_was_closed_is_made_anew() -> None:
    program = """
        from pyfaas import function, _port
        @function
        def double(event):
            return event * 2
        print(double.invoke(4))
        _port.current().close()
        print(double.invoke(5))
    """
    assert output_of(program).split() == ["8", "10"]


def test_leaving_in_another_order_than_entering_leaves_nothing_entered() -> None:
    first, second = Runtime(), Runtime()
    first.__enter__()
    second.__enter__()
    first.close()
    assert _port.current() is second
    second.__exit__(None, None, None)
    first.__exit__(None, None, None)
    assert first not in _port.all_open()
    assert second not in _port.all_open()
