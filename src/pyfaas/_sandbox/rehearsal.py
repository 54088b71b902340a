"""
What every sandbox does first, done in the zygote a few times before it forks. (standard library only)

A fork pays for each page that it is the first to write to, and code that runs for the first time writes much: caches of
attributes, specialised bytecode, counters of references. What was rehearsed is warm, and its pages stay shared.
"""

from __future__ import annotations

import json
from typing import Any

from pyfaas import functions
from pyfaas._payload import decode_event, encode_result
from pyfaas._sandbox import loader, protocol
from pyfaas.context import Context

ROUNDS = 12  # the interpreter specialises code after eight runs


def rehearse() -> None:
    """Declare a function, take and answer an invocation, tell of an error; leave nothing behind."""
    peer = protocol.WorkerPeer()
    template = Context("rehearsal")
    for sequence in range(ROUNDS):
        declared = functions.function(memory=256)(_handler)
        event = protocol.INVOCATION.pack(2, protocol.INVOKE, sequence, 3.0, bytes(16)) + b"{}"
        for frame in peer.receive(event):
            context = template.for_call(frame.request_id, 3.0)
            result = encode_result(declared.handler(decode_event(frame.payload), context))
            protocol.answer_header(protocol.VALUE, frame.sequence, 0.0, 0.0, 0, len(result))
        try:
            raise ValueError
        except ValueError as error:
            json.dumps([loader.message_of(error), loader.stack_of(error), loader.trace_text(error)])
    functions.declared.clear()


def _handler(event: Any, context: Context) -> Any:
    return [event, context.get_remaining_time_in_millis()]
