"""Request ids: UUIDs of version 4 as 16 bytes, from a generator of our own that forks reseed."""

from __future__ import annotations

import os
import random

_random = random.Random()  # ids, not secrets; seeded by the system
_bits = _random.getrandbits

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_KEEP = ~((0xF << 76) | (0x3 << 62))
_VERSION_4 = (0x4 << 76) | (0x2 << 62)


def new_id() -> bytes:
    """Make a request id."""
    return (_bits(128) & _KEEP | _VERSION_4).to_bytes(16, "big")
