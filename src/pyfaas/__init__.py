"""
pyfaas: AWS Lambda as a library.

Decorate a handler with ``@function``; ``invoke`` runs each event in its own warm, confined, killable process on this
machine. Everything public is here; importing it costs next to nothing until a name is used.
"""

from __future__ import annotations

import sys

# The typing module alone would cost more than all of this file; type checkers know the name.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyfaas._confine.plan import Holding
    from pyfaas._pool.histogram import HybridHistogram
    from pyfaas._pool.keepalive import FixedTime, GreedyDual
    from pyfaas._pool.statistics import FunctionStatistics, RuntimeStatistics
    from pyfaas._records import Outcome, Replay, Report, Submission
    from pyfaas._sources.mapping import EventSourceMapping
    from pyfaas.alarms import alarm
    from pyfaas.context import Context
    from pyfaas.doors import Authorizer, Cors, auth, edge, http
    from pyfaas.errors import (
        AccessDenied,
        AlreadyInProgress,
        BadResponse,
        CannotConfine,
        ConfigurationError,
        ConnectionGone,
        EngineUnavailable,
        EventExpired,
        FunctionError,
        FunctionNotFound,
        HandlerFailed,
        HostError,
        InitFailed,
        InternalError,
        InvalidEvent,
        InvokeError,
        NoSuchKey,
        OutOfMemory,
        PayloadMismatch,
        PayloadTooLarge,
        PyfaasError,
        SandboxDied,
        StoreUnavailable,
        Throttled,
        TimedOut,
    )
    from pyfaas.functions import Function, function
    from pyfaas.idempotency import Idempotency
    from pyfaas.resources.archives import Archive
    from pyfaas.resources.buckets import Bucket, bucket
    from pyfaas.resources.buses import Bus, bus
    from pyfaas.resources.queues import Queue, queue
    from pyfaas.resources.sockets import WebSocket, websocket
    from pyfaas.resources.streams import Stream, stream
    from pyfaas.resources.tables import Table, table
    from pyfaas.resources.topics import Topic, topic
    from pyfaas.runtime import Runtime
    from pyfaas.triggers import schedule

__version__ = "0.1.0.dev0"

_HOMES = {
    "pyfaas.functions": ("Function", "function"),
    "pyfaas.resources.archives": ("Archive",),
    "pyfaas.resources.buckets": ("Bucket", "bucket"),
    "pyfaas.resources.buses": ("Bus", "bus"),
    "pyfaas.resources.queues": ("Queue", "queue"),
    "pyfaas.resources.sockets": ("WebSocket", "websocket"),
    "pyfaas.resources.streams": ("Stream", "stream"),
    "pyfaas.resources.tables": ("Table", "table"),
    "pyfaas.resources.topics": ("Topic", "topic"),
    "pyfaas._sources.mapping": ("EventSourceMapping",),
    "pyfaas.runtime": ("Runtime",),
    "pyfaas.triggers": ("schedule",),
    "pyfaas.idempotency": ("Idempotency",),
    "pyfaas.alarms": ("alarm",),
    "pyfaas.context": ("Context",),
    "pyfaas.doors": ("Authorizer", "Cors", "auth", "edge", "http"),
    "pyfaas._records": ("Outcome", "Replay", "Report", "Submission"),
    "pyfaas._pool.keepalive": ("FixedTime", "GreedyDual"),
    "pyfaas._pool.histogram": ("HybridHistogram",),
    "pyfaas._pool.statistics": ("FunctionStatistics", "RuntimeStatistics"),
    "pyfaas._confine.plan": ("Holding",),
    "pyfaas.errors": (
        "AccessDenied",
        "AlreadyInProgress",
        "BadResponse",
        "CannotConfine",
        "ConfigurationError",
        "ConnectionGone",
        "EngineUnavailable",
        "EventExpired",
        "FunctionError",
        "FunctionNotFound",
        "HandlerFailed",
        "HostError",
        "InitFailed",
        "InternalError",
        "InvalidEvent",
        "InvokeError",
        "NoSuchKey",
        "OutOfMemory",
        "PayloadMismatch",
        "PayloadTooLarge",
        "PyfaasError",
        "SandboxDied",
        "StoreUnavailable",
        "Throttled",
        "TimedOut",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "AccessDenied",
    "AlreadyInProgress",
    "Archive",
    "Authorizer",
    "BadResponse",
    "Bucket",
    "Bus",
    "CannotConfine",
    "ConfigurationError",
    "ConnectionGone",
    "Context",
    "Cors",
    "EngineUnavailable",
    "EventExpired",
    "EventSourceMapping",
    "FixedTime",
    "Function",
    "FunctionError",
    "FunctionNotFound",
    "FunctionStatistics",
    "GreedyDual",
    "HandlerFailed",
    "Holding",
    "HostError",
    "HybridHistogram",
    "Idempotency",
    "InitFailed",
    "InternalError",
    "InvalidEvent",
    "InvokeError",
    "NoSuchKey",
    "OutOfMemory",
    "Outcome",
    "PayloadMismatch",
    "PayloadTooLarge",
    "PyfaasError",
    "Queue",
    "Replay",
    "Report",
    "Runtime",
    "RuntimeStatistics",
    "SandboxDied",
    "StoreUnavailable",
    "Stream",
    "Submission",
    "Table",
    "Throttled",
    "TimedOut",
    "Topic",
    "WebSocket",
    "__version__",
    "alarm",
    "auth",
    "bucket",
    "bus",
    "edge",
    "function",
    "http",
    "queue",
    "schedule",
    "stream",
    "table",
    "topic",
    "websocket",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'pyfaas' has no attribute {name!r}")
    if home.startswith(("pyfaas.functions", "pyfaas.resources", "pyfaas.runtime")):
        from pyfaas import _port

        _port.provide_default(_default_runtime)
    value = getattr(_load(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _default_runtime() -> Any:
    return _load("pyfaas.runtime").default_runtime()


def _load(home: str) -> Any:
    __import__(home)
    return sys.modules[home]
