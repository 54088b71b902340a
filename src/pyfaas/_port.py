"""
The one hole in the floor: how a declaration reaches the runtime that it does not know.

There are two providers: a ``Runtime`` in the host and the worker inside a sandbox. ``functions`` speaks to whichever
is current; ``pyfaas/__init__`` alone says how to make the default runtime.

    fn.invoke(event) ──► current() ──► (1) the runtime entered in this context
                                       (2) else the only one that is open
                                       (3) several are open: ConfigurationError naming them
                                       (4) none: the default one, made now, closed at exit
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from pyfaas.errors import ConfigurationError, InternalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator


class Port(Protocol):
    """What a declared function asks of whoever runs it."""

    def invoke(self, function: Any, event: Any, *, tenant: str | None = None) -> Any: ...
    def ainvoke(self, function: Any, event: Any, *, tenant: str | None = None) -> Awaitable[Any]: ...
    def try_invoke(self, function: Any, event: Any, *, tenant: str | None = None) -> Any: ...
    def atry_invoke(self, function: Any, event: Any, *, tenant: str | None = None) -> Awaitable[Any]: ...
    def map(self, function: Any, events: Iterable[Any], *, tenant: str | None = None) -> Iterator[Any]: ...
    def try_map(self, function: Any, events: Iterable[Any], *, tenant: str | None = None) -> Iterator[Any]: ...
    def amap(self, function: Any, events: Any, *, tenant: str | None = None) -> AsyncIterator[Any]: ...
    def atry_map(self, function: Any, events: Any, *, tenant: str | None = None) -> AsyncIterator[Any]: ...
    def submit(
        self,
        function: Any,
        event: Any,
        *,
        delay: float = 0,
        idempotency_key: str | None = None,
        tenant: str | None = None,
    ) -> str: ...
    def asubmit(
        self,
        function: Any,
        event: Any,
        *,
        delay: float = 0,
        idempotency_key: str | None = None,
        tenant: str | None = None,
    ) -> Awaitable[str]: ...
    def function_statistics(self, function: Any) -> Any: ...
    def send(self, to: Any, what: Any) -> Any: ...
    def asend(self, to: Any, what: Any) -> Awaitable[Any]: ...
    def ask(self, of: Any, verb: str, *arguments: Any) -> Any: ...
    def aask(self, of: Any, verb: str, *arguments: Any) -> Awaitable[Any]: ...


entered: ContextVar[Port | None] = ContextVar("pyfaas_runtime", default=None)

in_sandbox = False
"""Whether this process is a sandbox: what it declares the host has looked at."""

declarations = 0
"""Counts what has been declared; whoever wants to know it all looks again when this is another number."""

_opened: list[Port] = []
_only: Port | None = None
_make_default: Callable[[], Port] | None = None
_lock = threading.Lock()


def provide_default(make: Callable[[], Port]) -> None:
    """Say how the default runtime is made; it is made when the first call finds no open one."""
    global _make_default
    _make_default = make


def declared_more() -> None:
    """Note that something was declared."""
    global declarations
    declarations += 1


def opened(port: Port) -> None:
    """Note that a runtime is open."""
    global _only
    with _lock:
        _opened.append(port)
        _only = _opened[0] if len(_opened) == 1 else None


def closed(port: Port) -> None:
    """Note that a runtime is closed; it may be said twice."""
    global _only
    with _lock:
        if port in _opened:
            _opened.remove(port)
        _only = _opened[0] if len(_opened) == 1 else None


def forget_all() -> None:
    """In a forked child: what the parent had open is not ours, and its lock may be held by a thread we do not have."""
    global _only, _lock
    _lock = threading.Lock()
    _opened.clear()
    _only = None
    entered.set(None)


def all_open() -> tuple[Port, ...]:
    """Give the runtimes that are open in this process."""
    return tuple(_opened)


def current() -> Port:
    """Find the runtime that a call without one means. Raises ConfigurationError if there are several."""
    return entered.get() or _only or _resolve()


def _resolve() -> Port:
    if len(_opened) > 1:
        names = ", ".join(repr(port) for port in _opened)
        raise ConfigurationError(
            f"{len(_opened)} runtimes are open ({names}): enter one of them with 'with runtime:' "
            "or call runtime.invoke(function, event)"
        )
    if _make_default is None:
        raise InternalError("no default runtime was provided: import pyfaas, not its rooms")
    return _make_default()
