"""
Snap start: for each function that asks for it a template, which has run init once; its sandboxes are forked from that.

    spawn ──┬──► there is a template ──► a sandbox of it
            ├──► there is none       ──► make it in this call, then as above
            └──► one is being made   ──► wait for that, then as above

The caller that makes a template has a permit and minds the template as it would mind its own sandbox. If init fails,
the template is what the call gets for a sandbox: the call ends as it would have without snap start. Where this host
allows no templates, and where another call's attempt failed, sandboxes are made as for any other function.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING

from pyfaas._confine.plan import why_no_template
from pyfaas._sandbox.packing import SNAP_START
from pyfaas._sandbox.parent import ZygoteDied
from pyfaas._sandbox.sandbox import Lost, Sandbox
from pyfaas._sandbox.template import Template
from pyfaas._waits import Trip, Turn
from pyfaas.errors import CannotConfine, HostError

if TYPE_CHECKING:
    from pyfaas._pool.policy import Shelf
    from pyfaas._pool.pool import Pool

TRIES = 3
MADE, FAILED = "made", "failed"
_UNAVAILABLE = "Runtime.SnapStartUnavailable"


class Templates:
    """The templates of one pool, and who makes them."""

    def __init__(self, pool: Pool, *, strict: bool) -> None:
        self._pool = pool
        self._strict = strict
        self._makers: dict[Shelf, object] = {}
        self._waiting: dict[Shelf, list[Turn]] = {}
        self.refused = ""  # why this host allows none

    def spawn(self, shelf: Shelf, owner: object, *, suppressed: bool) -> Trip[Sandbox]:
        """Make the sandbox of a call, whose permit is taken. Raises HostError and CannotConfine."""
        try:
            for _ in range(TRIES):
                template, turn = self._find(shelf, owner)
                if template is not None:
                    with contextlib.suppress(ZygoteDied):
                        if not template.is_gone():
                            return self._pool.spawn(shelf, owner, template=template)
                    self._pool.zygote_died(template)
                elif turn is not None:
                    if (yield turn) is not MADE:
                        break
                elif not self._may_make():
                    break
                else:
                    failed = yield from self._make(shelf, owner)
                    if failed is not None:
                        return failed
            return self._pool.spawn(shelf, owner, suppressed=suppressed)
        finally:
            with self._pool.lock:
                self.forget_maker(owner, FAILED)

    def _find(self, shelf: Shelf, owner: object) -> tuple[Template | None, Turn | None]:
        """Find the template, or a turn to wait for it; neither: it is this owner's to make."""
        with self._pool.lock:
            template = self._pool.supply.templates.get(shelf)
            if template is not None:
                return template, None
            if shelf in self._makers:
                turn = Turn()
                self._waiting.setdefault(shelf, []).append(turn)
                return None, turn
            self._makers[shelf] = owner
            return None, None

    def _may_make(self) -> bool:
        if not self.refused:
            self.refused = why_no_template(self._pool.zygote().host)
            if self.refused:
                self._tell_refused()
        elif self._strict:
            self._tell_refused()
        return not self.refused

    def _tell_refused(self) -> None:
        told = f"snap_start=True: sandboxes start cold here, for {self.refused}"
        if self._strict:
            raise CannotConfine(f'confinement="strict", but {told}')
        warnings.warn(told, RuntimeWarning, stacklevel=2)

    def _make(self, shelf: Shelf, owner: object) -> Trip[Sandbox | None]:
        """Make the template; gives it as a sandbox where its init failed."""
        keeper = self._pool.spawn(shelf, owner, kind=SNAP_START)
        try:
            yield from keeper.open()
            self._keep(shelf, owner, keeper)
        except Lost as lost:
            return self._judge(shelf, owner, keeper, lost)
        except BaseException:
            self._pool.discard(keeper)
            raise
        return None

    def _judge(self, shelf: Shelf, owner: object, keeper: Sandbox, lost: Lost) -> Sandbox | None:
        if lost.why == "fault" and _UNAVAILABLE in lost.told:
            self.refused = "namespaces of their own are refused to them"
            with self._pool.lock:
                self._pool.swap(shelf, owner, keeper)
            self._pool.supply.retire(keeper)
            self._tell_refused()
            return None
        keeper.failed = lost
        return keeper

    def _keep(self, shelf: Shelf, owner: object, keeper: Sandbox) -> None:
        """From now on it is nobody's, and the owner has a permit and no sandbox again."""
        pool = self._pool
        options = shelf.function.options
        said = keeper.take_log(None)
        template = Template(keeper, options.ephemeral_storage, said)
        if template.pid < 0:
            raise HostError("the template of a snap start cannot be found in /proc")
        with pool.lock:
            pool.check_open()
            pool.supply.templates[shelf] = template
            pool.ledger.left_slots += [slot for slot, _ in shelf.slots]  # they are another user's
            shelf.slots.clear()
            keeper.owner = None
            pool.swap(shelf, owner, keeper)
            self.forget_maker(owner, MADE)

    def forget_maker(self, owner: object, outcome: str) -> None:
        """This owner makes no template any more; under the pool's lock. Those who waited go on, cold if it failed."""
        for shelf in [shelf for shelf, maker in self._makers.items() if maker is owner]:
            del self._makers[shelf]
            for turn in self._waiting.pop(shelf, ()):
                turn.grant(outcome)
