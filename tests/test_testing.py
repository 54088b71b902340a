"""What users test their triggers with."""

from __future__ import annotations

from datetime import datetime, timezone

import pytest

from pyfaas import ConfigurationError
from pyfaas.testing import pattern_matches, schedule_times

START = datetime(2026, 3, 27, 12, tzinfo=timezone.utc)


def test_a_pattern_can_be_tried() -> None:
    assert pattern_matches({"source": ["shop"]}, {"source": "shop", "detail": {}})
    assert not pattern_matches('{"source": [{"prefix": "x"}]}', {"source": "shop"})
    with pytest.raises(ConfigurationError, match=r"pattern\.source='shop'"):
        pattern_matches({"source": "shop"}, {})


def test_the_times_of_a_schedule_come_in_its_time_zone() -> None:
    found = schedule_times("cron(30 2 ? * * *)", START, 2, "Europe/Berlin")
    assert [one.isoformat() for one in found] == ["2026-03-28T02:30:00+01:00", "2026-03-30T02:30:00+02:00"]
    assert schedule_times("at(2026-03-28T00:00:00)", START, 5) == [datetime(2026, 3, 28, tzinfo=timezone.utc)]
    assert [one.minute for one in schedule_times("rate(25 minutes)", START, 3)] == [25, 50, 15]
    assert schedule_times("rate(1 minute)", START, 0) == []


def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="must have a time zone"):
        schedule_times("rate(1 minute)", datetime(2026, 1, 1), 1)  # noqa: DTZ001
