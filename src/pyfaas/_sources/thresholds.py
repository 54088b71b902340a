"""
What an alarm makes of numbers, by the rules of CloudWatch.  (pure)

    value(statistic, samples)          the datapoint of a period; None where nothing came
    judged(trigger, datapoints, state) the state that follows, of the last periods' datapoints, the newest last
"""

from __future__ import annotations

import operator
from collections.abc import Sequence

from pyfaas.alarms import AlarmTrigger

_COMPARE = {">=": operator.ge, ">": operator.gt, "<": operator.lt, "<=": operator.le}


def value(statistic: str, samples: Sequence[float]) -> float | None:
    """Give the statistic of a period's samples; None without any."""
    if not samples:
        return None
    if statistic.startswith("p"):
        ordered = sorted(samples)
        at = float(statistic[1:]) / 100 * (len(ordered) - 1)
        low = int(at)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (at - low)
    total = sum(samples)
    found = {
        "Sum": total,
        "Average": total / len(samples),
        "Minimum": min(samples),
        "Maximum": max(samples),
        "SampleCount": len(samples),
    }
    return float(found[statistic])


def breaches(trigger: AlarmTrigger, datapoint: float | None) -> bool:
    """Tell whether a datapoint is on the wrong side; one that is missing where that counts so."""
    if datapoint is None:
        return trigger.missing == "breaching"
    return bool(_COMPARE[trigger.comparison](datapoint, trigger.threshold))


def judged(trigger: AlarmTrigger, datapoints: Sequence[float | None], state: str) -> str:
    """
    Tell the state that follows.

    So many datapoints on the wrong side as are needed: ALARM, whatever is missing. With ``"ignore"`` and with
    ``"missing"`` those that are not there could have been on either side: while that would decide, ``"ignore"`` leaves
    the state as it is. Nothing at all is INSUFFICIENT_DATA for ``"missing"``. Else it is OK.
    """
    recent = [*datapoints][-trigger.periods :]
    wrong = sum(breaches(trigger, one) for one in recent)
    unknown = trigger.periods - sum(one is not None for one in recent)
    if wrong >= trigger.datapoints:
        return "ALARM"
    if trigger.missing == "missing" and unknown == trigger.periods:
        return "INSUFFICIENT_DATA"
    if trigger.missing == "ignore" and wrong + unknown >= trigger.datapoints:
        return state
    return "OK"
