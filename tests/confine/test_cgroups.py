"""Control groups: found in what the kernel tells, made, and gone again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyfaas import Runtime, function
from pyfaas._confine.cgroups import Group, Groups, Place, find, lid_bytes, places
from pyfaas._pool.rounds import Rounds
from pyfaas._sandbox.vitals import tree
from support import wait_until

V1 = """\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw""".splitlines()
V1_OWN = ["8:pids:/user", "4:memory:/jobs/7", "3:cpu,cpuacct:/", "0::/"]
V2 = ["25 24 0:22 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"]
V2_OWN = ["0::/user.slice/user-1000.slice/user@1000.service/app.slice/run-1.scope"]
APP = "/sys/fs/cgroup/user.slice/user-1000.slice/user@1000.service/app.slice"


def test_version_1_has_a_directory_for_each_controller_below_the_group_of_the_host() -> None:
    assert places(V1, V1_OWN, lambda _: set()) == [
        Place(("memory",), 1, "/sys/fs/cgroup/memory/jobs/7"),
        Place(("cpu",), 1, "/sys/fs/cgroup/cpu,cpuacct"),
        Place(("pids",), 1, "/sys/fs/cgroup/pids/user"),
    ]


def test_version_1_may_have_several_controllers_in_one_directory() -> None:
    mounts = ["32 31 0:29 / /cg rw - cgroup cgroup rw,pids,memory"]
    assert places(mounts, ["4:pids,memory:/job"], lambda _: set()) == [Place(("memory", "pids"), 1, "/cg/job")]


def test_version_2_takes_the_nearest_directory_that_hands_out_most() -> None:
    handed = {APP: {"memory", "pids"}, "/sys/fs/cgroup": {"memory", "pids", "io"}}
    assert places(V2, V2_OWN, lambda one: handed.get(one, set())) == [Place(("memory", "pids"), 2, APP)]
    handed["/sys/fs/cgroup"].add("cpu")
    all_three = Place(("memory", "cpu", "pids"), 2, "/sys/fs/cgroup")
    assert places(V2, V2_OWN, lambda one: handed.get(one, set())) == [all_three]


def test_where_nothing_may_be_written_there_is_none() -> None:
    assert places(V2, V2_OWN, lambda _: set()) == []
    assert places([], [], lambda _: set()) == []


def test_a_container_sees_its_own_part_of_the_tree() -> None:
    mounts = ["35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory"]
    assert places(mounts, ["4:memory:/docker/abc"], lambda _: set()) == [Place(("memory",), 1, "/sys/fs/cgroup/memory")]


def read(path: Path) -> dict[str, str]:
    return {one.name: one.read_text() for one in path.iterdir() if one.read_text()}


def test_limits_of_version_2_are_written_as_it_wants_them(tmp_path: Path) -> None:
    names = ["memory.max", "memory.swap.max", "memory.oom.group", "pids.max", "cpu.max", "cgroup.procs"]
    for name in names:
        (tmp_path / name).touch()
    group = Group([Place(("memory", "cpu", "pids"), 2, str(tmp_path))])
    group.limit(1_000_000, 1024, 0.5)
    group.add(42)
    assert read(tmp_path) == {
        "memory.max": "1000000",
        "memory.swap.max": "0",
        "memory.oom.group": "1",
        "pids.max": "1024",
        "cpu.max": "50000 100000",
        "cgroup.procs": "42",
    }
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n")
    assert group.oom_killed()
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\nmax 7\noom 0\noom_kill 0\n")
    assert not group.oom_killed()


# -- real ones ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def version_2(tmp_path: Path) -> Iterator[Path]:
    """Give a hierarchy of version 2; it may be one without any controllers that we use, they are elsewhere."""
    mounted = subprocess.run(["mount", "-t", "cgroup2", "none", tmp_path], capture_output=True, text=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"no version 2 may be mounted here: {mounted.stderr.strip()}")
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_version_2_kills_all_in_a_group_at_once_sessions_of_their_own_included(version_2: Path) -> None:
    directory = version_2 / f"pyfaas-test-{os.getpid()}"
    directory.mkdir()
    group = Group([Place(("memory", "pids"), 2, str(directory))])
    try:
        program = "import os, subprocess; input(); subprocess.Popen(['sleep', '600'], start_new_session=True); input()"
        with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE) as parent:
            assert parent.stdin is not None
            group.add(parent.pid)
            parent.stdin.write(b"\n")
            parent.stdin.flush()
            wait_until(lambda: len((directory / "cgroup.procs").read_text().split()) == 2)
            group.kill()
            assert parent.wait() == -signal.SIGKILL
        wait_until(lambda: not (directory / "cgroup.procs").read_text())
    finally:
        wait_until(group.remove)


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    if not find():
        pytest.skip("no cgroup may be made here")
    with Runtime() as opened:
        yield opened


def spin(event: float) -> float:
    import time

    until, began = time.perf_counter() + event, time.process_time()
    while time.perf_counter() < until:
        pass
    return time.process_time() - began


def nap(event: float) -> None:
    import subprocess
    import time

    child = subprocess.Popen(["sleep", str(event)])
    time.sleep(event)
    child.wait()


def directories(runtime: Runtime) -> list[Path]:
    return [Path(one) for one in runtime._pool.supply.groups.directories]


def test_processors_are_held_to_their_share(runtime: Runtime) -> None:
    if "cpu" not in runtime._pool.supply.groups.controllers:
        pytest.skip("no cpu controller here")
    slow = function(name="half", cpu=0.25, timeout=30, cpu_seconds=30)(spin)
    runtime.invoke(slow, 0.1)  # so that it has been looked at
    wait_until(lambda: runtime.function_statistics(slow).idle == 1 and bool(directories(runtime)))
    used = runtime.invoke(slow, 1.5)
    assert used < 0.25 * 1.5 + 0.25


def test_all_of_a_sandbox_is_in_its_group_and_the_group_goes_with_it(runtime: Runtime) -> None:
    import threading

    sleeper = function(name="sleeper", timeout=30, cpu=64)(nap)
    thread = threading.Thread(target=runtime.invoke, args=(sleeper, 1.0))
    thread.start()

    def all_in() -> bool:
        running = list(runtime._pool.running)
        if not running or running[0].pid <= 0:
            return False
        pids = set(tree(running[0].pid))
        for directory in directories(runtime):
            inside = [one / "cgroup.procs" for one in directory.glob("sandbox-*")]
            if len(pids) < 2 or not inside or set(map(int, inside[0].read_text().split())) != pids:
                return False
        return bool(directories(runtime))

    wait_until(all_in)
    where = directories(runtime)
    thread.join()
    runtime._pool.retire(sleeper)
    wait_until(lambda: not any(list(directory.glob("sandbox-*")) for directory in where))
    runtime.close()
    assert not any(directory.exists() for directory in where)


PROGRAM = """
import os, signal, time
from pyfaas import Runtime, function

@function
def nap(event):
    time.sleep(event)

if __name__ == "__main__":
    runtime = Runtime().open()
    runtime.invoke(nap, 0.2)
    groups = runtime._pool.supply.groups
    while not groups.directories:
        time.sleep(0.01)
    print(*groups.directories, sep="\\n", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_host_left_is_removed_by_the_next(runtime: Runtime, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([sys.executable, str(program)], check=False, capture_output=True, text=True, timeout=60)
    left = [Path(line) for line in done.stdout.split()]
    assert left, done.stderr

    def removed() -> bool:
        groups = Groups()
        group = groups.make("one")
        gone = group is not None and group.remove() and not any(one.exists() for one in left)
        groups.close()
        return gone

    wait_until(removed)


def test_the_lid_is_above_what_each_part_may_hold() -> None:
    assert lid_bytes(128, 512) > (128 + 512) * 1_048_576


def limits_told(options: dict[str, Any]) -> float:
    return function(**options)(spin).options.cpu_allowance()


def test_the_cpu_time_of_a_call_follows_from_its_processors() -> None:
    cores = os.cpu_count() or 1
    assert limits_told({"timeout": 10}) == 10 * cores + 1
    assert limits_told({"timeout": 10, "cpu": 0.5}) == 6
    assert limits_told({"timeout": 10, "cpu": 64}) == 10 * cores + 1
    assert function(memory=1769, cpu="proportional")(spin).options.processors() == 1.0


def test_one_that_is_seen_at_work_and_idle_in_one_round_gets_one_group(runtime: Runtime) -> None:
    """A second one of the same name would be refused, and taken for the end of all groups here."""
    declared = function(name="short", timeout=30)(spin)
    held = runtime._pool.supply.groups.controllers
    runtime.invoke(declared, 0.001)
    rounds = Rounds(runtime._pool)
    sandbox = next(iter(runtime._pool.ledger.shelves.values())).idle[0]
    for _ in range(3):
        rounds._ungrouped += [sandbox, sandbox]
        rounds._hold_by_groups()
    assert sandbox.group is not None
    assert runtime._pool.supply.groups.controllers == held


def test_a_directory_that_somebody_removed_is_made_anew(runtime: Runtime) -> None:
    groups = Groups()
    first = groups.make("first")
    assert first is not None
    assert first.remove()
    groups.close()
    assert groups.make("second") is None
    third = groups.make("third")
    assert third is not None
    assert third.remove()
    groups.close()
