"""
When does the next call come? A histogram of each function's idle times says, if it says anything. (pure)

    idle times, in bins    0 0 0 0 1 9 8 2 0 0 0 1
    a sandbox waits                [------)
                           call    │      └─ keep: it goes
                                   └─ pause: it is made
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs

from pyfaas import limits
from pyfaas._pool.keepalive import Kept, by, duration, number
from pyfaas.options import refuse, whole

BINS = 240
FORGET = 5_000  # idle times, after which all counts are halved: what was last week fades, at 0.1 % more cold starts

_percent = number("a percentage from 0 to 100", 0, 100)


def _worth(field: str, value: Any) -> None:
    if value is not None:
        number("a number of seconds, at least 0, or None", 0)(field, value)


@attrs.frozen
class HybridHistogram:
    """
    Learns how long each function rests between calls, lets its sandbox go meanwhile, and makes another in time.

    After "Serverless in the Wild" (Shahrad and others, USENIX ATC 2020): each function has a histogram of its idle
    times. Its sandbox goes right after a call; one is made when the ``head`` percentile of idle times has passed, and
    goes when the ``tail`` percentile has. If the head is in the first bin, the sandbox just stays. Where the histogram
    says nothing, because it is young, or its counts are spread evenly, or half of the idle times or more are beyond its
    range, sandboxes are kept for a fixed time. The paper's third way, a forecast (ARIMA) for functions that rest for
    longer than the range, is left out. Two things are added, for an app of the paper has one instance, and the paper
    counts its cold starts as a share of its calls:

    - The histogram speaks for one sandbox. Others, and all while calls are at work, are kept for the fixed time.
    - The window is cut where it pays most, and to nothing where it costs more idling than it spares: see ``worth``.

    What it is given:

    - ``seconds``: the fixed time, at least 0; 300 if not given
    - ``bin_seconds``: the width of each of the 240 bins, at least 0.001; 60, which makes the range four hours
    - ``head``, ``tail``: percentiles, from 0 to 100; 5 and 99
    - ``margin``: the share by which windows begin earlier and end later, from 0 to 1; 0.1
    - ``samples``: how many idle times a histogram needs to say something, at least 1; 10
    - ``variation``: likewise the least coefficient of variation of its bins' counts, at least 0; 2
    - ``worth``: seconds of idling that one cold start less is worth, at least 0; None, which is the default, takes
      ``seconds``, for who keeps a sandbox for so long pays just that; ``float("inf")`` leaves the paper's windows whole

    Raises ConfigurationError.
    """

    seconds: float = attrs.field(default=limits.KEEP_ALIVE_SECONDS, validator=by(duration))
    bin_seconds: float = attrs.field(
        default=60.0, validator=by(number("a number of seconds from 0.001 to 86400", 0.001, 86_400))
    )
    head: float = attrs.field(default=5.0, validator=by(_percent))
    tail: float = attrs.field(default=99.0, validator=by(_percent))
    margin: float = attrs.field(default=0.1, validator=by(number("a share from 0 to 1", 0, 1)))
    samples: int = attrs.field(default=10, validator=by(whole(1)))
    variation: float = attrs.field(default=2.0, validator=by(number("a number, at least 0", 0)))
    worth: float | None = attrs.field(default=None, validator=by(_worth))

    learns: ClassVar[bool] = True

    def __attrs_post_init__(self) -> None:
        if self.head > self.tail:
            raise refuse("head", self.head, f"at most tail={self.tail!r}")

    @property
    def longest(self) -> float:
        """The longest that an idle sandbox may be kept."""
        return max(BINS * self.bin_seconds * (1 + self.margin), self.seconds)

    def habits(self) -> Histogram:
        """Begin with an empty histogram."""
        return Histogram(self)


@attrs.define(eq=False)
class Histogram:
    """The idle times of one function, and what follows from them."""

    policy: HybridHistogram
    bins: list[int] = attrs.field(factory=lambda: [0] * BINS)
    within: int = 0  # how many are in the bins
    beyond: int = 0  # how many were too long for them
    squares: int = 0  # of the bins' counts, added up
    ended: float | None = None  # when the last call did
    _seen_to: bool = False
    _window: tuple[float, float] | None = None

    def called(self, began: float, ended: float) -> None:
        """Note the idle time before this call; there is none if it overlapped with one that ended before."""
        last = self.ended
        if last is not None and began >= last:
            self._note(began - last)
        self.ended = ended if last is None else max(last, ended)
        self._seen_to = False

    def _note(self, idle: float) -> None:
        at = int(idle / self.policy.bin_seconds)
        if at < BINS:
            self.squares += 2 * self.bins[at] + 1
            self.bins[at] += 1
            self.within += 1
        else:
            self.beyond += 1
        if self.within + self.beyond >= FORGET:
            self.bins = [count // 2 for count in self.bins]
            self.beyond //= 2
            self.within = sum(self.bins)
            self.squares = sum(count * count for count in self.bins)
        self._window = None

    def until(self, idle_since: float, at_work: bool) -> float:
        """Tell when a sandbox that is idle since then goes: by the window if it worked last, or was made ahead."""
        pause, keep = self.window()
        if self.ended is not None and idle_since > self.ended:
            return self.ended + keep
        if at_work or self.ended is None or (idle_since < self.ended and not pause):
            return idle_since + self.policy.seconds
        return idle_since if pause else idle_since + keep

    def prewarm_at(self) -> float:
        """Tell when to make a sandbox if there is none then; infinity: never."""
        pause, _ = self.window()
        return self.ended + pause if pause and self.ended is not None and not self._seen_to else math.inf

    def prewarmed(self) -> None:
        """Note that this was seen to, so that it is done once between two calls."""
        self._seen_to = True

    def rank(self, sandbox: Kept) -> float:
        """Rate by when it was used last."""
        return sandbox.idle_since

    def window(self) -> tuple[float, float]:
        """Tell how long after a call a sandbox is made (0: it stays), and how long after the call it goes."""
        if self._window is None:
            self._window = self._judge()
        return self._window

    def _judge(self) -> tuple[float, float]:
        policy = self.policy
        if self._says_nothing():
            return 0.0, policy.seconds
        head, tail = self._bin_at(policy.head), self._bin_at(policy.tail)
        pause = head * policy.bin_seconds * (1 - policy.margin)
        worth = policy.seconds if policy.worth is None else policy.worth
        if worth < math.inf:
            tail = self._cut(head, tail, pause, worth)
        return (pause, self._end_of(tail)) if tail >= head else (0.0, 0.0)

    def _says_nothing(self) -> bool:
        policy = self.policy
        if self.within + self.beyond < policy.samples or self.within <= self.beyond:
            return True
        mean = self.within / BINS
        return math.sqrt(max(self.squares / BINS - mean * mean, 0.0)) < policy.variation * mean

    def _bin_at(self, percent: float) -> int:
        """Find the bin of a percentile."""
        wanted = max(self.within * percent / 100, 1.0)
        seen = 0
        for at, count in enumerate(self.bins):
            seen += count
            if seen >= wanted:
                return at
        return BINS - 1

    def _end_of(self, at: int) -> float:
        """Tell when a window ends whose last bin this is."""
        return (at + 1) * self.policy.bin_seconds * (1 + self.policy.margin)

    def _cut(self, head: int, tail: int, pause: float, worth: float) -> int:
        """Find the last bin of the window that pays most; one before ``head`` if none pays."""
        best, last = 0.0, head - 1
        hits = 0.0  # what calls in the window spared, less the idling before them
        missed = self.within + self.beyond - sum(self.bins[:head])
        for at in range(head, tail + 1):
            count = self.bins[at]
            missed -= count
            hits += count * (worth - ((at + 0.5) * self.policy.bin_seconds - pause))
            gain = hits - missed * (self._end_of(at) - pause)
            if gain > best:
                best, last = gain, at
        return last
