"""Why a promise is missed where it is: what a profile showed, and what was tried; told beside a missed target."""

from __future__ import annotations

_WARM = (
    "the code that a call goes through must come back into the caches after a pause: hot, the host adds 1.5 µs to bare "
    "JSON; after 1 ms of sleep its part takes 12 to 28 µs, the bare loop's 4 to 11. Tried: a straight path without "
    "generators (1.40 to 1.27 × hot, 2.1 to 1.9 × at 1 ms), looks at memory moved to the watch, no named tuples on it"
)
_ASYNC = (
    "as for `invoke`; the turns of the loop that hide the wake-up at gap 0 find their code cold after a pause too. "
    "Tried: a reader that stays registered (stale entries in loops that are not ours), spinning under trio"
)
_COLD = (
    "a fork pays for each page that it is the first to write, 2 to 5 µs on this machine (filling 700 at once with "
    "MADV_POPULATE_WRITE is no cheaper), 600 to 800 of them before its first answer; see the bare fork below. "
    "Confinement adds 1 ms of namespaces and mounts; one on stand-by has that behind it. "
    "Tried: rehearsal in the zygote (an import from 460 pages to 150), no at-fork hooks about locks (200 pages), no "
    "attrs and inspect in declarations, constant environment set once, fewer modules to fork"
)
_MEMORY = (
    "CPython writes its counts of references into pages that forks share: a fork that does nothing has 0.3 to 0.9 MB "
    "of its own, the import of an empty module adds 0.6 MB. Tried: immortal objects, which nobody counts (from CPython "
    "3.12 on: 3.2 to 2.1 MB), rehearsal before the freeze (2.9 to 2.65 MB), filling holes of the allocator (0.1 MB), "
    "fewer modules"
)

EXPLANATIONS = {
    "warm `invoke` with everything": "seccomp and Landlock look at each of the four system calls of a trip",
    "warm `invoke`": _WARM,
    "warm `ainvoke`": _ASYNC,
    "cold start": _COLD,
    "private memory": _MEMORY,
    "a new sandbox for each call": _COLD,
    "1,000 live sandboxes": (
        f"{_MEMORY}. With a view of its own each has 0.2 to 0.4 MB more. Under CPython 3.13: 1.8 MB each"
    ),
    "accepted durably, from": (
        "32 threads hand the interpreter's lock to each other: the same trip with a commit that does nothing reaches "
        "33,000. Tried: ids that stand together in the index (1.04 ×), rows of many events in one statement, which "
        "lets go of the lock once (1.3 ×), one row an event until it is finished, a pause in which those who were "
        "answered come back (1.0 to 1.06 ×)"
    ),
    "spawning them": (
        "a sandbox takes 8 ms of two processors: 5 to 6 of its own (half of it Python that finds its caches empty, a "
        "third pages copied), 1 in the zygote's fork, 1.5 in the host. Tried: pid_max through a /proc of its own (a "
        "list that grew with the sandboxes), rounds over what is idle every 50 ms only, no rehearsal while somebody "
        "waits, no group of tasks where the namespace counts them: 1.5 × as many a second as without, all four. "
        f"{_COLD}"
    ),
    "HTTP GET through uvicorn, 32 clients, by": (
        "the client, the server and the sandboxes share two processors: from turn to turn 0.34 to 0.66 × in slow hours "
        "of this machine"
    ),
    "HTTP GET through uvicorn, 32 clients, p99": (
        "the same application with the handler in process has 2.8 to 5 × itself: no trip to another process fits in "
        "between. Tried: no spinning, four or eight sandboxes for the 32, giving the processor up after a send (none "
        "changed it), one epoll for all sandboxes and /proc read with the interpreter's lock held (1.16 × the requests)"
    ),
    "10,000 files": (
        "each file is an invocation of its own, as in S3, and 10,000 of those take 3.1 s of two processors without any "
        "files. Tried: one open for lease and digest, no search among those that wait (20 to 12 s), 14 sandboxes "
        "instead of 200 for short events, 32 rows a statement, short runs leased ahead and their ends noted together "
        "(8.9 to 6.7 s)"
    ),
    "first invoke": "two interpreters start one after the other, and import what both need",
    "time-out": "timers of a machine that is shared with others; on a quiet one 8.5 ms",
}


def explanation_of(promise: str) -> str:
    """Give what is known of why this promise may be missed."""
    return next((why for start, why in EXPLANATIONS.items() if promise.startswith(start)), "")
