"""
The composition root: ``Runtime`` knows every room and offers them in both worlds.

    with Runtime() as runtime:            async with Runtime() as runtime:
        runtime.invoke(fn, event)             await runtime.ainvoke(fn, event)

Nothing is started before the first call. Closing ends every process that was started; so does the end of this process,
however it ends.
"""

from __future__ import annotations

import atexit
import itertools
import os
import sys
import threading
import types
import warnings
from collections.abc import AsyncIterable, Callable, Iterable
from contextvars import Token
from typing import TYPE_CHECKING, Any, TypeVar

from pyfaas import _port, limits
from pyfaas._clock import Clock
from pyfaas._payload import encode_event
from pyfaas._pool.keepalive import KeepAlive, policy_of
from pyfaas._records import Outcome, Submission
from pyfaas._waits import Trip, run_async, run_blocking
from pyfaas.errors import (
    CannotConfine,
    ConfigurationError,
    FunctionNotFound,
    HostError,
    InvalidEvent,
    InvokeError,
)
from pyfaas.functions import Function, declared, listed
from pyfaas.options import (
    Check,
    a_clock,
    check_each,
    check_submission,
    check_tenant,
    one_of,
    seconds,
    store_path,
    whole,
)
from pyfaas.resources import Handle, WebSocket

if sys.platform != "win32":
    from pyfaas._confine.plan import Holding, missing
    from pyfaas._invoke.calls import Calls
    from pyfaas._invoke.direct import invoke, run
    from pyfaas._invoke.ending import Ending, outcome_of, value_of
    from pyfaas._invoke.stream import AsyncStream, BlockingStream, Pipeline
    from pyfaas._pool.policy import Shelf
    from pyfaas._pool.pool import Pool, pools
    from pyfaas._pool.statistics import FunctionStatistics, RuntimeStatistics
    from pyfaas._sandbox.sandbox import Lost

if TYPE_CHECKING:
    from pyfaas._sources.auth.asking import Auth
    from pyfaas._sources.http.application import Application, Open
    from pyfaas._sources.mapping import EventSourceMapping
    from pyfaas._stores.queue import Waiting

Event = TypeVar("Event")
Result = TypeVar("Result")

_numbers = itertools.count(1)
_default_lock = threading.Lock()


# What ``Runtime`` is given, and what each may be.
_CHECKS: dict[str, Check] = {
    "concurrency": whole(1, limits.SANDBOXES),
    "when_full": one_of("raise", "wait"),
    "confinement": one_of("best", "strict", "off"),
    "drain": seconds(0, 3600),
    "durability": one_of("full", "normal"),
    "clock": a_clock,
}


class Runtime:
    """
    Runs functions, each invocation in a sandbox of its own.

    - ``functions``: a module, a list of functions, or None for all that are declared; others are refused
    - ``concurrency``: permits, so many sandboxes work at once (AWS's account limit: 1,000)
    - ``when_full``: ``"raise"`` Throttled, or ``"wait"`` in line
    - ``keep_alive``: seconds that an idle sandbox is kept, ``float("inf")`` for ever; or a policy: ``FixedTime``,
      ``GreedyDual`` or ``HybridHistogram``
    - ``confinement``: ``"best"``; ``"strict"`` raises CannotConfine where a guarantee cannot be kept; ``"off"``
    - ``store``: the path of a file that keeps what is submitted, made if it is not there; several processes may open
      it. None: what is submitted is kept until this runtime is closed
    - ``durability``: ``"full"``, what was accepted is on the disk; ``"normal"``, the last of it may be lost when the
      power fails, and accepting is faster
    - ``drain``: seconds that closing waits for calls in flight, and without a file for what was submitted and is due
    - ``clock``: where time comes from; for tests, see ``pyfaas.testing.ManualClock``

    ``engine`` accepts only what it offers so far.

    Raises ConfigurationError naming the field, the value and what would be right.
    """

    def __init__(
        self,
        functions: types.ModuleType | Iterable[Function[Any, Any]] | None = None,
        *,
        store: str | os.PathLike[str] | None = None,
        durability: str = "full",
        concurrency: int = limits.CONCURRENCY,
        when_full: str = "raise",
        keep_alive: float | KeepAlive = limits.KEEP_ALIVE_SECONDS,
        confinement: str = "best",
        engine: str = "local",
        drain: float = 5.0,
        clock: Clock | None = None,
    ) -> None:
        given = {
            "concurrency": concurrency,
            "when_full": when_full,
            "confinement": confinement,
            "drain": drain,
            "durability": durability,
            "clock": clock,
        }
        check_each(_CHECKS, given)
        self._concurrency = concurrency
        self._when_full = when_full
        self._confinement = confinement
        self._drain = drain
        if engine != "local":
            raise ConfigurationError(f"engine={engine!r}: is not available yet")
        self._store = store_path(store)
        self._durability = durability
        self._clock = clock
        self._deferred: Any = None
        self._sources: Any = None
        self._seen = 0  # of what was declared
        self._keep_alive = policy_of(keep_alive)
        self._functions = listed(functions)
        self._number = next(_numbers)
        self._state = "new"
        self._pool: Any = None
        self._token: Token[Any] | None = None
        self._lock = threading.Lock()

    # -- opening and closing -------------------------------------------------------------------------------------------

    def open(self) -> Runtime:
        """Open it for calls; ``with`` does so, and a call on a new runtime too. Starts no process yet."""
        with self._lock:
            if self._state == "new":
                if sys.platform == "win32":
                    raise HostError("pyfaas runs functions on Linux and macOS; on Windows use WSL")
                self._pool = Pool(
                    concurrency=self._concurrency,
                    when_full=self._when_full,
                    keep_alive=self._keep_alive,
                    confinement=self._confinement,
                )
                self._pool.calls_back = Calls(self._later, self)
                self._pool.once = self._once
                if self._store is not None or any(one.options.trigger for one in self._functions_now()):
                    self._open_store()
                self._state = "open"
                _port.opened(self)
                _open_runtimes.add(self)
        return self

    def _open_store(self) -> None:
        """Open the store, and begin with what it holds. Raises StoreUnavailable."""
        from pyfaas._invoke.deferred import open_deferred  # with SQLite and asyncio, which other callers do not need
        from pyfaas._sources.opened import Sources

        for function in self._functions or ():
            for other in function.destinations():
                if self._store is None and other not in (self._functions or ()):
                    raise ConfigurationError(
                        f"{function.name!r} tells {other.name!r} what came of its events, which {self!r} was not "
                        "opened for"
                    )
        self._deferred = deferred = open_deferred(self._store, self._durability, self._clock, self._pool, self._shelf)
        self._seen = _port.declarations
        try:
            self._sources = Sources(deferred)
            self._sources.open(self._functions_now())
        except BaseException:
            self._deferred = None
            deferred.close(0.0)
            raise

    def _functions_now(self) -> Iterable[Function[Any, Any]]:
        return tuple(declared.values()) if self._functions is None else self._functions

    def close(self, *, drain: float | None = None) -> None:
        """
        Take no more calls, wait up to ``drain`` seconds for those in flight, end every process. Twice is fine.

        What was submitted waits in the store for the next runtime that opens it. Without a store, what is due is run
        meanwhile, and a warning tells how much was not.
        """
        lost = 0
        with self._lock:
            if self._state == "open":
                _port.closed(self)
                _open_runtimes.discard(self)
                seconds = self._drain if drain is None else drain
                lost = self._deferred.close(seconds) if self._deferred is not None else 0
                self._pool.close(seconds)
            self._state = "closed"
        if lost:
            told = f"{self!r} was closed with {lost} submitted events that were not run"
            hint = "leaving `with Runtime():` waits for those that are due, and a store=... keeps them all"
            warnings.warn(f"{told}; {hint}", RuntimeWarning, stacklevel=2)

    async def aclose(self) -> None:
        """Do the same from async code."""
        import anyio
        import anyio.to_thread

        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.close)

    def _enter(self) -> None:
        self.open()
        self._token = _port.entered.set(self)

    def _leave(self) -> None:
        token, self._token = self._token, None
        if token is not None:
            try:
                _port.entered.reset(token)
            except ValueError:  # left in another context than it was entered in
                _port.entered.set(None)

    def __enter__(self) -> Runtime:
        self._enter()
        try:
            run_blocking(self._provision())
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._leave()
        self.close(drain=None if kind is None else 0.0)

    async def __aenter__(self) -> Runtime:
        self._enter()
        try:
            await run_async(self._provision())
        except BaseException:
            await self.__aexit__(*sys.exc_info())
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self._leave()
        await self.aclose()

    def _provision(self) -> Trip[None]:
        """Load what ``provisioned_concurrency`` asks for; of functions that were named, templates too."""
        for function in self._functions if self._functions is not None else tuple(declared.values()):
            options = function.options
            if options.provisioned_concurrency:
                yield from self._load(function, "provisioned_concurrency", self._pool.provision)
            elif options.snap_start and self._functions is not None:
                yield from self._load(function, "snap_start", self._pool.warm)

    def _load(self, function: Function[Any, Any], option: str, load: Callable[[Any], Trip[None]]) -> Trip[None]:
        try:
            yield from load(function)
        except Lost as lost:
            told = f"{option} of {function.name!r}: it does not load ({lost.why}): {lost.told}"
            warnings.warn(told[:2000], RuntimeWarning, stacklevel=2)

    # -- calls ---------------------------------------------------------------------------------------------------------

    def invoke(self, function: Function[Event, Result], event: Event, *, tenant: str | None = None) -> Result:
        """Run the function and wait for its result; see ``Function.invoke``."""
        shelf = self._shelf(function, tenant)
        if shelf.idempotent:
            return value_of(run_blocking(run(self._pool, shelf, encode_event(event), bare=True)))  # type: ignore[no-any-return]
        return invoke(self._pool, shelf, encode_event(event))  # type: ignore[return-value]

    async def ainvoke(self, function: Function[Event, Result], event: Event, *, tenant: str | None = None) -> Result:
        """Run the function and wait for its result, from async code."""
        shelf = self._shelf(function, tenant)
        ending = await run_async(run(self._pool, shelf, encode_event(event), bare=True))
        if ending.error is not None:
            raise ending.error
        return ending.value  # type: ignore[return-value]

    def try_invoke(self, function: Function[Event, Any], event: Event, *, tenant: str | None = None) -> Outcome:
        """Run the function and give its Outcome; see ``Function.try_invoke``."""
        shelf = self._shelf(function, tenant)
        return outcome_of(run_blocking(run(self._pool, shelf, encode_event(event), bare=False)))

    async def atry_invoke(self, function: Function[Event, Any], event: Event, *, tenant: str | None = None) -> Outcome:
        """Run the function and give its Outcome, from async code."""
        shelf = self._shelf(function, tenant)
        return outcome_of(await run_async(run(self._pool, shelf, encode_event(event), bare=False)))

    def map(
        self, function: Function[Event, Result], events: Iterable[Event], *, tenant: str | None = None
    ) -> BlockingStream[Result]:
        """Run the function for each event, values in order; see ``Function.map``."""
        return BlockingStream(self._pipeline(function, events, tenant, bare=True), value_of)

    def try_map(
        self, function: Function[Event, Any], events: Iterable[Event], *, tenant: str | None = None
    ) -> BlockingStream[Outcome]:
        """Run the function for each event, Outcomes in order; see ``Function.try_map``."""
        return BlockingStream(self._pipeline(function, events, tenant, bare=False), outcome_of)

    def amap(
        self,
        function: Function[Event, Result],
        events: Iterable[Event] | AsyncIterable[Event],
        *,
        tenant: str | None = None,
    ) -> AsyncStream[Result]:
        """Do what ``map`` does from async code."""
        return AsyncStream(self._pipeline(function, events, tenant, bare=True), value_of)

    def atry_map(
        self,
        function: Function[Event, Any],
        events: Iterable[Event] | AsyncIterable[Event],
        *,
        tenant: str | None = None,
    ) -> AsyncStream[Outcome]:
        """Do what ``try_map`` does from async code."""
        return AsyncStream(self._pipeline(function, events, tenant, bare=False), outcome_of)

    # -- calls for later -----------------------------------------------------------------------------------------------

    def submit(
        self,
        function: Function[Event, Any],
        event: Event,
        *,
        delay: float = 0,
        idempotency_key: str | None = None,
        tenant: str | None = None,
    ) -> str:
        """Accept the event and run the function later; see ``Function.submit``."""
        return run_blocking(self._submit(function, event, delay, idempotency_key, tenant))

    async def asubmit(
        self,
        function: Function[Event, Any],
        event: Event,
        *,
        delay: float = 0,
        idempotency_key: str | None = None,
        tenant: str | None = None,
    ) -> str:
        """Do the same from async code."""
        return await run_async(self._submit(function, event, delay, idempotency_key, tenant))

    def _submit(
        self, function: Function[Any, Any], event: Any, delay: float, key: str | None, tenant: str | None
    ) -> Trip[str]:
        check_submission(delay, key)
        self._shelf(function, tenant)  # a function that cannot be run is refused now
        payload = encode_event(event)
        return self._later().submit(function, payload, tenant=tenant, delay=delay, key=key)  # type: ignore[no-any-return]

    def submission(self, request_id: str) -> Submission | None:
        """Tell what is known of an event that was submitted; None of one that is unknown, or over for four days."""
        return run_blocking(self._later().look_up(request_id))  # type: ignore[no-any-return]

    async def asubmission(self, request_id: str) -> Submission | None:
        """Do the same from async code."""
        return await run_async(self._later().look_up(request_id))

    def wait(self, request_id: str, timeout: float | None = None) -> Submission | None:
        """Wait until a submitted event is done or failed, or ``timeout`` seconds; tell what is known of it then."""
        return run_blocking(self._later().wait(request_id, timeout))  # type: ignore[no-any-return]

    async def await_(self, request_id: str, timeout: float | None = None) -> Submission | None:
        """Do what ``wait`` does from async code."""
        return await run_async(self._later().wait(request_id, timeout))

    def backlog(self) -> dict[str, Waiting]:
        """
        Tell what waits in the store, by where: ``{"queue/orders": ..., "function/charge": ...}``.

        Of each the messages, or events, that are ``due``, ``leased`` (being worked on, or failed and hidden) and
        ``delayed`` (also until the next attempt). It looks at each of them, so of a million it takes a while.
        """
        return self._later().backlog()  # type: ignore[no-any-return]

    def is_settled(self) -> bool:
        """Tell whether all that was accepted so far, and is due by the clock, is done."""
        return bool(self._later().is_settled())

    def _later(self) -> Any:
        """Give what runs submitted events; without a store it is made for the first of them."""
        if self._pool is None or self._pool.closed or self._pool.inherited_from:
            self._open_pool()
        if self._deferred is None:
            with self._lock:
                if self._deferred is None:
                    self._open_store()
        elif self._seen != _port.declarations and self._lock.acquire(blocking=False):
            # Whoever closes has the lock, and waits for calls that may be here.
            try:
                self._seen = _port.declarations
                self._sources.open(self._functions_now())
            finally:
                self._lock.release()
        return self._deferred

    # -- handles, and what they are connected with ---------------------------------------------------------------------

    def send(self, to: Handle, what: Any) -> Any:
        """Accept what a handle made; see ``Queue.send``, ``Topic.publish``, ``Bus.put_event`` and ``Stream.put``."""
        return run_blocking(self._later().outbox.send(to, what))

    async def asend(self, to: Handle, what: Any) -> Any:
        """Do the same from async code."""
        return await run_async(self._later().outbox.send(to, what))

    def ask(self, of: Handle | Function[Any, Any], verb: str, *arguments: Any) -> Any:
        """Look after what a handle or a function has; see ``Queue.purge`` and ``Function.schedule``."""
        return run_blocking(self._ask(of, verb, *arguments))

    async def aask(self, of: Handle | Function[Any, Any], verb: str, *arguments: Any) -> Any:
        """Do the same from async code."""
        return await run_async(self._ask(of, verb, *arguments))

    def _ask(self, of: Handle | Function[Any, Any], verb: str, *arguments: Any) -> Trip[Any]:
        outbox = self._later().outbox
        if isinstance(of, WebSocket):
            return self._sources.connections.ask(of, verb, *arguments)
        if isinstance(of, Handle):
            return (yield from outbox.ask(of, verb, *arguments))
        return (yield from getattr(self._sources, verb)(of, *arguments))

    def mappings(self) -> list[EventSourceMapping]:
        """List what connects queues, topics and buses to functions, as the store knows it, the oldest first."""
        self._later()
        return self._sources.mappings()  # type: ignore[no-any-return]

    # -- the doors -----------------------------------------------------------------------------------------------------

    @property
    def asgi(self) -> Application:
        """
        An ASGI application of all functions that have an ``http`` trigger: hand it to a server, or mount it in yours.

        It opens this runtime with the server (or with the first request), and closes it with that if it had opened it.
        """
        from pyfaas._sources.http.application import Application

        return Application(self._doors, self.close, lambda: self._state == "open")

    def serve(self, host: str = "127.0.0.1", port: int = 8080, **options: Any) -> None:
        """
        Serve ``asgi`` by uvicorn (``pip install pyfaas[http]``) until it is told to stop by SIGINT or SIGTERM.

        ``options`` are uvicorn's. Raises ConfigurationError where uvicorn is not installed.
        """
        from pyfaas._sources.http.serve import serve

        serve(self.asgi, host, port, options)

    @property
    def auth(self) -> Auth:
        """The hooks of sign-up and sign-in, for applications to ask; functions have them by ``trigger=auth(...)``."""
        from pyfaas._sources.auth.asking import Auth

        return Auth(lambda: (self._later().house, self._sources.hooks))

    def _doors(self) -> Open:
        self._later()
        return self._sources.doors()  # type: ignore[no-any-return]

    def _once(self, shelf: Shelf, payload: bytes, raw_id: bytes, go: Callable[[], Trip[Ending]]) -> Trip[Ending]:
        from pyfaas._invoke.once import run_once  # with what stores need

        return run_once(self._later(), shelf, payload, raw_id, go)

    def _pipeline(self, function: Function[Any, Any], events: Any, tenant: str | None, *, bare: bool) -> Pipeline:
        if not isinstance(events, (Iterable, AsyncIterable)):
            raise InvalidEvent(f"events={events!r}: must be an iterable of events")
        shelf = self._shelf(function, tenant)
        if shelf.idempotent:
            raise ConfigurationError(f"{function.name!r} has idempotency=: map sends ahead; use invoke, or submit")
        return Pipeline(self._pool, shelf, events, bare=bare)

    def _shelf(self, function: Function[Any, Any], tenant: str | None) -> Shelf:
        """Find the function's place here, or say why it has none."""
        pool = self._pool
        if pool is None or pool.closed or pool.inherited_from:
            pool = self._open_pool()
        if tenant is not None and not isinstance(tenant, str):
            check_tenant(function.options, tenant)
        shelf = pool.ledger.shelves.get(function if tenant is None else (function, tenant))
        if shelf is None or shelf.retired:
            shelf = self._first_shelf(function, tenant)
        return shelf  # type: ignore[no-any-return]

    def _open_pool(self) -> Any:
        if self._state == "closed" or (self._pool is not None and self._pool.closed):
            raise InvokeError(f"{self!r} is closed: open another Runtime()")
        if self._pool is not None and self._pool.inherited_from:
            self._pool.check_open()
        return self.open()._pool

    def _first_shelf(self, function: Function[Any, Any], tenant: str | None) -> Any:
        if not isinstance(function, Function):
            raise ConfigurationError(f"function={function!r}: must be what @function made")
        if self._functions is not None and function not in self._functions:
            raise FunctionNotFound(f"{self!r} was opened for other functions: {function.name!r} is not among them")
        check_tenant(function.options, tenant)
        if self._confinement == "strict":
            self._refuse_what_is_not_held()
        return self._pool.shelf_of(function, tenant)

    # -- telling -------------------------------------------------------------------------------------------------------

    def statistics(self) -> RuntimeStatistics:
        """Count permits, sandboxes and calls; of the runtime and of each function."""
        return (self._pool or self._open_pool()).statistics()  # type: ignore[no-any-return]

    def function_statistics(self, function: Function[Any, Any]) -> FunctionStatistics:
        """Count one function; see ``Function.statistics``."""
        return (self._pool or self._open_pool()).function_statistics(function)  # type: ignore[no-any-return]

    def confinement(self) -> list[Holding]:
        """Tell, for each guarantee, how this host holds it: by the kernel, watched, or not held, by what and why."""
        return (self._pool or self._open_pool()).supply.holdings()  # type: ignore[no-any-return]

    def _refuse_what_is_not_held(self) -> None:
        not_held = missing(self.confinement())
        if not_held:
            listed = "; ".join(f"{one.guarantee} ({one.why})" for one in not_held)
            raise CannotConfine(f'confinement="strict", but this host does not hold: {listed}')

    def __repr__(self) -> str:
        if self._state != "open":
            return f"<Runtime {self._number} {self._state}>"
        if self._pool.inherited_from:
            return f"<Runtime {self._number} of process {self._pool.inherited_from}>"
        now = self._pool.statistics()
        return (
            f"<Runtime {self._number} open, {now.in_flight} of {now.concurrency} permits in use, {now.waiting} waiting,"
            f" sandboxes: {now.live} live, {now.idle} idle, {now.standby} standby>"
        )


# -- the process -------------------------------------------------------------------------------------------------------

_open_runtimes: set[Runtime] = set()
_default: Runtime | None = None


def default_runtime() -> Runtime:
    """Give the default runtime of this process, open; it is closed when the process exits."""
    global _default
    with _default_lock:
        if _default is None or _default._state == "closed":
            _default = Runtime().open()
        return _default


def _close_all() -> None:
    for runtime in tuple(_open_runtimes):
        runtime.close(drain=0.0)


def _after_fork() -> None:
    """In a forked child of the host: the runtimes are the parent's."""
    global _default, _default_lock
    _default_lock = threading.Lock()
    _default = None
    _port.forget_all()
    parent = os.getppid()
    for runtime in tuple(_open_runtimes):
        runtime._lock = threading.Lock()
        if runtime._deferred is not None:
            runtime._deferred.abandon()
    _open_runtimes.clear()
    for pool in tuple(pools):
        if not pool.inherited_from and not pool.closed:
            pool.abandon(parent)


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
