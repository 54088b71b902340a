"""
The pool: carries out what the ledger decides, under one lock, and owns every sandbox of a runtime.

    take(shelf) ──► an idle sandbox          the fast path, in the caller's own thread or task
    obtain(shelf) ──► one, after a wait or a spawn                (a generator of waits)
    give_back(sandbox) / discard(sandbox)    the end of every call, whatever its end

The caller makes its own sandbox and waits for it itself; the pool has no thread but the watch.
"""

from __future__ import annotations

import itertools
import os
import threading
import weakref
from collections.abc import Iterable
from time import monotonic
from typing import Any

from pyfaas import limits
from pyfaas._confine.plan import Host
from pyfaas._pool.policy import Assign, Call, Grant, Ledger, Shelf, Spawn, Wait
from pyfaas._pool.statistics import FunctionStatistics, RuntimeStatistics
from pyfaas._pool.watch import TICK_SECONDS, Watch
from pyfaas._sandbox.packing import pack_handler, pack_init
from pyfaas._sandbox.parent import Zygote, ZygoteDied
from pyfaas._sandbox.sandbox import MEASURE_SECONDS, Sandbox
from pyfaas._sandbox.slots import Slots
from pyfaas._sandbox.vitals import read_vitals
from pyfaas._waits import Trip, Turn
from pyfaas.errors import ConfigurationError, HostError, InvokeError, Throttled
from pyfaas.functions import Function

YOUNG_SECONDS = 0.020
OPEN_FILES_SPARE = 64

pools: weakref.WeakSet[Pool] = weakref.WeakSet()


class Pool:
    """All sandboxes of one runtime."""

    def __init__(self, *, concurrency: int, when_full: str, keep_alive: float) -> None:
        self.ledger = Ledger(concurrency, limits.SANDBOXES)
        self.concurrency = concurrency
        self.calls = 0
        self.closed = False
        self.inherited_from = 0  # the pid of the parent, in a forked child
        self.spawned = self.evicted = self.died = 0
        self.running: set[Sandbox] = set()
        self._wait_when_full = when_full == "wait"
        self._keep_alive = keep_alive
        self._lock = threading.Lock()
        self._start_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._zygote: Zygote | None = None
        self._slots = Slots()
        self._standby: Sandbox | None = None
        self._standby_wanted = False
        self._ended = False
        self._dying: list[Sandbox] = []
        self._idle_again = threading.Condition(self._lock)
        self.watch: Watch | None = None
        pools.add(self)

    # -- functions -----------------------------------------------------------------------------------------------------

    def shelf_of(self, function: Function[Any, Any]) -> Shelf:
        """Find or open the shelf of a function. Raises ConfigurationError where too much is reserved."""
        shelf = self.ledger.shelves.get(function)
        if shelf is not None and not shelf.retired:
            return shelf
        handler = pack_handler(function)
        replaced: list[Any] = []
        with self._lock:
            shelf = self.ledger.shelves.get(function)
            if shelf is not None and not shelf.retired:
                return shelf
            for other in list(self.ledger.shelves.values()):
                if _replaces(function, other.function):
                    replaced += self.ledger.retire(other)
            options = function.options
            shelf = self.ledger.add(function, options.reserved_concurrency, options.provisioned_concurrency)
            if shelf is None:
                raise ConfigurationError(
                    f"reserved_concurrency={options.reserved_concurrency} of {function.name!r}: the runtime has only "
                    f"{self.ledger.account.size} permits that are not reserved"
                )
            shelf.handler = handler
        self._evict(replaced)
        if options.provisioned_concurrency:
            self._watch().wake()
        if function.is_async:
            self.zygote().preload(["asyncio"])
        return shelf

    # -- the fast path -------------------------------------------------------------------------------------------------

    def take(self, shelf: Shelf) -> Sandbox | None:
        """Give an idle sandbox of this function, if there is one and a permit is free."""
        with self._lock:
            sandbox: Sandbox | None = self.ledger.take(shelf)
            if sandbox is None:
                return None
            self.running.add(sandbox)
            self.calls += 1
        watch = self.watch
        if watch is not None and watch.parked:
            watch.wake()
        return sandbox

    def give_back(self, sandbox: Sandbox, now: float) -> None:
        """A sandbox answered and may serve again; here its memory is looked at, if that was long ago."""
        sandbox.calls += 1
        if now - sandbox.measured_at > MEASURE_SECONDS and sandbox.measure(now) > sandbox.limit_bytes:
            self.discard(sandbox)
            return
        shelf: Shelf = sandbox.shelf
        most = shelf.function.options.max_invocations
        with self._lock:
            self.running.discard(sandbox)
            if not (sandbox.verdict or sandbox.dying or shelf.retired or self.closed) and (
                most is None or sandbox.calls < most
            ):
                sandbox.idle_since = now
                grants = self.ledger.give_back(shelf, sandbox)
                if grants:
                    self._hand_out(grants)
                if self.closed:
                    self._idle_again.notify_all()
                return
            self.running.add(sandbox)
        self.discard(sandbox)

    def return_lane(self, sandbox: Sandbox) -> None:
        """A stream has no more work for a sandbox; its calls are counted already."""
        sandbox.calls -= 1
        sandbox.shelf.invocations -= 1
        self.give_back(sandbox, monotonic())

    def count(self, shelf: Shelf, invocations: int) -> None:
        """Count invocations that ended otherwise than by ``give_back``."""
        with self._lock:
            shelf.invocations += invocations
            self.calls += invocations

    # -- the slow path -------------------------------------------------------------------------------------------------

    def obtain(self, shelf: Shelf, *, suppressed: bool = False) -> Trip[Sandbox]:
        """Find a permit and a sandbox, waiting for the one and making the other where it must be."""
        while True:
            sandbox = yield from self._obtain_once(shelf, suppressed)
            if sandbox is not None:
                self.calls += 1
                return sandbox
            shelf = self.shelf_of(shelf.function)  # it was retired while this call waited

    def _obtain_once(self, shelf: Shelf, suppressed: bool) -> Trip[Sandbox | None]:
        turn = Turn()
        with self._lock:
            self.check_open()
            action = self.ledger.request(shelf, turn)
            if isinstance(action, Assign):
                self.running.add(action.sandbox)
            elif isinstance(action, Wait) and not (self._wait_when_full or self.closed):
                self.ledger.cancel(turn, shelf.budget)
                shelf.throttles += 1
        if isinstance(action, Wait):
            if not self._wait_when_full:
                raise _throttled(shelf, action.reason)
            action = yield from self._wait_for(turn, shelf)
        watch = self._watch()
        if isinstance(action, Assign):
            if watch.parked:
                watch.wake()
            return action.sandbox  # type: ignore[no-any-return]
        self._evict(action.evict)
        try:
            return self._spawn(shelf, suppressed=suppressed)
        except BaseException:
            with self._lock:
                self._hand_out(self.ledger.lost(shelf))
            raise

    def _wait_for(self, turn: Turn, shelf: Shelf) -> Trip[Assign | Spawn]:
        try:
            granted = yield turn
        except BaseException:
            with self._lock:
                if not self.ledger.cancel(turn, shelf.budget) and turn.granted is not None:
                    self._return_grant(shelf, turn.granted)
            raise
        if isinstance(granted, BaseException):
            raise granted
        return granted  # type: ignore[no-any-return]

    def _return_grant(self, shelf: Shelf, granted: Any) -> None:
        """The turn came to a call that had just given up."""
        if isinstance(granted, Assign):
            self.running.discard(granted.sandbox)
            self._hand_out(self.ledger.give_back(shelf, granted.sandbox))
        elif isinstance(granted, Spawn):
            self._hand_out(self.ledger.lost(shelf))

    def _hand_out(self, grants: Iterable[Grant]) -> None:
        """Tell those who waited; under the lock, so that no turn is both granted and cancelled."""
        for grant in grants:
            if isinstance(grant.action, Assign):
                self.running.add(grant.action.sandbox)
            grant.turn.grant(grant.action)

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
        """Give the zygote, starting it on first use and after its death."""
        zygote = self._zygote
        if zygote is not None:
            return zygote
        with self._start_lock:
            self.check_open()
            if self._zygote is None:
                self._zygote = Zygote(self._slots.root)
            return self._zygote

    @property
    def host(self) -> Host:
        """What the zygote found of this host."""
        return self.zygote().host

    def _watch(self) -> Watch:
        if self.watch is None:
            with self._start_lock:
                if self.watch is None:
                    self.watch = Watch(self)
        return self.watch

    def _spawn(self, shelf: Shelf, *, suppressed: bool = False) -> Sandbox:
        """Make the sandbox of a call, from the standby if there is one."""
        sandbox = self._blank()
        try:
            self._settle(sandbox, shelf, "on-demand", suppressed=suppressed)
            with self._lock:
                self.check_open()
                sandbox.shelf = shelf
                shelf.cold_starts += 1
                self.running.add(sandbox)
        except BaseException:
            self._retire_blank(sandbox)
            raise
        watch = self._watch()
        if watch.parked:
            watch.wake()
        return sandbox

    def _settle(self, sandbox: Sandbox, shelf: Shelf, kind: str, *, suppressed: bool = False) -> None:
        """Give a blank sandbox its function and its directory."""
        function = shelf.function
        options = function.options
        with self._lock:
            sandbox.slot = shelf.slots.pop()[0] if shelf.slots else ""
        if not sandbox.slot:
            with self._start_lock:
                sandbox.slot = self._slots.make()
        init = pack_init(function, shelf.handler, sandbox.zygote.host, sandbox.slot, sandbox.number, kind)
        sandbox.assign(init, float(options.timeout), options.memory * limits.MB, suppressed=suppressed)

    def _blank(self) -> Sandbox:
        with self._lock:
            sandbox, self._standby = self._standby, None
        if sandbox is not None and sandbox.zygote is self._zygote:
            return sandbox
        if sandbox is not None:
            self._retire_blank(sandbox)
        return self._make_blank()

    def _make_blank(self) -> Sandbox:
        for attempt in range(2):
            zygote = self.zygote()
            try:
                _make_room_for_descriptors()
                sandbox = Sandbox(zygote, next(self._numbers))
            except ZygoteDied as error:
                self.zygote_died(zygote)
                if attempt:
                    raise HostError(f"the process that makes sandboxes died twice: {error}") from error
            except OSError as error:
                raise HostError(f"no sandbox could be made: {error}") from error
            else:
                self.spawned += 1
                return sandbox
        raise AssertionError

    def zygote_died(self, zygote: Zygote) -> None:
        """Forget a zygote that died, with all its idle sandboxes; the next call starts another."""
        with self._start_lock:
            if self._zygote is not zygote:
                return
            self._zygote = None
        orphans: list[Any] = []
        with self._lock:
            for shelf in self.ledger.shelves.values():
                kept = [sandbox for sandbox in shelf.idle if sandbox.zygote is not zygote]
                gone = [sandbox for sandbox in shelf.idle if sandbox.zygote is zygote]
                shelf.idle[:] = kept
                orphans += gone
                for _ in gone:
                    self.ledger.gone(shelf)
            if self._standby is not None and self._standby.zygote is zygote:
                orphans.append(self._standby)
                self._standby = None
        for sandbox in orphans:
            self._keep_slot(sandbox)
            sandbox.close()
        zygote.close()

    def want_standby(self) -> None:
        """A cold start is over: let the watch make the next blank one, after the answer and not beside it."""
        if self._standby is None and self.watch is not None:
            self._standby_wanted = True
            self.watch.wake()

    def _refill(self) -> None:
        """Make the next standby, and load what is provisioned and missing; nothing is waited for."""
        with self._lock:
            missing = [s for s in self.ledger.shelves.values() if s.live < s.floor and not s.retired]
        try:
            for shelf in missing:
                self._load_ahead(shelf)
            if self._standby_wanted and self._standby is None:
                self._standby_wanted = False
                self._keep_standby(self._make_blank())
        except (HostError, InvokeError):
            return  # a call will tell

    def _keep_standby(self, sandbox: Sandbox) -> None:
        with self._lock:
            keep = self._standby is None and not self.closed
            if keep:
                self._standby = sandbox
        if not keep:
            self._retire_blank(sandbox)

    def _load_ahead(self, shelf: Shelf) -> None:
        """Send a new sandbox its init; whoever takes it first waits for what is still to be loaded."""
        sandbox = self._blank()
        self._settle(sandbox, shelf, "provisioned-concurrency")
        sandbox.provisioned = True
        sandbox.shelf = shelf
        if not sandbox.send_init():
            self._retire_blank(sandbox)
            return
        with self._lock:
            if shelf.live < shelf.floor and not (shelf.retired or self.closed):
                sandbox.idle_since = monotonic()
                self._hand_out(self.ledger.arrived(shelf, sandbox))
                return
        self._retire_blank(sandbox)

    def provision(self, function: Function[Any, Any]) -> Trip[None]:
        """Load as many sandboxes as ``provisioned_concurrency`` says. Raises Lost where one does not load."""
        shelf = self.shelf_of(function)
        while True:
            with self._lock:
                self.check_open()
                if shelf.retired or shelf.live >= shelf.floor:
                    return
                shelf.live += 1
                self.ledger.live += 1
                shelf.in_flight += 1
                shelf.budget.free -= 1
            self._watch()
            sandbox: Sandbox | None = None
            try:
                sandbox = self._blank()
                self._settle(sandbox, shelf, "provisioned-concurrency")
                sandbox.shelf = shelf
                sandbox.started_at = monotonic()
                sandbox.due_at = sandbox.started_at + limits.INIT_SECONDS
                with self._lock:
                    self.running.add(sandbox)
                yield from sandbox.open()
            except BaseException:
                if sandbox is None:
                    with self._lock:
                        self._hand_out(self.ledger.lost(shelf))
                else:
                    sandbox.shelf = shelf
                    self.discard(sandbox)
                raise
            sandbox.provisioned = True
            sandbox.calls = -1  # loading it was not a call
            self.count(shelf, -1)
            self.give_back(sandbox, monotonic())

    # -- ends ----------------------------------------------------------------------------------------------------------

    def discard(self, sandbox: Sandbox) -> None:
        """A sandbox at work is of no more use: kill it, give its permit back, bury it when it is gone."""
        sandbox.kill()
        with self._lock:
            if sandbox not in self.running:
                return  # somebody did so before
            self.running.discard(sandbox)
            self.died += 1
            self._keep_slot(sandbox)
            self._dying.append(sandbox)
            self._hand_out(self.ledger.lost(sandbox.shelf))
            self._idle_again.notify_all()
        self._leave_to_watch()

    def _keep_slot(self, sandbox: Sandbox) -> None:
        """A crash empties memory, not ``/tmp``: the next sandbox of this function finds the files (as in AWS)."""
        shelf: Shelf | None = sandbox.shelf
        if shelf is not None and sandbox.slot and not shelf.retired:
            shelf.slots.append((sandbox.slot, monotonic()))
            sandbox.slot = ""

    def _evict(self, sandboxes: Iterable[Any]) -> None:
        for sandbox in sandboxes:
            self.evicted += 1
            self._retire_blank(sandbox)

    def _retire_blank(self, sandbox: Sandbox) -> None:
        """Kill a sandbox that nobody uses and let the watch bury it."""
        sandbox.kill()
        with self._lock:
            self._dying.append(sandbox)
        self._leave_to_watch()

    def _leave_to_watch(self) -> None:
        """Let the watch bury what is dying; where it has ended, all is gone and can be buried here."""
        if self._ended:
            self._bury()
        elif self.watch is not None:
            self.watch.wake()

    def _bury(self) -> None:
        with self._lock:
            gone = [sandbox for sandbox in self._dying if sandbox.is_gone()]
            self._dying = [sandbox for sandbox in self._dying if sandbox not in gone]
        for sandbox in gone:
            sandbox.bury()
            self._remove_slot(sandbox.slot)

    def _remove_old_slots(self, now: float) -> None:
        """Remove the directories of crashed sandboxes that no call came for as long as a sandbox would be kept."""
        old = []
        with self._lock:
            for shelf in self.ledger.shelves.values():
                while shelf.slots and now - shelf.slots[0][1] >= self._keep_alive:
                    old.append(shelf.slots.pop(0)[0])
        for slot in old:
            self._remove_slot(slot)

    def _remove_slot(self, slot: str) -> None:
        if slot:
            self._slots.remove(slot)

    # -- what the watch calls ------------------------------------------------------------------------------------------

    def busy(self) -> bool:
        """Tell whether anything is in flight or on its way out."""
        return bool(self.running or self._dying)

    def next_due(self, now: float, *, ticking: bool) -> float | None:
        """Tell in how many seconds the watch must look again; None: when it is woken."""
        with self._lock:
            expiry = self.ledger.next_expiry(self._keep_alive)
            due = [expiry - now] if expiry is not None else []
            due += [s.slots[0][1] + self._keep_alive - now for s in self.ledger.shelves.values() if s.slots]
            due += [sandbox.due_at + sandbox.grace - now for sandbox in self.running]
            if self._dying:
                due.append(0.002)
        if ticking:
            due.append(TICK_SECONDS)
        return min(due, default=None)

    def tick(self, now: float) -> None:
        """Look at everything once."""
        for sandbox in tuple(self.running):
            age = now - sandbox.started_at
            if now >= sandbox.due_at + sandbox.grace:
                if sandbox.pipelined and sandbox.has_unread():
                    sandbox.begin()  # it answered; whoever takes the stream is in no hurry
                else:
                    self.condemn(sandbox, "late")
            elif age > YOUNG_SECONDS:
                self._look_at(sandbox, now)
        with self._lock:
            expired = self.ledger.expired(now, self._keep_alive)
        self._evict(expired)
        if self._dying:
            self._bury()
        self._remove_old_slots(now)
        self._refill()

    def _look_at(self, sandbox: Sandbox, now: float) -> None:
        if sandbox.pid <= 0:
            return
        vitals = read_vitals(sandbox.pid, sandbox.limit_bytes)
        held = vitals.memory_bytes + sandbox.log_bytes()
        sandbox.measured_at = now
        sandbox.max_memory = max(sandbox.max_memory, held)
        if held > sandbox.limit_bytes:
            self.condemn(sandbox, "memory")
        elif sandbox.cpu_used(vitals.cpu_seconds) > sandbox.shelf.function.options.cpu_allowance():
            self.condemn(sandbox, "cpu")

    def condemn(self, sandbox: Sandbox, verdict: str) -> None:
        """Kill a sandbox in mid-call; its caller finds the socket's end, and why in ``verdict``."""
        with self._lock:
            if sandbox not in self.running or sandbox.verdict:
                return
            sandbox.verdict = verdict
        sandbox.kill()

    def relieve(self) -> None:
        """The host is short of memory."""
        with self._lock:
            surplus = self.ledger.surplus()
        self._evict(surplus)

    def retire(self, function: Function[Any, Any]) -> None:
        """Let the idle sandboxes of a function go."""
        with self._lock:
            shelf = self.ledger.shelves.get(function)
            evicted = self.ledger.retire(shelf) if shelf is not None else []
        self._evict(evicted)

    # -- telling -------------------------------------------------------------------------------------------------------

    def statistics(self) -> RuntimeStatistics:
        """Count everything."""
        with self._lock:
            shelves = list(self.ledger.shelves.values())
            functions = {shelf.function.name: _count(shelf) for shelf in shelves}
            every = list(map(_count, shelves))
            return RuntimeStatistics(
                concurrency=self.concurrency,
                live=self.ledger.live,
                idle=sum(one.idle for one in every),
                in_flight=sum(one.in_flight for one in every),
                waiting=sum(one.waiting for one in every),
                standby=int(self._standby is not None),
                spawned=self.spawned,
                evicted=self.evicted,
                died=self.died,
                functions=functions,
            )

    def function_statistics(self, function: Function[Any, Any]) -> FunctionStatistics:
        """Count one function; zeros if it was never called here."""
        with self._lock:
            shelf = self.ledger.shelves.get(function)
            return _count(shelf or Shelf(function, self.ledger.account))

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
        with self._lock:
            self.closed = True
            for budget in {id(s.budget): s.budget for s in self.ledger.shelves.values()}.values():
                while budget.waiting:
                    call: Call = budget.waiting.popleft()
                    call.turn.grant(InvokeError("the runtime was closed while this call waited"))
            try:
                self._idle_again.wait_for(lambda: not self.running, drain)
            finally:  # Ctrl-C ends the wait, not the closing
                for sandbox in self.running:
                    sandbox.verdict = sandbox.verdict or "closed"

    def _end_all(self) -> None:
        if self.watch is not None:
            self.watch.stop()
        with self._start_lock:
            zygote, self._zygote = self._zygote, None
        if zygote is not None:
            zygote.close()
        with self._lock:
            sandboxes = [sandbox for shelf in self.ledger.shelves.values() for sandbox in shelf.idle]
            sandboxes += self._dying
            sandboxes += [self._standby] if self._standby is not None else []
            self._standby = None
            self._dying = []
            self._ended = True
            for shelf in self.ledger.shelves.values():
                shelf.idle.clear()
        for sandbox in sandboxes:
            sandbox.close()
        self._slots.close()

    def abandon(self, parent: int) -> None:
        """In a forked child: close the copies of the parent's descriptors, touch nothing else. No lock is taken."""
        self.inherited_from = parent
        self._lock = threading.Lock()
        self._start_lock = threading.Lock()
        if self._zygote is not None:
            self._zygote.hang_up()
        if self.watch is not None:
            self.watch.close()
        sandboxes = [sandbox for shelf in self.ledger.shelves.values() for sandbox in shelf.idle]
        for sandbox in (*sandboxes, *self._dying, *self.running, *([self._standby] if self._standby else [])):
            sandbox.abandon()


def _count(shelf: Shelf) -> FunctionStatistics:
    return FunctionStatistics(
        name=shelf.function.name,
        invocations=shelf.invocations,
        errors=shelf.errors,
        timeouts=shelf.timeouts,
        cold_starts=shelf.cold_starts,
        throttles=shelf.throttles,
        live=shelf.live,
        idle=len(shelf.idle),
        in_flight=shelf.in_flight,
        waiting=sum(call.shelf is shelf for call in shelf.budget.waiting),
    )


def _replaces(new: Function[Any, Any], old: Function[Any, Any]) -> bool:
    """Tell whether a declaration took the place of another one (a notebook cell that ran again)."""
    return new is not old and "<" not in new.qualname and (new.module, new.qualname) == (old.module, old.qualname)


def _throttled(shelf: Shelf, reason: str) -> Throttled:
    budget = shelf.budget
    if budget.size == 0:
        told = f"{shelf.function.name!r} has reserved_concurrency=0 and takes no calls"
    else:
        told = f"Rate Exceeded. All {budget.size} permits are taken; {shelf.function.name!r} was not invoked"
    return Throttled(told, reason)


def _make_room_for_descriptors() -> None:
    """Raise the soft limit of open files to the hard one, but only when it comes near. Raises HostError."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(probe)
    if soft == resource.RLIM_INFINITY or probe < soft - OPEN_FILES_SPARE:
        return
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    elif probe >= soft - 8:
        raise HostError(f"{probe} files are open, the limit is {soft} (ulimit -Hn): a sandbox needs three more")
