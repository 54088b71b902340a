"""An alarm's change of state in the form of CloudWatch's.  (pure)"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pyfaas._shapes import arn, moment
from pyfaas.context import ACCOUNT, REGION


class State(NamedTuple):
    """A state of an alarm, why it has it, and since when (seconds since 1970)."""

    value: str
    reason: str
    data: dict[str, Any] | None
    at: float


def alarm_event(name: str, state: State, previous: State, configuration: dict[str, Any]) -> dict[str, Any]:
    """Make the event of a change of state."""
    return {
        "source": "aws.cloudwatch",
        "alarmArn": arn("cloudwatch", f"alarm:{name}"),
        "accountId": ACCOUNT,
        "time": _moment(state.at),
        "region": REGION,
        "alarmData": {
            "alarmName": name,
            "state": _state(state),
            "previousState": _state(previous),
            "configuration": configuration,
        },
    }


def configuration(
    description: str, metric: str, dimensions: dict[str, str], namespace: str, period: float, statistic: str
) -> dict[str, Any]:
    """Say what an alarm looks at."""
    stat = {
        "metric": {"namespace": namespace, "name": metric, "dimensions": dimensions},
        "period": int(period) if period == int(period) else period,
        "stat": statistic,
    }
    return {"description": description, "metrics": [{"id": "m1", "metricStat": stat, "returnData": True}]}


def reason_data(
    datapoints: list[float | None], *, statistic: str, period: float, threshold: float, at: float, start: float
) -> dict[str, Any]:
    """Write down what led to a state."""
    return {
        "version": "1.0",
        "queryDate": _moment(at),
        "startDate": _moment(start),
        "statistic": statistic,
        "period": int(period) if period == int(period) else period,
        "recentDatapoints": [one for one in datapoints if one is not None],
        "threshold": threshold,
    }


def config_rule_event(
    name: str, invoking: Mapping[str, Any], parameters: Mapping[str, Any], *, token: str, at: float
) -> dict[str, Any]:
    """Make the event of a rule of AWS Config that looks at a change."""
    told = {
        "messageType": "ConfigurationItemChangeNotification",
        "notificationCreationTime": moment(at),
        "recordVersion": "1.3",
        **invoking,
    }
    return {
        "version": "1.0",
        "invokingEvent": json.dumps(told),
        "ruleParameters": json.dumps(dict(parameters)),
        "resultToken": token,
        "eventLeftScope": False,
        "executionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/config",
        "configRuleArn": arn("config", f"config-rule/{name}"),
        "configRuleName": name,
        "configRuleId": name,
        "accountId": ACCOUNT,
        "evaluationMode": "DETECTIVE",
    }


def _state(state: State) -> dict[str, Any]:
    told = {"value": state.value, "reason": state.reason, "timestamp": _moment(state.at)}
    return told if state.data is None else {**told, "reasonData": json.dumps(state.data)}


def _moment(at: float) -> str:
    return f"{moment(at)[:-1]}+0000"
