"""
Declaring: ``@function`` makes a ``Function`` of a handler, and nothing runs yet.

    @function                      a callable in place (a unit test calls it as it is), with verbs that run it in a
    def f(event, context): ...     sandbox: invoke, try_invoke, map, try_map, and their ``a`` twins for async code

A verb asks ``_port`` which runtime is meant and hands over; this file knows of no pool and no process.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import types
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast, overload

from pyfaas import _port
from pyfaas.context import Context
from pyfaas.errors import ConfigurationError
from pyfaas.options import Options, refuse

if TYPE_CHECKING:
    import inspect

    from pyfaas._records import Outcome

Event = TypeVar("Event")
Result = TypeVar("Result")

# Every function declared at the top of a module, by where; a cell that is run again replaces what it declared.
declared: dict[tuple[str, str], Function[Any, Any]] = {}


class Function(Generic[Event, Result]):
    """
    A declared function. Frozen; compared by identity; pickles by name.

    Call it like the handler it was made from, in this process, or use a verb to run it in a sandbox.
    """

    handler: Callable[..., Any]
    options: Options
    module: str
    qualname: str
    takes_context: bool
    is_async: bool

    def __init__(
        self,
        handler: Callable[..., Any],
        options: Options,
        module: str,
        qualname: str,
        takes_context: bool,
        is_async: bool,
    ) -> None:
        self.__dict__.update(
            handler=handler,
            options=options,
            module=module,
            qualname=qualname,
            takes_context=takes_context,
            is_async=is_async,
            __wrapped__=handler,
            __doc__=getattr(handler, "__doc__", None),
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: a function is frozen")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{name!r} cannot be deleted: a function is frozen")

    @property
    def name(self) -> str:
        """The function's name, as reports and errors show it."""
        return self.options.name

    @property
    def __name__(self) -> str:
        return self.qualname.rpartition(".")[2]

    def __call__(self, event: Event, context: Context | None = None) -> Any:
        """Call the handler in this process, without a sandbox; an ``async def`` handler gives its coroutine."""
        if self.takes_context:
            return self.handler(event, Context(self.name) if context is None else context)
        return self.handler(event)

    def invoke(self, event: Event, *, tenant: str | None = None) -> Result:
        """
        Run the handler in a sandbox and wait for its result.

        ``tenant``: whom it is for, and must be given, where the function was declared with ``tenant_isolated=True``.

        Raises FunctionError (one of its kinds) if the function failed, InvokeError if the call was refused,
        ConfigurationError if the handler cannot travel, HostError if this machine cannot.
        """
        return _port.current().invoke(self, event, tenant=tenant)  # type: ignore[no-any-return]

    async def ainvoke(self, event: Event, *, tenant: str | None = None) -> Result:
        """Do the same from async code, on asyncio or trio. Cancelling it kills the sandbox."""
        return cast("Result", await _port.current().ainvoke(self, event, tenant=tenant))

    def try_invoke(self, event: Event, *, tenant: str | None = None) -> Outcome:
        """Run the handler in a sandbox and give its Outcome; never raises FunctionError."""
        return cast("Outcome", _port.current().try_invoke(self, event, tenant=tenant))

    async def atry_invoke(self, event: Event, *, tenant: str | None = None) -> Outcome:
        """Do the same from async code."""
        return cast("Outcome", await _port.current().atry_invoke(self, event, tenant=tenant))

    def map(self, events: Iterable[Event], *, tenant: str | None = None) -> Iterator[Result]:
        """
        Run the handler for each event and give the results in order, lazily, several ahead.

        Stops at the first failure by raising its FunctionError. Close the iterator to end what still runs.
        """
        return _port.current().map(self, events, tenant=tenant)

    def try_map(self, events: Iterable[Event], *, tenant: str | None = None) -> Iterator[Outcome]:
        """Run the handler for each event and give an Outcome for each, in order; never stops at a failure."""
        return _port.current().try_map(self, events, tenant=tenant)

    def amap(
        self, events: Iterable[Event] | AsyncIterable[Event], *, tenant: str | None = None
    ) -> AsyncIterator[Result]:
        """
        Do what ``map`` does from async code; the iterator has ``aclose()``.

        An asynchronous source is asked for its next event as long as there is room ahead, and answers wait meanwhile:
        it must not itself wait for them.
        """
        return _port.current().amap(self, events, tenant=tenant)

    def atry_map(
        self, events: Iterable[Event] | AsyncIterable[Event], *, tenant: str | None = None
    ) -> AsyncIterator[Outcome]:
        """Do what ``try_map`` does from async code."""
        return _port.current().atry_map(self, events, tenant=tenant)

    def submit(
        self, event: Event, *, delay: float = 0, idempotency_key: str | None = None, tenant: str | None = None
    ) -> str:
        """
        Accept the event now and run the handler later, with retries; give the request id, the same for every attempt.

        It is accepted once this returns: durably where the runtime has a ``store``, else until this process ends. It
        is run at least once: where a host dies in the middle, once more. A failure is repeated after 1 and 2 minutes,
        as often as ``retries`` says; what found no permit after 1 s, 2 s, 4 s ... 5 min, and uses up no retry; both as
        in AWS. ``runtime.submission(request_id)`` tells what came of it, ``runtime.wait(request_id)`` waits.

        ``delay``: seconds before it is due, 0 to 900. ``idempotency_key``: an event with a key that was accepted for
        this function within the last day is not accepted again; the request id is that of the first one.

        Raises InvalidEvent, PayloadTooLarge over 1 MB, ConfigurationError, and StoreUnavailable.
        """
        return _port.current().submit(self, event, delay=delay, idempotency_key=idempotency_key, tenant=tenant)

    async def asubmit(
        self, event: Event, *, delay: float = 0, idempotency_key: str | None = None, tenant: str | None = None
    ) -> str:
        """Do the same from async code."""
        return await _port.current().asubmit(self, event, delay=delay, idempotency_key=idempotency_key, tenant=tenant)

    def schedule(self, expression: str, event: Event | None = None, **options: Any) -> str:
        """
        Have the handler run at times from now on, each an asynchronous invocation, and give the schedule's name.

        What it takes is what ``pyfaas.schedule`` takes: ``name`` (one that is there is replaced), ``timezone``,
        ``start``, ``end``, ``flexible``, ``catch_up``. It is kept in the ``store``; once it is over, it is forgotten.

        Raises ConfigurationError, also where there is no such time any more, and StoreUnavailable.
        """
        return _port.current().ask(self, "schedule", _trigger(expression, event, options))  # type: ignore[no-any-return]

    async def aschedule(self, expression: str, event: Event | None = None, **options: Any) -> str:
        """Do the same from async code."""
        return await _port.current().aask(self, "schedule", _trigger(expression, event, options))  # type: ignore[no-any-return]

    def unschedule(self, name: str) -> bool:
        """Forget a schedule of this name; tell whether there was one."""
        return _port.current().ask(self, "unschedule", name)  # type: ignore[no-any-return]

    async def aunschedule(self, name: str) -> bool:
        """Do the same from async code."""
        return await _port.current().aask(self, "unschedule", name)  # type: ignore[no-any-return]

    def schedules(self) -> dict[str, float | None]:
        """List its schedules by name, with the seconds since 1970 at which each is due next; None once it is over."""
        return _port.current().ask(self, "schedules")  # type: ignore[no-any-return]

    def destinations(self) -> list[Function[Any, Any]]:
        """List the functions that are told what came of an event of this one."""
        return [one for one in (self.options.on_success, self.options.on_failure) if isinstance(one, Function)]

    def statistics(self) -> Any:
        """Give the ``FunctionStatistics`` of this function in the current runtime."""
        return _port.current().function_statistics(self)

    def __repr__(self) -> str:
        options = self.options
        return f"<Function {self.name!r} memory={options.memory} timeout={options.timeout:g}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _find, (self.module, self.qualname)

    def reduce_by_value(self) -> tuple[Any, ...]:
        """Give what a pickle needs to make this function where its module cannot be imported."""
        state = {
            "handler": self.handler,
            "options": self.options.without(*_OF_HANDLES),  # the host's business
            "module": self.module,
            "qualname": self.qualname,
            "takes_context": self.takes_context,
            "is_async": self.is_async,
        }
        # The state comes after the object, so that a handler may refer to the function that it is the handler of.
        return _blank, (), state, None, None, _fill


def _trigger(expression: str, event: Any, options: dict[str, Any]) -> Any:
    from pyfaas.triggers import schedule

    return schedule(expression, event=event, **options)


def _blank() -> Function[Any, Any]:
    return object.__new__(Function)


def _fill(function: Function[Any, Any], state: dict[str, Any]) -> None:
    Function.__init__(function, **state)


def _find(module: str, qualname: str) -> Function[Any, Any]:
    """Unpickle a function: the one that this name means here."""
    if module not in sys.modules:
        importlib.import_module(module)
    found: Any = sys.modules[module]
    for part in qualname.split("."):
        found = getattr(found, part, None)
    if not isinstance(found, Function):
        raise ConfigurationError(f"{module}.{qualname}: no function is declared under this name here")
    return found


# -- the decorator -----------------------------------------------------------------------------------------------------


class Decorator(Protocol):
    """What ``function(...)`` with options gives: it takes the handler."""

    @overload
    def __call__(self, handler: Callable[[Event], Coroutine[Any, Any, Result]], /) -> Function[Event, Result]: ...
    @overload
    def __call__(
        self, handler: Callable[[Event, Context], Coroutine[Any, Any, Result]], /
    ) -> Function[Event, Result]: ...
    @overload
    def __call__(self, handler: Callable[[Event], Result], /) -> Function[Event, Result]: ...
    @overload
    def __call__(self, handler: Callable[[Event, Context], Result], /) -> Function[Event, Result]: ...


@overload
def function(handler: Callable[[Event], Coroutine[Any, Any, Result]], /) -> Function[Event, Result]: ...
@overload
def function(handler: Callable[[Event, Context], Coroutine[Any, Any, Result]], /) -> Function[Event, Result]: ...
@overload
def function(handler: Callable[[Event], Result], /) -> Function[Event, Result]: ...
@overload
def function(handler: Callable[[Event, Context], Result], /) -> Function[Event, Result]: ...
@overload
def function(
    *,
    name: str = ...,
    trigger: Any = None,
    memory: int = 128,
    timeout: float = 3,
    environment: dict[str, str] = ...,
    ephemeral_storage: int = 512,
    cpu: float | str | None = None,
    cpu_seconds: float | None = None,
    network: bool = True,
    reads: Sequence[str | os.PathLike[str]] = ...,
    writes: Sequence[str | os.PathLike[str]] = ...,
    allow: list[Any] = ...,
    reserved_concurrency: int | None = None,
    provisioned_concurrency: int = 0,
    snap_start: bool = False,
    preload: list[str] = ...,
    retries: int = 2,
    max_event_age: float = 21_600,
    on_success: Any = None,
    on_failure: Any = None,
    dead_letter: Any = None,
    idempotency: Any = None,
    layers: list[str] = ...,
    tenant_isolated: bool = False,
    fresh: bool = False,
    max_invocations: int | None = None,
    description: str = "",
) -> Decorator: ...
def function(handler: Any = None, /, **options: Any) -> Any:
    """
    Declare a function: ``@function`` or ``@function(memory=256, timeout=10)``.

    The handler takes ``(event, context)`` or ``(event)`` and may be ``async def``; plain functions, static methods,
    bound methods, partials and what other decorators return will do.

    - ``name``: 1 to 64 letters, digits, hyphens and underscores; default the handler's own
    - ``memory``: MB that the sandbox and its children may hold, 128 to 10,240 (AWS: MemorySize)
    - ``timeout``: seconds for one invocation, 0.05 to 900 (AWS: Timeout, 1 to 900)
    - ``environment``: variables, text to text, at most 4,096 bytes; AWS's reserved names are refused
    - ``ephemeral_storage``: MB in ``/tmp``, 512 to 10,240 (AWS: EphemeralStorage)
    - ``cpu``: processors that the sandbox may keep busy, 0.5 for half of one; ``"proportional"`` is one for each
      1,769 MB of ``memory``, as in AWS; all if not given. Held by a cgroup, else by weight and CPU time
    - ``cpu_seconds``: seconds of CPU time for one invocation, of all threads and children; default timeout x cpu + 1
    - ``network``: False leaves the sandbox no way out, not even to this machine
    - ``reads``, ``writes``: absolute paths of the host that the sandbox sees beside code and libraries, and may change
    - ``reserved_concurrency``: permits kept for this function alone, and its limit; 0 refuses every call
    - ``provisioned_concurrency``: sandboxes kept loaded
    - ``tenant_isolated``: a sandbox serves one tenant only, for ever; each call says which, ``invoke(.., tenant="a")``
      (AWS: TenancyConfig PER_TENANT)
    - ``fresh``: a new sandbox, with an empty ``/tmp``, for every invocation
    - ``snap_start``: init runs once, and sandboxes are forked from the process that has run it (AWS: SnapStart)
    - ``preload``: names of modules that are imported once, and are there when a sandbox starts; they are imported with
      the rights of the host, so name what you would import yourself
    - ``retries``: how often what was submitted is run again after a failure, 0 to 2 (AWS: MaximumRetryAttempts)
    - ``max_event_age``: seconds after which what was submitted is given up, 60 to 21,600 (AWS:
      MaximumEventAgeInSeconds)
    - ``max_invocations``: after so many the sandbox is replaced
    - ``description``: up to 256 characters
    - ``trigger``: what runs it besides calls: a queue, a topic, a rule of a bus, a schedule, or a list of such
    - ``on_success``, ``on_failure``: a function, queue, topic or bus that is told what came of an event that was
      submitted, or published (AWS: DestinationConfig); in the transaction that notes it
    - ``dead_letter``: a queue or topic that gets such an event when it is given up (AWS: DeadLetterConfig)

    - ``allow``: what the handler may do from inside its sandbox: ``[orders.send, receipts.publish, shop.put_event,
      other.invoke, other.submit]``, or names such as ``"function:walk:submit"``

    - ``idempotency``: a JMESPath expression for the key of an event, or an ``Idempotency``: an event whose key was seen
      gets the result of the first one (as with Powertools for AWS Lambda; ``pip install pyfaas[idempotency]``)

    ``layers`` is checked, and refused as not available yet.

    Raises ConfigurationError naming the field, the value and what would be right.
    """
    if handler is None:
        Options(**{"name": "function", **_with_handles(options)})  # so that a wrong option shows at its own line
        return functools.partial(_declare, options)
    return _declare(options, handler)


def _declare(options: dict[str, Any], handler: Any, /) -> Function[Any, Any]:
    if isinstance(handler, Function):
        raise ConfigurationError(f"{handler!r} is a function already; decorate a handler once")
    if isinstance(handler, classmethod):
        raise ConfigurationError("a classmethod is no handler yet: use function(TheClass.method) after the class")
    if isinstance(handler, staticmethod):
        handler = handler.__func__
    if not callable(handler):
        raise refuse("handler", handler, "a callable")
    named = handler
    while isinstance(named, functools.partial):
        named = named.func
    if not hasattr(named, "__qualname__"):
        named = type(named)
    module = getattr(named, "__module__", None) or "__main__"
    qualname = named.__qualname__
    made: Function[Any, Any] = Function(
        handler,
        Options(**{"name": _default_name(qualname), **_with_handles(options)}),
        module,
        qualname,
        _takes_context(handler, qualname),
        _is_async(handler),
    )
    if "<" not in qualname:
        declared[module, qualname] = made
        _port.declared_more()
    return made


_OF_HANDLES = ("trigger", "allow", "on_success", "on_failure", "dead_letter", "idempotency")


def _with_handles(options: dict[str, Any]) -> dict[str, Any]:
    """Look at the options that name handles; make triggers of what stands after ``trigger=``."""
    if all(options.get(name) in (None, (), []) for name in _OF_HANDLES):
        return options
    from pyfaas.grants import checked_grants
    from pyfaas.resources import check_dead_letter, check_destination
    from pyfaas.triggers import checked_triggers

    for name in ("on_success", "on_failure"):
        if options.get(name) is not None and not isinstance(options[name], Function):
            check_destination(name, options[name])
    if options.get("dead_letter") is not None:
        check_dead_letter("dead_letter", options["dead_letter"])
    if options.get("idempotency") is not None:
        from pyfaas.idempotency import checked_idempotency

        options = {**options, "idempotency": checked_idempotency(options["idempotency"])}
    triggers = checked_triggers(options.get("trigger"), options.get("timeout", Options.timeout))
    return {**options, "trigger": triggers, "allow": checked_grants(options.get("allow", ()))}


def _default_name(qualname: str) -> str:
    name = qualname.rpartition(".")[2]
    return name if name.isidentifier() and name.isascii() and len(name) <= 64 else _tidy(name)


def _tidy(name: str) -> str:
    import re

    return re.sub(r"[^a-zA-Z0-9-_]", "", name)[:64] or "function"


# The code object of a plain function tells all that is asked here; ``inspect`` takes longer to load than all of this.

_PLAIN = type(_tidy)
_HAS_ARGUMENTS, _IS_COROUTINE = 0x04, 0x80


def _is_async(handler: Any) -> bool:
    while isinstance(handler, functools.partial):
        handler = handler.func
    if type(handler) is _PLAIN:
        return bool(handler.__code__.co_flags & _IS_COROUTINE)
    import inspect

    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def _takes_context(handler: Any, qualname: str) -> bool:
    """Tell whether it takes ``(event, context)`` or ``(event)``; anything else is refused."""
    if type(handler) is _PLAIN and "." not in qualname and not hasattr(handler, "__wrapped__"):
        code = handler.__code__
        names = code.co_varnames[: code.co_argcount]
        plain = not (code.co_flags & _HAS_ARGUMENTS or code.co_kwonlyargcount or handler.__defaults__)
        if plain and len(names) in (1, 2):
            return len(names) == 2
    return _signature_takes_context(handler, qualname)


def _signature_takes_context(handler: Any, qualname: str) -> bool:
    import inspect

    try:
        signature = inspect.signature(handler)
    except (TypeError, ValueError):  # built in, without a signature
        return False
    parameters = list(signature.parameters.values())
    within = qualname.rpartition(".")[0]
    if parameters and parameters[0].name in ("self", "cls") and within and not within.endswith("<locals>"):
        raise ConfigurationError(
            f"{qualname}{signature}: a method has no object here: make it a @staticmethod (below @function), "
            f"or declare function(the_object.{qualname.rpartition('.')[2]})"
        )
    for count in (2, 1):
        try:
            signature.bind(*[None] * count)
        except TypeError:
            continue
        if count == 2 and not _second_is_context(parameters):
            continue
        return count == 2
    raise ConfigurationError(f"{qualname}{signature}: a handler takes (event, context) or (event)")


def _second_is_context(parameters: list[inspect.Parameter]) -> bool:
    """``(event, limit=10)`` takes an event alone; a second parameter with a default is the context by its name."""
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    if len(positional) < 2:
        return True  # *arguments
    second = positional[1]
    return second.default is second.empty or "context" in second.name.lower() or second.name in ("ctx", "_")


def listed(functions: Any) -> tuple[Function[Any, Any], ...] | None:
    """List the functions that a runtime is given: a module's, or these; None for all. Raises ConfigurationError."""
    if functions is None:
        return None
    if isinstance(functions, types.ModuleType):
        return tuple(value for value in vars(functions).values() if isinstance(value, Function))
    if isinstance(functions, Iterable):
        listed = tuple(functions)
        if all(isinstance(one, Function) for one in listed):
            return listed
    raise ConfigurationError(f"functions={functions!r}: must be a module, a list of functions, or None")
