"""
What may stand after ``trigger=`` for a number that is too high, or too low: ``alarm("failing", "Errors", charge)``.

It only says what is wanted; ``_sources`` counts.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pyfaas.errors import ConfigurationError
from pyfaas.options import Check, one_of, refuse, seconds, whole

COUNTS = ("Invocations", "Errors", "Throttles", "Timeouts")
OF_FUNCTIONS = (*COUNTS, "Duration", "ConcurrentExecutions")
OF_QUEUES = ("ApproximateAgeOfOldestMessage", "ApproximateNumberOfMessagesVisible")
COMPARISONS = {
    ">=": "GreaterThanOrEqualToThreshold",
    ">": "GreaterThanThreshold",
    "<": "LessThanThreshold",
    "<=": "LessThanOrEqualToThreshold",
}
STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")
MISSING = ("missing", "ignore", "breaching", "notBreaching")
_STATISTIC = re.compile(r"Sum|Average|Minimum|Maximum|SampleCount|p(100|\d{1,2}(\.\d{1,2})?)")
_NAME = re.compile(r"[0-9a-zA-Z_. -]{1,255}")
_DESCRIPTION = re.compile(r"(?s).{0,1024}")
_MOST_DATAPOINTS = 1_440


def _like(pattern: re.Pattern[str], right: str) -> Check:
    def check(field: str, value: Any) -> None:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise refuse(field, value, right)

    return check


def _a_number(field: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise refuse(field, value, "a number")


class AlarmTrigger(NamedTuple):
    """Changes of an alarm's state, each an asynchronous invocation."""

    name: str
    metric: str
    of: Any
    threshold: float
    comparison: str
    statistic: str
    period: float
    periods: int
    datapoints: int
    missing: str
    on: tuple[str, ...]
    description: str

    @property
    def source(self) -> str:
        """What the events come from."""
        return f"alarm/{self.name}"

    def row(self) -> tuple[str, dict[str, Any]]:
        """Give its name among several of one function, and what the store knows of it."""
        told = {**self._asdict(), "of": None if self.of is None else self.of.name}
        return "", {name: value for name, value in told.items() if name != "name"}

    def changed(self, options: Mapping[str, Any]) -> AlarmTrigger:
        """Make another one with these options. Raises ConfigurationError."""
        now = {name: value for name, value in self._asdict().items() if name not in ("name", "metric", "of")}
        if not options.keys() <= now.keys():
            raise ConfigurationError(f"change({', '.join(options)}): this trigger has the options {', '.join(now)}")
        return alarm(self.name, self.metric, self.of, **{**now, **options})

    def check(self, timeout: float) -> None:
        """Any function will do."""


def alarm(
    name: str,
    metric: str,
    of: Any = None,
    *,
    threshold: float,
    comparison: str = ">=",
    statistic: str = "Sum",
    period: float = 60.0,
    periods: int = 1,
    datapoints: int | None = None,
    missing: str = "missing",
    on: str | Sequence[str] = ("ALARM",),
    description: str = "",
) -> AlarmTrigger:
    """
    Make a trigger of a metric that crosses a threshold, as CloudWatch's alarms do.

    The numbers are those of this process's runtime: what it runs, and what waits in its store.

    - ``metric``: of functions ``"Invocations"``, ``"Errors"``, ``"Throttles"``, ``"Timeouts"``,
      ``"ConcurrentExecutions"`` or ``"Duration"`` (milliseconds, as this host
      sees them: of a cold start its init too); of a queue ``"ApproximateAgeOfOldestMessage"``
      (seconds) or ``"ApproximateNumberOfMessagesVisible"``
    - ``of``: the function or the queue; None: all functions together
    - ``threshold``, ``comparison``: ``">="``, ``">"``, ``"<"`` or ``"<="``
    - ``statistic``: of what came in a period: ``"Sum"``, ``"Average"``, ``"Minimum"``, ``"Maximum"``,
      ``"SampleCount"``, or ``"p99"`` and the like
    - ``period``: seconds, 1 to 86,400; ``periods``: so many of them are looked at (AWS: EvaluationPeriods), of which
      ``datapoints`` must be over the threshold, default all (AWS: DatapointsToAlarm)
    - ``missing``: what a period without a number counts as: ``"breaching"``, ``"notBreaching"``; ``"ignore"``: the
      state stays; ``"missing"``: passed over, and without any number the state is INSUFFICIENT_DATA
      (AWS: TreatMissingData).
      ``Errors``, ``Throttles``, ``Timeouts`` and ``Duration`` have none in a period without an invocation, or throttle
    - ``on``: the states, of ``"ALARM"``, ``"OK"`` and ``"INSUFFICIENT_DATA"``, whose beginning calls the function

    Raises ConfigurationError.
    """
    _like(_NAME, "1 to 255 letters, digits, blanks, hyphens, underscores and dots")("name", name)
    is_queue = getattr(of, "kind", None) == "queue"
    if of is not None and not is_queue and not hasattr(of, "invoke"):
        raise refuse("of", of, "a function, a queue, or None for all functions")
    one_of(*(OF_QUEUES if is_queue else OF_FUNCTIONS))("metric", metric)
    _a_number("threshold", threshold)
    one_of(*COMPARISONS)("comparison", comparison)
    _like(_STATISTIC, "Sum, Average, Minimum, Maximum, SampleCount, or such as p99")("statistic", statistic)
    seconds(1, 86_400)("period", period)
    whole(1, _MOST_DATAPOINTS)("periods", periods)
    whole(1, periods, optional=True)("datapoints", datapoints)
    one_of(*MISSING)("missing", missing)
    states = (on,) if isinstance(on, str) else on
    if not isinstance(states, (list, tuple)) or not states or any(one not in STATES for one in states):
        raise refuse("on", on, f"one of {', '.join(STATES)}, or a list of them")
    _like(_DESCRIPTION, "text of up to 1,024 characters")("description", description)
    return AlarmTrigger(
        name,
        metric,
        of,
        float(threshold),
        comparison,
        statistic,
        float(period),
        periods,
        datapoints or periods,
        missing,
        tuple(states),
        description,
    )
