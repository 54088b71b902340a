"""
What a function may do from inside its sandbox, as ``allow=`` says.

    allow=[orders.send, other.invoke]        the verbs themselves
    allow=["function:walk:submit"]           or their names, so that a function can name itself

A verb stands for its twins too: ``orders.send`` for ``asend`` and ``send_many``.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from pyfaas.options import refuse

VERBS = {
    "queue": ("send",),
    "topic": ("publish",),
    "bus": ("put_event",),
    "stream": ("put",),
    "bucket": ("put", "get", "delete", "list"),
    "table": ("put", "get", "delete"),
    "websocket": ("post", "get", "delete"),
    "function": ("invoke", "submit"),
}
_STANDS_FOR = {
    "asend": "send",
    "send_many": "send",
    "asend_many": "send",
    "apublish": "publish",
    "aput_event": "put_event",
    "put_events": "put_event",
    "aput_events": "put_event",
    "aput": "put",
    "put_many": "put",
    "aput_many": "put",
    "ainvoke": "invoke",
    "asubmit": "submit",
    "aget": "get",
    "apost": "post",
    "adelete": "delete",
    "alist": "list",
}
_TEXT = re.compile(r"(queue|topic|bus|stream|bucket|table|websocket|function):([a-zA-Z0-9_-]{1,80}):([a-z_]+)")


class Grant(NamedTuple):
    """One of them: ``target`` is None where only its name is known."""

    name: str
    target: Any = None


def name_of(kind: str, name: str, verb: str) -> str:
    """Write a grant down."""
    return f"{kind}:{name}:{_STANDS_FOR.get(verb, verb)}"


def is_grant(kind: Any, name: Any, verb: Any) -> bool:
    """Tell whether these are the parts of something that could be granted, or asked for."""
    return all(isinstance(part, str) for part in (kind, name, verb)) and bool(_TEXT.fullmatch(f"{kind}:{name}:{verb}"))


def checked_grants(given: Any) -> tuple[Grant, ...]:
    """Accept what ``allow=`` may be. Raises ConfigurationError."""
    if not isinstance(given, (list, tuple)):
        raise refuse("allow", given, "a list")
    return tuple(_checked(number, one) for number, one in enumerate(given))


def _checked(number: int, given: Any) -> Grant:
    if isinstance(given, str):
        found = _TEXT.fullmatch(given)
        if found and found[3] in VERBS[found[1]]:
            return Grant(given)
    else:
        target, verb = getattr(given, "__self__", None), getattr(given, "__name__", "")
        kind, verb = getattr(target, "kind", "function"), _STANDS_FOR.get(verb, verb)
        if target is not None and hasattr(target, "name") and verb in VERBS.get(kind, ()):
            return Grant(name_of(kind, target.name, verb), target)
    verbs = "orders.send, receipts.publish, shop.put_event, clicks.put, uploads.get, other.invoke, other.submit"
    raise refuse(f"allow[{number}]", given, f'one of {verbs}, or the name of one such as "queue:orders:send"')
