"""
What a handler reaches when it sends, publishes, invokes or submits from inside a sandbox: the host, over the wire.

    orders.send(...) ──► CALL: what to do, as JSON, and the event ──► the host looks at ``allow=``, and does it
                     ◄── RESULT: what came of it, or the error

One call at a time: those of other threads, and of other tasks, wait for their turn.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

from pyfaas import errors, limits
from pyfaas._payload import decode_event, encode_event, packed, unpacked
from pyfaas.errors import AccessDenied, InvokeError, PayloadTooLarge
from pyfaas.grants import VERBS, name_of

HEAD = struct.Struct("<I")
OK, FAILED = b"\0", b"\1"


class SandboxPort:
    """The provider of ``_port`` inside a sandbox; ``call`` puts a frame on the wire and gives what came back."""

    def __init__(self, function: str, granted: Iterable[str], call: Callable[[bytes], bytes]) -> None:
        self._function = function
        self._granted = frozenset(granted)
        self._call = call

    # -- functions -----------------------------------------------------------------------------------------------------

    def invoke(self, function: Any, event: Any, *, tenant: str | None = None) -> Any:
        return self._ask("function", function.name, "invoke", {"tenant": tenant}, encode_event(event))

    async def ainvoke(self, function: Any, event: Any, *, tenant: str | None = None) -> Any:
        return await _beside(self.invoke, function, event, tenant=tenant)

    def submit(
        self,
        function: Any,
        event: Any,
        *,
        delay: float = 0,
        idempotency_key: str | None = None,
        tenant: str | None = None,
    ) -> Any:
        options = {"delay": delay, "idempotency_key": idempotency_key, "tenant": tenant}
        return self._ask("function", function.name, "submit", options, encode_event(event))

    async def asubmit(self, function: Any, event: Any, **options: Any) -> Any:
        return await _beside(self.submit, function, event, **options)

    # -- handles -------------------------------------------------------------------------------------------------------

    def send(self, to: Any, what: Any) -> Any:
        """Do what ``Queue.send``, ``Topic.publish`` and ``Bus.put_event`` made."""
        (verb,) = VERBS[to.kind]
        return self._ask(to.kind, to.name, verb, {"what": to.told(what)}, b"")

    async def asend(self, to: Any, what: Any) -> Any:
        return await _beside(self.send, to, what)

    def ask(self, of: Any, verb: str, *arguments: Any) -> Any:
        """Have the host do a verb of a bucket or a table."""
        if not of.is_asked:
            self._refuse_ask(of)
        return unpacked(self._ask(of.kind, of.name, verb, {"what": packed(arguments)}, b""))

    async def aask(self, of: Any, verb: str, *arguments: Any) -> Any:
        """Do the same from async code."""
        return await _beside(self.ask, of, verb, *arguments)

    # -- what a sandbox is not for -------------------------------------------------------------------------------------

    def _refuse(self, function: Any, *_: object, **__: object) -> NoReturn:
        self._refuse_ask(function)

    def _refuse_ask(self, of: Any, *_: object, **__: object) -> NoReturn:
        raise AccessDenied(
            f"{self._function!r} runs in a sandbox: there one can invoke and submit, send, publish and put events, and "
            f"nothing else with {of.name!r}"
        )

    try_invoke = atry_invoke = map = try_map = amap = atry_map = function_statistics = _refuse

    # -- the wire ------------------------------------------------------------------------------------------------------

    def _ask(self, kind: str, name: str, verb: str, options: dict[str, Any], body: bytes) -> Any:
        grant = name_of(kind, name, verb)
        if grant not in self._granted:
            raise AccessDenied(denied(self._function, grant))
        head = json.dumps({"kind": kind, "name": name, "verb": verb, **options}).encode()
        payload = HEAD.pack(len(head)) + head + body
        if len(payload) > limits.CALL_BYTES:
            raise PayloadTooLarge(f"a call from a sandbox may have {limits.CALL_BYTES:,} bytes, not {len(payload):,}")
        answer = self._call(payload)
        if answer[:1] == OK:
            return decode_event(answer[1:])
        raise _revived(json.loads(answer[1:]))


def denied(function: str, grant: str) -> str:
    """Say which grant is missing."""
    kind, name, verb = grant.split(":")
    shown = f"{name}.{verb}" if name.isidentifier() else f'"{grant}"'
    return f'{function!r} may not {verb} {kind} {name!r}: that needs allow=[{shown}], or its name "{grant}"'


def _revived(told: dict[str, Any]) -> Exception:
    """Make the error again that the host raised."""
    made = errors.made_of(told, told.get("request_id", ""))
    return made or InvokeError(str(told.get("message")))


async def _beside(do: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Wait in a thread, so that other tasks of the handler go on."""
    import asyncio

    return await asyncio.to_thread(do, *arguments, **options)
