"""Snap start with real sandboxes: init runs once, what is forked from it is a sandbox like any other."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import handlers
from pool import snap_handlers as snap
from pyfaas import ConfigurationError, InitFailed, OutOfMemory, Runtime, SandboxDied, TimedOut, function
from pyfaas._pool.rounds import Rounds
from support import is_alive, kill, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs namespaces")


@pytest.fixture(scope="module")
def snapped() -> Iterator[Runtime]:
    opened = Runtime().open()
    try:
        opened.invoke(snap.show, None)
        if not opened._pool.supply.templates:
            pytest.skip(f"no templates here: {opened._pool.templates.refused}")
        yield opened
    finally:
        opened.close()


def template_of(runtime: Runtime, which: Any) -> Any:
    return next(one for shelf, one in runtime._pool.supply.templates.items() if shelf.function is which)


def test_init_runs_once_and_each_sandbox_has_what_it_made(snapped: Runtime) -> None:
    told = [snapped.invoke(snap.anew, None) for _ in range(4)]
    assert len({one["init"]["mark"] for one in told}) == 1
    assert {one["pid"] for one in told} == {1}
    assert told[0]["init"]["pid"] != 1
    assert all(one["processes"] == ["1"] for one in told), "a sandbox sees its own processes alone"


def test_what_must_differ_between_copies_differs(snapped: Runtime) -> None:
    told = [snapped.invoke(snap.anew, None) for _ in range(4)]
    for what in ("random", "temporary", "log stream"):
        assert len({one[what] for one in told}) == 4, what


def test_hooks_run_as_in_aws_before_in_reverse_order_after_in_order(snapped: Runtime) -> None:
    assert snapped.invoke(snap.anew, None)["hooks"] == ["before 2", "before 1", "after 1", "after 2"]
    assert snapped.invoke(snap.anew, None)["hooks"] == ["before 2", "before 1", "after 1", "after 2"]


def test_the_environment_says_so_and_has_no_log_variables(snapped: Runtime) -> None:
    told = snapped.invoke(snap.show, None)
    assert told["type"] == "snap-start"
    assert told["log variables"] == []
    assert told["log stream"].startswith("[$LATEST]")


def test_the_report_tells_of_a_restore_and_of_no_init() -> None:
    with Runtime() as runtime:
        first, second = runtime.try_invoke(snap.asynchronous, 1), runtime.try_invoke(snap.asynchronous, 2)
        if not runtime._pool.supply.templates:
            pytest.skip("no templates here")
    assert first.report.cold
    assert first.report.init_ms is None
    assert first.report.restore_ms is not None
    assert first.log.startswith("RESTORE_START Runtime Version: python:")
    assert "init was here" in first.log
    assert f"Restore Duration: {first.report.restore_ms:.2f} ms\tBilled Restore Duration: " in first.log
    assert not second.report.cold
    assert second.report.restore_ms is None


def test_sandboxes_of_one_template_share_nothing(snapped: Runtime) -> None:
    with ThreadPoolExecutor(2) as threads:
        told = list(threads.map(lambda name: snapped.invoke(snap.meet, {"name": name}), ["one", "other"]))
    assert [one["seen"] for one in told] == ["one", "other"]
    for one, name, others in zip(told, ("one", "other"), ("other", "one"), strict=True):
        assert name in one["tmp"]
        assert others not in one["tmp"]
        assert "left-by-init" in one["tmp"], "what init wrote is in each"


def test_an_open_file_goes_on_where_init_was_in_each_sandbox(snapped: Runtime) -> None:
    assert [snapped.invoke(snap.read_on, None) for _ in range(3)] == ["34", "34", "34"]


def test_a_file_that_init_opened_in_tmp_is_the_sandboxs_own(snapped: Runtime) -> None:
    assert snapped.invoke(snap.write_on, "abc") == "012abc6789"
    assert snapped.invoke(snap.read_on, None) == "34"


def test_connections_of_init_have_ended(snapped: Runtime) -> None:
    assert snapped.invoke(snap.use_connection, None) in ("BrokenPipeError", "ConnectionResetError")


def test_an_async_handler_has_an_event_loop_of_its_own(snapped: Runtime) -> None:
    assert asyncio.run(snapped.ainvoke(snap.asynchronous, 3)) == 3
    assert list(snapped.map(snap.asynchronous, range(50))) == list(range(50))


@pytest.mark.parametrize("kind", ["threads", "processes", "an event loop", "a pipe", "memory that is shared"])
def test_what_forks_would_lose_or_share_is_refused(snapped: Runtime, kind: str) -> None:
    with pytest.raises(InitFailed, match=f"snap_start=True: init .*{kind.rsplit(maxsplit=1)[-1]}") as caught:
        snapped.invoke(snap.troubled(kind), 1)
    assert caught.value.error_type == "Runtime.SnapStartError"


@pytest.mark.parametrize(
    ("kind", "error_type"),
    [
        ("hook before", "Runtime.BeforeSnapshotError"),
        ("hook after", "Runtime.AfterRestoreError"),
        ("init", "LookupError"),
    ],
)
def test_a_hook_or_an_init_that_fails_is_what_the_call_ends_with(snapped: Runtime, kind: str, error_type: str) -> None:
    for _ in range(2):
        with pytest.raises(InitFailed) as caught:
            snapped.invoke(snap.troubled(kind), 1)
        assert caught.value.error_type == error_type


def test_an_init_that_ends_the_process_is_told_with_its_status(snapped: Runtime) -> None:
    with pytest.raises(SandboxDied, match="exit status 3"):
        snapped.invoke(snap.troubled("exit"), 1)


def test_a_crash_costs_one_sandbox_and_not_the_template(snapped: Runtime) -> None:
    snapped.invoke(snap.end, {})
    template = template_of(snapped, snap.end)
    for event, told in (({"exit": 7}, "exit status 7"), ({"exit": 0}, "without providing a reason")):
        with pytest.raises(SandboxDied, match=told):
            snapped.invoke(snap.end, event)
    with pytest.raises(SandboxDied, match="signal"):
        snapped.invoke(snap.end, {"signal": signal.SIGSEGV})
    assert snapped.invoke(snap.end, {}) == 1
    assert template_of(snapped, snap.end) is template


def test_limits_hold_as_in_any_sandbox(snapped: Runtime) -> None:
    limited = function(name="limited", snap_start=True, timeout=0.3)(snap.end.handler)
    with pytest.raises(TimedOut):
        snapped.invoke(limited, {"sleep": 30})
    with pytest.raises(OutOfMemory):
        snapped.invoke(snap.end, {"memory": 300_000_000})
    assert snapped.invoke(snap.end, {}) == 1


def test_calls_that_come_at_once_wait_for_one_template() -> None:
    with Runtime() as runtime:
        barrier = threading.Barrier(8)

        def call(_: int) -> str:
            barrier.wait()
            return str(runtime.invoke(snap.anew, None)["init"]["mark"])

        with ThreadPoolExecutor(8) as threads:
            marks = set(threads.map(call, range(8)))
        if not runtime._pool.supply.templates:
            pytest.skip("no templates here")
        assert len(marks) == 1


def test_when_the_template_dies_its_sandboxes_do_and_the_next_call_makes_another() -> None:
    with Runtime() as runtime:
        before = runtime.invoke(snap.show, None)["init"]["mark"]
        if not runtime._pool.supply.templates:
            pytest.skip("no templates here")
        template = template_of(runtime, snap.show)
        pids = [sandbox.pid for shelf in runtime._pool.ledger.shelves.values() for sandbox in shelf.idle]
        assert pids
        kill(template.pid)
        wait_until(template.keeper.is_gone)  # the last to go: also one that was forked ahead is dead by then
        assert not any(map(is_alive, pids))
        assert runtime.invoke(snap.show, None)["init"]["mark"] != before


def test_a_template_that_is_of_no_more_use_goes() -> None:
    with Runtime() as runtime:
        runtime.invoke(snap.show, None)
        if not runtime._pool.supply.templates:
            pytest.skip("no templates here")
        pid = template_of(runtime, snap.show).pid
        runtime._pool.retire(snap.show)
        runtime.invoke(handlers.echo, 1)
        wait_until(lambda: not is_alive(pid))
        assert runtime.invoke(snap.show, None)["pid"] == 1


def test_under_pressure_a_template_without_sandboxes_goes_too() -> None:
    with Runtime() as runtime:
        runtime.invoke(snap.show, None)
        if not runtime._pool.supply.templates:
            pytest.skip("no templates here")
        pid = template_of(runtime, snap.show).pid
        Rounds(runtime._pool).relieve()
        wait_until(lambda: not is_alive(pid))
        assert runtime.invoke(snap.show, None)["pid"] == 1


def test_modules_may_be_preloaded_as_well(snapped: Runtime) -> None:
    both = function(name="both", snap_start=True, preload=["sqlite3"])(snap.show.handler)
    first, second = snapped.invoke(both, None), snapped.invoke(both, None)
    assert first["init"] == second["init"]
    assert first["type"] == "snap-start"


def test_with_writes_the_host_and_the_sandbox_are_one_user(snapped: Runtime, tmp_path: Path) -> None:
    def write(event: str) -> int:
        import os

        with open(f"{event}/written", "w") as file:
            file.write("x")
        with open("/tmp/own", "w"):
            pass
        os.rename("/tmp/own", "/tmp/renamed")
        return os.getuid()

    granted = function(name="granted", snap_start=True, writes=[str(tmp_path)])(write)
    assert snapped.invoke(granted, str(tmp_path)) == os.getuid()
    assert (tmp_path / "written").read_text() == "x"


def test_closing_leaves_no_process() -> None:
    with Runtime() as runtime:
        runtime.invoke(snap.show, None)
        templates = list(runtime._pool.supply.templates.values())
        pids = [one.pid for one in templates] + [one.keeper.pid for one in templates]
    assert not any(map(is_alive, pids))


def test_entering_a_runtime_makes_the_template_ahead_of_calls() -> None:
    with Runtime([snap.show]) as runtime:
        if runtime._pool.templates.refused:
            pytest.skip("no templates here")
        assert len(runtime._pool.supply.templates) == 1
        told = runtime.function_statistics(snap.show)
        assert (told.idle, told.invocations) == (1, 0)


def test_a_template_has_one_capability_over_its_own_nest_and_its_sandboxes_have_none(snapped: Runtime) -> None:
    told = snapped.invoke(snap.probe, None)
    assert int(told["init"]["capabilities"], 16) == 1 << 21
    assert int(told["call"]["capabilities"], 16) == 0
    refused = [told["init"][what] for what in ("tmpfs", "a user namespace", "a network")]
    refused += [told["call"][what] for what in ("tmpfs", "a PID namespace")]
    assert refused == [1] * 5, "EPERM"


def test_where_confinement_is_off_sandboxes_start_cold_and_it_is_said() -> None:
    told = r"snap_start=True: sandboxes start cold here, for confinement=\"off\""
    with Runtime(confinement="off") as runtime:
        with pytest.warns(RuntimeWarning, match=told):
            assert runtime.invoke(snap.show, None)["type"] == "on-demand"
        runtime._pool.retire(snap.show)
        assert runtime.invoke(snap.show, None)["type"] == "on-demand"


@pytest.mark.parametrize("other", [{"tenant_isolated": True}, {"provisioned_concurrency": 1}])
def test_what_aws_does_not_allow_with_it_is_refused(other: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="where snap_start=True"):
        function(snap_start=True, **other)(snap.answer)
