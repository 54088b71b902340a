"""
Every quota once: its name, our value, AWS Lambda's, the unit, who enforces it, and why it is what it is.

Both the host and the worker read the constants; ``QUOTAS`` is the same as a table, from which the docs are made.
"""

from __future__ import annotations

from typing import NamedTuple

MB = 1_048_576  # "MB" in AWS Lambda's documents and logs means 1,024 KB.

REQUEST_BYTES = 6_291_456
RESPONSE_BYTES = 6_291_556
ASYNC_EVENT_BYTES = 1_048_576
RETRIES = (0, 2)
EVENT_AGE_SECONDS = (60, 21_600)
DELAY_SECONDS = 900
KEY_CHARACTERS = 128
MESSAGE_BYTES = 1_048_576
MESSAGE_ATTRIBUTES = 10
VISIBILITY_SECONDS = 43_200
RETENTION_SECONDS = (60, 1_209_600)
RECEIVES = 1_000
BATCH = 10_000
BATCH_OF_FIFO = 10
BATCH_WINDOW_SECONDS = 300
SHARDS = 1_000
STREAM_RETENTION_SECONDS = (60, 31_536_000)
STREAM_RETRIES = 10_000
RECORD_AGE_SECONDS = (60, 604_800)
LANES = 10
TUMBLING_SECONDS = 900
WINDOW_STATE_BYTES = 1_048_576
AUTH_SECONDS = 5.0
TABLE_LOCK_SECONDS = 30.0
SOCKET_MESSAGE_BYTES = 131_072
EDGE_SECONDS = {"viewer": 5, "origin": 30}
HOPS = 16
CALL_BYTES = REQUEST_BYTES + 65_536
FLEXIBLE_SECONDS = 86_400
NESTING = 200
INIT_SECONDS = 10.0
SNAP_INIT_SECONDS = 130.0
MB_PER_VCPU = 1769
CONCURRENCY = 1_000
SANDBOXES = 1_000
KEEP_ALIVE_SECONDS = 300.0
MEMORY_MB = (128, 10_240)
TIMEOUT_SECONDS = (0.05, 900.0)
EPHEMERAL_STORAGE_MB = (512, 10_240)
ENVIRONMENT_BYTES = 4_096
DESCRIPTION_CHARACTERS = 256
NAME_CHARACTERS = 64
OPEN_FILES = 1_024
PROCESSES = 1_024
LOG_BYTES = 1_048_576
LOG_TAIL_BYTES = 4_096
ERROR_BYTES = 262_144
TRACE_CHARACTERS = 65_536
WINDOW_EVENTS = 64
WINDOW_BYTES = 65_536


class Quota(NamedTuple):
    """One line of the table."""

    name: str
    ours: str
    aws: str
    unit: str
    enforced_by: str
    why: str


QUOTAS = (
    Quota("event", f"{REQUEST_BYTES:,}", "6,291,456", "bytes of compact UTF-8 JSON", "host", "AWS's"),
    Quota("result", f"{RESPONSE_BYTES:,}", "6,291,556", "bytes of compact UTF-8 JSON", "worker, then host", "AWS's"),
    Quota("event of submit", f"{ASYNC_EVENT_BYTES:,}", "1,048,576", "bytes of compact UTF-8 JSON", "host", "AWS's"),
    Quota(
        "delay of submit",
        f"0 to {DELAY_SECONDS}",
        "none; of a queue 900",
        "s",
        "host",
        "AWS's for queues: what is to run later has a schedule",
    ),
    Quota("retries", "0 to 2, default 2", "the same", "after 1 and 2 min", "host", "AWS's"),
    Quota("max_event_age", "60 to 21,600, default 21,600", "the same", "s", "host", "AWS's"),
    Quota(
        "message of a queue or topic",
        f"{MESSAGE_BYTES:,}",
        "1,048,576, of a topic 262,144",
        "bytes, attributes included",
        "host",
        "one limit for what may be sent on",
    ),
    Quota("message attributes", f"{MESSAGE_ATTRIBUTES}", "10", "a message", "host", "AWS's"),
    Quota("visibility", f"0 to {VISIBILITY_SECONDS:,}, default 30", "the same", "s", "host", "AWS's"),
    Quota("retention", "60 to 1,209,600, default 345,600", "the same", "s", "host", "AWS's"),
    Quota("max_receives", f"1 to {RECEIVES:,}", "the same", "receives", "host", "AWS's"),
    Quota("batch", f"1 to {BATCH:,}, of a FIFO queue {BATCH_OF_FIFO}", "the same", "messages", "host", "AWS's"),
    Quota("window", f"0 to {BATCH_WINDOW_SECONDS}", "0 to 300, 1 or more over 10 messages", "s", "host", "AWS's"),
    Quota("record of a stream", f"{MESSAGE_BYTES:,}", "1,048,576 or more", "bytes", "host", "as of a queue"),
    Quota("shards", f"1 to {SHARDS:,}", "by quota", "of a stream", "host", "each is looked at"),
    Quota(
        "retention of a stream",
        "60 to 31,536,000, default 86,400",
        "86,400 to 31,536,000",
        "s",
        "host",
        "AWS's; this machine's disk may be smaller",
    ),
    Quota("parallelization", f"1 to {LANES}", "the same", "batches of a shard", "host", "AWS's"),
    Quota(
        "retries of a stream's batch", f"0 to {STREAM_RETRIES:,}, default any", "the same", "failures", "host", "AWS's"
    ),
    Quota("max_record_age", "60 to 604,800, default any", "the same", "s", "host", "AWS's"),
    Quota("tumbling_window", f"1 to {TUMBLING_SECONDS}", "the same", "s", "host", "AWS's"),
    Quota("state of a tumbling window", f"{WINDOW_STATE_BYTES:,}", "the same", "bytes of JSON", "host", "AWS's"),
    Quota("timeout with an edge trigger", "at most 5 (viewer), 30 (origin)", "the same", "s", "declaration", "AWS's"),
    Quota("message of a WebSocket", f"{SOCKET_MESSAGE_BYTES:,}", "131,072", "bytes", "host", "AWS's"),
    Quota("timeout with an auth trigger", f"at most {AUTH_SECONDS:g}", "5", "s", "declaration", "AWS's"),
    Quota("hops", f"{HOPS}", "about 16", "functions, one after the other", "host", "AWS's: what runs in a circle ends"),
    Quota("flexible window", f"0 to {FLEXIBLE_SECONDS:,}", "1 to 1,440 min", "s", "host", "AWS's"),
    Quota(
        "nesting of events and results",
        str(NESTING),
        "not documented",
        "levels",
        "host and worker",
        "a parser in a thread with a small stack must not overflow it",
    ),
    Quota(
        "memory", "128 to 10,240, default 128", "the same", "MB", "watch", "AWS's; counts the sandbox and its children"
    ),
    Quota(
        "timeout",
        "0.05 to 900, default 3",
        "1 to 900, default 3",
        "s",
        "host",
        "a call in the same machine may be short; below 50 ms the clock tick of the kernel would show",
    ),
    Quota("init", f"{INIT_SECONDS:g}", "10", "s", "host", "AWS's; then it runs again inside the invocation"),
    Quota(
        "init of a snap start",
        f"{SNAP_INIT_SECONDS:g}, or timeout if that is more",
        "the same",
        "s",
        "host",
        "AWS's; what is forked from it has 10 s for its hooks",
    ),
    Quota("cpu", "none, above 0, or proportional", "memory / 1,769 MB", "vCPUs", "kernel or watch", "cgroup or weight"),
    Quota(
        "cpu_seconds", "timeout x processors + 1", "none", "s of CPU time a call", "watch", "stops what no clock stops"
    ),
    Quota(
        "ephemeral_storage",
        "512 to 10,240, default 512",
        "the same",
        "MB",
        "kernel, per file",
        "AWS's; RLIMIT_FSIZE until a file system of its own holds the sum",
    ),
    Quota("environment", f"{ENVIRONMENT_BYTES:,}", "4,096", "bytes of JSON", "declaration", "AWS's"),
    Quota("open files", f"{OPEN_FILES:,}", "1,024", "descriptors", "kernel", "AWS's"),
    Quota("processes and threads", f"{PROCESSES:,}", "1,024", "tasks", "kernel", "AWS's"),
    Quota("core dumps", "none", "10 GB", "bytes", "kernel", "a crash must not write the host's disk full"),
    Quota("concurrency", f"{CONCURRENCY:,}", "1,000", "sandboxes at work", "pool", "AWS's account default"),
    Quota(
        "sandboxes",
        f"{SANDBOXES:,}",
        "not documented",
        "live, idle ones included",
        "pool",
        "three descriptors each; the longest idle makes room",
    ),
    Quota(
        "keep_alive", f"{KEEP_ALIVE_SECONDS:g}", "not documented", "s idle", "watch", "what people observe: 5 to 15 min"
    ),
    Quota("log of a call", f"{LOG_BYTES:,}", "256 KB a line", "bytes", "worker", "enough to read, too little to hurt"),
    Quota("outcome.log", f"{LOG_TAIL_BYTES:,}", "4,096", "bytes, the last", "host", "AWS's LogType=Tail"),
    Quota(
        "window of map",
        f"{WINDOW_EVENTS} events or {WINDOW_BYTES:,} bytes",
        "none",
        "sent ahead",
        "host",
        "fits the socket's buffer, so that neither side waits for the other",
    ),
)
