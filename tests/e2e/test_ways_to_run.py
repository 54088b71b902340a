"""Wherever Python code runs, a function declared there runs in a sandbox."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from typing import Any

import pytest

from e2e.tools import Host, eventually

PROGRAM = """
import os
from pyfaas import function

GREETING = "hello"

@function
def greet(event, context):
    return [GREETING, event, context.function_name, os.getpid()]

assert greet("plain")[3] == os.getpid()
for name in ("Ann", "Bob"):
    greeting, event, function_name, pid = greet.invoke(name)
    assert (greeting, event, function_name) == ("hello", name, "greet")
    assert pid != os.getpid()
assert [value[1] for value in greet.map(["a", "b"])] == ["a", "b"]
print("done")
"""


class TestAProgram:
    def test_runs_as_a_script(self, host: Host) -> None:
        assert host.run_script(PROGRAM) == "done\n"
        host.assert_nothing_is_left()

    def test_runs_as_an_argument(self, host: Host) -> None:
        assert host.run("python", "-W", "error", "-c", PROGRAM) == "done\n"
        host.assert_nothing_is_left()

    def test_runs_from_standard_input(self, host: Host) -> None:
        assert host.run("python", "-W", "error", "-", text=PROGRAM) == "done\n"
        host.assert_nothing_is_left()

    def test_runs_as_a_module(self, host: Host) -> None:
        host.script(PROGRAM, "mod.py")
        assert host.run("python", "-W", "error", "-m", "mod") == "done\n"
        host.assert_nothing_is_left()

    def test_runs_as_a_package_with_relative_imports(self, host: Host) -> None:
        (host.directory / "pack").mkdir()
        host.script("GREETING = 'hello'\n", "pack/words.py")
        host.script("", "pack/__init__.py")
        program = PROGRAM.replace('GREETING = "hello"', "from .words import GREETING")
        host.script(program, "pack/__main__.py")
        assert host.run("python", "-W", "error", "-m", "pack") == "done\n"

    def test_runs_with_a_module_beside_it(self, host: Host) -> None:
        text = "from pyfaas import function\n\n@function\ndef beside(event):\n    return __name__\n"
        host.script(text, "neighbour.py")
        assert host.run_script("from neighbour import beside\nprint(beside.invoke(1))") == "neighbour\n"

    @pytest.mark.parametrize("flag", ["-O", "-OO", "-B", "-I", "-s"])
    def test_runs_under_the_interpreters_flags(self, host: Host, flag: str) -> None:
        program = f"import sys; sys.path[:0] = {host.environment()['PYTHONPATH'].split(os.pathsep)!r}\n" + PROGRAM
        assert host.run("python", flag, host.script(program)) == "done\n"

    def test_runs_with_every_warning_an_error_and_in_development_mode(self, host: Host) -> None:
        async_part = """
import asyncio

@function
async def double(event):
    await asyncio.sleep(0)
    return 2 * event

async def main():
    assert await double.ainvoke(2) == 4
    assert [value async for value in double.amap([1, 2])] == [2, 4]

asyncio.run(main())
"""
        assert host.run("python", "-X", "dev", "-W", "error", "-c", PROGRAM + async_part) == "done\n"
        host.assert_nothing_is_left()

    def test_runs_where_nobody_can_write_and_nothing_can_be_read_from_standard_input(self, host: Host) -> None:
        script = host.script(PROGRAM.replace('print("done")', ""))
        host.run("/bin/sh", "-c", f'exec "{sys.executable}" -W error "{script}" <&- >&- 2>&-')
        host.assert_nothing_is_left()


# -- notebooks ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def shell() -> Any:
    """A notebook's engine, its cells run one after the other."""
    return pytest.importorskip("IPython.core.interactiveshell")


NOTEBOOK = """
import warnings
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from IPython.core.interactiveshell import InteractiveShell
    shell = InteractiveShell.instance(history_length=0)
    shell.history_manager.enabled = False
    shell.run_cell("1 + 1")  # its own lazy imports

import os, signal, sys, threading, time

def cell(source):
    result = shell.run_cell(source)
    return result.error_before_exec or result.error_in_exec or result.result
"""


class TestANotebook:
    def test_declares_and_calls_in_cells(self, host: Host, shell: Any) -> None:
        cells = """
cell("from pyfaas import function\\nFACTOR = 3")
cell("@function\\ndef times(event):\\n    return FACTOR * event")
assert cell("times.invoke(2)") == 6
assert cell("await times.ainvoke(3)") == 9
assert cell("list(times.map([1, 2]))") == [3, 6]
print("done")
"""
        out = host.run("python", host.script(NOTEBOOK + cells))
        assert out.endswith("done\n")
        host.assert_nothing_is_left()

    def test_redeclaring_replaces_a_function_and_retires_its_sandboxes(self, host: Host, shell: Any) -> None:
        cells = """
import pyfaas, psutil
cell("import os\\nfrom pyfaas import function\\nFACTOR = 3")
cell("@function\\ndef times(event):\\n    return FACTOR * event")
assert cell("times.invoke(2)") == 6
from pyfaas import _port
runtime = _port.current()
[old] = runtime._pool.ledger.shelves.values()
old_pid = old.idle[0].pid
cell("FACTOR = 5")
assert cell("times.invoke(2)") == 6  # the globals as they were when the function was first used
cell("@function\\ndef times(event):\\n    return FACTOR * event")
assert cell("times.invoke(2)") == 10
assert len(runtime._pool.ledger.shelves) == 1
until = time.monotonic() + 10
while psutil.pid_exists(old_pid):
    assert time.monotonic() < until
now = runtime.statistics()
assert (now.live, now.idle, now.in_flight) == (1, 1, 0), now
print("done")
"""
        assert host.run("python", host.script(NOTEBOOK + cells)).endswith("done\n")

    def test_interrupting_a_cell_costs_one_sandbox_and_not_the_kernel(self, host: Host, shell: Any) -> None:
        cells = """
from pyfaas import _port
cell("from pyfaas import function\\nimport os, time")
cell("@function(timeout=60)\\ndef nap(event):\\n    time.sleep(event)\\n    return os.environ['HOME']")
home = cell("nap.invoke(0)")
runtime = _port.current()

def interrupt_when_running():
    until = time.monotonic() + 30
    while not any(time.monotonic() - sandbox.started_at > 0.05 for sandbox in tuple(runtime._pool.running)):
        assert time.monotonic() < until
        time.sleep(0.002)
    os.kill(os.getpid(), signal.SIGINT)

for source, cost in (("nap.invoke(50)", 1), ("list(nap.map([50, 50]))", 2)):
    before = runtime.statistics().died
    sender = threading.Thread(target=interrupt_when_running)
    sender.start()
    began = time.monotonic()
    error = cell(source)
    sender.join()
    assert isinstance(error, KeyboardInterrupt), (source, error)
    assert time.monotonic() - began < 20
    now = runtime.statistics()
    assert now.in_flight == 0, (source, now)
    assert 1 <= now.died - before <= cost, (source, now)  # a stream has two at work
    assert cell("nap.invoke(0)")  # the kernel lives, and so does the runtime
print("done")
"""
        assert host.run("python", host.script(NOTEBOOK + cells)).endswith("done\n")
        host.assert_nothing_is_left()


# -- pytest ------------------------------------------------------------------------------------------------------------

SUITE = """
import os
from pyfaas import function

@function
def checked(event):
    assert event["a"] == 1, "rewritten or not"
    return os.getpid()

def test_invoke():
    assert checked.invoke({"a": 1}) != os.getpid()

def test_map():
    assert len(list(checked.map([{"a": 1}] * 20))) == 20

def test_failure():
    error = checked.try_invoke({"a": 2}).error
    assert error.error_type == "AssertionError"
    assert error.message.startswith("rewritten or not"), error.message

def test_function_inside():
    number = 7
    @function
    def inside(event):
        assert event
        return number
    assert inside.invoke(1) == 7
"""


class TestPytest:
    @pytest.mark.parametrize(
        "options",
        [(), ("--import-mode=importlib",), ("--import-mode=append",), ("--assert=plain",), ("-n", "2")],
        ids=" ".join,
    )
    def test_runs_functions_declared_in_tests(self, host: Host, options: tuple[str, ...]) -> None:
        if "-n" in options:
            pytest.importorskip("xdist")
        for room in ("north", "south"):  # equal names, as they happen
            (host.directory / room).mkdir()
            host.script(SUITE, f"{room}/test_{room}.py")
        plugins = () if "-n" in options else ("-p", "no:xdist")
        out = host.run(
            *("python", "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *plugins, *options, "."),
            seconds=120,
        )
        assert "8 passed" in out, out
        host.assert_nothing_is_left(files=False)


# -- servers -----------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def ask(port: int, path: str = "/") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
        return str(answer.read().decode())


def wait_until_up(port: int, server: subprocess.Popen[str]) -> None:
    def is_up() -> bool:
        if server.poll() is not None:
            raise AssertionError(server.communicate()[1])
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True

    eventually(is_up, seconds=60)


SHOUTING = """
from pyfaas import function

@function
def shout(event):
    return event.upper()
"""

GUNICORN_APP = """
import os
from pyfaas import InvokeError, Runtime
from shouting import shout

runtime = Runtime().open()
assert runtime.invoke(shout, "master") == "MASTER"
assert shout.invoke("master") == "MASTER"
master = os.getpid()

def app(environ, start_response):
    try:
        inherited = runtime.invoke(shout, "no")
    except InvokeError as error:
        inherited = str(error)
    told = [str(master), str(os.getpid()), inherited, shout.invoke("default"), ",".join(shout.map("ab"))]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return ["|".join(told).encode()]
"""


class TestAServer:
    def test_gunicorns_workers_have_runtimes_of_their_own_though_the_master_opened_one(self, host: Host) -> None:
        pytest.importorskip("gunicorn")
        host.script(SHOUTING, "shouting.py")
        host.script(GUNICORN_APP, "application.py")
        port = free_port()
        server = host.start(
            *("python", "-m", "gunicorn", "--preload", "--workers", "2", "--bind", f"127.0.0.1:{port}"),
            *("--worker-tmp-dir", str(host.directory), "--no-control-socket", "application:app"),
        )
        wait_until_up(port, server)
        workers = set()

        def asked_both() -> bool:
            master, worker, inherited, value, values = ask(port).split("|")
            assert int(master) == server.pid
            assert int(worker) != server.pid
            assert f"belongs to process {master}" in inherited
            assert (value, values) == ("DEFAULT", "A,B")
            workers.add(worker)
            return len(workers) == 2

        eventually(asked_both, seconds=60)
        server.terminate()
        _, err = server.communicate(timeout=30)
        assert "Traceback" not in err, err
        host.assert_nothing_is_left()

    def test_uvicorns_worker_runs_functions_on_its_loop(self, host: Host) -> None:
        pytest.importorskip("uvicorn")
        host.script(
            """
import asyncio
from pyfaas import Runtime, function

@function
def shout(event):
    return event.upper()

async def app(scope, receive, send):
    global runtime
    if scope["type"] == "lifespan":
        await receive()
        async with Runtime():
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    told = await asyncio.gather(*(shout.ainvoke(letter) for letter in "abc"))
    told += [value async for value in shout.amap("de")]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": "".join(told).encode()})
""",
            "application.py",
        )
        port = free_port()
        server = host.start(
            *("python", "-m", "uvicorn", "--port", str(port), "--log-level", "warning", "--lifespan", "on"),
            *("--loop", "asyncio", "application:app"),
        )
        wait_until_up(port, server)
        answers: list[str] = []
        threads = [threading.Thread(target=lambda: answers.append(ask(port))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == ["ABCDE"] * 8
        server.send_signal(signal.SIGTERM)
        _, err = server.communicate(timeout=30)
        assert "Traceback" not in err, err
        host.assert_nothing_is_left()

    def test_a_thread_pool_that_outlives_the_main_thread_still_ends(self, host: Host) -> None:
        host.run_script(
            """
import threading
from pyfaas import function

@function
def shout(event):
    return event.upper()

ready = threading.Event()
def work():
    ready.wait()
    assert shout.invoke("a") == "A"
    print("worked")

threading.Thread(target=work).start()
shout.invoke("b")
ready.set()
"""
        )
        host.assert_nothing_is_left()
