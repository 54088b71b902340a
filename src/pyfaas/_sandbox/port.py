"""What a handler reaches when it calls a declared function from inside a sandbox: for now, a clear refusal."""

from __future__ import annotations

from typing import Any, NoReturn

from pyfaas.errors import AccessDenied


class SandboxPort:
    """The provider of ``_port`` inside a sandbox."""

    def __init__(self, function: str) -> None:
        self._function = function

    def _refuse(self, function: Any, *_: object, **__: object) -> NoReturn:
        self._deny(function, "invoke")

    def _refuse_submit(self, function: Any, *_: object, **__: object) -> NoReturn:
        self._deny(function, "submit")

    def _refuse_send(self, to: Any, *_: object) -> NoReturn:
        verb = {"queue": "send", "topic": "publish"}.get(to.kind, "put_event")
        self._deny(to, verb)

    def _refuse_ask(self, of: Any, verb: str, *_: object) -> NoReturn:
        self._deny(of, verb)

    def _deny(self, function: Any, verb: str) -> NoReturn:
        raise AccessDenied(
            f"{self._function!r} may not {verb} {function.name!r}: that needs the grant "
            f"allow=[{function.name}.{verb}], which is not available yet"
        )

    invoke = ainvoke = try_invoke = atry_invoke = _refuse
    map = try_map = amap = atry_map = function_statistics = _refuse
    submit = asubmit = _refuse_submit
    send = asend = _refuse_send
    ask = aask = _refuse_ask
