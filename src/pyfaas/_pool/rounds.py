"""
What the watch does on its rounds: no call waits for any of it, every guarantee of time and memory rests on it.

    next_due ──► when to come again
    tick ──┬──► calls over their time condemned (callers normally know 10 ms before; this is the guarantee)
           ├──► calls older than 20 ms looked at: memory and CPU time of the whole tree against their limits
           ├──► sandboxes that had their first call looked at
           ├──► those that are gone buried, the one on stand-by made
           └──► every 50 ms, or when due: sandboxes idle for too long evicted; made, what is provisioned and missing,
                and what is expected to be called
    relieve ──► the host is short of memory: what is worth least goes

What is idle is looked at less often than what runs: there may be a thousand, and whoever starts a sandbox wakes the
watch for the next one on stand-by.
"""

from __future__ import annotations

import contextlib
import math
from time import monotonic
from typing import TYPE_CHECKING

from pyfaas._sandbox.sandbox import Sandbox
from pyfaas._sandbox.vitals import read_vitals
from pyfaas.errors import HostError, InvokeError

if TYPE_CHECKING:
    from pyfaas._pool.policy import Shelf
    from pyfaas._pool.pool import Pool

TICK_SECONDS = 0.050
YOUNG_SECONDS = 0.020
FORSAKEN_SECONDS = 5.0
BURY_SECONDS = 0.002
GROUPS_A_TICK = 16


class Rounds:
    """What is to be seen to in one pool."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._ungrouped: list[Sandbox] = []
        self._idle_at = 0.0  # when to look at what is idle
        self._hurried = False
        self._seen_at_rest = -1  # the number of calls, when all were over and what is idle was looked at

    @property
    def calls(self) -> int:
        """How many calls have begun so far."""
        return self._pool.calls

    def busy(self) -> bool:
        """Tell whether anything is in flight, on its way out, or back from a call and not looked at yet."""
        pool = self._pool
        return bool(pool.running or pool.supply.dying or self._seen_at_rest != pool.calls)

    def next_due(self, now: float, *, ticking: bool) -> float | None:
        """Tell in how many seconds to come again; None: when woken."""
        pool = self._pool
        with pool.lock:
            due = [sandbox.due_at + sandbox.grace - now for sandbox in pool.running]
            change = None if ticking else pool.ledger.next_change()
        if ticking:
            self._idle_at = min(self._idle_at, now + TICK_SECONDS)
        else:
            self._idle_at = math.inf if change is None else change
        if self._idle_at < math.inf:
            due.append(self._idle_at - now)
        if pool.supply.dying:
            due.append(BURY_SECONDS)
        return min(due, default=None)

    def hurry(self) -> None:
        """Look at what is idle the next time too; said by others, while the watch says when it is due."""
        self._hurried = True

    def tick(self, now: float) -> None:
        """Look at everything once."""
        pool = self._pool
        for sandbox in tuple(pool.running):
            self._look_at(sandbox, now)
        self._look_at_begun(now)
        if self._hurried or now >= self._idle_at:
            self._hurried = False
            self._idle_at = math.inf  # until it is asked for when to come again
            self._look_at_idle(now)
        if pool.supply.dying:
            pool.supply.bury()
        with contextlib.suppress(HostError, InvokeError):  # a call will tell
            pool.supply.refill()
        self._hold_by_groups()

    def relieve(self) -> None:
        """Let go of what is worth least, of directories that crashed sandboxes left, of templates without sandboxes."""
        pool = self._pool
        self._look_at_used(monotonic())  # a policy may rate them by what they hold
        with pool.lock:
            surplus = pool.ledger.surplus()
            slots = pool.ledger.old_slots(float("inf"))
        pool.evict(surplus)
        pool.supply.remove_slots(slots)
        for shelf, template in tuple(pool.supply.templates.items()):
            if not shelf.live:
                pool.zygote_died(template)

    # -- sandboxes at work ---------------------------------------------------------------------------------------------

    def _look_at(self, sandbox: Sandbox, now: float) -> None:
        age = now - sandbox.started_at
        if sandbox.dying and now >= sandbox.due_at + FORSAKEN_SECONDS and not sandbox.pipelined:
            self._pool.discard(sandbox)  # its caller was interrupted between taking it and minding it
        elif now >= sandbox.due_at + sandbox.grace:
            if sandbox.pipelined and sandbox.has_unread():
                sandbox.due_at = now + sandbox.timeout  # it answered, or ended; whoever reads is in no hurry
            else:
                self._pool.condemn(sandbox, "late")
        elif now >= sandbox.look_at and (age > YOUNG_SECONDS or now - sandbox.measured_at >= TICK_SECONDS):
            self._measure(sandbox, now)  # also one that is kept busy with short calls, and never seen idle

    def _measure(self, sandbox: Sandbox, now: float) -> None:
        if sandbox.pid <= 0:
            return
        if sandbox.group is None and now - sandbox.started_at > YOUNG_SECONDS:
            self._ungrouped.append(sandbox)
        vitals = read_vitals(sandbox.pid, sandbox.limit_bytes)
        held = vitals.memory_bytes + sandbox.log_bytes()
        # A thousand processes take 50 ms to look at; no tree may take all of the watch's time.
        sandbox.look_at = now + 10 * (monotonic() - now)
        sandbox.measured_at = now
        sandbox.max_memory = max(sandbox.max_memory, held)
        if held > sandbox.limit_bytes:
            self._pool.condemn(sandbox, "memory")
        elif sandbox.cpu_used(vitals.cpu_seconds) > sandbox.shelf.function.options.cpu_allowance():
            self._pool.condemn(sandbox, "cpu")

    def _hold_by_groups(self) -> None:
        """Put what was first looked at into cgroups; last, and a few at a time: the kernel may take long over each."""
        ungrouped, self._ungrouped = self._ungrouped, []
        for sandbox in ungrouped[:GROUPS_A_TICK]:
            if sandbox.group is None and sandbox.pid > 0 and not (sandbox.dying or sandbox.is_gone()):
                self._pool.supply.hold_by_group(sandbox)

    def _look_at_used(self, now: float) -> None:
        """Look at the memory of the sandboxes whose calls were too short to be seen at work."""
        with self._pool.lock:
            used = self._pool.ledger.used_since_measured()
        self._look_at_memory_of(used, now)

    def _look_at_begun(self, now: float) -> None:
        """Look at those that had their first call: from here on there is something to tell of them."""
        begun = self._pool.supply.begun
        found = [begun.popleft() for _ in range(len(begun))]
        self._look_at_memory_of([one for one in found if one.idle_since > one.measured_at and not one.dying], now)

    def _look_at_memory_of(self, idle: list[Sandbox], now: float) -> None:
        pool = self._pool
        for sandbox in idle:
            if sandbox.group is None:
                self._ungrouped.append(sandbox)
            if sandbox.measure(now) > sandbox.limit_bytes:
                with pool.lock:
                    taken = not pool.ledger.remove_idle(sandbox.shelf, sandbox)
                if taken:
                    self._pool.condemn(sandbox, "memory")
                else:
                    pool.evict([sandbox])

    def _look_at_templates(self, now: float) -> None:
        """Look at those from which others are forked: they have run init, and nobody waits for what they do now."""
        pool = self._pool
        for shelf, template in tuple(pool.supply.templates.items()):
            keeper = template.keeper
            if keeper.dying or template.is_gone() or (shelf.retired and not shelf.live):
                pool.zygote_died(template)
            elif now >= keeper.look_at and now - keeper.measured_at >= TICK_SECONDS:
                over = template.memory() > keeper.limit_bytes or template.has_rogues(now)
                keeper.look_at = now + 10 * (monotonic() - now)
                keeper.measured_at = now
                if over:
                    template.distrust()

    # -- sandboxes at rest ---------------------------------------------------------------------------------------------

    def _look_at_idle(self, now: float) -> None:
        pool = self._pool
        with pool.lock:
            self._seen_at_rest = -1 if pool.running else pool.calls
        self._look_at_used(now)
        self._look_at_templates(now)
        with pool.lock:
            expired = pool.ledger.expired(now)
            pool.hand_out(pool.ledger.spare())
            old_slots = pool.ledger.old_slots(now)
        pool.evict(expired)
        pool.supply.remove_slots(old_slots)
        with contextlib.suppress(HostError, InvokeError):  # a call will tell
            self._load_ahead(now)

    # -- sandboxes to come ---------------------------------------------------------------------------------------------

    def _load_ahead(self, now: float) -> None:
        """Make what no call asked for: what is provisioned and missing, and what is expected to be called."""
        pool = self._pool
        with pool.lock:
            missing = [shelf for shelf in pool.ledger.lacking() if shelf.function not in pool.provisioning]
            expected = pool.ledger.expected(now)
        for shelf in missing:
            self._load(shelf, "provisioned-concurrency")
        for shelf in expected:
            self._load(shelf, "on-demand")

    def _load(self, shelf: Shelf, kind: str) -> None:
        """Send a new sandbox its init; whoever takes it waits for the rest."""
        pool = self._pool
        sandbox = pool.make(shelf, self, kind, template=pool.supply.templates.get(shelf))
        sandbox.provisioned = kind == "provisioned-concurrency"
        sent = sandbox.send_init()
        with pool.lock:
            kept = sent and not pool.closed and (pool.ledger.lacks(shelf) or not sandbox.provisioned)
            kept = kept and not shelf.retired
            if kept:
                sandbox.idle_since = monotonic()
                sandbox.clock = pool.ledger.clock
                sandbox.owner = None
                pool.hand_out(pool.ledger.arrived(shelf, sandbox))
        if not kept:
            pool.supply.retire(sandbox)
