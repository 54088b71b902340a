"""
How long does an idle sandbox stay, and is one made ahead of the next call? (pure: the ledger asks, and so a simulator)

    FixedTime, GreedyDual (and HybridHistogram, see histogram.py)    what a runtime is given: frozen, knows no runtime
        └──► habits() ──► Habits             what it knows of one function; lies on the function's shelf
                             ◄── called      a call ended
                             ──► until       when an idle sandbox goes
                             ──► prewarm_at  when one is made for a call that is expected
                             ──► rank        who goes first where memory is short or the house is full

Times are seconds of any one clock that never goes back. For a policy that ``learns``, whoever asks also tells of calls,
and keeps a ``clock``: the highest rank that ever went for want of room, written on each sandbox when its call ends. The
others cost a call nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar, Protocol

import attrs

from pyfaas import limits
from pyfaas.options import Check, refuse


class Kept(Protocol):
    """What a policy looks at in a sandbox."""

    idle_since: float
    clock: float
    calls: int
    init_seconds: float | None  # what its cold start took
    max_memory: int  # in bytes; 0 before anybody looked


class Habits(Protocol):
    """What a policy knows of one function."""

    def called(self, began: float, ended: float) -> None:
        """Note a call that ended; they come in the order of their ends, and may overlap."""

    def until(self, idle_since: float, at_work: bool) -> float:
        """Tell when a sandbox that is idle since then goes, while others of its function are at work or not."""

    def prewarm_at(self) -> float:
        """Tell when to make a sandbox if there is none then; infinity: never."""

    def prewarmed(self) -> None:
        """Note that this was seen to, so that it is done once between two calls."""

    def rank(self, sandbox: Kept) -> float:
        """Rate an idle sandbox: the lowest goes first."""


class KeepAlive(Protocol):
    """A policy."""

    learns: ClassVar[bool]  # whether it must be told of calls

    @property
    def longest(self) -> float:
        """The longest that an idle sandbox may be kept."""

    def habits(self) -> Habits:
        """Begin with a function of which nothing is known."""


def policy_of(value: Any) -> KeepAlive:
    """Accept a policy, or seconds for short. Raises ConfigurationError."""
    if not isinstance(value, (bool, type)):
        if hasattr(value, "habits"):
            return value  # type: ignore[no-any-return]
        if isinstance(value, (int, float)) and value >= 0:
            return FixedTime(float(value))
    right = "a number of seconds, at least 0, or a policy: FixedTime(), GreedyDual() or HybridHistogram()"
    raise refuse("keep_alive", value, right)


def number(right: str, low: float, high: float = math.inf) -> Check:
    """Accept a number in a range."""

    def check(field: str, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise refuse(field, value, right)

    return check


def by(check: Check) -> Callable[[Any, Any, Any], None]:
    """Make a check of options one of attrs."""
    return lambda _, field, value: check(field.name, value)


duration = number("a number of seconds, at least 0", 0)


class _Forgetful:
    """Learns nothing of functions and expects no call: one object is the habits of all."""

    def called(self, began: float, ended: float) -> None:
        """Note nothing."""

    def prewarm_at(self) -> float:
        """Never."""
        return math.inf

    def prewarmed(self) -> None:
        """Nothing is."""


@attrs.frozen
class FixedTime(_Forgetful):
    """
    Keeps each idle sandbox for the same time. Where there is no room, the longest idle goes first.

    - ``seconds``: at least 0, ``float("inf")`` for ever; 300 if not given

    ``Runtime(keep_alive=60)`` is short for ``Runtime(keep_alive=FixedTime(60))``. Raises ConfigurationError.
    """

    seconds: float = attrs.field(default=limits.KEEP_ALIVE_SECONDS, validator=by(duration))

    learns: ClassVar[bool] = False

    @property
    def longest(self) -> float:
        """The longest that an idle sandbox may be kept."""
        return self.seconds

    def habits(self) -> FixedTime:
        """All functions are alike."""
        return self

    def until(self, idle_since: float, at_work: bool) -> float:  # noqa: ARG002 (it is all the same)
        """Tell when a sandbox that is idle since then goes."""
        return idle_since + self.seconds

    def rank(self, sandbox: Kept) -> float:
        """Rate by when it was used last."""
        return sandbox.idle_since


@attrs.frozen
class GreedyDual(_Forgetful):
    """
    Keeps idle sandboxes until memory is short or the runtime is full; then the one that is worth least goes first.

    A sandbox is worth its calls, times the seconds that its start took, by the MB that it holds. To that is added a
    clock, which rises to the worth of whatever had to go: so a sandbox that starts slowly, is small or is called often
    stays for longer, and any goes in the end if nobody calls it.

    - ``at_most``: seconds after which an idle sandbox goes anyway, at least 0; ``float("inf")`` if not given

    Raises ConfigurationError.
    """

    at_most: float = attrs.field(default=math.inf, validator=by(duration))

    learns: ClassVar[bool] = True

    @property
    def longest(self) -> float:
        """The longest that an idle sandbox may be kept."""
        return self.at_most

    def habits(self) -> GreedyDual:
        """All that is counted is counted on sandboxes."""
        return self

    def until(self, idle_since: float, at_work: bool) -> float:  # noqa: ARG002 (it is all the same)
        """Tell when a sandbox that is idle since then goes."""
        return idle_since + self.at_most

    def rank(self, sandbox: Kept) -> float:
        """Rate by frequency, cost and size, on top of the clock of its last call."""
        megabytes = max(sandbox.max_memory / limits.MB, 1.0)
        return sandbox.clock + sandbox.calls * (sandbox.init_seconds or 0.0) / megabytes
