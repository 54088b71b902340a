"""
Handles: ``queue``, ``topic``, ``stream``, ``table`` and ``bus`` name what events go through, and hold nothing.

    orders = queue("orders")          a handle, in the host and inside a sandbox
    orders.send({"id": 7})            what it is sent to is found by name in the store of the current runtime
    @function(trigger=orders)         and it is a trigger

Like ``Function`` a verb asks ``_port`` which runtime is meant.
"""

from __future__ import annotations

from typing import Any

from pyfaas.options import refuse
from pyfaas.resources.archives import Archive, Replaying
from pyfaas.resources.buckets import Bucket, bucket
from pyfaas.resources.buses import Bus, Put, bus
from pyfaas.resources.handles import Attributes, Handle, made, text_of
from pyfaas.resources.queues import Queue, Sending, queue
from pyfaas.resources.recorded import Recorded
from pyfaas.resources.sockets import WebSocket, websocket
from pyfaas.resources.streams import Putting, Stream, stream
from pyfaas.resources.tables import Table, table
from pyfaas.resources.topics import Publication, Topic, fed, topic

__all__ = [
    "Archive",
    "Attributes",
    "Bucket",
    "Bus",
    "Handle",
    "Publication",
    "Put",
    "Putting",
    "Queue",
    "Recorded",
    "Replaying",
    "Sending",
    "Stream",
    "Table",
    "Topic",
    "WebSocket",
    "bucket",
    "bus",
    "check_dead_letter",
    "check_destination",
    "fed",
    "made",
    "queue",
    "stream",
    "table",
    "text_of",
    "topic",
    "websocket",
]


def check_dead_letter(field: str, value: Any) -> None:
    """Accept a queue or a topic. Raises ConfigurationError."""
    if not isinstance(value, (Queue, Topic)) or (isinstance(value, Queue) and value.fifo):
        raise refuse(field, value, "a queue with fifo=False, a topic, or None")


def check_destination(field: str, value: Any) -> None:
    """Accept a queue, a topic, a bus or a bucket. Raises ConfigurationError."""
    if not isinstance(value, (Queue, Topic, Bus, Bucket)) or (isinstance(value, Queue) and value.fifo):
        raise refuse(field, value, "a function, a queue with fifo=False, a topic, a bus, a bucket, or None")
