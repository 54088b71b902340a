"""
What every sandbox does first, done in the zygote a few times before it forks, and once more by a standby that waits.

A fork pays for each page that it is the first to write to, and code that runs for the first time writes much: caches of
attributes, specialised bytecode, counters of references. What was rehearsed is warm, and its pages stay shared; what
must be written all the same, a standby has written before its function comes. (child side; standard library only)
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import socket
import sys
from typing import Any

from pyfaas import functions
from pyfaas._payload import decode_event, encode_result
from pyfaas._sandbox import loader, protocol
from pyfaas.context import Context, context_for_call

ROUNDS = 12  # the interpreter specialises code after eight runs


def rehearse() -> None:
    """Declare a function, take and answer an invocation, tell of an error; leave nothing behind."""
    _settle()
    declared = functions.function(memory=256)(_handler)
    functions.declared.clear()
    context = context_for_call(Context("rehearsal"), bytes(16), 3.0)
    for frame in protocol.WorkerPeer().receive(protocol.INVOCATION.pack(2, protocol.INVOKE, 1, 3.0, bytes(16)) + b"{}"):
        result = encode_result(declared.handler(decode_event(frame.payload), context))
        protocol.answer_header(protocol.VALUE, frame.sequence, 0.0, 0.0, 0, len(result))
    try:
        raise ValueError
    except ValueError as error:
        json.dumps([loader.message_of(error), loader.stack_of(error), loader.trace_text(error)])


def _settle() -> None:
    """Go through what a fork does before its handler: a socket, variables, a signal, a module from a file."""
    for one in socket.socketpair():
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=one.detach()).close()
    wanted = pickle.loads(_INIT)  # noqa: S301 - ours
    os.environ.update(wanted)
    for name in wanted:
        del os.environ[name]
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    importlib.import_module(_SMALL_MODULE)
    del sys.modules[_SMALL_MODULE]


_INIT = pickle.dumps({f"PYFAAS_REHEARSAL_{number}": str(number) for number in range(12)})
_SMALL_MODULE = "pyfaas._sandbox.port"


def _handler(event: Any, context: Context) -> Any:
    return [event, context.get_remaining_time_in_millis()]
