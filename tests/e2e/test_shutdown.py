"""However a host program ends, its sandboxes end with it, and what it kept on disk goes too where it still can."""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

import pytest

from e2e import handlers
from e2e.tools import Host, assert_settled, eventually, is_alive, line_of, sandboxes_of
from pyfaas import ConfigurationError, InvokeError, Runtime, SandboxDied, _port

# Warm sandboxes, a standby, one in mid-call with children of its own, and a stream that nobody reads on.
BUSY = """
import os, signal, subprocess, sys, threading, time
from pyfaas import Runtime, function

MARK = os.environ["LD_LIBRARY_PATH"]

@function(timeout=100)
def nap(event):
    if event:
        if os.fork() == 0:
            os.setsid()
            time.sleep(100)
        subprocess.Popen(["/bin/sleep", "100"], env={"LD_LIBRARY_PATH": MARK})
    time.sleep(event)
    return os.getpid()

def sleep_in_a_sandbox():
    try:
        nap.invoke(100)
    except BaseException as error:
        print(type(error).__name__, flush=True)

assert nap.invoke(0)
stream = nap.map([0, 0, 0, 100])
next(stream)
thread = threading.Thread(target=sleep_in_a_sandbox, daemon=True)
thread.start()
from pyfaas import _port
runtime = _port.current()
while runtime.statistics().in_flight < 2:
    time.sleep(0.001)
print("busy", flush=True)
"""

ENDINGS = {
    "the end of the program": ("", 0),
    "an exception": ("raise ValueError('no')", 1),
    "sys.exit": ("sys.exit(7)", 7),
    "os._exit": ("os._exit(8)", 8),
    "SIGTERM": ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", -signal.SIGTERM),
    "SIGKILL": ("os.kill(os.getpid(), signal.SIGKILL); time.sleep(60)", -signal.SIGKILL),
    "a segmentation fault": ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV),
    "exec": ("os.execv('/bin/true', ['true'])", 0),
    "a daemon thread that never ends": (
        """
from pyfaas import PyfaasError
def call_for_ever():
    try:
        while True:
            nap.invoke(0)
    except PyfaasError:
        pass
threading.Thread(target=call_for_ever, daemon=True).start()
""",
        0,
    ),
}
CLEAN = ("the end of the program", "an exception", "sys.exit", "a daemon thread that never ends")


class TestTheEndOfTheHost:
    @pytest.mark.parametrize("ending", ENDINGS)
    def test_ends_every_sandbox_within_a_second(self, host: Host, ending: str) -> None:
        statement, status = ENDINGS[ending]
        process = host.start_script(f"{BUSY}\n{statement}\n")
        assert line_of(process) == "busy"
        process.wait(30)
        ended_at = time.monotonic()
        host.assert_nothing_is_left(1.0)
        assert time.monotonic() - ended_at < 1.0
        _, err = process.communicate()
        assert process.returncode == status, err
        if ending in CLEAN:
            assert "Traceback" not in err or ending == "an exception", err

    def test_comes_with_a_signal_from_outside(self, host: Host) -> None:
        process = host.start_script(f"{BUSY}\ntime.sleep(60)\n")
        assert line_of(process) == "busy"
        eventually(lambda: len(host.processes()) > 4)  # the host, the zygote, two sandboxes and what one forked
        process.terminate()
        process.wait(10)
        host.assert_nothing_is_left(1.0)
        assert process.returncode == -signal.SIGTERM

    def test_by_ctrl_c_ends_everything_and_leaves_no_file(self, host: Host) -> None:
        process = host.start_script(f"{BUSY}\nprint(nap.invoke(50))\n")
        assert line_of(process) == "busy"
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
        assert process.returncode == -signal.SIGINT
        assert err.rstrip().endswith("KeyboardInterrupt")
        host.assert_nothing_is_left(1.0)

    def test_of_the_thread_that_made_the_first_sandbox_ends_none(self, host: Host) -> None:
        host.run_script(
            """
import os, threading
from pyfaas import function

@function
def whoami(event):
    return os.getpid(), os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]

found = []
first = threading.Thread(target=lambda: found.append(whoami.invoke(0)))
first.start()
first.join()
for _ in range(50):
    assert whoami.invoke(0) == found[0]
"""
        )
        host.assert_nothing_is_left()

    def test_while_the_zygote_starts_leaves_nothing(self, host: Host) -> None:
        program = """
import os, sys
from pyfaas import function

@function
def echo(event):
    return event

print("starting", flush=True)
echo.invoke(1)
print("started", flush=True)
echo.invoke(1)
"""
        for step in range(8):
            process = host.start_script(program)
            assert line_of(process) == "starting"
            until = time.monotonic() + step * 0.02
            while time.monotonic() < until:
                pass
            process.kill()
            process.communicate()
            host.assert_nothing_is_left(2.0, files=False)  # the zygote may not know yet of any directory


class TestClosing:
    def test_ends_all_that_runs_and_gives_what_was_held_back(self, runtime: Runtime) -> None:
        runtime.invoke(handlers.echo, 1)
        list(runtime.map(handlers.echo, range(100)))
        zygote = runtime._pool.supply.current
        assert zygote is not None
        pids = [zygote.pid, *sandboxes_of(runtime)]
        root = runtime._pool.supply.slots.root
        runtime.close()
        assert not any(map(is_alive, pids))
        assert not os.path.exists(root)

    def test_waits_for_calls_in_flight(self) -> None:
        runtime = Runtime(drain=20).open()
        found: list[Any] = []
        thread = threading.Thread(target=lambda: found.append(runtime.invoke(handlers.nap, 0.5)))
        thread.start()
        eventually(lambda: runtime._pool.running)
        began = time.monotonic()
        runtime.close()
        assert time.monotonic() - began < 10
        thread.join()
        assert found == [0.5]

    def test_ends_calls_that_outlast_the_drain(self) -> None:
        runtime = Runtime(drain=0.05).open()
        found: list[Any] = []

        def call() -> None:
            try:
                runtime.invoke(handlers.nap, 15)
            except SandboxDied as error:
                found.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        eventually(lambda: runtime._pool.running)
        runtime.close()
        thread.join(10)
        assert [error.error_type for error in found] == ["Sandbox.Failure"]
        assert "closed" in found[0].message

    def test_twice_and_from_two_threads_at_once_is_fine(self) -> None:
        for _ in range(10):
            runtime = Runtime().open()
            runtime.invoke(handlers.echo, 1)
            zygote = runtime._pool.supply.current
            assert zygote is not None
            pid = zygote.pid
            gate = threading.Barrier(2)
            failed: list[BaseException] = []

            def close(runtime: Runtime = runtime, gate: threading.Barrier = gate) -> None:
                gate.wait()
                try:
                    runtime.close()
                    assert not is_alive(pid)  # noqa: B023
                except BaseException as error:
                    failed.append(error)  # noqa: B023

            threads = [threading.Thread(target=close) for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            runtime.close()
            assert failed == []

    def test_refuses_every_verb_from_then_on(self) -> None:
        runtime = Runtime()
        with runtime:
            assert handlers.echo.invoke(1) == 1
        calls = (runtime.invoke, runtime.try_invoke, runtime.map, runtime.try_map, runtime.amap, runtime.atry_map)
        for call in calls:
            with pytest.raises(InvokeError, match="closed"):
                call(handlers.echo, [1])
        with pytest.raises(InvokeError, match="closed"):
            runtime.open().invoke(handlers.echo, 1)

    def test_lets_nobody_wait_for_a_permit_for_ever(self) -> None:
        runtime = Runtime(concurrency=1, when_full="wait", drain=0).open()
        endings: list[str] = []

        def call() -> None:
            try:
                runtime.invoke(handlers.nap, 15)
            except (InvokeError, SandboxDied) as error:
                endings.append(type(error).__name__)

        threads = [threading.Thread(target=call) for _ in range(5)]
        for thread in threads:
            thread.start()
        eventually(lambda: runtime.statistics().waiting == 4 and runtime._pool.running)
        runtime.close()
        for thread in threads:
            thread.join(10)
        assert sorted(endings) == ["InvokeError"] * 4 + ["SandboxDied"]


class TestSeveralRuntimes:
    def test_of_which_none_is_entered_are_named_in_the_error(self) -> None:
        first, second = Runtime().open(), Runtime().open()
        try:
            with pytest.raises(ConfigurationError) as caught:
                handlers.echo.invoke(1)
            assert repr(first) in str(caught.value)
            assert repr(second) in str(caught.value)
            assert first.invoke(handlers.echo, 1) == second.invoke(handlers.echo, 1) == 1
            assert first.statistics().live == second.statistics().live == 1
        finally:
            first.close()
            second.close()

    def test_the_one_entered_in_this_context_is_meant(self) -> None:
        outer = Runtime()
        with outer, Runtime() as inner:
            assert _port.current() is inner
            assert handlers.echo.invoke(1) == 1
            assert inner.statistics().live == 1
            assert outer.statistics().live == 0
            found: list[Any] = []
            thread = threading.Thread(target=lambda: found.append(handlers.echo.try_invoke), daemon=True)
            thread.start()
            thread.join()
            errors: list[ConfigurationError] = []

            def elsewhere() -> None:
                try:
                    handlers.echo.invoke(1)
                except ConfigurationError as error:
                    errors.append(error)

            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            assert len(errors) == 1  # another thread, another context: there it takes a name

    def test_one_that_is_open_serves_all_threads(self, host: Host) -> None:
        host.run_script(
            """
import threading
from pyfaas import Runtime, function

@function
def echo(event):
    return event

with Runtime() as runtime:
    found = []
    threads = [threading.Thread(target=lambda: found.append(echo.invoke(1))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4
    assert runtime.statistics().functions["echo"].invocations == 4
"""
        )

    def test_the_default_one_is_made_when_none_is_open_and_replaced_after_its_close(self, host: Host) -> None:
        host.run_script(
            """
from pyfaas import Runtime, _port, function

@function
def echo(event):
    return event

assert echo.invoke(1) == 1
default = _port.current()
with Runtime() as entered:
    assert _port.current() is entered
    assert echo.invoke(2) == 2
assert _port.current() is default
default.close()
assert echo.invoke(3) == 3
assert _port.current() is not default
"""
        )
        host.assert_nothing_is_left()


class TestEviction:
    def test_of_idle_sandboxes_leaves_no_process_and_no_directory(self) -> None:
        with Runtime(keep_alive=0.3) as runtime:
            list(runtime.map(handlers.echo, range(500)))
            threads = [threading.Thread(target=runtime.invoke, args=(handlers.nap, 0.1)) for _ in range(5)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert runtime.statistics().live
            eventually(lambda: runtime.statistics().live == 0)
            eventually(lambda: len(sandboxes_of(runtime)) == runtime.statistics().standby)
            supply = runtime._pool.supply
            eventually(lambda: len(os.listdir(supply.slots.root)) <= bool(supply.standby and supply.standby.slot))
            assert runtime.invoke(handlers.echo, 1) == 1
            assert_settled(runtime)
