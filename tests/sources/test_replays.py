"""Archives: what was put on a bus may be put there once more, to all or to some, whatever dies meanwhile."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from pyfaas import Archive, Bus, ConfigurationError, Replay, Runtime, bus
from pyfaas._sources.replays import Replayer
from pyfaas.testing import ManualClock, settle
from sources.tools import events, recorder, wait_for
from support import wait_until

START = datetime.fromtimestamp(1_800_000_000, timezone.utc)


def minutes(number: float) -> datetime:
    return START + timedelta(minutes=number)


def put(shop: Bus, *details: Any, source: str = "till") -> None:
    for detail in details:
        shop.put_event({"n": detail}, source=source, detail_type="Sold")


def numbers(file: Path) -> list[int]:
    return [event["detail"]["n"] for event in events(file)]


def over(archive: Archive, name: str) -> None:
    wait_until(lambda: [one.state for one in archive.replays() if one.name == name] == ["COMPLETED"])


@pytest.fixture
def shop() -> Bus:
    return bus("shop")


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_came_in_a_time_comes_once_more_and_says_so(
    kind: str, shop: Bus, tmp_path: Path, got: Path, clock: ManualClock
) -> None:
    kept = shop.archive("sales")
    store = None if kind == "memory" else tmp_path / "s"
    with Runtime([recorder(got, trigger=shop.rule({"source": ["till"]}))], store=store, clock=clock) as runtime:
        for number in range(5):
            put(shop, number)
            settle(runtime)
            clock.advance(60)
        before = {event["id"]: event for event in wait_for(got, 5)}
        assert kept.count() == 5
        name = kept.replay(minutes(1), minutes(3), name="again")
        over(kept, name)
        settle(runtime)
        again = wait_for(got, 8)[5:]
        assert kept.replays() == [Replay("again", "COMPLETED", 1_800_000_060.0, 1_800_000_180.0, 3)]
        assert kept.count() == 5, "a replay is not archived"
    assert sorted(one["detail"]["n"] for one in again) == [1, 2, 3]
    for event in again:
        assert event.pop("replay-name") == "again"
        assert event == before[event["id"]]


def test_only_what_fits_is_archived(shop: Bus, got: Path, clock: ManualClock) -> None:
    kept = shop.archive("tills", pattern={"source": ["till"]})
    with Runtime([], clock=clock):
        put(shop, 1, 2)
        put(shop, 3, source="web")
        assert kept.count() == 2


def test_a_replay_may_be_for_some_rules_only(shop: Bus, tmp_path: Path, clock: ManualClock) -> None:
    kept = shop.archive("sales")
    one, other = tmp_path / "one", tmp_path / "other"
    functions = [
        recorder(one, trigger=shop.rule({"source": ["till"]}, name="one")),
        recorder(other, trigger=shop.rule({"source": ["till"]}, name="other", path="$.detail")),
    ]
    with Runtime(functions, clock=clock) as runtime:
        put(shop, 1)
        wait_for(one, 1)
        wait_for(other, 1)
        over(kept, kept.replay(minutes(0), minutes(1), rules=["other"]))
        settle(runtime)
        over(kept, kept.replay(minutes(0), minutes(1), rules=[]))
        settle(runtime)
    assert len(events(one)) == 1
    assert events(other) == [{"n": 1}] * 2


def test_a_new_rule_may_be_given_what_came_before_it(shop: Bus, tmp_path: Path, got: Path, clock: ManualClock) -> None:
    kept = shop.archive("sales")
    with Runtime([], store=tmp_path / "s", clock=clock):
        put(shop, *range(120))
    with Runtime([recorder(got, trigger=shop.rule({"source": ["till"]}))], store=tmp_path / "s", clock=clock):
        over(kept, kept.replay(minutes(0), minutes(1)))
        wait_for(got, 120, 60)
        assert kept.replays()[0].replayed == 120
    assert sorted(numbers(got)) == [*range(120)]


def test_a_replay_goes_on_in_a_later_runtime(
    shop: Bus, tmp_path: Path, got: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shop.archive("sales")
    declared = recorder(got, trigger=shop.rule({"source": ["till"]}))
    monkeypatch.setattr("pyfaas._stores.replays.AT_ONCE", 2)
    with monkeypatch.context() as patch, Runtime([declared], store=tmp_path / "s", clock=clock) as runtime:
        put(shop, *range(5))
        wait_for(got, 5)
        patch.setattr(Replayer, "look", _never)
        name = kept.replay(minutes(0), minutes(1))
        settle(runtime)
        assert [one.state for one in kept.replays()] == ["RUNNING"]
    with Runtime([declared], store=tmp_path / "s", clock=clock):
        over(kept, name)
        wait_for(got, 10)
    assert sorted(numbers(got)) == sorted([*range(5)] * 2)


async def _never(self: Replayer, runs: int) -> list[Any]:
    self.due_at = float("inf")
    return []


def test_a_replay_may_be_cancelled(
    shop: Bus, tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = shop.archive("sales")
    with Runtime([], store=tmp_path / "s", clock=clock) as runtime:
        put(shop, 1)
        monkeypatch.setattr(Replayer, "look", _never)
        name = kept.replay(minutes(0), minutes(1))
        settle(runtime)
        assert kept.cancel(name) is True
        assert kept.cancel(name) is False
        assert [one.state for one in kept.replays()] == ["CANCELLED"]


def test_what_comes_after_it_was_asked_for_is_not_of_it(shop: Bus, tmp_path: Path, clock: ManualClock) -> None:
    kept = shop.archive("sales")
    with Runtime([], store=tmp_path / "s", clock=clock):
        put(shop, 1)
        name = kept.replay(minutes(0), minutes(60))
        put(shop, 2)
        over(kept, name)
        assert kept.replays()[0].replayed == 1


@pytest.mark.parametrize(("start", "end"), [(-10, -5), (5, 10)])
def test_a_time_in_which_nothing_came_is_replayed_at_once(
    start: float, end: float, shop: Bus, clock: ManualClock
) -> None:
    kept = shop.archive("sales")
    with Runtime([], clock=clock):
        over(kept, kept.replay(minutes(start), minutes(end), name="empty"))
        put(shop, 1)
        over(kept, kept.replay(minutes(start), minutes(end)))
        assert [one.replayed for one in kept.replays()] == [0, 0]


def test_events_are_kept_for_the_retention(shop: Bus, tmp_path: Path, clock: ManualClock) -> None:
    kept = shop.archive("sales", retention=60)
    with Runtime([], store=tmp_path / "s", clock=clock):
        put(shop, 1)
        clock.advance(60)
        put(shop, 2)
        over(kept, kept.replay(minutes(0), minutes(5)))
        assert kept.replays()[0].replayed == 1, "whether it is trimmed yet or not"
    longer = shop.archive("sales", retention=None)
    with Runtime([], store=tmp_path / "s", clock=clock):
        clock.advance(600)
        over(longer, longer.replay(minutes(1), minutes(5), name="later"))
        assert longer.replays()[-1].replayed == 1


def test_a_paused_archive_keeps_nothing(shop: Bus, clock: ManualClock) -> None:
    kept = shop.archive("sales")
    with Runtime([], clock=clock) as runtime:
        (mapping,) = runtime.mappings()
        assert (mapping.source, mapping.target) == ("bus/shop", "archive/sales")
        mapping.pause()
        put(shop, 1)
        mapping.resume()
        put(shop, 2)
        assert kept.count() == 1


def test_an_archive_that_is_declared_late_begins_then(shop: Bus, clock: ManualClock) -> None:
    with Runtime(clock=clock):
        put(shop, 1)
        kept = shop.archive("sales")
        put(shop, 2)
        assert kept.count() == 1
        over(kept, kept.replay(minutes(0), minutes(1)))


def test_two_replays_of_one_name_are_refused(shop: Bus) -> None:
    kept = shop.archive("sales")
    with Runtime([]):
        kept.replay(minutes(0), minutes(1), name="once")
        with pytest.raises(ConfigurationError, match="replay='once': there is one of this name already"):
            kept.replay(minutes(0), minutes(1), name="once")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"start": 5}, "start=5: must be a datetime with a time zone"),
        ({"end": datetime(2030, 1, 1)}, "must be a datetime with a time zone"),  # noqa: DTZ001
        ({"start": minutes(2)}, "must be not before start"),
        ({"rules": "one"}, "rules='one': must be a list of names of rules, or None for all"),
        ({"name": ""}, "name='': must be 1 to 80 letters, digits, hyphens and underscores"),
    ],
)
def test_what_a_replay_may_not_be_is_refused(options: dict[str, Any], told: str, shop: Bus) -> None:
    kept = shop.archive("sales")
    with pytest.raises(ConfigurationError) as refused:
        kept.replay(**{"start": minutes(0), "end": minutes(1), **options})
    assert told in str(refused.value)


def test_what_an_archive_may_not_be_is_refused(shop: Bus) -> None:
    with pytest.raises(ConfigurationError, match="retention=5: must be a number of seconds from 60"):
        shop.archive("sales", retention=5)
    with pytest.raises(ConfigurationError, match="pattern"):
        shop.archive("sales", pattern={"source": "till"})
    shop.archive("sales")
    with pytest.raises(ConfigurationError, match="another one: 'shop' has an archive of this name"):
        bus("other").archive("sales")
