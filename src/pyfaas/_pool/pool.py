"""
The pool: carries out what the ledger decides, under one lock, and owns every sandbox of a runtime.

    take(shelf) ──► an idle sandbox          the fast path, in the caller's own thread or task
    obtain(shelf) ──► one, after a wait or a spawn                (a generator of waits)
    give_back(sandbox) / discard(sandbox)    the end of every call, whatever its end

The caller makes its own sandbox and waits for it itself; the pool has no thread but the watch.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import Any

from pyfaas import limits
from pyfaas._pool.keepalive import KeepAlive
from pyfaas._pool.policy import Assign, Call, Grant, Ledger, Shelf, Spawn, Wait
from pyfaas._pool.rounds import Rounds
from pyfaas._pool.statistics import FunctionStatistics, RuntimeStatistics, count
from pyfaas._pool.supply import Supply
from pyfaas._pool.templates import FAILED, Templates
from pyfaas._pool.watch import Watch
from pyfaas._sandbox.packing import SNAP_START, Job, pack_handler
from pyfaas._sandbox.parent import Zygote
from pyfaas._sandbox.protocol import OPEN
from pyfaas._sandbox.sandbox import Lost, Sandbox
from pyfaas._sandbox.template import Template
from pyfaas._waits import Trip, Turn
from pyfaas.errors import ConfigurationError, InvokeError, Throttled
from pyfaas.functions import Function

TIMINGS = 100_000

pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """All sandboxes of one runtime."""

    def __init__(self, *, concurrency: int, when_full: str, keep_alive: KeepAlive, confinement: str) -> None:
        self.ledger = Ledger(concurrency, limits.SANDBOXES, keep_alive)
        self.concurrency = concurrency
        self.calls = 0
        self.closed = False
        self.inherited_from = 0  # the pid of the parent, in a forked child
        self.evicted = self.died = 0
        self.running: set[Sandbox] = set()
        self._making: dict[object, Shelf] = {}  # owners with a permit and no sandbox yet
        self._callers: dict[Turn, tuple[object, Shelf]] = {}  # owners that may have to wait
        self.provisioning: set[Function[Any, Any]] = set()  # somebody waits for them, and will tell what goes wrong
        self._wait_when_full = when_full == "wait"
        self.calls_back: Any = None  # serves what sandboxes ask for
        self.once: Any = None  # runs the events of idempotent functions
        self.timed: list[tuple[str | None, deque[float]]] = []  # of whom it is noted how long each call takes
        self.lock = threading.Lock()
        self.templates = Templates(self, strict=confinement == "strict")
        self.supply = Supply(confinement, self.check_open, self._wake_watch, self._drop_idle_of)
        self._idle_again = threading.Condition(self.lock)
        self.watch: Watch | None = None
        pools.add(self)

    # -- functions -----------------------------------------------------------------------------------------------------

    def shelf_of(self, function: Function[Any, Any], tenant: str | None = None) -> Shelf:
        """Find or open the shelf of a function or of its tenant. Raises ConfigurationError: too much is reserved."""
        shelf = self._home_of(function)
        if tenant is None:
            return shelf
        with self.lock:
            return self.ledger.of_tenant(shelf, tenant)

    def _home_of(self, function: Function[Any, Any]) -> Shelf:
        key = (function, None) if function.options.tenant_isolated else function
        shelf = self.ledger.shelves.get(key)
        if shelf is not None and not shelf.retired:
            return shelf
        handler = pack_handler(function)
        replaced: list[Any] = []
        with self.lock:
            shelf = self.ledger.shelves.get(key)
            if shelf is not None and not shelf.retired:
                return shelf
            for other in list(self.ledger.shelves.values()):
                if _replaces(function, other.function):
                    replaced += self.ledger.retire(other)
            options = function.options
            shelf = self.ledger.add(
                function,
                options.reserved_concurrency,
                options.provisioned_concurrency,
                isolated=options.tenant_isolated,
            )
            self.hand_out(self.ledger.spare())
            if shelf is None:
                raise ConfigurationError(
                    f"reserved_concurrency={options.reserved_concurrency} of {function.name!r}: the runtime has only "
                    f"{self.ledger.account.size} permits that are not reserved"
                )
            shelf.handler = handler
            shelf.most_calls = 1 if options.fresh else options.max_invocations
            shelf.idempotent = options.idempotency is not None
        self.evict(replaced)
        if options.provisioned_concurrency:
            self._watch().look_at_idle()
        if function.is_async:
            self.supply.preload("asyncio")
        if handler[0] == "value":
            self.supply.preload("cloudpickle")
        return shelf

    # -- the fast path -------------------------------------------------------------------------------------------------

    def take(self, shelf: Shelf, owner: object) -> Sandbox | None:
        """Give an idle sandbox of this function, if there is one and a permit is free."""
        with self.lock:
            sandbox: Sandbox | None = self.ledger.take(shelf)
            if sandbox is None:
                return None
            sandbox.owner = owner
            sandbox.begin()  # before the watch can see it
            sandbox.taken_at = sandbox.started_at
            self.running.add(sandbox)
            self.calls += 1
        watch = self.watch
        if watch is not None and watch.parked:
            watch.wake()
        return sandbox

    def give_back(self, sandbox: Sandbox, now: float, *, timed: bool = True) -> None:
        """A sandbox answered and may serve again; the watch will look at its memory."""
        sandbox.calls += 1
        shelf: Shelf = sandbox.shelf
        most = shelf.most_calls
        with self.lock:
            self.running.discard(sandbox)
            if not (sandbox.verdict or sandbox.dying or shelf.retired or self.closed) and (
                most is None or sandbox.calls < most
            ):
                sandbox.idle_since = now
                sandbox.owner = None
                if self.ledger.learns and sandbox.calls:
                    self.ledger.learn(shelf, sandbox, now)
                if self.timed and timed:
                    self.note_time(shelf, now - sandbox.started_at)
                grants = self.ledger.give_back(shelf, sandbox)
                if grants:
                    self.hand_out(grants)
                if self.closed:
                    self._idle_again.notify_all()
                return
            self.running.add(sandbox)
            shelf.counts.invocations += 1
        self.discard(sandbox, died=bool(sandbox.verdict))

    def time_calls(self, name: str | None) -> deque[float]:
        """Have each call of a function timed from now on, in seconds; with None those of all."""
        timings: deque[float] = deque(maxlen=TIMINGS)
        with self.lock:
            self.timed = [*self.timed, (name, timings)]
        return timings

    def time_no_more(self, timings: deque[float]) -> None:
        """Let that be."""
        with self.lock:
            self.timed = [one for one in self.timed if one[1] is not timings]

    def note_time(self, shelf: Shelf, seconds: float) -> None:
        """Note how long a call took for those who want to know."""
        for name, timings in self.timed:
            if name is None or name == shelf.function.name:
                timings.append(seconds)

    def return_lane(self, sandbox: Sandbox) -> None:
        """A stream has no more work for a sandbox; its calls are counted already."""
        sandbox.calls -= 1
        sandbox.shelf.counts.invocations -= 1
        self.give_back(sandbox, monotonic(), timed=False)

    def count(self, shelf: Shelf, invocations: int) -> None:
        """Count invocations that ended otherwise than by ``give_back``."""
        with self.lock:
            shelf.counts.invocations += invocations
            self.calls += invocations

    # -- the slow path -------------------------------------------------------------------------------------------------

    def obtain(self, shelf: Shelf, owner: object, *, suppressed: bool = False, patient: bool = True) -> Trip[Sandbox]:
        """
        Find a permit and a sandbox, waiting for the one and making the other where it must be.

        ``patient=False``: for a call that must not wait for a permit, wherever others do.
        """
        turn = Turn()
        try:
            return (yield from self._obtain(turn, shelf, owner, suppressed=suppressed, patient=patient))
        finally:
            self._callers.pop(turn, None)

    def _obtain(self, turn: Turn, shelf: Shelf, owner: object, *, suppressed: bool, patient: bool) -> Trip[Sandbox]:
        # Nobody will ever free a permit where there is none.
        may_wait = self._wait_when_full and patient and shelf.budget.size > 0
        with self.lock:
            self.check_open()
            shelf = self.ledger.current(shelf)
            self._callers[turn] = (owner, shelf)
            action = self.ledger.request(shelf, turn)
            if isinstance(action, (Assign, Spawn)):
                del self._callers[turn]
                self._hand_over(action, owner, shelf)
            elif not may_wait:
                del self._callers[turn]
                self.ledger.cancel(turn, shelf.budget)
                shelf.counts.throttles += 1
        if isinstance(action, Wait):
            if not may_wait:
                raise _throttled(shelf, action.reason)
            action = yield from self._wait_for(turn, shelf, owner)
        watch = self._watch()
        if isinstance(action, Assign):
            if watch.parked:
                watch.wake()
            action.sandbox.begin()
            action.sandbox.taken_at = action.sandbox.started_at
            self.calls += 1
            return action.sandbox  # type: ignore[no-any-return]
        self.evict(action.evict)
        self.calls += 1
        try:
            if shelf.function.options.snap_start:
                return (yield from self.templates.spawn(shelf, owner, suppressed=suppressed))
            return self.spawn(shelf, owner, suppressed=suppressed)
        except BaseException:
            with self.lock:
                if self._making.pop(owner, None) is not None:
                    self.hand_out(self.ledger.lost(shelf))
            raise

    def _wait_for(self, turn: Turn, shelf: Shelf, owner: object) -> Trip[Assign | Spawn]:
        try:
            granted = yield turn
        except BaseException:
            with self.lock:
                if not self.ledger.cancel(turn, shelf.budget) and turn.granted is not None:
                    self._return_grant(shelf, turn.granted, owner)
            raise
        if isinstance(granted, BaseException):
            raise granted
        return granted  # type: ignore[no-any-return]

    def _return_grant(self, shelf: Shelf, granted: Any, owner: object) -> None:
        """The turn came to a call that had just given up."""
        if isinstance(granted, Assign):
            self.running.discard(granted.sandbox)
            granted.sandbox.owner = None
            self.hand_out(self.ledger.give_back(shelf, granted.sandbox))
        elif isinstance(granted, Spawn) and self._making.pop(owner, None) is not None:
            self.hand_out(self.ledger.lost(shelf))

    def hand_out(self, grants: Iterable[Grant]) -> None:
        """Tell those who waited; under the lock, so that no turn is both granted and cancelled."""
        for grant in grants:
            self._hand_over(grant.action, *self._callers[grant.turn])
            grant.turn.grant(grant.action)

    def _hand_over(self, action: Assign | Spawn, owner: object, shelf: Shelf) -> None:
        """Note whose the sandbox, or the permit for a new one, is from now on."""
        if isinstance(action, Assign):
            action.sandbox.owner = owner
            action.sandbox.begin()
            self.running.add(action.sandbox)
        else:
            self._making[owner] = shelf

    def check_open(self) -> None:
        if self.inherited_from:
            raise InvokeError(
                f"this runtime belongs to process {self.inherited_from}, of which process {os.getpid()} is a fork: "
                "open one of its own here"
            )
        if self.closed:
            raise InvokeError("the runtime is closed")

    # -- making sandboxes ----------------------------------------------------------------------------------------------

    def zygote(self) -> Zygote:
        """Give the zygote, started."""
        return self.supply.zygote()

    def zygote_died(self, zygote: Zygote) -> None:
        """Forget a zygote that died, with all its idle sandboxes; the next call starts another."""
        self.supply.forget(zygote)

    def _drop_idle_of(self, zygote: Zygote) -> None:
        with self.lock:
            orphans = self.ledger.drop_idle(lambda sandbox: sandbox.zygote is zygote)
            for sandbox in orphans:
                self._keep_slot(sandbox)
        for sandbox in orphans:
            sandbox.close()

    def _watch(self) -> Watch:
        if self.watch is None or not self.watch.running:
            with self.lock:
                if self.watch is None:
                    self.watch = Watch(Rounds(self))
                self.watch.start()
        return self.watch

    def _wake_watch(self) -> None:
        if self.watch is not None:
            self.watch.wake()

    def spawn(
        self,
        shelf: Shelf,
        owner: object,
        kind: str = "on-demand",
        *,
        template: Template | None = None,
        suppressed: bool = False,
    ) -> Sandbox:
        """Make the sandbox of a call, or what it is to be forked from. Raises HostError; of a template, ZygoteDied."""
        sandbox = self.make(shelf, owner, kind, template=template, suppressed=suppressed)
        with self.lock:
            shelf.counts.cold_starts += kind != SNAP_START
            sandbox.begin()
            sandbox.taken_at = sandbox.started_at
            self.running.add(sandbox)
            del self._making[owner]
        watch = self._watch()
        if watch.parked:
            watch.wake()
        return sandbox

    def swap(self, shelf: Shelf, owner: object, sandbox: Sandbox) -> None:
        """Take a sandbox from a call that keeps its permit, for another one; under the lock."""
        self.running.discard(sandbox)
        self._making[owner] = shelf

    def make(
        self,
        shelf: Shelf,
        owner: object,
        kind: str,
        *,
        template: Template | None = None,
        suppressed: bool = False,
    ) -> Sandbox:
        """Make a sandbox of a kind, for whoever has room for it."""
        with self.lock:
            self.check_open()
            # All that a template forks has one user; the directories are that user's.
            fits = template is not None or not shelf.function.options.snap_start
            slot = shelf.slots.pop()[0] if shelf.slots and fits else ""
        job = Job(shelf.function, shelf.handler, kind, shelf.tenant)
        try:
            if template is not None:
                sandbox = self.supply.fork(owner, job, slot, template, suppressed=suppressed)
            else:
                sandbox = self.supply.make(owner, job, slot, suppressed=suppressed)
        except BaseException:
            self.supply.remove_slots([slot])
            raise
        sandbox.shelf = shelf
        return sandbox

    def provision(self, function: Function[Any, Any]) -> Trip[None]:
        """Load as many sandboxes as ``provisioned_concurrency`` says. Raises Lost where one does not load."""
        owner = object()
        try:
            self.provisioning.add(function)
            shelf = self.shelf_of(function)
            self._watch()
            yield from self._provision(shelf, owner)
        except BaseException:
            self.mend(owner)
            raise
        finally:
            self.provisioning.discard(function)

    def _provision(self, shelf: Shelf, owner: object) -> Trip[None]:
        while True:
            with self.lock:
                self.check_open()
                if not self.ledger.reserve_for_floor(shelf):
                    return
                self._making[owner] = shelf
            sandbox = self.make(shelf, owner, "provisioned-concurrency")
            sandbox.provisioned = True
            sandbox.begin()
            sandbox.due_at = sandbox.started_at + limits.INIT_SECONDS
            with self.lock:
                self.running.add(sandbox)
                del self._making[owner]
            try:
                yield from sandbox.open()
            except BaseException:
                self.discard(sandbox)
                raise
            self.return_lane(sandbox)

    def warm(self, function: Function[Any, Any]) -> Trip[None]:
        """Have a sandbox ready for the first call. Raises Lost where its init fails."""
        shelf = self.shelf_of(function)
        owner = object()
        try:
            sandbox = self.take(shelf, owner) or (yield from self.obtain(shelf, owner))
            try:
                if sandbox.peer.phase is not OPEN:
                    yield from sandbox.open()
            except BaseException:
                self.discard(sandbox)
                raise
        except Lost:
            raise
        except BaseException:
            self.mend(owner)
            raise
        self.return_lane(sandbox)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def discard(self, sandbox: Sandbox, *, died: bool = True) -> None:
        """A sandbox at work is of no more use: kill it, give its permit back, have it buried when it is gone."""
        sandbox.kill()
        with self.lock:
            if sandbox not in self.running:
                return  # somebody did so before
            self.running.discard(sandbox)
            self.died += died
            self.evicted += not died
            if died:
                self._keep_slot(sandbox)
            if self.ledger.learns and sandbox.taken_at:
                self.ledger.learn(sandbox.shelf, sandbox, monotonic())
            self.hand_out(self.ledger.lost(sandbox.shelf))
            self._idle_again.notify_all()
        self.supply.retire(sandbox)

    def condemn(self, sandbox: Sandbox, verdict: str) -> None:
        """Kill a sandbox in mid-call; its caller finds the socket's end, and why in ``verdict``."""
        with self.lock:
            if sandbox not in self.running or sandbox.verdict:
                return
            sandbox.verdict = verdict
        sandbox.kill()

    def mend(self, owner: object) -> None:
        """
        Set right what an interrupt broke off, at whatever step of this owner's call it struck.

        Ctrl-C may strike between any two steps. So nothing is concluded from how far a call came: its sandboxes go,
        with those that were just being handed from one place to another, and everything is counted anew.
        """
        with self.lock:
            self._making.pop(owner, None)
            self.templates.forget_maker(owner, FAILED)
            shelves = self.ledger.shelves.values()
            orphans = {one for one in self.running if one.owner is owner}
            orphans.update(self.supply.orphans(owner, {one for shelf in shelves for one in shelf.idle}))
            self.running -= orphans
            for turn, (whose, shelf) in tuple(self._callers.items()):
                if whose is owner:
                    self.ledger.cancel(turn, shelf.budget)
                elif turn.granted is None:
                    self.ledger.keep_in_line(shelf, turn)
            self.ledger.recount([one.shelf for one in self.running] + list(self._making.values()))
            for sandbox in orphans:
                self.died += 1
                self._keep_slot(sandbox)
            self.hand_out(self.ledger.spare())
            self._idle_again.notify_all()
        for sandbox in orphans:
            self.supply.retire(sandbox)

    def _keep_slot(self, sandbox: Sandbox) -> None:
        """A crash empties memory, not ``/tmp``: the next sandbox of this function finds the files (as in AWS)."""
        shelf: Shelf | None = sandbox.shelf
        if shelf is not None and sandbox.slot and not (shelf.retired or shelf.function.options.fresh):
            shelf.slots.append((sandbox.slot, monotonic()))
            sandbox.slot = ""

    def evict(self, sandboxes: Iterable[Any]) -> None:
        for sandbox in sandboxes:
            self.evicted += 1
            self.supply.retire(sandbox)

    def retire(self, function: Function[Any, Any]) -> None:
        """Let the idle sandboxes of a function go."""
        with self.lock:
            evicted = [one for shelf in self.ledger.shelves_of(function) for one in self.ledger.retire(shelf)]
        self.evict(evicted)

    # -- telling -------------------------------------------------------------------------------------------------------

    def statistics(self) -> RuntimeStatistics:
        """Count everything."""
        with self.lock:
            functions = dict.fromkeys(shelf.function for shelf in self.ledger.shelves.values())
            every = [count(function, self.ledger.shelves_of(function)) for function in functions]
            return RuntimeStatistics(
                concurrency=self.concurrency,
                live=self.ledger.live,
                idle=sum(one.idle for one in every),
                in_flight=sum(one.in_flight for one in every),
                waiting=sum(one.waiting for one in every),
                standby=int(self.supply.standby is not None),
                spawned=self.supply.spawned,
                evicted=self.evicted,
                died=self.died,
                functions={one.name: one for one in every},
            )

    def function_statistics(self, function: Function[Any, Any]) -> FunctionStatistics:
        """Count one function; zeros if it was never called here."""
        with self.lock:
            return count(function, self.ledger.shelves_of(function))

    # -- closing -------------------------------------------------------------------------------------------------------

    def close(self, drain: float) -> None:
        """Take no more calls, let those in flight end for up to ``drain`` seconds, and end everything."""
        if self.inherited_from:
            return  # they are the parent's
        try:
            self._refuse_more(drain)
        finally:
            self._end_all()

    def _refuse_more(self, drain: float) -> None:
        with self.lock:
            self.closed = True
            for budget in {id(s.budget): s.budget for s in self.ledger.shelves.values()}.values():
                while budget.waiting:
                    call: Call = budget.waiting.pop()
                    call.turn.grant(InvokeError("the runtime was closed while this call waited"))
            try:
                self._idle_again.wait_for(lambda: not self.running, drain)
            finally:  # Ctrl-C ends the wait, not the closing
                for sandbox in self.running:
                    sandbox.verdict = sandbox.verdict or "closed"

    def _end_all(self) -> None:
        if self.watch is not None:
            self.watch.stop()
        self.supply.close()
        with self.lock:
            self.ledger.drop_idle(lambda _: True)

    def abandon(self, parent: int) -> None:
        """In a forked child: forget what is the parent's (sandboxes close their own copies). No lock is taken."""
        self.inherited_from = parent
        self.lock = threading.Lock()
        if self.watch is not None:
            self.watch.abandon()
        self.supply.abandon()
        self.running.clear()
        self._making.clear()


def _replaces(new: Function[Any, Any], old: Function[Any, Any]) -> bool:
    """Tell whether a declaration took the place of another one (a notebook cell that ran again)."""
    return new is not old and "<" not in new.qualname and (new.module, new.qualname) == (old.module, old.qualname)


def _throttled(shelf: Shelf, reason: str) -> Throttled:
    budget = shelf.budget
    if shelf.function.options.reserved_concurrency == 0:
        told = f"{shelf.function.name!r} has reserved_concurrency=0 and takes no calls"
    else:
        told = (
            f"Rate Exceeded. {budget.size} of {budget.size} permits are taken; {shelf.function.name!r} was not invoked"
        )
    return Throttled(told, reason)
