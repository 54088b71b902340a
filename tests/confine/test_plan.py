"""The plan: from limits and host to steps, and to what is held and what is not. No process is touched."""

from __future__ import annotations

import itertools

import pytest

from pyfaas import CannotConfine, Runtime, limits
from pyfaas._confine import apply
from pyfaas._confine.plan import (
    KERNEL,
    NOT_HELD,
    RESERVED_PIDS,
    WATCHED,
    Host,
    Limits,
    hold,
    niceness,
    plan,
    restore,
)

ROOT = Host("linux", True, True, False, True)
FULL = ROOT._replace(view=True, own_uids=True, empty_network=True, landlock=7, seccomp=True)
ROOT_OLD_KERNEL = ROOT._replace(pid_max=False)
USER = Host("linux", False, True, True, False)
NO_NAMESPACES = Host("linux", False, False, False, False, "unshare: Operation not permitted")
MACOS = Host("darwin", False, False, False, False, "no PID namespaces on darwin")
HOSTS = [FULL, ROOT, ROOT_OLD_KERNEL, USER, NO_NAMESPACES, MACOS]
WANTED = Limits(memory_mb=256, file_mb=512, cpu_seconds=7.0)


def names(host: Host) -> list[str]:
    return [step[0] for step in plan(WANTED, host)]


@pytest.mark.parametrize("host", HOSTS)
def test_every_host_gets_limits_on_cores_files_and_their_size(host: Host) -> None:
    steps = plan(WANTED, host)
    assert ("rlimit", "CORE", 0) in steps
    assert ("rlimit", "NOFILE", 1_024) in steps
    assert ("rlimit", "FSIZE", 512 * 1_048_576) in steps


def test_runaways_are_stopped_far_above_the_memory_limit() -> None:
    assert ("rlimit", "DATA", (2 * 256 + 1_024) * 1_048_576) in plan(WANTED, ROOT)
    assert not any(step[:2] == ("rlimit", "DATA") for step in plan(WANTED, MACOS))
    assert not any(step[:2] == ("rlimit", "AS") for host in HOSTS for step in plan(WANTED, host))


def test_processes_are_bounded_by_what_this_host_has() -> None:
    assert ("pid_max", 300 + 1_024) in plan(WANTED, ROOT)
    assert ("rlimit", "NPROC", 2_024) in plan(WANTED, USER)
    for host in (ROOT_OLD_KERNEL, NO_NAMESPACES, MACOS):
        assert not any(step[0] == "pid_max" or step[:2] == ("rlimit", "NPROC") for step in plan(WANTED, host))


def test_without_a_namespace_the_worker_adopts_its_orphans() -> None:
    """So that they hang below it, where the sweep finds them."""
    assert [host for host in HOSTS if "subreaper" in names(host)] == [NO_NAMESPACES]


def test_capabilities_are_dropped_whoever_gave_them() -> None:
    assert [host for host in HOSTS if "drop_capabilities" in names(host)] == [FULL, ROOT, ROOT_OLD_KERNEL, USER]
    assert "drop_capabilities" not in names(ROOT._replace(off=True))


def test_new_privileges_are_forbidden_before_the_first_byte_of_user_code() -> None:
    assert [host for host in HOSTS if "no_new_privileges" not in names(host)] == [MACOS]


@pytest.mark.parametrize("host", HOSTS)
def test_every_step_has_hands(host: Host) -> None:
    assert set(names(host)) <= set(apply._HANDS)


@pytest.mark.parametrize("host", HOSTS)
def test_each_guarantee_is_told_once_and_what_is_not_held_says_why(host: Host) -> None:
    holdings = hold(host)
    guarantees = [one.guarantee for one in holdings]
    assert len(set(guarantees)) == len(guarantees)
    assert {"time-out", "the whole tree dies", "memory", "CPU time", "processes", "open files", "file size"} <= set(
        guarantees
    )
    for one in holdings:
        assert one.held in (KERNEL, WATCHED, NOT_HELD)
        assert one.by
        if one.held != KERNEL and one.guarantee not in ("CPU time", "time-out", "new privileges"):
            assert one.why, one


def test_all_hosts_speak_of_the_same_guarantees_in_the_same_order() -> None:
    lists = [[one.guarantee for one in hold(host)] for host in HOSTS]
    assert all(first == second for first, second in itertools.pairwise(lists))


def test_how_the_tree_dies_depends_on_the_namespace() -> None:
    def held(host: Host) -> tuple[str, str]:
        one = next(one for one in hold(host) if one.guarantee == "the whole tree dies")
        return one.held, one.by

    assert held(ROOT) == (KERNEL, "a PID namespace")
    assert held(USER) == (KERNEL, "a PID namespace in a user namespace")
    assert held(NO_NAMESPACES)[0] == WATCHED
    assert held(MACOS)[0] == WATCHED


def test_a_runtime_tells_what_its_own_host_holds(session_runtime: Runtime) -> None:
    holdings = session_runtime.confinement()
    assert [one.guarantee for one in holdings] == [one.guarantee for one in hold(ROOT)]


def test_strict_runs_where_all_is_held_and_else_refuses_with_the_list() -> None:
    import handlers

    with Runtime(confinement="strict") as runtime:
        missing = [one.guarantee for one in runtime.confinement() if one.held == NOT_HELD]
        if not missing:
            assert runtime.invoke(handlers.echo, 1) == 1
            return
        with pytest.raises(CannotConfine) as caught:
            runtime.invoke(handlers.echo, 1)
        assert all(f"{guarantee} (" in str(caught.value) for guarantee in missing)


def test_a_share_of_the_processors_is_a_weight_where_no_cgroup_holds_it() -> None:
    assert [niceness(processors, 4) for processors in (None, 4, 8, 2, 1, 0.01)] == [0, 0, 0, 3, 6, 19]
    assert ("nice", 3) in plan(Limits(128, 512, 1.0, nice=3), ROOT)


def test_a_template_keeps_what_forks_need_and_its_sandboxes_give_it_up() -> None:
    steps = [step[0] for step in plan(Limits(128, 512, 1.0, uid=5, template=True), ROOT)]
    assert steps[0] == "keep_proc"
    assert steps.index("user") < steps.index("descend") < steps.index("no_new_privileges")
    assert "drop_capabilities" not in steps
    assert ("pid_max", RESERVED_PIDS + limits.PROCESSES) not in plan(Limits(128, 512, 1.0, template=True), ROOT)
    assert [step[0] for step in restore(FULL, network=True)] == ["drop_capabilities", "landlock", "seccomp"]
