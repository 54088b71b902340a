"""The surroundings in real sandboxes: on, off, and for code that lies in odd places."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfaas import Runtime, function
from pyfaas._confine.plan import KERNEL, NOT_HELD
from support import output_of, wait_until


@pytest.fixture
def outside() -> Iterator[Path]:
    """A file of the host that no sandbox is shown."""
    descriptor, path = tempfile.mkstemp(dir="/var/tmp")
    os.fchmod(descriptor, 0o644)
    os.close(descriptor)
    yield Path(path)
    os.unlink(path)


def exists(event: str) -> bool:
    return os.path.exists(event)


def test_confinement_may_be_switched_off_to_find_a_mistake(outside: Path) -> None:
    with warnings.catch_warnings(), Runtime(confinement="off") as runtime:
        warnings.simplefilter("error")  # who switches it off knows
        assert runtime.invoke(function(exists), str(outside)) is True
        told = {one.guarantee: one for one in runtime.confinement()}
        assert told["file system"].held == NOT_HELD
        assert 'confinement="off"' in told["file system"].why
        limits = ("time-out", "the whole tree dies", "processes", "open files", "death with the host")
        with Runtime() as confined:
            kept = {one.guarantee: one for one in confined.confinement()}
        assert [told[name].held for name in limits] == [kept[name].held for name in limits]


def test_each_function_sees_what_it_was_granted_and_not_what_another_was(outside: Path) -> None:
    with Runtime() as runtime:
        if {one.guarantee: one.held for one in runtime.confinement()}["file system"] != KERNEL:
            pytest.skip("the file system is not held here, and the runtime says so")
        granted = function(name="granted", reads=[str(outside)])(exists)
        plain = function(name="plain")(exists)
        for _ in range(2):
            assert runtime.invoke(granted, str(outside)) is True
            assert runtime.invoke(plain, str(outside)) is False


def test_one_on_stand_by_serves_functions_with_more_space_and_not_those_that_see_more(outside: Path) -> None:
    def space(event: None) -> int:
        told = os.statvfs("/tmp" if os.getcwd() == "/tmp" else ".")
        return told.f_blocks * told.f_frsize // 2**20

    with Runtime() as runtime:
        supply = runtime._pool.supply
        runtime.invoke(function(name="plain")(exists), str(outside))
        wait_until(lambda: supply.standby is not None)
        standby = supply.standby
        if not standby.born:
            pytest.skip("no file system of its own here, so nothing is done ahead")
        granted = function(name="granted", reads=[str(outside)])(exists)
        assert runtime.invoke(granted, str(outside)) is True
        assert supply.standby is standby
        assert runtime.invoke(function(ephemeral_storage=700)(space), None) == 700
        assert supply.standby is not standby
        wait_until(lambda: supply.standby is not None)
        assert runtime.invoke(function(name="usual")(space), None) == 512


def test_files_of_one_sandbox_are_not_in_anothers_tmp(session_runtime: Runtime) -> None:
    def leave(event: str) -> list[str]:
        before = os.listdir(tempfile.gettempdir())
        with open(os.path.join(tempfile.gettempdir(), event), "w"):
            return before

    first, second = (function(name=name)(leave) for name in ("first", "second"))
    session_runtime.invoke(first, "mine")
    assert "mine" in session_runtime.invoke(first, "more")
    assert "mine" not in session_runtime.invoke(second, "other")


def test_slots_leave_nothing_behind_when_their_sandbox_goes() -> None:
    with Runtime(keep_alive=0.0) as runtime:
        root = runtime._pool.supply.slots.root
        for number in range(5):
            assert runtime.invoke(function(name=f"f{number}")(exists), "/") is True
    assert not os.path.exists(root)


def test_a_script_in_a_home_directory_runs_and_shows_nothing_else_of_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".aws").mkdir(parents=True)
    (home / ".aws" / "credentials").write_text("secret")
    (home / "beside.py").write_text("VALUE = 7\n")
    script = """
        import os, sys
        sys.path.insert(0, sys.argv[1])
        os.environ["HOME"] = sys.argv[1]
        import beside
        from pyfaas import Runtime, function

        @function
        def look(event):
            return [beside.VALUE, os.path.exists(event)]

        with Runtime() as runtime:
            held = {one.guarantee: one.by for one in runtime.confinement()}
            seen = runtime.invoke(look, sys.argv[1] + "/.aws/credentials")
            print(seen if "root directory" in held["file system"] else [7, False])
    """
    assert output_of(script, str(home), flags=("-W", "ignore")) == "[7, False]"


@pytest.mark.skipif(sys.platform != "linux", reason="there is a /proc")
def test_threads_numbers_and_children_work_as_ever(session_runtime: Runtime) -> None:
    @function(timeout=20, memory=512)
    def work(event: int) -> list[object]:
        import multiprocessing
        import subprocess
        import threading

        found: list[int] = []
        threads = [threading.Thread(target=found.append, args=(number,)) for number in range(event)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with multiprocessing.get_context("fork").Pool(2) as pool:
            squares = pool.map(abs, [-1, -2])
        told = subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True)
        return [len(found), squares, told.stdout.strip()]

    assert session_runtime.invoke(work, 64) == [64, [1, 2], "42"]
