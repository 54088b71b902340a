"""
The thread that runs what was accepted: an event loop of its own in which every attempt is a task.

    a queue is touched, or something in it is due ──► claim ──► attempt ──┬──► finish: done, or failed in the end
                                                        ▲                 │
                                                        └──── again ◄─────┘   (when: retries.py)

It starts with the first submission, or when a store is opened that holds some, and sleeps until something is due. What
it has claimed it keeps leased while it lives; what a host that died had claimed is due again when its leases end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio
import attrs

from pyfaas._invoke import retries
from pyfaas._invoke.direct import Ending, run
from pyfaas._invoke.retries import Again, Over
from pyfaas._records import tell_of
from pyfaas._stores import changes, queue, submissions
from pyfaas._stores.database import Database, Transaction
from pyfaas._stores.queue import Message, Queue
from pyfaas._waits import run_async
from pyfaas.errors import PyfaasError, StoreUnavailable
from pyfaas.functions import Function

if TYPE_CHECKING:
    from pyfaas._pool.policy import Shelf
    from pyfaas._pool.pool import Pool

LEASE_SECONDS = 30.0
CLAIMED_AT_ONCE = 100
NOTICE_SECONDS = 0.010  # between two looks: our own writes are told too
POLL_SECONDS = 0.1
FORGET_SECONDS, FORGET_PAUSE_SECONDS = 600.0, 0.05  # some at a time: callers wait for the writer
STORE_SECONDS = 1.0  # before a store that failed is asked again
_KEEP_ALL = queue.Rules(retention=math.inf)
_log = logging.getLogger("pyfaas")


@attrs.define(eq=False)
class Served:
    """A function whose queue is served here; ``due_at``: when there may be something to claim."""

    function: Function[Any, Any]
    queue: Queue
    due_at: float = 0.0


class Dispatch:
    """
    The thread of one runtime.

    ``finished`` is called with the request id of what came to its end; with None, where another host may have ended
    something.
    """

    def __init__(
        self,
        database: Database,
        pool: Pool,
        shelf_of: Callable[[Any, str | None], Shelf],
        finished: Callable[[bytes | None], None],
    ) -> None:
        self.served: dict[str, Served] = {}
        self._by_queue: dict[int, Served] = {}
        self._database = database
        self._pool = pool
        self._shelf_of = shelf_of
        self._finished = finished
        self._held: dict[int, tuple[Served, Message]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._stop_at = math.inf
        self._keep_at = 0.0
        database.on_touched = self._touched
        database.clock.when_moved(self._wake)

    # -- from other threads --------------------------------------------------------------------------------------------

    def serve(self, served: Served) -> Served:
        """Run what comes for a function, and what is there."""
        with self._lock:
            self.served[served.function.name] = served
            self._by_queue[served.queue.id] = served
        self.start()
        self._wake()
        return served

    def start(self) -> None:
        """Start the thread, if it does not run."""
        with self._lock:
            if self._thread is None and self._stop_at == math.inf:
                self._thread = threading.Thread(target=self._live, name="pyfaas-dispatch", daemon=True)
                self._thread.start()

    def stop(self, drain: float) -> None:
        """Go on with what is due for up to ``drain`` seconds, then give the rest back and end."""
        with self._lock:
            self._stop_at = monotonic() + drain
            thread = self._thread
        self._wake()
        if thread is not None:
            thread.join()

    def abandon(self) -> None:
        """In a forked child of the host: the thread is the parent's."""
        self._lock = threading.Lock()
        self._stop_at = 0.0
        self._thread = self._loop = None

    def _touched(self, queues: dict[int, float]) -> None:
        """
        Hear of a commit, in the writer's thread: wake the loop only where it sleeps for longer.

        What a claim will see needs no word: its queue says "never" before the claim is put, so what comes later is
        told.
        """
        for queue_id, due_at in queues.items():
            served = self._by_queue.get(queue_id)
            if served is not None and due_at < served.due_at:
                self._in_loop(lambda: self._note(queues))
                return

    def _wake(self) -> None:
        self._in_loop(self._woken.set)

    def _in_loop(self, do: Callable[[], None]) -> None:
        """Have something done by the loop's own thread; what came before it runs is seen when it begins."""
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it has just ended
                loop.call_soon_threadsafe(do)

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        try:
            asyncio.run(self._main())
        except Exception:  # noqa: BLE001 - nobody else would tell
            _log.exception("what was submitted is not run any more; please report this")
        finally:
            self._loop = None

    async def _main(self) -> None:
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        async with anyio.create_task_group() as group:
            group.start_soon(self._forget)
            if self._database.path is not None:
                group.start_soon(self._look_for_others, f"{self._database.path}-wal")
            await self._claim_until_stopped(group)
            group.cancel_scope.cancel()
        await self._give_back()

    def _note(self, queues: dict[int, float]) -> None:
        """In some queues something comes due."""
        for queue_id, due_at in queues.items():
            served = self._by_queue.get(queue_id)
            if served is not None and due_at < served.due_at:
                served.due_at = due_at
                self._woken.set()

    async def _claim_until_stopped(self, group: Any) -> None:
        while True:
            self._woken.clear()
            await self._keep_leases()
            now = self._database.now()
            due = [served for served in tuple(self.served.values()) if served.due_at <= now]
            if self._stop_at < math.inf:
                if self._database.path is not None:
                    due = []  # the next host will run it
                if self._stop_at <= monotonic() or not (due or self._held):
                    return
            for left, served in zip(range(len(due), 0, -1), sorted(due, key=self._held_of), strict=True):
                if share := math.ceil(self._room() / left):  # no function takes the room of all
                    await self._claim(served, share, group)
            if not self._woken.is_set():
                await self._sleep()

    def _room(self) -> int:
        return max(self._pool.ledger.account.size - len(self._held), 0)

    def _held_of(self, served: Served) -> int:
        return sum(one is served for one, _ in self._held.values())

    async def _sleep(self) -> None:
        """Wait for the first thing due; where there is no room, for an attempt to end."""
        due = [served.due_at for served in tuple(self.served.values())] if self._room() > 0 else []
        due += [self._keep_at] if self._held else []
        seconds = min(min(due, default=math.inf) - self._database.now(), self._stop_at - monotonic())
        with anyio.move_on_after(max(seconds, 0.0)):
            await self._woken.wait()

    async def _claim(self, served: Served, share: int, group: Any) -> None:
        """Lease what is due, as much as there is room for, and begin with it."""
        of, room = served.queue, min(share, CLAIMED_AT_ONCE)
        served.due_at = math.inf  # what comes from here on says so

        def job(transaction: Transaction) -> tuple[list[Message], float]:
            claimed = queue.claim(transaction, of, room, LEASE_SECONDS, _KEEP_ALL).messages
            due_at = queue.next_due(transaction, of)
            return claimed, math.inf if due_at is None else due_at

        try:
            messages, due_at = await run_async(self._database.write(job, durable=False))
        except StoreUnavailable as error:
            _log.warning("what was submitted to %r waits: %s", served.function.name, error)
            messages, due_at = [], self._database.now() + STORE_SECONDS
        served.due_at = min(served.due_at, due_at)
        if messages and not self._held:
            self._keep_at = self._database.now() + LEASE_SECONDS / 3
        for message in messages:
            self._held[message.id] = (served, message)
            group.start_soon(self._attempt, served, message)

    # -- one attempt ---------------------------------------------------------------------------------------------------

    async def _attempt(self, served: Served, message: Message) -> None:
        """Run an event once, and note what came of it. What is cancelled stays held, to be given back."""
        try:
            await self._try(served, message)
        except StoreUnavailable as error:
            _log.warning("an event of %r will be run again: %s", served.function.name, error)
        except Exception:  # noqa: BLE001 - others go on
            _log.exception("an event of %r will be run again; please report this", served.function.name)
        if self._held.get(message.id) == (served, message):  # else it came again, for its lease had run out
            del self._held[message.id]
        self._woken.set()

    async def _try(self, served: Served, message: Message) -> None:
        options, noted = served.function.options, message.attributes
        over = retries.before(self._age(message), options.max_event_age, options.reserved_concurrency)
        if over is not None:
            await self._finish(served, message, submissions.FAILED, error={**noted.get("error", {}), **over._asdict()})
            return
        decided: Again | Over
        try:
            ending = await self._run(served, message)
        except PyfaasError as error:  # refused: there is no permit, or this machine cannot
            refusals = noted.get("refusals", 0) + 1
            decided = retries.after_refusal(refusals, self._age(message), options.max_event_age)
            await self._go_on(served, message, decided, error, {**noted, "refusals": refusals})
            return
        noted = {**noted, "attempts": noted.get("attempts", 0) + 1, "refusals": 0}
        message = message._replace(attributes=noted)
        if ending.error is None:
            await self._finish(served, message, submissions.DONE, value=ending.payload)
            return
        decided = retries.after_failure(noted["attempts"], options.retries, self._age(message), options.max_event_age)
        await self._go_on(served, message, decided, ending.error, noted)

    def _age(self, message: Message) -> float:
        """Tell for how long it could have been run."""
        return self._database.now() - message.sent_at - float(message.attributes.get("delay", 0.0))

    async def _run(self, served: Served, message: Message) -> Ending:
        noted = message.attributes
        shelf = self._shelf_of(served.function, noted.get("tenant"))
        begun = (None, bytes.fromhex(noted["id"]), None)
        return await run_async(run(self._pool, shelf, message.body, bare=False, begun=begun))

    async def _go_on(
        self, served: Served, message: Message, decided: Again | Over, error: PyfaasError, noted: dict[str, Any]
    ) -> None:
        told = tell_of(error)
        message = message._replace(attributes=noted)
        if isinstance(decided, Over):
            await self._finish(served, message, submissions.FAILED, error={**told, **decided._asdict()})
            return
        noted = {**noted, "error": told}
        await run_async(
            self._database.write(lambda one: queue.again(one, message, noted, decided.delay), durable=False)
        )
        served.due_at = min(served.due_at, self._database.now() + decided.delay)

    async def _finish(
        self, served: Served, message: Message, state: str, *, value: bytes | None = None, error: Any = None
    ) -> None:
        attempts = message.attributes.get("attempts", 0)
        finished = await run_async(
            self._database.write(
                lambda one: submissions.finish(one, served.queue, message, state, attempts, value, error), durable=False
            )
        )
        if finished:
            self._finished(bytes.fromhex(message.attributes["id"]))

    # -- beside them ---------------------------------------------------------------------------------------------------

    async def _keep_leases(self) -> None:
        """
        Keep what is held from being due for others, a while before it would be.

        Before anything is claimed: a machine that was asleep must not claim again what it still runs.
        """
        if self._held and self._database.now() >= self._keep_at:
            self._keep_at = self._database.now() + LEASE_SECONDS / 3
            await self._with_held(lambda one, of, messages: queue.extend(one, of, messages, LEASE_SECONDS))

    async def _give_back(self) -> None:
        """Let others have, at once, what is held and was not finished."""
        await self._with_held(queue.put_back)
        self._held.clear()

    async def _with_held(self, do: Callable[[Transaction, Queue, list[Message]], object]) -> None:
        of: dict[Queue, list[Message]] = {}
        for served, message in self._held.values():
            of.setdefault(served.queue, []).append(message)
        if of:
            with contextlib.suppress(StoreUnavailable):  # then they are run twice
                job = self._database.write(lambda one: [do(one, *each) for each in of.items()], durable=False)
                await run_async(job)

    async def _look_for_others(self, log: str) -> None:
        """Notice what other hosts put into the store, or finished: at once where the kernel tells of it."""
        written = asyncio.Event()
        descriptor = changes.watch(log)
        loop = asyncio.get_running_loop()

        def seen() -> None:
            loop.remove_reader(descriptor)  # for a while: our own writes are told too
            written.set()

        version = None
        try:
            while True:
                with contextlib.suppress(StoreUnavailable):
                    found = await run_async(self._database.write(lambda one: one.version(), durable=False))
                    if found != version:
                        version = found
                        self._note(dict.fromkeys(self._by_queue, 0.0))
                        self._finished(None)
                if descriptor < 0:
                    await anyio.sleep(POLL_SECONDS)
                    continue
                await anyio.sleep(NOTICE_SECONDS)
                loop.add_reader(descriptor, seen)
                await written.wait()
                written.clear()
                changes.drain(descriptor)
        finally:
            if descriptor >= 0:
                loop.remove_reader(descriptor)
                os.close(descriptor)

    async def _forget(self) -> None:
        """Forget what came of submissions some days ago."""
        while True:
            forgotten = 0
            with contextlib.suppress(StoreUnavailable):
                forgotten = await run_async(self._database.write(submissions.forget, durable=False))
            await anyio.sleep(FORGET_SECONDS if not forgotten else FORGET_PAUSE_SECONDS)
