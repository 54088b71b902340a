"""
Calls back: what a handler asks of the host while it runs, if ``allow=`` grants it.

    CALL ──► which grant? ──► send, publish, put, submit: one commit
                         └──► invoke: beside, in the dispatcher's loop, for the caller may run out of time first

Everything that comes from a sandbox is looked at as if a stranger had sent it. A call within a call waits for no
permit: those who hold them may all be waiting for it.
"""

from __future__ import annotations

import inspect
import json
import struct
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any

import anyio.to_thread

from pyfaas import limits
from pyfaas._invoke.cause import Cause
from pyfaas._invoke.direct import run
from pyfaas._invoke.ending import Ending
from pyfaas._payload import decode_result, encode_result, packed, unpacked
from pyfaas._port import Port, entered
from pyfaas._sandbox.port import FAILED, HEAD, OK, denied
from pyfaas._sandbox.protocol import ProtocolError
from pyfaas._sandbox.sandbox import Lost, Sandbox
from pyfaas._waits import Later, Trip, run_async
from pyfaas.errors import (
    AccessDenied,
    BadResponse,
    ConfigurationError,
    FunctionError,
    FunctionNotFound,
    InternalError,
    InvalidEvent,
    InvokeError,
    PayloadTooLarge,
    PyfaasError,
    tell_of,
)
from pyfaas.functions import Function, declared
from pyfaas.grants import is_grant, name_of
from pyfaas.options import check_submission
from pyfaas.resources import Handle, made

if TYPE_CHECKING:
    from pyfaas._invoke.deferred import Deferred

_FIELDS = {"kind", "name", "verb", "tenant", "delay", "idempotency_key", "what"}


class Calls:
    """Serves the calls of all sandboxes of one runtime; ``later`` gives what accepts events, once it is needed."""

    def __init__(self, later: Callable[[], Deferred], runtime: Port) -> None:
        self._later = later
        self._runtime = runtime

    def serve(self, sandbox: Sandbox, payload: bytes, raw_id: bytes, hops: int) -> Trip[bytes]:
        """Do what a sandbox asks for, and give the payload of the RESULT. Raises ProtocolError."""
        head, body = _parts(payload)
        function = sandbox.shelf.function
        try:
            value = yield from self._serve(sandbox, function, head, body, raw_id, hops + 1)
            return OK + encode_result(value)
        except PyfaasError as error:
            told = tell_of(error)
            if isinstance(error, FunctionError):
                told["request_id"] = error.request_id
            return FAILED + json.dumps(told).encode()

    def _serve(
        self,
        sandbox: Sandbox,
        function: Function[Any, Any],
        head: dict[str, Any],
        body: bytes,
        raw_id: bytes,
        hops: int,
    ) -> Trip[Any]:
        kind, name = head["kind"], head["name"]
        grant = name_of(kind, name, head["verb"])
        granted = next((one for one in function.options.allow if one.name == grant), None)
        if granted is None:
            raise AccessDenied(denied(function.name, grant))
        target = granted.target or _target(kind, name)
        if isinstance(target, Handle) and target.is_asked:
            return (yield from self._ask(sandbox, target, grant.rpartition(":")[2], head.get("what")))
        if isinstance(target, Handle):
            what = _heard(target, head.get("what"))
            return (yield from self._later().outbox.send(target, what, Cause(hops, raw_id)))
        _check_event(body)
        if grant.endswith(":submit"):  # what was granted, whatever twin was asked for
            return (yield from self._submit(target, head, body, raw_id, hops))
        return (yield from self._invoke(sandbox, target, head.get("tenant"), body, hops))

    def _ask(self, sandbox: Sandbox, target: Handle, verb: str, told: Any) -> Trip[Any]:
        """Have a handle do one of its verbs, in a thread."""
        do = getattr(target, verb)
        try:
            bound = inspect.signature(do).bind(*unpacked(told))
        except (TypeError, ValueError) as error:
            raise ProtocolError(f"a call that cannot be read ({type(error).__name__})") from None
        here = copy_context()
        here.run(entered.set, self._runtime)  # the one that is meant, of several
        job = partial(anyio.to_thread.run_sync, partial(here.run, do, *bound.args))
        value = packed((yield from self._beside(sandbox, job)))
        try:
            encode_result(value)
        except BadResponse:
            raise PayloadTooLarge(f"what {target!r} gives to {verb} is too large for a call from a sandbox") from None
        return value

    def _submit(
        self, target: Function[Any, Any], head: dict[str, Any], body: bytes, raw_id: bytes, hops: int
    ) -> Trip[str]:
        delay, key, tenant = head.get("delay", 0), head.get("idempotency_key"), head.get("tenant")
        check_submission(delay, key)
        later = self._later()
        later.house.shelf_of(target, tenant)
        return (yield from later.submit(target, body, tenant=tenant, delay=delay, key=key, cause=Cause(hops, raw_id)))

    def _invoke(self, sandbox: Sandbox, target: Function[Any, Any], tenant: Any, body: bytes, hops: int) -> Trip[Any]:
        """Invoke another function, in the dispatcher's loop, and wait for it as long as the caller has time."""
        if hops > limits.HOPS:
            raise InvokeError(f"{limits.HOPS} functions, one after the other, led to this call: they run in a circle")
        house = self._later().house
        shelf = house.shelf_of(target, tenant)

        async def invoke() -> Ending:
            return await run_async(run(house.pool, shelf, body, bare=False, hops=hops, patient=False))

        ending: Ending = yield from self._beside(sandbox, invoke)
        if ending.error is not None:
            raise ending.error
        return ending.value

    def _beside(self, sandbox: Sandbox, do: Callable[[], Awaitable[Any]]) -> Trip[Any]:
        """Have something done in the dispatcher's loop, and wait for it as long as the caller has time."""
        came: list[Any] = []
        failed: list[BaseException] = []
        done = Later(max(sandbox.due_at - monotonic(), 0.0))

        async def job() -> None:
            try:
                came.append(await do())
            except PyfaasError as error:
                failed.append(error)
            except Exception as error:  # noqa: BLE001 - all others in this loop go on
                failed.append(InternalError(f"{type(error).__name__}: {error}"))
            except BaseException as error:
                failed.append(InternalError(f"the runtime was closed in mid-call ({type(error).__name__})"))
                raise
            finally:
                done.grant(done)

        self._later().dispatch.beside(job)
        if not (yield done):
            raise Lost("late")  # the caller's time is over; the other one goes on, as in AWS
        if failed:
            raise failed[0]
        return came[0]


def _parts(payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Take a call apart. Raises ProtocolError where no honest worker sends such."""
    try:
        (size,) = HEAD.unpack_from(payload)
        head = decode_result(bytes(payload[HEAD.size : HEAD.size + size]))
    except (ValueError, struct.error) as error:
        raise ProtocolError(f"a call that cannot be read ({type(error).__name__})") from None
    if not isinstance(head, dict) or not head.keys() <= _FIELDS:
        raise ProtocolError("a call that is none")
    if not is_grant(*map(head.get, ("kind", "name", "verb"))):
        raise ProtocolError("a call that names nothing")
    return head, bytes(payload[HEAD.size + size :])


def _heard(target: Handle, told: Any) -> Any:
    """Read what is to be sent. Raises ProtocolError where it is of a form that the worker never gives it."""
    try:
        return target.heard(told)
    except PyfaasError:
        raise
    except (TypeError, ValueError, KeyError) as error:
        raise ProtocolError(f"a call that cannot be read ({type(error).__name__})") from None


def _target(kind: str, name: str) -> Any:
    """Find what a grant names that was given as a text."""
    if kind != "function":
        found: Any = made.get((kind, name))
        if found is None:
            raise ConfigurationError(f"{kind} {name!r} is granted by its name, and not declared in this program")
        return found
    functions = [one for one in declared.values() if one.name == name]
    if len(functions) != 1:
        raise FunctionNotFound(f"{len(functions)} functions are declared as {name!r}: a grant needs just one")
    return functions[0]


def _check_event(body: bytes) -> None:
    try:
        decode_result(body)
    except ValueError as error:
        raise InvalidEvent(f"the event is not JSON: {error}") from None
