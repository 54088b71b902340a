"""
Which hosts have a store open: each holds a lock on one byte of a file, which the kernel lets go when it dies.

    enter(descriptor) ──► a number of one's own          is_alive(descriptor, number)

The lock belongs to the open file and not to the process, so several runtimes of one process are several hosts. Where
the kernel has no such locks (it has them on Linux) nobody has a number, and nobody is known to be dead.
"""

from __future__ import annotations

import random
import struct
import sys

NOBODY = 0
BITS = 16


def enter(descriptor: int) -> int:
    """Take a number that nobody alive has; NOBODY where there are no such locks."""
    if sys.platform != "linux":
        return NOBODY
    import fcntl

    while True:
        number = random.randrange(1, 1 << BITS)
        try:
            fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, _lock_of(fcntl.F_WRLCK, number))
        except BlockingIOError:
            continue
        except OSError:  # a file system that has none
            return NOBODY
        return number


def is_alive(descriptor: int, number: int) -> bool:
    """Tell whether another one has this number."""
    import fcntl

    try:
        found = fcntl.fcntl(descriptor, fcntl.F_OFD_GETLK, _lock_of(fcntl.F_WRLCK, number))
    except OSError:
        return True  # who knows
    return bool(struct.unpack_from("h", found)[0] != fcntl.F_UNLCK)


def _lock_of(kind: int, number: int) -> bytes:
    """Describe a lock on the byte of this number, as the kernel's ``struct flock`` does."""
    return struct.pack("hhqqi4x", kind, 0, number, 1, 0)
