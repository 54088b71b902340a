"""
System calls that no handler needs and that open doors: a deny list, as a program for the kernel's filter.

Denied calls answer EPERM, or ENOSYS where a library then takes another way (``clone3``, whose flags a filter cannot
read, io_uring, SysV shared memory). A call by the numbers of a foreign architecture kills the sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from struct import pack

from pyfaas._confine import kernel
from pyfaas._confine.nest import PROC_FLAGS, SANDBOX_NAMESPACES

# name: (x86-64, aarch64); None where the architecture never had it
EPERM = {
    "acct": (163, 89),
    "add_key": (248, 217),
    "adjtimex": (159, 171),
    "afs_syscall": (183, None),
    "bpf": (321, 280),
    "chroot": (161, 51),
    "clock_adjtime": (305, 266),
    "clock_settime": (227, 112),
    "create_module": (174, None),
    "delete_module": (176, 106),
    "fanotify_init": (300, 262),
    "fanotify_mark": (301, 263),
    "finit_module": (313, 273),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fsopen": (430, 430),
    "fspick": (433, 433),
    "get_kernel_syms": (177, None),
    "init_module": (175, 105),
    "ioperm": (173, None),
    "iopl": (172, None),
    "kcmp": (312, 272),
    "kexec_file_load": (320, 294),
    "kexec_load": (246, 104),
    "keyctl": (250, 219),
    "listmount": (458, 458),
    "lookup_dcookie": (212, 18),
    "lsm_set_self_attr": (460, 460),
    "mount": (165, 40),
    "mount_setattr": (442, 442),
    "move_mount": (429, 429),
    "name_to_handle_at": (303, 264),
    "nfsservctl": (180, 42),
    "open_by_handle_at": (304, 265),
    "open_tree": (428, 428),
    "open_tree_attr": (467, 467),
    "perf_event_open": (298, 241),
    "pidfd_getfd": (438, 438),
    "pivot_root": (155, 41),
    "process_madvise": (440, 440),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "ptrace": (101, 117),
    "query_module": (178, None),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "request_key": (249, 218),
    "setdomainname": (171, 162),
    "sethostname": (170, 161),
    "setns": (308, 268),
    "settimeofday": (164, 170),
    "statmount": (457, 457),
    "swapoff": (168, 225),
    "swapon": (167, 224),
    "sysfs": (139, None),
    "_sysctl": (156, None),
    "syslog": (103, 116),
    "umount2": (166, 39),
    "unshare": (272, 97),
    "userfaultfd": (323, 282),
    "uselib": (134, None),
    "ustat": (136, None),
    "vhangup": (153, 58),
}
ENOSYS = {
    "clone3": (435, 435),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "io_uring_setup": (425, 425),
    "msgget": (68, 186),
    "semget": (64, 190),
    "shmget": (29, 194),
}
# name: (numbers, which argument says whose); where others can be seen, a call may be about oneself alone (0)
ABOUT_OTHERS = {
    "ioprio_set": ((251, 30), 1),
    "migrate_pages": ((256, 238), 0),
    "move_pages": ((279, 239), 0),
    "prlimit64": ((302, 261), 0),
    "sched_setaffinity": ((203, 122), 0),
    "sched_setattr": ((314, 274), 0),
    "sched_setparam": ((142, 118), 0),
    "sched_setscheduler": ((144, 119), 0),
    "setpriority": ((141, 140), 1),
}
_CLONE, _SOCKET, _SOCKETPAIR, _IOCTL, _PERSONALITY = (56, 220), (41, 198), (53, 199), (16, 29), (135, 92)
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW* of every kind
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}

_LOAD, _EQUAL, _ABOVE, _AND_SET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERROR = 0x7FFF0000, 0x80000000, 0x00050000
_NUMBER, _ARCHITECTURE = 0, 4  # offsets in what the kernel shows the filter
_FIRST, _SECOND, _FOURTH, _FIFTH = 16, 24, 40, 48  # the low halves of arguments

PLAIN, BESIDE_OTHERS, TEMPLATE = "plain", "beside others", "template"

Instruction = tuple[int, int, int, int]  # code, jump if true, jump if false, value


def program(machine: str, kind: str = PLAIN) -> bytes:
    """
    Give the filter of a kind for this machine, or nothing where its numbers are not known here.

    ``BESIDE_OTHERS``: there is no PID namespace, and processes of the same user can be named. ``TEMPLATE``: let through
    what nest.py does, with the arguments that it has there, and no other way.
    """
    if machine not in _ARCHITECTURES:
        return b""
    return b"".join(pack("<HBBI", *one) for one in _instructions(*_ARCHITECTURES[machine], kind))


def _instructions(column: int, architecture: int, kind: str) -> Iterator[Instruction]:
    yield _LOAD, 0, 0, _ARCHITECTURE
    yield _EQUAL, 1, 0, architecture
    yield _RETURN, 0, 0, _KILL
    yield _LOAD, 0, 0, _NUMBER
    if architecture == 0xC000003E:
        yield _ABOVE, 0, 1, 0x40000000  # the x32 numbers
        yield _RETURN, 0, 0, _KILL
    if kind == TEMPLATE:
        yield from _for_nests(column)
    elif kind == BESIDE_OTHERS:
        for whose, argument in ABOUT_OTHERS.values():
            about_itself = [(_LOAD, 0, 0, (_FIRST, _SECOND)[argument]), (_EQUAL, 1, 0, 0)]
            yield from _when(whose[column], about_itself, errno.EPERM)
    for calls, code in ((EPERM, errno.EPERM), (ENOSYS, errno.ENOSYS)):
        for name, numbers in calls.items():
            number = numbers[column]
            if number is not None and not (kind == TEMPLATE and name in _OF_NESTS):
                yield _EQUAL, 0, 1, number
                yield _RETURN, 0, 0, _ERROR | code
    yield from _when(_CLONE[column], [(_LOAD, 0, 0, _FIRST), (_AND_SET, 0, 1, _NEW_NAMESPACES)], errno.EPERM)
    for number in (_SOCKET[column], _SOCKETPAIR[column]):
        others = [(_EQUAL, len(_FAMILIES) - at, 0, family) for at, family in enumerate(_FAMILIES)]
        yield from _when(number, [(_LOAD, 0, 0, _FIRST), *others], errno.EAFNOSUPPORT)
    terminal = [(_LOAD, 0, 0, _SECOND), (_EQUAL, 1, 0, _TIOCSTI), (_EQUAL, 0, 1, _TIOCLINUX)]
    yield from _when(_IOCTL[column], terminal, errno.EPERM)
    usual = [(_LOAD, 0, 0, _FIRST), (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, 0xFFFFFFFF)]
    yield from _when(_PERSONALITY[column], usual, errno.EPERM)
    yield _RETURN, 0, 0, _ALLOW


_OF_NESTS = ("unshare", "setns", "mount", "open_tree", "move_mount")


def _for_nests(column: int) -> Iterator[Instruction]:
    """Refuse namespaces of other kinds, and mounts of anything that takes options: of those that need none, one is."""
    kinds = (kernel.CLONE_NEWPID, SANDBOX_NAMESPACES)
    others = [(_EQUAL, len(kinds) - at, 0, kind) for at, kind in enumerate(kinds)]
    yield from _when(EPERM["unshare"][column] or 0, [(_LOAD, 0, 0, _FIRST), *others], errno.EPERM)
    pid = [(_LOAD, 0, 0, _SECOND), (_EQUAL, 1, 0, kernel.CLONE_NEWPID)]
    yield from _when(EPERM["setns"][column] or 0, pid, errno.EPERM)
    proc = [
        *((_LOAD, 0, 0, _FOURTH), (_EQUAL, 0, 4, PROC_FLAGS)),
        *((_LOAD, 0, 0, _FIFTH), (_EQUAL, 0, 2, 0)),
        *((_LOAD, 0, 0, _FIFTH + 4), (_EQUAL, 1, 0, 0)),
    ]
    yield from _when(EPERM["mount"][column] or 0, proc, errno.EPERM)


def _when(number: int, test: list[Instruction], code: int) -> Iterator[Instruction]:
    """For one call, refuse it if its test runs through; the test may skip the refusal."""
    yield _EQUAL, 0, len(test) + 2, number
    yield from test
    yield _RETURN, 0, 0, _ERROR | code
    yield _RETURN, 0, 0, _ALLOW


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p)]


_programs = {kind: program(os.uname().machine, kind) for kind in (PLAIN, BESIDE_OTHERS, TEMPLATE)}
AVAILABLE = bool(_programs[PLAIN])
_prepared = {kind: _Program(len(one) // 8, one) for kind, one in _programs.items()}
_PR_SET_SECCOMP, _FILTER = 22, 2


def load(kind: str = PLAIN) -> None:
    """Put this process and all that it starts behind a filter, for ever; after no_new_privs. Raises OSError."""
    pointer = ctypes.cast(ctypes.byref(_prepared[kind]), ctypes.c_void_p).value or 0
    kernel.check(kernel.prctl_pointer(_PR_SET_SECCOMP, _FILTER, pointer), "seccomp")
