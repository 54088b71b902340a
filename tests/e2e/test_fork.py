"""A fork of the host has runtimes of its own; its parent's are neither used nor disturbed by it."""

from __future__ import annotations

import pytest

from e2e.tools import Host

BEGIN = """
import asyncio, os, signal, socket, sys, threading, time, warnings
from pyfaas import InvokeError, Runtime, function

# Python 3.12 warns of any fork beside threads, and the watch is one: here that is just what is tried.
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)

@function(timeout=10)
def whoami(event):
    return os.getpid(), os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]

@function(timeout=10)
def nap(event):
    time.sleep(event)
    return event

def in_child(work):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    return pid

def assert_well(pid):
    _, status = os.waitpid(pid, 0)
    assert status == 0, status

def ours():
    # what points to sandboxes: sockets, pidfds, logs, the watch's pipe and its pressure file
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if target.startswith(("socket:", "anon_inode:[pidfd]", "pidfd:", "/memfd:pyfaas", "/proc/")) and int(name) > 2:
            found.append(target)
        if target.startswith("pipe:") and int(name) > 2:
            found.append(target)
    return found
"""


class TestAForkOfTheHost:
    def test_refuses_the_inherited_runtime_by_its_pid_and_gets_a_default_one_of_its_own(self, host: Host) -> None:
        host.run_script(
            BEGIN
            + """
parent = os.getpid()
runtime = Runtime().open()
before = runtime.invoke(whoami, 0)
assert whoami.invoke(0) == before

def child():
    for call in (runtime.invoke, runtime.try_invoke):
        try:
            call(whoami, 0)
        except InvokeError as error:
            assert str(parent) in str(error), error
        else:
            raise AssertionError("it took the parent's sandbox")
    try:
        list(runtime.map(whoami, [0]))
    except InvokeError as error:
        assert str(parent) in str(error), error
    else:
        raise AssertionError("it took the parent's sandbox")
    async def elsewhere():
        await runtime.ainvoke(whoami, 0)
    try:
        asyncio.run(elsewhere())
    except InvokeError as error:
        assert str(parent) in str(error), error
    else:
        raise AssertionError("it took the parent's sandbox")
    assert str(parent) in repr(runtime)
    own = whoami.invoke(0)
    assert own != before
    assert whoami.invoke(0) == own
    with Runtime() as entered:
        assert whoami.invoke(0) != own
    runtime.close()  # does nothing: it is the parent's
    runtime.statistics()
    from pyfaas import _port
    _port.current().close()

for _ in range(3):
    assert_well(in_child(child))
    assert runtime.invoke(whoami, 0) == before
    assert list(runtime.map(whoami, [0] * 3)) == [before] * 3
runtime.close()
"""
        )
        host.assert_nothing_is_left()

    def test_of_one_that_has_a_runtime_entered_finds_none_entered(self, host: Host) -> None:
        host.run_script(
            BEGIN
            + """
with Runtime() as runtime:
    before = whoami.invoke(0)

    def child():
        assert whoami.invoke(0) != before
        from pyfaas import _port
        assert _port.current() is not runtime
        _port.current().close()

    assert_well(in_child(child))
    assert whoami.invoke(0) == before
"""
        )
        host.assert_nothing_is_left()

    def test_that_leaves_the_with_block_does_not_close_the_parents_runtime(self, host: Host) -> None:
        host.run_script(
            BEGIN
            + """
with Runtime() as runtime:
    before = whoami.invoke(0)
    pid = os.fork()
if pid == 0:
    os._exit(0 if whoami.invoke(0) != before else 1)
assert_well(pid)
"""
        )
        host.assert_nothing_is_left(files=False)

    def test_that_exits_as_programs_do_leaves_the_parents_files_and_sandboxes_alone(self, host: Host) -> None:
        host.run_script(
            BEGIN
            + """
before = whoami.invoke(0)
pid = os.fork()
if pid == 0:
    if sys.argv[1:] == ["use"]:
        whoami.invoke(0)
    sys.exit(0)
assert_well(pid)
assert whoami.invoke(0) == before
from pyfaas.runtime import default_runtime
assert os.path.isdir(default_runtime()._pool.supply.slots.root)
""",
            "use",
        )
        host.assert_nothing_is_left()

    def test_holds_none_of_the_parents_descriptors(self, host: Host) -> None:
        host.run_script(
            BEGIN
            + """
with Runtime() as runtime:
    threads = [threading.Thread(target=nap.invoke, args=(0.2,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    list(nap.map([0] * 50))
    stream = nap.map([0] * 500)
    next(stream)
    assert len(ours()) > 12, ours()

    def child():
        assert ours() == [], ours()
        stream.close()
        whoami.invoke(0)
        runtime.close()

    assert_well(in_child(child))
    assert len(list(stream)) == 499
"""
        )
        host.assert_nothing_is_left()

    def test_does_not_delay_the_end_of_a_sandbox(self, host: Host) -> None:
        host.run_script(
            BEGIN
            + """
from pyfaas import SandboxDied

@function(timeout=10)
def quit(event):
    os._exit(3)

with Runtime() as runtime:
    whoami.invoke(0)
    quit.try_invoke(0)
    reader, writer = os.pipe()

    def child():
        os.close(writer)
        os.read(reader, 1)

    pid = in_child(child)
    os.close(reader)
    for _ in range(5):
        began = time.monotonic()
        assert isinstance(quit.try_invoke(0).error, SandboxDied)
        assert time.monotonic() - began < 2
    os.close(writer)
    assert_well(pid)
"""
        )

    @pytest.mark.parametrize("rounds", [4, pytest.param(100, marks=pytest.mark.long)])
    def test_while_threads_invoke_harms_neither(self, host: Host, rounds: int) -> None:
        host.run_script(
            BEGIN
            + """
stop = threading.Event()
failures = []
counts = [0] * 4

def call(number):
    try:
        while not stop.is_set():
            if number % 2:
                assert nap.invoke(0) == 0
            else:
                assert list(nap.map([0] * 20)) == [0] * 20
            counts[number] += 1
    except BaseException as error:
        failures.append(error)
        raise

def child():
    # What a thread was just reading, a pidfd or a file of /proc, does no harm: nobody waits for its end.
    assert [target for target in ours() if target.startswith(("socket:", "/memfd"))] == [], ours()
    assert nap.invoke(0) == 0
    assert list(nap.map([0, 0])) == [0, 0]
    from pyfaas import _port
    _port.current().close()

with Runtime() as runtime:
    threads = [threading.Thread(target=call, args=(number,), daemon=True) for number in range(4)]
    for thread in threads:
        thread.start()
    while not all(counts):
        time.sleep(0.001)
    for _ in range(int(sys.argv[1])):
        children = [in_child(child) for _ in range(2)]
        seen = list(counts)
        for pid in children:
            assert_well(pid)
        until = time.monotonic() + 20
        while not failures and any(new <= old for new, old in zip(counts, seen)):
            assert time.monotonic() < until
            time.sleep(0.001)
    stop.set()
    for thread in threads:
        thread.join(20)
    assert failures == []
    now = runtime.statistics()
    assert now.in_flight == now.died == 0, now
""",
            str(rounds),
            seconds=100 + 5 * rounds,
        )
        host.assert_nothing_is_left()

    def test_through_multiprocessing_works_in_the_children(self, host: Host) -> None:
        host.run_script(
            BEGIN
            + """
import multiprocessing

def work(number):
    return nap.invoke(0), os.getpid()

if __name__ == "__main__":
    nap.invoke(0)
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            found = pool.map(work, range(6))
        assert all(value == 0 and pid != os.getpid() for value, pid in found)
    nap.invoke(0)
""",
            seconds=120,
        )
        host.assert_nothing_is_left(files=False)
