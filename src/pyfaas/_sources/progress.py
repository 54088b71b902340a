"""
How far a lane of a stream has come, and what follows of a batch, by the rules of AWS's event source mappings.  (pure)

    all is well          ──► on, behind the batch
    one is reported      ──► on, up to that one; it and what follows it come back
    the function failed  ──► the same batch once more, or (bisect) its halves
    too often            ──► on, behind the batch, which is given up

While a batch is not done its end stays, so that it comes back as it was, whatever has been put since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

RETRIES_EXHAUSTED = "RetryAttemptsExhausted"  # AWS's words; those of asynchronous invocation are others
TOO_OLD = "RecordAgeExceeded"
_FIRST_WAIT_SECONDS, _LONGEST_WAIT_SECONDS = 0.5, 60.0


class Progress(NamedTuple):
    """
    What is kept of a lane beside its position.

    ``ends``: the last records of the batches to come, where those were tried before, or are halves; ``attempts``: how
    often the first of them failed, ``refusals``: how often it could not even be tried, in a row. ``window``: when the
    tumbling window that is open began, ``state``: what its function returned last, ``early``: it grew too large.
    """

    ends: tuple[int, ...] = ()
    attempts: int = 0
    refusals: int = 0
    window: float | None = None
    state: Any = None
    early: bool = False

    def noted(self) -> dict[str, Any]:
        """Write down what is not as at the beginning."""
        return {name: value for name, value in self._asdict().items() if value != self._field_defaults[name]}

    def behind(self, position: int) -> Progress:
        """Go on behind a record: what is kept of batches up to there is over."""
        return self._replace(ends=tuple(end for end in self.ends if end > position), attempts=0, refusals=0)


def progress_of(noted: Mapping[str, Any]) -> Progress:
    """Read it again."""
    return Progress(**{**noted, "ends": tuple(noted.get("ends", ()))})


class Step(NamedTuple):
    """
    What follows: up to ``position`` all is done; the records from ``given_up`` on are given up (None: none are).

    ``attempts``: how often those failed; ``delay``: seconds until it goes on.
    """

    position: int
    progress: Progress
    delay: float = 0.0
    given_up: int | None = None
    attempts: int = 0


def after(
    ids: Sequence[int],
    failed: int | None,
    *,
    before: int,
    through: int,
    progress: Progress,
    retries: int | None,
    bisect: bool,
) -> Step:
    """
    Decide what follows of a batch.

    ``ids``: its records; ``failed``: which of them is the first that is not done, None where all are. ``before``: the
    position until now, ``through``: that behind the batch.
    """
    if failed is None:
        return Step(through, progress.behind(through))
    attempts = 1 + (progress.attempts if failed == 0 else 0)  # it got further: that one is at the head the first time
    position = ids[failed - 1] if failed else before
    rest = ids[failed:]
    ends = (through, *progress.behind(through).ends)
    if bisect and len(rest) > 1:
        halves = (rest[(len(rest) - 1) // 2],) if failed == 0 else ()
        return Step(position, progress._replace(ends=(*halves, *ends), attempts=0, refusals=0))
    if retries is not None and attempts > retries:
        return Step(through, progress.behind(through), given_up=failed, attempts=attempts)
    return Step(position, progress._replace(ends=ends, attempts=attempts, refusals=0), _wait(attempts - 1))


def after_refusal(*, before: int, through: int, progress: Progress) -> Step:
    """Decide what follows where the function could not be tried: that uses up no retry."""
    ends = (through, *progress.behind(through).ends)
    refusals = progress.refusals + 1
    return Step(before, progress._replace(ends=ends, refusals=refusals), _wait(refusals))


def _wait(times: int) -> float:
    """Tell for how long to wait: not at all at first."""
    return 0.0 if times < 1 else min(_FIRST_WAIT_SECONDS * 2.0 ** min(times - 1, 20), _LONGEST_WAIT_SECONDS)
