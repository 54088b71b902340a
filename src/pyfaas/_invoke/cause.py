"""What led to a message, a submission or a call: it travels along, so that what runs in a circle can be told."""

from __future__ import annotations

from typing import Any, NamedTuple


class Cause(NamedTuple):
    """What led to a message: so many functions one after the other, of which the last had this request."""

    hops: int = 0
    caller: bytes | None = None

    def noted(self) -> dict[str, Any]:
        """Give what is kept of it beside a message's body."""
        if self.caller is None:
            return {"hops": self.hops} if self.hops else {}
        return {"hops": self.hops, "caller": self.caller.hex()}


NOBODY = Cause()
