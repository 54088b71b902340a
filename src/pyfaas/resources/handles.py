"""
What all handles are, and what is checked of all that goes through them.

A handle is frozen, equal to another one of its kind and name, and pickles by what it was made of: so it means the same
in a sandbox as in the host.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, TypeVar

from pyfaas import _port, limits
from pyfaas._payload import encode_event
from pyfaas.errors import ConfigurationError, InvalidEvent, PayloadTooLarge
from pyfaas.options import refuse

T = TypeVar("T")
Attributes = Mapping[str, "str | int | float | bytes"]

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,80}")

# Every handle made in this process, by kind and name; one that is made anew replaces the other.
made: dict[tuple[str, str], Handle] = {}


class Handle:
    """What ``queue``, ``topic``, ``stream`` and ``bus`` give. Frozen; equal to another one of its kind and name."""

    kind: ClassVar[str]
    name: str
    is_asked: ClassVar[bool] = False
    """Whether its verbs are done where they are called, with their arguments; else something is sent."""

    @staticmethod
    def told(what: Any) -> Any:
        """Write down, as JSON, what is to be sent: for the way out of a sandbox."""
        raise NotImplementedError

    def heard(self, told: Any) -> Any:
        """Read it again, and look at all of it anew. Raises ConfigurationError, InvalidEvent, PayloadTooLarge."""
        raise NotImplementedError

    def __init__(self, name: Any, **given: Any) -> None:
        check_name(f"{self.kind} name", name)
        self.__dict__.update(given, name=name)
        made[self.kind, name] = self

    @property
    def path(self) -> str:
        """How the store names it, such as ``queue/orders``."""
        return f"{self.kind}/{self.name}"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: a {self.kind} is frozen")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (type(self), dict(self.__dict__))


def _remake(kind: type[Handle], given: dict[str, Any]) -> Handle:
    return made.get((kind.kind, given["name"])) or kind(**given)


# -- checks ------------------------------------------------------------------------------------------------------------


def check_name(field: str, value: Any) -> None:
    """Accept the name of a handle. Raises ConfigurationError."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise refuse(field, value, "1 to 80 letters, digits, hyphens and underscores")


def text_of(field: str, value: Any) -> str:
    """Give a text as it is, and anything else as JSON."""
    if not isinstance(value, str):
        return encode_event(value).decode()
    if not value:
        raise InvalidEvent(f"{field}='': must not be empty, as in AWS")
    if has_surrogate(value):
        raise InvalidEvent(f"{field}={value[:50]!r}: must not hold lone surrogates")
    return value


def has_surrogate(text: str) -> bool:
    """Tell whether it cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def fields_of(told: Any, kind: type[Any]) -> dict[str, Any]:
    """Take just the fields of a kind, all of them."""
    if not isinstance(told, dict) or told.keys() != set(kind._fields):
        raise ConfigurationError(f"a call from a sandbox says {told!r}"[:200])
    return dict(told)


def check_size(what: str, text: str, attributes: Attributes | None) -> None:
    """Refuse what is over 1 MB with its attributes. Raises PayloadTooLarge."""
    size = len(text) if text.isascii() else len(text.encode())
    for name, value in (attributes or {}).items():
        size += len(name) + len(value if isinstance(value, (str, bytes)) else str(value))
    if size > limits.MESSAGE_BYTES:
        raise PayloadTooLarge(f"the {what} has {size:,} bytes with its attributes: at most {limits.MESSAGE_BYTES:,}")


def check_attributes(attributes: Any) -> None:
    """Accept message attributes. Raises ConfigurationError."""
    if attributes is None:
        return
    if not isinstance(attributes, Mapping) or len(attributes) > limits.MESSAGE_ATTRIBUTES:
        raise refuse("attributes", attributes, f"a dict of at most {limits.MESSAGE_ATTRIBUTES} names to values")
    for name, value in attributes.items():
        if not isinstance(name, str) or not 0 < len(name) <= 256:
            raise refuse("attributes", name, "names of 1 to 256 characters")
        if isinstance(value, bool) or not isinstance(value, (str, int, float, bytes)):
            raise refuse(f"attributes[{name!r}]", value, "text, a number or bytes")
        if has_surrogate(name) or (isinstance(value, str) and has_surrogate(value)):
            raise refuse(f"attributes[{name!r}]", value, "text without lone surrogates, under such a name")
        json.dumps(value if not isinstance(value, bytes) else "", allow_nan=False)


async def beside(do: Callable[..., T], *arguments: Any) -> T:
    """Do what blocks in a thread, in either async world."""
    if _port.in_sandbox:  # where there is the standard library only
        import asyncio

        return await asyncio.to_thread(do, *arguments)
    import anyio.to_thread

    return await anyio.to_thread.run_sync(do, *arguments)
