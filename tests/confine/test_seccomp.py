"""The filter, run by a small machine of our own: what it answers to each call, on both processors."""

from __future__ import annotations

import errno
import struct

import pytest

from pyfaas._confine import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
X86, ARM = 0xC000003E, 0xC00000B7
MACHINES = {"x86_64": (0, X86), "aarch64": (1, ARM)}


def answer(machine: str, number: int, *arguments: int, architecture: int | None = None) -> int:
    """Run the program as the kernel would, for one call."""
    program = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    values = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    shown = struct.pack("<IIQ6Q", number, architecture or MACHINES[machine][1], 0, *values)
    at = held = 0
    while True:
        code, if_true, if_false, value = program[at]
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (held,) = struct.unpack_from("<I", shown, value)
            continue
        holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
        at += if_true if holds else if_false


def refused(code: int) -> int:
    return 0x00050000 | code


@pytest.mark.parametrize("machine", MACHINES)
def test_each_denied_call_is_refused(machine: str) -> None:
    column = MACHINES[machine][0]
    for calls, code in ((seccomp.EPERM, errno.EPERM), (seccomp.ENOSYS, errno.ENOSYS)):
        for name, numbers in calls.items():
            number = numbers[column]
            if number is not None:
                assert answer(machine, number) == refused(code), name


@pytest.mark.parametrize("machine", MACHINES)
def test_all_other_calls_pass(machine: str) -> None:
    column = MACHINES[machine][0]
    denied = {numbers[column] for calls in (seccomp.EPERM, seccomp.ENOSYS) for numbers in calls.values()}
    looked_at = {seccomp._SOCKET[column], seccomp._SOCKETPAIR[column], seccomp._PERSONALITY[column]}
    for number in set(range(480)) - denied - looked_at:
        assert answer(machine, number) == ALLOW, number


@pytest.mark.parametrize("machine", MACHINES)
def test_a_call_of_another_architecture_kills(machine: str) -> None:
    other = ARM if machine == "x86_64" else X86
    assert answer(machine, 1, architecture=other) == KILL
    assert answer(machine, 1, architecture=0x40000003) == KILL


def test_the_numbers_of_x32_kill() -> None:
    assert answer("x86_64", 0x40000000 | 59) == KILL
    assert answer("aarch64", 0x40000000) == ALLOW  # no such call there, the kernel says so itself


@pytest.mark.parametrize("machine", MACHINES)
def test_threads_and_children_are_made_but_no_namespaces(machine: str) -> None:
    clone = seccomp._CLONE[MACHINES[machine][0]]
    thread = 0x003D0F00
    assert answer(machine, clone, thread) == ALLOW
    assert answer(machine, clone, 17) == ALLOW
    for flag in (0x00020000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert answer(machine, clone, 17 | flag) == refused(errno.EPERM)


@pytest.mark.parametrize("machine", MACHINES)
def test_sockets_are_of_the_usual_families(machine: str) -> None:
    for number in (seccomp._SOCKET[MACHINES[machine][0]], seccomp._SOCKETPAIR[MACHINES[machine][0]]):
        passed = [family for family in range(64) if answer(machine, number, family) == ALLOW]
        assert passed == [1, 2, 10, 16]
        assert answer(machine, number, 40) == refused(errno.EAFNOSUPPORT)  # AF_VSOCK


@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_typed_into_a_terminal(machine: str) -> None:
    ioctl = seccomp._IOCTL[MACHINES[machine][0]]
    assert answer(machine, ioctl, 0, 0x5412) == answer(machine, ioctl, 0, 0x541C) == refused(errno.EPERM)
    assert answer(machine, ioctl, 0, 0x5401) == ALLOW


@pytest.mark.parametrize("machine", MACHINES)
def test_a_personality_may_be_asked_for_and_not_changed(machine: str) -> None:
    personality = seccomp._PERSONALITY[MACHINES[machine][0]]
    assert answer(machine, personality, 0xFFFFFFFF) == answer(machine, personality, 0) == ALLOW
    assert answer(machine, personality, 0x0040000) == refused(errno.EPERM)


def test_a_processor_whose_numbers_are_unknown_has_no_filter() -> None:
    assert seccomp.program("riscv64") == b""
