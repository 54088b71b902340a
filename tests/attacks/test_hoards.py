"""Memory that is no process's own, and reaching for others (cases 13 to 19, 26, 28, 29, 40 and 41)."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from attacks import hoards
from attacks.handlers import MB
from attacks.harness import Arena
from pyfaas import FunctionError, HandlerFailed, OutOfMemory, SandboxDied
from pyfaas._confine.plan import KERNEL
from support import wait_until

ELSEWHERE = "memory outside of processes"


def test_shared_memory_counts_as_any(arena: Arena) -> None:
    arena.attack(hoards.maps_shared, OutOfMemory, event=400 * MB, within=3.0)


def test_memory_files_that_nobody_maps_are_held_where_there_are_cgroups(arena: Arena) -> None:
    if arena.held(ELSEWHERE) == KERNEL:
        arena.attack(hoards.fills_memory_files, OutOfMemory, event=1200 * MB, within=10.0)
    else:
        outcome = arena.attack(hoards.fills_memory_files, event=160 * MB, within=10.0)
        assert outcome.value == 160 * MB, "and it is said"


def test_socket_buffers_are_bounded_by_the_open_files(arena: Arena) -> None:
    outcome = arena.attack(hoards.fills_sockets, within=10.0)
    assert outcome.value["pairs"] <= 512
    assert outcome.value["bytes"] < 400 * MB


def test_64_stacks_are_no_hindrance(arena: Arena) -> None:
    assert arena.attack(hoards.stacks, event=64, within=10.0).value == 64


@pytest.mark.parametrize("how", ["python", "python without a limit", "c"])
def test_endless_recursion_costs_its_own_sandbox_at_most(arena: Arena, how: str) -> None:
    with arena.surroundings(hoards.recurses):
        error = arena.runtime.try_invoke(hoards.recurses, how).error
    assert isinstance(error, (HandlerFailed, SandboxDied, OutOfMemory)), repr(error)
    if how == "python":
        assert isinstance(error, FunctionError)
        assert error.error_type == "RecursionError"


def test_what_outlives_processes_cannot_be_made(arena: Arena) -> None:
    *system_v, queue = arena.attack(hoards.makes_sysv).value
    assert queue in (errno.EMFILE, errno.ENOSYS)
    if arena.held("system calls") == KERNEL:
        assert set(system_v) == {errno.ENOSYS}


def test_nobody_else_can_be_killed(arena: Arena) -> None:
    if arena.held("other processes") == KERNEL:
        others = [os.getpid(), os.getppid(), arena.runtime._pool.supply.zygote().pid]
        told = arena.attack(hoards.kills_others, event=others).value
        assert set(told) <= {"ProcessLookupError", "PermissionError"}
        arena.attack(hoards.kills_all)  # the kernel does not say whom: nobody, or the neighbour would tell


def test_nobody_elses_limits_can_be_set(arena: Arena) -> None:
    if arena.held("other processes") == KERNEL:
        others = [os.getpid(), arena.runtime._pool.supply.zygote().pid]
        told = arena.attack(hoards.limits_others, event=others).value
        assert set(told) <= {"ProcessLookupError", "PermissionError"}


def test_priority_over_others_is_refused(arena: Arena) -> None:
    assert set(arena.attack(hoards.wants_priority).value) == {"PermissionError"}


def test_a_tenant_finds_nothing_of_another_one(arena: Arena) -> None:
    if arena.held("file system") != KERNEL or arena.held("space in /tmp") != KERNEL:
        return  # there is no /tmp of its own to leave anything in
    mark = os.urandom(32).hex()
    invoke = arena.runtime.invoke
    assert invoke(hoards.leaves_or_looks, {"do": "leave", "mark": mark}, tenant="a") == ["left"]
    assert invoke(hoards.leaves_or_looks, {"do": "look", "mark": mark}, tenant="b") == []
    own = invoke(hoards.leaves_or_looks, {"do": "look", "mark": mark}, tenant="a")
    assert {"/tmp/secret", "/dev/shm/secret", "environment", "globals"} <= set(own), "its own is there: it does look"


@pytest.fixture
def victim() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        victim = Path(place) / "victim"
        victim.mkdir()
        (victim / "file").write_text("precious")
        (victim / "below").mkdir()
        yield victim


def test_links_that_are_left_behind_lead_the_host_nowhere(arena: Arena, victim: Path) -> None:
    if arena.held("space in /tmp") != KERNEL:
        return  # its /tmp is the host's, see Slots for how that is cleaned
    for _ in range(5):
        arena.runtime.invoke(hoards.plants_links, str(victim))
    supply = arena.runtime._pool.supply
    wait_until(lambda: not supply.dying)
    assert (victim / "file").read_text() == "precious"
    assert (victim / "file").stat().st_nlink == 1
    assert (victim / "below").is_dir()
