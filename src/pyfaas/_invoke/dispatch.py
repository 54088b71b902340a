"""
The thread that runs what the store holds: an event loop of its own in which every run is a task.

    a queue is touched, or something in it is due ──► source.look() ──► claim ──► run, run, run ──► ack, or again
                                  ▲                                                                     │
                                  └─────────────────────────────────────────────────────────────────────┘

What is claimed, and what a run is, its source knows: ``attempts.py`` for what was submitted, ``_sources`` for the rest.
It starts with the first thing to do, and sleeps until something is due. What a host that died had claimed is due again
when its leases end.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import anyio
import attrs

from pyfaas._stores import changes, log, queue, submissions
from pyfaas._stores.database import Database, Ticket, Transaction
from pyfaas._stores.queue import Queue
from pyfaas._waits import run_async
from pyfaas.errors import StoreUnavailable

if TYPE_CHECKING:
    from pyfaas._pool.pool import Pool

T = TypeVar("T")

LEASE_SECONDS = 30.0
NOTICE_SECONDS = 0.010  # between two looks: our own writes are told too
POLL_SECONDS = 0.1
FORGET_SECONDS, FORGET_PAUSE_SECONDS = 600.0, 0.05  # some at a time: callers wait for the writer
STORE_SECONDS = 1.0  # before a store that failed is asked again
_log = logging.getLogger("pyfaas")


class Held(Protocol):
    """What is leased: ``queue.Leased``, or a cursor of a log."""

    def keep(self, transaction: Transaction, seconds: float) -> object:
        """Have its lease end later."""

    def give_back(self, transaction: Transaction) -> object:
        """Let others have it."""


class Source:
    """
    Something that has work now and then.

    ``tickets``: what it waits for, as those name it who ``touch``; ``due_at``: when to look, in the store's time;
    ``running``: how many of its runs have begun and not ended; ``served``: whether it is looked at; ``descriptor``:
    when it is readable, the source is to ``read`` it and be looked at; -1 without one. ``is_outside``: what it has to
    do comes from elsewhere than the store; ``is_behind``: it has seen something that is not done yet.
    """

    tickets: tuple[Ticket, ...] = ()
    due_at: float = 0.0
    running: int = 0
    served: bool = False
    keeps_leases: bool = False
    descriptor: int = -1
    is_outside: bool = False
    is_behind: bool = False

    async def look(self, runs: int) -> list[Run]:
        """Begin what is due, at most so many runs; set ``due_at``. Raises StoreUnavailable."""
        raise NotImplementedError

    def ask(self) -> int:
        """Ask for a look that misses nothing, of one that is fed from elsewhere; the number of that question."""
        raise NotImplementedError

    def is_answered(self, question: int) -> bool:
        """Tell whether such a look has begun since, and is over."""
        raise NotImplementedError

    def read(self) -> None:
        """Read the descriptor, and set ``due_at``."""
        raise NotImplementedError

    def ended(self) -> None:
        """Hear that one of its runs is over; ``due_at`` may say that there is room for others now."""

    def close(self) -> None:
        """Let go of what it holds; it is looked at no more."""

    def next_due(self, transaction: Transaction) -> float:
        """Tell when to look, as the store has it; infinity where there is nothing."""
        raise NotImplementedError

    def drop(self) -> list[Held]:
        """Let go of what was claimed and has not begun, for others to have it."""
        return []


@attrs.define(eq=False)
class Run:
    """What was claimed together: one permit, one task."""

    source: Source
    held: Held
    do: Callable[[], Awaitable[None]]


async def claim(database: Database, source: Source, job: Callable[[Transaction], list[T]]) -> list[T]:
    """Have something leased for a source, and note when it should look again. Raises StoreUnavailable."""
    source.due_at = math.inf  # what comes from here on says so

    def claim_and_ask(transaction: Transaction) -> tuple[list[T], float]:
        if not source.served:  # since just now, and whoever left it relies on that
            return [], math.inf
        return job(transaction), source.next_due(transaction)

    claimed, due_at = await run_async(database.write(claim_and_ask, durable=False))
    source.due_at = min(source.due_at, due_at)
    return claimed


def next_due(transaction: Transaction, of: Queue) -> float:
    """Tell when something of a queue may be claimed; infinity where there is nothing."""
    due_at = queue.next_due(transaction, of)
    return math.inf if due_at is None else due_at


def _give_back(transaction: Transaction, held: Iterable[Held]) -> None:
    for one in held:
        one.give_back(transaction)


def _keep(transaction: Transaction, held: Iterable[Held]) -> None:
    for one in held:
        one.keep(transaction, LEASE_SECONDS)


class Dispatch:
    """The thread of one runtime; ``others`` is called when another host may have changed something in the store."""

    def __init__(self, database: Database, pool: Pool, others: Callable[[], Awaitable[None]]) -> None:
        self._sources: list[Source] = []
        self._waiting: dict[Ticket, list[Source]] = {}
        self._database = database
        self._pool = pool
        self._others = others
        self._runs: dict[Run, asyncio.Task[None]] = {}
        self._sleeps_until = -math.inf  # as the store has it; whoever ends may have it sleep for less
        self._is_full = False  # whoever ends makes room
        self._looking = False
        self._asked: deque[Callable[[], Awaitable[None]]] = deque()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._stop_at = math.inf
        self._keep_at = 0.0
        database.on_touched = self._touched
        database.clock.when_moved(self.wake)

    # -- from other threads --------------------------------------------------------------------------------------------

    def serve(self, source: Source) -> None:
        """Run what comes from a source from now on, and what is there."""
        with self._lock:
            self._sources = [*self._sources, source]
            for ticket in source.tickets:
                self._waiting[ticket] = [*self._waiting.get(ticket, ()), source]
            source.served = True
        self.start()
        self.wake()

    def leave(self, source: Source) -> None:
        """Look at a source no more; what it has begun goes on."""
        with self._lock:
            self._sources = [one for one in self._sources if one is not source]
            for ticket in source.tickets:
                self._waiting[ticket] = [one for one in self._waiting[ticket] if one is not source]
            source.served = False
        self._in_loop(lambda: self._let_go(source))

    def beside(self, do: Callable[[], Awaitable[None]]) -> None:
        """Have something done in the loop, beside everything else; what is not done when it ends is cancelled."""
        self.start()
        self._asked.append(do)
        self.wake()

    def is_idle(self) -> bool:
        """Tell whether nothing is due, and nothing runs; asked of the loop's own thread, which must not ask."""
        told: list[bool] = []
        asked = threading.Event()

        def tell() -> None:
            now = self._database.now()
            busy = self._looking or self._runs or any(one.due_at <= now or one.is_behind for one in self._sources)
            told.append(not busy)
            asked.set()

        while self._thread is not None and self._thread.is_alive():
            self._in_loop(tell)  # which may just be starting
            if asked.wait(0.05):
                return told[0]
        return True

    def look_outside(self) -> None:
        """Wait until each source that is fed from elsewhere has looked there, beginning now."""
        asked: dict[Source, int] = {}

        def ask() -> None:
            for source in self._sources:
                if source.is_outside:
                    asked[source] = source.ask()
                    source.due_at = 0.0
            self._woken.set()
            begun.set()

        begun = threading.Event()
        while not begun.is_set() or any(one.served and not one.is_answered(number) for one, number in asked.items()):
            if self._thread is None or not self._thread.is_alive():
                return
            if not begun.is_set():
                self._in_loop(ask)  # which may just be starting
                begun.wait(0.05)
            else:
                sleep(0.001)

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
        self.wake()
        if thread is not None:
            thread.join()

    def abandon(self) -> None:
        """In a forked child of the host: the thread is the parent's."""
        self._lock = threading.Lock()
        self._stop_at = 0.0
        self._thread = self._loop = None

    def _touched(self, touched: dict[Ticket, float]) -> None:
        """
        Hear of a commit, in the writer's thread: wake the loop only where it sleeps for longer.

        What a claim will see needs no word: its source says "never" before the claim is put, so what comes later is
        told.
        """
        for ticket, due_at in touched.items():
            if any(due_at < source.due_at for source in self._waiting.get(ticket, ())):
                self._in_loop(lambda: self._note(touched))
                return

    def wake(self) -> None:
        """Have the loop look at once, from any thread."""
        self._in_loop(self._woken.set)

    def hurry(self, source: Source) -> None:
        """Have a source looked at, from any thread: what the loop's own thread is about to note must not undo that."""

        def look() -> None:
            source.due_at = 0.0
            self._woken.set()

        if self._loop is None:
            source.due_at = 0.0
        self._in_loop(look)

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
            _log.exception("what the store holds is not run any more; please report this")
        finally:
            self._loop = None

    async def _main(self) -> None:
        self._woken = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._read: set[int] = set()
        async with anyio.create_task_group() as group:
            group.start_soon(self._forget)
            if self._database.path is not None:
                group.start_soon(self._look_for_others, f"{self._database.path}-wal")
            await self._look_until_stopped(group)
            group.cancel_scope.cancel()
        for task in self._runs.values():
            task.cancel()
        await asyncio.gather(*self._runs.values(), return_exceptions=True)
        await self._give_back()
        for descriptor in self._read:
            self._loop.remove_reader(descriptor)
        for source in self._sources:
            source.close()

    def _let_go(self, source: Source) -> None:
        """Nobody waits for that: if it fails, the leases end some time."""
        if held := source.drop():
            self._database.put(partial(_give_back, held=held), durable=False)

    def _note(self, touched: dict[Ticket, float]) -> None:
        """In some places something comes due."""
        for ticket, due_at in touched.items():
            self._note_of(self._waiting.get(ticket, ()), due_at)

    def _note_of(self, sources: Iterable[Source], due_at: float) -> None:
        for source in sources:
            if due_at < source.due_at:
                source.due_at = due_at
                self._woken.set()

    async def _look_until_stopped(self, group: Any) -> None:
        while True:
            self._woken.clear()
            while self._asked:
                group.start_soon(self._asked.popleft())
            await self._keep_leases()
            now = self._database.now()
            due = [source for source in self._sources if source.due_at <= now]
            if self._stop_at < math.inf:
                if self._database.path is not None:
                    due = []  # the next host will run it
                if self._stop_at <= monotonic() or not (due or self._runs):
                    return
            for left, source in zip(range(len(due), 0, -1), sorted(due, key=lambda one: one.running), strict=True):
                if share := math.ceil(self._room() / left):  # no source takes the room of all
                    await self._look(source, share)
            self._listen()
            is_over = self._stop_at < math.inf and not self._runs  # unless more has come due meanwhile
            if not (self._woken.is_set() or is_over):
                await self._sleep()

    def _listen(self) -> None:
        """Hear of the descriptors of new sources."""
        for source in self._sources:
            if source.descriptor >= 0 and source.descriptor not in self._read:
                self._read.add(source.descriptor)
                asyncio.get_running_loop().add_reader(source.descriptor, self._hear, source)

    def _hear(self, source: Source) -> None:
        source.read()
        self._woken.set()

    def _room(self) -> int:
        return max(self._pool.ledger.account.size - len(self._runs), 0)

    async def _sleep(self) -> None:
        """Wait for the first thing due; where there is no room, for a run to end."""
        self._is_full = self._room() <= 0
        due = [] if self._is_full else [source.due_at for source in self._sources]
        due += [self._keep_at] if self._runs else []
        self._sleeps_until = min(due, default=math.inf)
        seconds = min(self._sleeps_until - self._database.now(), self._stop_at - monotonic())
        with anyio.move_on_after(max(seconds, 0.0)):
            await self._woken.wait()
        self._sleeps_until = -math.inf

    async def _look(self, source: Source, share: int) -> None:
        self._looking = True
        try:
            runs = await source.look(share)
        except StoreUnavailable as error:
            _log.warning("%s waits: %s", source, error)
            source.due_at = self._database.now() + STORE_SECONDS
            return
        except Exception:  # noqa: BLE001 - others go on
            _log.exception("%s waits; please report this", source)
            source.due_at = self._database.now() + STORE_SECONDS
            return
        finally:
            self._looking = False
        if not source.served:  # it was left in the middle of that
            self._let_go(source)
        if runs and not self._runs:
            self._keep_at = self._database.now() + LEASE_SECONDS / 3
        for run in runs:
            source.running += 1
            self._runs[run] = asyncio.create_task(self._do(run))  # a group's tasks take ten times as long to begin

    async def _do(self, run: Run) -> None:
        """Do one run. What is cancelled stays held, to be given back."""
        try:
            await run.do()
        except StoreUnavailable as error:
            _log.warning("%s: an event will be run again: %s", run.source, error)
        except Exception:  # noqa: BLE001 - others go on
            _log.exception("%s: an event will be run again; please report this", run.source)
        del self._runs[run]
        run.source.running -= 1
        run.source.ended()
        if self._is_full or self._stop_at < math.inf or run.source.due_at < self._sleeps_until:
            self._woken.set()

    # -- beside them ---------------------------------------------------------------------------------------------------

    async def _keep_leases(self) -> None:
        """
        Keep what runs from being due for others, a while before it would be.

        Before anything is claimed: a machine that was asleep must not claim again what it still runs.
        """
        if self._runs and self._database.now() >= self._keep_at:
            self._keep_at = self._database.now() + LEASE_SECONDS / 3
            await self._with_all([run.held for run in self._runs if run.source.keeps_leases], _keep)

    async def _give_back(self) -> None:
        """Let others have, at once, what was claimed and not finished."""
        held = [run.held for run in self._runs]
        await self._with_all([*held, *(one for source in self._sources for one in source.drop())], _give_back)
        self._runs.clear()

    async def _with_all(self, held: list[Held], do: Callable[[Transaction, Iterable[Held]], None]) -> None:
        if held:
            with contextlib.suppress(StoreUnavailable):  # then they are run twice
                await run_async(self._database.write(lambda one: do(one, held), durable=False))

    def _news(self, transaction: Transaction, *, version: int | None) -> tuple[int, list[tuple[Source, float]]]:
        """Tell whether another host has written, and if so, when something is due for our sources."""
        found = transaction.version()
        sources = self._sources if found != version else []
        return found, [(source, source.next_due(transaction)) for source in sources]

    async def _look_for_others(self, log: str) -> None:
        """Notice what other hosts put into the store, or finished: at once where the kernel tells of it."""
        written = asyncio.Event()
        watch = changes.watch(log)
        loop = asyncio.get_running_loop()

        def seen() -> None:
            if watch is not None:
                loop.remove_reader(watch.fileno())  # for a while: our own writes are told too
            written.set()

        version = None
        try:
            while True:
                with contextlib.suppress(StoreUnavailable):
                    found, due = await run_async(
                        self._database.write(partial(self._news, version=version), durable=False)
                    )
                    if found != version:
                        version = found
                        for source, due_at in due:
                            self._note_of([source], due_at)
                        await self._others()
                if watch is None:
                    await anyio.sleep(POLL_SECONDS)
                    continue
                await anyio.sleep(NOTICE_SECONDS)
                loop.add_reader(watch.fileno(), seen)
                await written.wait()
                written.clear()
                watch.drain()
        finally:
            if watch is not None:
                loop.remove_reader(watch.fileno())
                watch.close()

    async def _forget(self) -> None:
        """Forget what came of submissions some days ago, and what no log is to keep any more."""
        while True:
            forgotten = 0
            with contextlib.suppress(StoreUnavailable):
                forgotten = await run_async(self._database.write(submissions.forget, durable=False))
                trimmed, late = await run_async(self._database.write(log.trim, durable=False))
                forgotten += trimmed
                for target in late:
                    _log.warning("%s had not read all that a stream's retention was over for", target)
            await anyio.sleep(FORGET_SECONDS if not forgotten else FORGET_PAUSE_SECONDS)
