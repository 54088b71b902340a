"""
The wire between the host and its zygote: fixed little messages, and descriptors that ride along.

    host ──► zygote   START    where modules are found, what to import ahead; answered with what was found
                      SPAWN n  two descriptors: the worker's socket and its log
                      REAP n   answered with how that worker ended
                      PRELOAD  more to import ahead
                      BRANCH   one descriptor: where a fork of it is to listen for the same messages
                      TEMPLATE n  what to make for a sandbox of a template, which it is sent on to as a SPAWN, with
                               four descriptors: the socket, the log, its /tmp and its /dev/shm
    host ──► template REAP n
"""

from __future__ import annotations

import os
from struct import Struct

MESSAGE = Struct("<BQ")  # kind, and a sandbox's number or the length of what follows
REPLY = Struct("<QBi")  # a sandbox's number, what is told, its value

START, SPAWN, REAP, PRELOAD, BRANCH, TEMPLATE = 1, 2, 3, 4, 5, 6
EXITED, SIGNALLED, NOT_FORKED, UNKNOWN = 1, 2, 3, 4


def how(status: int) -> tuple[int, int]:
    """Make of what ``waitpid`` gave what is told, and its value."""
    if os.WIFSIGNALED(status):
        return SIGNALLED, os.WTERMSIG(status)
    return EXITED, os.WEXITSTATUS(status)
