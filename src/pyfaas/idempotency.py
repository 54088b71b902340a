"""
What makes two events one: a key in them, as Powertools for AWS Lambda has it.

    @function(idempotency="order_id")
    @function(idempotency=Idempotency("powertools_json(body).id", expires=86_400, payload="amount"))

Expressions are JMESPath; the library for it comes with ``pip install pyfaas[idempotency]``.
"""

from __future__ import annotations

from typing import Any

from pyfaas import _port
from pyfaas.errors import ConfigurationError
from pyfaas.options import flag, refuse, seconds

EXPIRES_SECONDS = (1, 31_536_000)


class Idempotency:
    """
    How a function tells that it has seen an event before.

    - ``key``: a JMESPath expression; events for which it gives the same are the same event
    - ``expires``: seconds for which the result is kept, and given again; default an hour
    - ``payload``: an expression for what must be the same where the key is, or PayloadMismatch is raised
    - ``required``: whether an event without the key is refused; else it is run as any other

    In the expressions ``powertools_json(text)`` reads JSON, ``powertools_base64(text)`` base64, and
    ``powertools_base64_gzip(text)`` what was compressed before. Raises ConfigurationError.
    """

    __slots__ = ("expires", "key", "payload", "required")

    key: str
    expires: float
    payload: str | None
    required: bool

    def __init__(
        self, key: str, *, expires: float = 3600.0, payload: str | None = None, required: bool = False
    ) -> None:
        seconds(*EXPIRES_SECONDS)("expires", expires)
        flag("required", required)
        for field, expression in (("key", key), ("payload", payload)):
            if field == "key" or expression is not None:
                _check(field, expression)
        for field, value in (("key", key), ("expires", expires), ("payload", payload), ("required", required)):
            object.__setattr__(self, field, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: it is frozen")

    def __repr__(self) -> str:
        return f"Idempotency({self.key!r}, expires={self.expires:g})"


def checked_idempotency(given: Any) -> Idempotency | None:
    """Accept what ``idempotency=`` may be. Raises ConfigurationError."""
    if given is None or isinstance(given, Idempotency):
        return given
    if isinstance(given, str):
        return Idempotency(given)
    raise refuse("idempotency", given, 'a JMESPath expression such as "order_id", an Idempotency(...), or None')


def _check(field: str, expression: Any) -> None:
    if not isinstance(expression, str) or not expression:
        raise refuse(field, expression, 'a JMESPath expression such as "order_id"')
    if _port.in_sandbox:
        return
    from pyfaas._language.keys import compile_key

    try:
        compile_key(expression)
    except ValueError as error:
        raise ConfigurationError(f"{field}={expression!r}: is no JMESPath: {error}") from None
