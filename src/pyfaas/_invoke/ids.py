"""
Request ids: UUIDs as 16 bytes, from a generator of our own that forks reseed.

What is kept in a store gets one of version 7, which begins with the moment: rows that come together stand together in
the index, and a commit of twenty writes one page of it instead of twenty.
"""

from __future__ import annotations

import os
import random
import time

_random = random.Random()  # ids, not secrets; seeded by the system
_bits = _random.getrandbits

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_KEEP = ~((0xF << 76) | (0x3 << 62))
_VERSION_4, _VERSION_7 = (0x4 << 76) | (0x2 << 62), (0x7 << 76) | (0x2 << 62)


def new_id() -> bytes:
    """Make a request id."""
    return (_bits(128) & _KEEP | _VERSION_4).to_bytes(16, "big")


def new_id_in_order() -> bytes:
    """Make a request id that is greater than those of earlier milliseconds, of a clock that nobody sets back."""
    moment = time.time_ns() // 1_000_000 & 0xFFFF_FFFF_FFFF
    return (moment << 80 | _bits(80) & _KEEP | _VERSION_7).to_bytes(16, "big")
