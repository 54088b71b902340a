"""
The wire between the host and its zygote: fixed little messages, and descriptors that ride along.

    host ──► zygote   START    where modules are found, what to import ahead; answered with what was found
                      SPAWN n  two descriptors: the worker's socket and its log
                      REAP n   answered with how that worker ended
                      PRELOAD  more to import ahead
                      BRANCH   one descriptor: where a fork of it is to listen for the same messages
"""

from __future__ import annotations

from struct import Struct

MESSAGE = Struct("<BQ")  # kind, and a sandbox's number or the length of what follows
REPLY = Struct("<QBi")  # a sandbox's number, what is told, its value

START, SPAWN, REAP, PRELOAD, BRANCH = 1, 2, 3, 4, 5
EXITED, SIGNALLED, NOT_FORKED, UNKNOWN = 1, 2, 3, 4
