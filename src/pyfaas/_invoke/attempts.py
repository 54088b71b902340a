"""
What was submitted to one function, one attempt after the other.

    claim ──► attempt ──┬──► finish: done, or failed in the end
                ▲       │
                └─ again ┘   (when: retries.py)
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from pyfaas._invoke import retries
from pyfaas._invoke.destinations import SUCCESS, End, request_id_of, telling
from pyfaas._invoke.direct import run
from pyfaas._invoke.dispatch import LEASE_SECONDS, Run, Source, claim, next_due
from pyfaas._invoke.ending import Ending, tell
from pyfaas._invoke.ids import new_id
from pyfaas._invoke.outbox import Outbox
from pyfaas._invoke.retries import Again, Over
from pyfaas._records import error_of
from pyfaas._stores import queue, submissions
from pyfaas._stores.database import Database, Transaction
from pyfaas._stores.queue import Leased, Message, Queue
from pyfaas._stores.submissions import Finish
from pyfaas._waits import run_async
from pyfaas.errors import FunctionError, PayloadMismatch, PyfaasError, tell_of
from pyfaas.functions import Function

if TYPE_CHECKING:
    from pyfaas._pool.policy import Shelf
    from pyfaas._pool.pool import Pool

# Short runs are done by a few sandboxes, one after the other, where each new one would cost a cold start; of long ones
# there are so many more each time.
BEGUN_AT_ONCE = 8
YOUNG_SECONDS = 0.02
AHEAD = 32  # at most are leased before it is their turn: to lease takes as long as a few short runs
_KEEP_ALL = queue.Rules(retention=math.inf)


class House(NamedTuple):
    """What an attempt needs of its runtime; ``finished`` is told the request id of what came to its end."""

    database: Database
    outbox: Outbox
    pool: Pool
    shelf_of: Callable[[Function[Any, Any], str | None], Shelf]
    finished: Callable[[bytes], None]

    async def run(
        self,
        function: Function[Any, Any],
        payload: bytes,
        *,
        tenant: str | None = None,
        request_id: bytes | None = None,
        hops: int = 0,
        expects: Callable[[FunctionError], object] | None = None,
    ) -> Ending:
        """
        Invoke a function with an event that was accepted. Raises what refuses it.

        It is told to the log how that ended; errors for which ``expects`` gives anything true are nobody's fault.
        """
        shelf, begun = self.shelf_of(function, tenant), (None, request_id or new_id(), None)
        ending = await run_async(run(self.pool, shelf, payload, bare=False, begun=begun, hops=hops))
        tell(function.name, ending, expects)
        return ending


class Attempts(Source):
    """The queue of what was submitted to a function."""

    keeps_leases = True

    def __init__(self, house: House, function: Function[Any, Any], of: Queue, hurry: Callable[[Source], None]) -> None:
        self.function = function
        self.queue = of
        self.tickets = (of.id,)
        self._house = house
        self._hurry = hurry
        self._began: dict[int, float] = {}  # when, by their messages
        self._turns: deque[tuple[int, asyncio.Future[None]]] = deque()  # of those that have not begun
        self._ahead = 0  # how many of those to have: of long runs none, other hosts may want them
        self._timer: asyncio.TimerHandle | None = None
        self._starved = False

    def __str__(self) -> str:
        return f"what was submitted to {self.function.name!r}"

    async def look(self, runs: int) -> list[Run]:
        """Lease what is due, as much as there is room for; more than ``reserved_concurrency`` would be refused."""
        reserved = self.function.options.reserved_concurrency
        room = min(runs, BEGUN_AT_ONCE - self._young() + self._ahead - len(self._turns))
        if reserved:
            room = min(room, reserved - self.running)
        self._starved = room <= 0
        if self._starved:
            self.due_at = math.inf  # until others have begun, or ended
            return []

        def job(transaction: Transaction) -> list[Message]:
            return queue.claim(transaction, self.queue, room, LEASE_SECONDS, _KEEP_ALL).messages

        messages = await claim(self._house.database, self, job)
        return [Run(self, Leased(self.queue, [one]), partial(self._attempt, one)) for one in messages]

    def next_due(self, transaction: Transaction) -> float:
        """Tell when something is due."""
        return next_due(transaction, self.queue)

    # -- whose turn it is ----------------------------------------------------------------------------------------------

    async def _turn(self, number: int) -> None:
        """Wait until this one may begin."""
        turn = asyncio.get_running_loop().create_future()
        self._turns.append((number, turn))
        self._begin_next()
        await turn

    def _begin_next(self) -> None:
        """Have those begin whose turn it is, and see that there are enough to come."""
        while self._turns and self._young() < BEGUN_AT_ONCE:
            number, turn = self._turns.popleft()
            if not turn.done():  # else it was cancelled
                self._began[number] = monotonic()
                turn.set_result(None)
        if self._wants_more():
            self._starved = False
            self._hurry(self)

    def _wants_more(self) -> bool:
        return self._starved and len(self._turns) <= self._ahead // 2

    def ended(self) -> None:
        """Have a look where the reserved concurrency was used up."""
        if self._wants_more():
            self.due_at = 0.0

    def _end(self, number: int) -> None:
        """Give its turn to others; it may never have had one."""
        began = self._began.pop(number, None)
        if began is not None:
            self._ahead = min(self._ahead + 1, AHEAD) if monotonic() < began + YOUNG_SECONDS else 0
        self._begin_next()

    def _young(self) -> int:
        """Count the runs that have just begun, and see that the next ones begin when those have not."""
        now = monotonic()
        young = sum(began > now - YOUNG_SECONDS for began in islice(reversed(self._began.values()), BEGUN_AT_ONCE))
        if young and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(YOUNG_SECONDS, self._grown)
        return young

    def _grown(self) -> None:
        self._timer = None
        self._begin_next()

    # -- one attempt ---------------------------------------------------------------------------------------------------

    async def _attempt(self, message: Message) -> None:
        """Run an event in its turn, and note what came of it; others begin meanwhile."""
        options, noted = self.function.options, message.attributes
        try:
            await self._turn(message.id)
            over = retries.before(
                self._age(message), options.max_event_age, options.reserved_concurrency, noted.get("hops", 0)
            )
            ended = over or await self._run(message)
        finally:
            self._end(message.id)
        if isinstance(ended, Over):
            await self._give_up(message, ended, noted.get("error", {}))
        elif isinstance(ended, PyfaasError):
            await self._refused(message, ended)
        else:
            await self._ran(message, ended)

    async def _run(self, message: Message) -> Ending | PyfaasError:
        """Run an event; an error refused it: there is no permit, or this machine cannot."""
        noted = message.attributes
        try:
            return await self._house.run(
                self.function,
                message.body,
                tenant=noted.get("tenant"),
                request_id=bytes.fromhex(noted["id"]),
                hops=noted.get("hops", 0),
            )
        except PyfaasError as error:
            return error

    async def _refused(self, message: Message, error: PyfaasError) -> None:
        decided: Again | Over
        options, noted = self.function.options, message.attributes
        refusals = noted.get("refusals", 0) + 1
        decided = retries.after_refusal(refusals, self._age(message), options.max_event_age)
        if isinstance(error, PayloadMismatch):  # that will not change
            decided = Over(retries.RETRIES_EXHAUSTED)
        await self._go_on(message, decided, error, {**noted, "refusals": refusals})

    async def _ran(self, message: Message, ending: Ending) -> None:
        options, noted = self.function.options, message.attributes
        noted = {**noted, "attempts": noted.get("attempts", 0) + 1, "refusals": 0}
        message = message._replace(attributes=noted)
        if ending.error is None:
            end = End(SUCCESS, value=ending.payload)
            await self._finish(message, submissions.DONE, end, value=ending.payload)
            return
        decided = retries.after_failure(noted["attempts"], options.retries, self._age(message), options.max_event_age)
        await self._go_on(message, decided, ending.error, noted)

    def _age(self, message: Message) -> float:
        """Tell for how long it could have been run."""
        return self._house.database.now() - message.sent_at - float(message.attributes.get("delay", 0.0))

    async def _go_on(self, message: Message, decided: Again | Over, error: PyfaasError, noted: dict[str, Any]) -> None:
        told = tell_of(error)
        message = message._replace(attributes=noted)
        if isinstance(decided, Over):
            await self._give_up(message, decided, told)
            return
        noted = {**noted, "error": told}
        database = self._house.database
        await run_async(database.write(lambda one: queue.again(one, message, noted, decided.delay), durable=False))
        self.due_at = min(self.due_at, database.now() + decided.delay)

    async def _give_up(self, message: Message, over: Over, told: dict[str, Any]) -> None:
        told = {**told, **over._asdict()}
        error = error_of(told, request_id_of(message))
        await self._finish(message, submissions.FAILED, End(over.condition, error=error), error=told)

    async def _finish(
        self, message: Message, state: str, end: End, *, value: bytes | None = None, error: Any = None
    ) -> None:
        """Note what came of it, and tell whoever is to be told: all of that, or none."""
        tell = telling(self._house.outbox, self.function, message, end)
        job = Finish(self.function.name, message, state, value=value, error=error, tell=tell)
        if await run_async(self._house.database.write(job, durable=False)):
            self._house.finished(bytes.fromhex(message.attributes["id"]))
