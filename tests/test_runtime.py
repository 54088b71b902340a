"""The runtime: opening, closing, several at once, and what it tells."""

from __future__ import annotations

import os
import re
import threading
import types
from typing import Any

import anyio
import pytest

import handlers
from pyfaas import ConfigurationError, FunctionNotFound, HostError, InvokeError, Runtime, SandboxDied
from support import is_alive, run_python, wait_until, zygotes_of


def test_nothing_is_started_before_the_first_call() -> None:
    before = zygotes_of(os.getpid())
    with Runtime() as runtime:
        assert runtime.statistics().spawned == 0
        assert zygotes_of(os.getpid()) == before


def test_its_repr_tells_its_state() -> None:
    runtime = Runtime()
    assert repr(runtime).endswith(" new>")
    with runtime:
        runtime.invoke(handlers.echo, 1)
        assert " open, 0 of 1000 permits in use, 0 waiting, sandboxes: 1 live, 1 idle," in repr(runtime)
    assert repr(runtime).endswith(" closed>")


def test_closing_ends_every_process_and_removes_every_file() -> None:
    before = zygotes_of(os.getpid())
    with Runtime() as runtime:
        runtime.invoke(handlers.echo, 1)
        (zygote,) = set(zygotes_of(os.getpid())) - set(before)
        (sandbox,) = runtime._pool.ledger.shelves[handlers.echo].idle
        pid, root = sandbox.pid, os.path.dirname(sandbox.slot)
    assert not is_alive(pid)
    assert not is_alive(zygote)
    assert not os.path.exists(root)


def test_opening_and_closing_leaves_no_descriptor_and_no_thread() -> None:
    def use() -> None:
        with Runtime() as runtime:
            runtime.invoke(handlers.echo, 1)
            runtime.try_invoke(handlers.leave, 1)
            list(runtime.map(handlers.echo, range(10)))

    use()
    files, threads = len(os.listdir("/proc/self/fd")), set(threading.enumerate())
    for _ in range(3):
        use()
    assert len(os.listdir("/proc/self/fd")) == files
    assert set(threading.enumerate()) <= threads  # trio lets go of its threads some seconds after a test before this


def test_a_closed_runtime_takes_no_calls_and_closes_again() -> None:
    runtime = Runtime().open()
    runtime.invoke(handlers.echo, 1)
    runtime.close()
    runtime.close()
    for call in (
        lambda: runtime.invoke(handlers.echo, 1),
        lambda: runtime.try_invoke(handlers.echo, 1),
        lambda: runtime.map(handlers.echo, [1]),
    ):
        with pytest.raises(InvokeError, match=r"is closed: open another Runtime\(\)"):
            call()
    with pytest.raises(InvokeError, match="is closed"):
        runtime.open().invoke(handlers.echo, 1)


def test_closing_waits_for_calls_in_flight(tmp_path: Any) -> None:
    runtime = Runtime(drain=20).open()
    answers: list[Any] = []
    event = {"began": str(tmp_path / "began"), "until": str(tmp_path / "done")}
    caller = threading.Thread(target=lambda: answers.append(runtime.invoke(handlers.until_there, event)))
    caller.start()
    wait_until((tmp_path / "began").exists)
    closer = threading.Thread(target=runtime.close)
    closer.start()
    wait_until(lambda: runtime._pool.closed)
    assert closer.is_alive()
    with pytest.raises(InvokeError):
        runtime.invoke(handlers.echo, 1)
    (tmp_path / "done").touch()
    closer.join(10)
    caller.join(10)
    assert len(answers) == 1


def test_a_block_that_raises_does_not_wait_for_calls_in_flight(tmp_path: Any) -> None:
    ends: list[BaseException] = []

    def call(runtime: Runtime) -> None:
        try:
            event = {"began": str(tmp_path / "began"), "until": str(tmp_path / "never")}
            runtime.invoke(handlers.until_there, event)
        except BaseException as error:
            ends.append(error)

    with pytest.raises(LookupError), Runtime(drain=3_600) as runtime:  # noqa: PT012
        caller = threading.Thread(target=call, args=(runtime,))
        caller.start()
        wait_until((tmp_path / "began").exists)
        raise LookupError
    caller.join(10)
    (end,) = ends
    assert isinstance(end, SandboxDied)
    assert "the runtime was closed in mid-call" in str(end)


@pytest.mark.anyio
async def test_an_async_block_opens_and_closes() -> None:
    async with Runtime() as runtime:
        assert await runtime.ainvoke(handlers.echo, 1) == 1
    with pytest.raises(InvokeError):
        await runtime.ainvoke(handlers.echo, 1)


@pytest.mark.anyio
async def test_one_runtime_serves_threads_and_tasks() -> None:
    async with Runtime() as runtime:
        assert runtime.invoke(handlers.count, None) == 1
        assert await runtime.ainvoke(handlers.count, None) == 2
        assert await anyio.to_thread.run_sync(runtime.invoke, handlers.count, None) == 3


def test_several_runtimes_share_nothing() -> None:
    with Runtime() as first, Runtime() as second:
        assert first.invoke(handlers.count, None) == 1
        assert second.invoke(handlers.count, None) == 1
        assert first.invoke(handlers.count, None) == 2
        assert first._pool.zygote().pid != second._pool.zygote().pid


def test_a_runtime_may_be_opened_for_some_functions_only() -> None:
    with Runtime([handlers.echo]) as runtime:
        assert runtime.invoke(handlers.echo, 1) == 1
        with pytest.raises(FunctionNotFound, match="was opened for other functions: 'count' is not among them"):
            runtime.invoke(handlers.count, None)


def test_a_runtime_may_be_opened_for_the_functions_of_a_module() -> None:
    module = types.ModuleType("some")
    module.one = handlers.echo  # type: ignore[attr-defined]
    module.other = 3  # type: ignore[attr-defined]
    with Runtime(module) as runtime:
        assert runtime.invoke(handlers.echo, 1) == 1
        with pytest.raises(FunctionNotFound):
            runtime.invoke(handlers.count, None)


@pytest.mark.parametrize("thing", [None, 1, "echo", handlers.echo.handler])
def test_only_functions_are_invoked(session_runtime: Runtime, thing: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"function=.*: must be what @function made"):
        session_runtime.invoke(thing, 1)


def test_a_tenant_is_refused_by_a_function_that_does_not_keep_tenants_apart(session_runtime: Runtime) -> None:
    told = "tenant='a': must be None: 'echo' was not declared with tenant_isolated=True"
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        session_runtime.invoke(handlers.echo, 1, tenant="a")
    with pytest.raises(ConfigurationError, match=re.escape(told)):
        session_runtime.map(handlers.echo, [1], tenant="a")


def test_statistics_of_a_function_that_was_never_called_are_nothing(runtime: Runtime) -> None:
    told = runtime.function_statistics(handlers.echo)
    assert (told.name, told.invocations, told.live, told.waiting) == ("echo", 0, 0, 0)
    assert runtime.statistics().functions == {}


def test_an_interpreter_that_cannot_start_is_a_host_error(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with Runtime() as runtime, pytest.raises(HostError, match="cannot start a Python interpreter"):
        runtime.invoke(handlers.echo, 1)


def test_a_fork_of_the_host_has_a_default_runtime_of_its_own_and_not_the_parents() -> None:
    program = """
        import os, warnings
        warnings.simplefilter("ignore", DeprecationWarning)
        from pyfaas import InvokeError, Runtime, function
        @function
        def double(event): return event * 2
        with Runtime() as runtime:
            assert double.invoke(1) == 2
            child = os.fork()
            if child == 0:
                try:
                    runtime.invoke(double, 1)
                except InvokeError as error:
                    assert str(os.getppid()) in str(error), error
                    assert double.invoke(4) == 8
                    os._exit(7)
                os._exit(1)
            _, status = os.waitpid(child, 0)
            assert double.invoke(2) == 4
            print(os.waitstatus_to_exitcode(status))
    """
    done = run_python(program)
    assert (done.stdout.strip(), done.returncode) == ("7", 0), done.stderr
