"""
One invocation, from payload to end: take a sandbox, exchange, give it back. Written once for both worlds.

    run(pool, shelf, payload) ──► Ending(payload, error, facts)

Any end of the exchange but an accepted answer (an exception, cancellation, Ctrl-C, close) kills the sandbox and gives
the permit back. Bytes that were never delivered are sent to another sandbox unseen; whatever may have started is never
repeated.
"""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import TypeAlias

from pyfaas import limits
from pyfaas._invoke import verdicts
from pyfaas._invoke.ending import Ending
from pyfaas._invoke.ids import new_id
from pyfaas._payload import decode_result
from pyfaas._pool.policy import Shelf
from pyfaas._pool.pool import Pool
from pyfaas._records import Facts
from pyfaas._sandbox import protocol
from pyfaas._sandbox.control import UNKNOWN
from pyfaas._sandbox.parent import ZygoteDied
from pyfaas._sandbox.protocol import Answer
from pyfaas._sandbox.sandbox import Heard, Lost, Sandbox
from pyfaas._waits import Trip, run_blocking
from pyfaas.errors import FunctionError, HostError, PyfaasError

FRESH_TRIES = 3

# A sandbox that was taken for a call, its id, and what was heard so far.
Begun: TypeAlias = "tuple[Sandbox | None, bytes, Heard | None]"


def invoke(pool: Pool, shelf: Shelf, payload: bytes) -> object:
    """
    Run one invocation for a blocking caller who wants the value and nothing else. Raises its FunctionError.

    A warm call goes straight through; whatever comes to no plain end goes on in ``run``.
    """
    raw_id = new_id()
    heard: Heard | None = None
    try:
        sandbox = pool.take(shelf, raw_id)
        if sandbox is not None and sandbox.peer.phase is protocol.OPEN and len(payload) < protocol.BULK_BYTES:
            try:
                heard = sandbox.converse(payload, raw_id)
                value = _plain_value(heard)
            except BaseException:
                pool.discard(sandbox)
                raise
            if value is not _NOT_PLAIN and sandbox.log_at <= limits.LOG_BYTES:
                sandbox.log_at = heard.log_end  # type: ignore[union-attr]
                pool.give_back(sandbox, monotonic())
                return value
        ending = run_blocking(run(pool, shelf, payload, bare=True, begun=(sandbox, raw_id, heard)))
    except PyfaasError:
        raise
    except BaseException:  # an interrupt strikes anywhere, also between taking a sandbox and minding it
        pool.mend(raw_id)
        raise
    if ending.error is not None:
        raise ending.error
    return ending.value


_NOT_PLAIN = object()


def _plain_value(heard: Heard) -> object:
    if type(heard) is Answer and heard.kind == protocol.VALUE:
        try:
            return decode_result(heard.payload)
        except ValueError:
            pass
    return _NOT_PLAIN


def run(
    pool: Pool,
    shelf: Shelf,
    payload: bytes,
    *,
    bare: bool,
    begun: Begun | None = None,
    hops: int = 0,
    patient: bool = True,
) -> Trip[Ending]:
    """
    Run one invocation; where the function is idempotent, unless it has been.

    ``bare``: the caller wants the value and nothing else; without, it gets the facts as well. ``begun``: a sandbox that
    was taken for it, its id, and what was heard so far. ``hops``: how many functions one after the other led to it.
    ``patient``: whether it may wait for a permit, where the runtime lets calls wait.
    """
    if shelf.idempotent and pool.once is not None:
        begun = begun or (None, new_id(), None)
        go = partial(_run, pool, shelf, payload, bare=False, begun=begun, hops=hops, patient=patient)
        return pool.once(shelf, payload, begun[1], go)  # type: ignore[no-any-return]
    return _run(pool, shelf, payload, bare=bare, begun=begun, hops=hops, patient=patient)


def _run(
    pool: Pool, shelf: Shelf, payload: bytes, *, bare: bool, begun: Begun | None, hops: int, patient: bool
) -> Trip[Ending]:
    sandbox, raw_id, heard = begun or (None, new_id(), None)
    began_at = 0.0
    suppressed = False
    fresh_tries = 0
    serve = None
    if pool.calls_back is not None and shelf.function.options.allow:
        serve = partial(pool.calls_back.serve, raw_id=raw_id, hops=hops)
    try:
        while True:
            sandbox = sandbox or pool.take(shelf, raw_id)
            if sandbox is None:
                began_at = began_at or monotonic()
                sandbox = yield from pool.obtain(shelf, raw_id, suppressed=suppressed, patient=patient)
            try:
                answer = yield from sandbox.exchange(payload, raw_id, heard, serve)
            except Lost as lost:
                failed, sandbox, heard = sandbox, None, None
                shelf = failed.shelf
                if lost.why == "undelivered" and (failed.calls or fresh_tries < FRESH_TRIES):
                    fresh_tries += not failed.calls
                    pool.discard(failed)
                    continue
                if _init_was_late(failed, lost) and not suppressed:
                    suppressed = True  # AWS: init runs again, inside the invocation and under its time-out
                    pool.discard(failed)
                    continue
                ending = yield from _mourn(pool, failed, lost, raw_id, began_at)
                if ending is None and fresh_tries < FRESH_TRIES:
                    fresh_tries += 1
                    continue
                if ending is None:
                    raise HostError("sandboxes die before they say hello; is this host out of processes?") from None
                return ending
            except BaseException:
                pool.discard(sandbox)
                raise
            return _accept(pool, sandbox, answer, raw_id, began_at, bare)
    except PyfaasError:
        raise
    except BaseException:  # an interrupt strikes anywhere, also between taking a sandbox and minding it
        pool.mend(raw_id)
        raise


def _accept(pool: Pool, sandbox: Sandbox, answer: Answer, raw_id: bytes, began_at: float, bare: bool) -> Ending:
    """An answer came; give the sandbox back unless the answer itself is a breach."""
    ending = read_answer(sandbox, answer, raw_id, began_at, bare=bare)
    if sandbox.log_at > limits.LOG_BYTES:
        sandbox.tidy_log()
    pool.give_back(sandbox, monotonic())
    if sandbox.calls == 1:
        pool.supply.want_spare(sandbox)
    return ending


def read_answer(sandbox: Sandbox, answer: Answer, raw_id: bytes, began_at: float, *, bare: bool) -> Ending:
    """Make an ending of an answer. One that no honest worker sends marks the sandbox as forged."""
    value: object = None
    payload = b""
    error: FunctionError | None = None
    try:
        if answer.kind == protocol.VALUE:
            value = decode_result(answer.payload)
            payload = b"" if bare else bytes(answer.payload)
        else:
            error = verdicts.told_by_worker(answer.payload, raw_id)
    except ValueError as breach:
        error = verdicts.not_json(breach, raw_id)
        sandbox.verdict = "forged"
    facts = None
    if bare and error is None:
        sandbox.log_at = answer.log_end
    else:
        facts = _facts(sandbox, answer, raw_id, began_at, monotonic())
    if error is not None:
        sandbox.shelf.counts.errors += 1
    return Ending(value, payload, error, facts)


def _facts(sandbox: Sandbox, answer: Answer, raw_id: bytes, began_at: float, now: float) -> Facts:
    """Gather what was measured; the worker's own times are cut to what the host saw pass."""
    elapsed = now - sandbox.started_at
    duration = answer.duration if 0.0 <= answer.duration <= elapsed else elapsed
    facts = start_facts(sandbox, raw_id, began_at)
    facts.duration = duration
    facts.log = sandbox.take_log(answer.log_end)
    if not sandbox.max_memory:
        sandbox.measure(now)
    facts.max_memory_bytes = sandbox.max_memory
    return facts


def start_facts(sandbox: Sandbox, raw_id: bytes, began_at: float) -> Facts:
    """Gather what is known before the end."""
    options = sandbox.shelf.function.options
    facts = Facts(raw_id, options.name, options.memory)
    if sandbox.calls == 0 and sandbox.init_seconds is not None and not sandbox.provisioned:
        facts.cold = True
        if sandbox.zygote.untrusted:
            facts.restore = sandbox.init_seconds
        elif not sandbox.suppressed:
            facts.init = sandbox.init_seconds
    if began_at:
        facts.queued = max(sandbox.started_at - began_at, 0.0)
    return facts


def _init_was_late(sandbox: Sandbox, lost: Lost) -> bool:
    late = lost.why == "late" or sandbox.verdict == "late"
    return late and sandbox.peer.phase is not protocol.OPEN and not (sandbox.suppressed or sandbox.failed)


def _mourn(pool: Pool, sandbox: Sandbox, lost: Lost, raw_id: bytes, began_at: float) -> Trip[Ending | None]:
    """Find out why there is no answer. None: it never lived (its fork was lost with the zygote); ask for another."""
    ended_at = monotonic()
    try:
        ending = yield from ending_of(pool, sandbox, lost)
        if ending[0] == UNKNOWN and sandbox.peer.phase is protocol.BLANK and not sandbox.verdict:
            return None
        return mourned(pool, sandbox, lost, ending, raw_id, began_at, ended_at)
    finally:
        pool.discard(sandbox)


def mourned(
    pool: Pool, sandbox: Sandbox, lost: Lost, how: tuple[int, int], raw_id: bytes, began_at: float, ended_at: float = 0
) -> Ending:
    """Make the ending of an invocation whose sandbox is gone. Raises HostError where the host is at fault."""
    error = verdicts.explain(sandbox, sandbox.shelf, lost, how, raw_id)
    if not isinstance(error, FunctionError):
        raise error
    facts = start_facts(sandbox, raw_id, began_at)
    facts.cold = sandbox.calls == 0
    facts.duration = (ended_at or monotonic()) - sandbox.started_at
    facts.log = sandbox.take_log(None)
    facts.max_memory_bytes = sandbox.max_memory
    if sandbox.verdict == "memory":
        facts.max_memory_bytes = max(facts.max_memory_bytes, sandbox.limit_bytes)
    pool.count(sandbox.shelf, 1)
    pool.note_time(sandbox.shelf, facts.duration)
    count_failure(sandbox.shelf, error)
    return Ending(None, b"", error, facts)


def count_failure(shelf: Shelf, error: FunctionError) -> None:
    """Count an invocation that ended with its sandbox."""
    shelf.counts.errors += 1
    if error.error_type == "Sandbox.Timedout":
        shelf.counts.timeouts += 1


def ending_of(pool: Pool, sandbox: Sandbox, lost: Lost) -> Trip[tuple[int, int]]:
    """Make sure that it is gone, and hear how it ended."""
    if lost.why != "gone":
        # Nothing may come before the kill: to measure a fork bomb takes longer than to let it run.
        sandbox.verdict = sandbox.verdict or lost.why
    try:
        ending = yield from sandbox.end()
        if sandbox.group is not None and not sandbox.verdict and sandbox.group.oom_killed():
            sandbox.verdict = "memory"
        return ending
    except ZygoteDied:
        pool.zygote_died(sandbox.zygote)
        return UNKNOWN, 0
