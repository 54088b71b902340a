"""Keep-alive: who stays how long, who is made ahead, who goes first; every policy by its own arithmetic."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas import ConfigurationError
from pyfaas._pool.histogram import BINS, FORGET, Histogram, HybridHistogram
from pyfaas._pool.keepalive import FixedTime, GreedyDual, Habits, KeepAlive

MINUTE = 60.0
PAPER = HybridHistogram(samples=1, worth=math.inf)


@attrs.define
class Box:
    """What a policy looks at in a sandbox."""

    idle_since: float = 0.0
    clock: float = 0.0
    calls: int = 1
    init_seconds: float | None = 1.0
    max_memory: int = 10 << 20


def after(gaps: list[float], policy: HybridHistogram = PAPER, length: float = 0.0) -> Histogram:
    """A function that was called with such gaps between its calls."""
    habits = policy.habits()
    now = 0.0
    for gap in [0.0, *gaps]:
        now += gap
        habits.called(now, now + length)
        now += length
    return habits


# -- any policy --------------------------------------------------------------------------------------------------------

POLICIES: list[KeepAlive] = [FixedTime(), FixedTime(0), GreedyDual(), GreedyDual(60), HybridHistogram(), PAPER]
gaps = st.lists(st.floats(0, 20_000) | st.sampled_from([0.0, 59.9, 60.0, 900.0, 3_600.0, 14_399.0, 14_400.0]))


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(gaps=gaps, at_work=st.booleans())
def test_no_sandbox_is_told_to_go_before_it_rests_nor_later_than_the_longest(
    policy: KeepAlive, gaps: list[float], at_work: bool
) -> None:
    habits: Habits = policy.habits()
    now = 0.0
    for gap in gaps:
        now += gap
        habits.called(now, now + 1)
        now += 1
        assert now <= habits.until(now, at_work) <= now + policy.longest


@pytest.mark.parametrize("policy", POLICIES, ids=repr)
@given(gaps=gaps, ages=st.tuples(st.floats(1, 1_000), st.floats(1, 1_000)))
def test_of_two_sandboxes_that_are_idle_the_older_goes_first(
    policy: KeepAlive, gaps: list[float], ages: tuple[float, float]
) -> None:
    """But for the last that worked, which a histogram may want for longer, or not at all."""
    habits: Habits = policy.habits()
    now = 1_000.0
    for gap in gaps:
        now += gap
        habits.called(now, now)
    assert habits.until(now - max(ages), False) <= habits.until(now - min(ages), False)


@pytest.mark.parametrize("policy", [FixedTime(), GreedyDual()], ids=repr)
def test_who_learns_nothing_expects_no_call(policy: KeepAlive) -> None:
    habits: Habits = policy.habits()
    habits.called(0, 1)
    habits.prewarmed()
    assert habits.prewarm_at() == math.inf


def test_policies_compare_by_value_and_cannot_be_changed() -> None:
    assert FixedTime(5) == FixedTime(5) != FixedTime(6)
    assert repr(GreedyDual(60)) == "GreedyDual(at_most=60)"
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        FixedTime().seconds = 3  # type: ignore[misc]


# -- fixed time --------------------------------------------------------------------------------------------------------


def test_a_fixed_time_is_the_same_for_all() -> None:
    habits = FixedTime(60).habits()
    assert habits.until(100, True) == habits.until(100, False) == 160
    assert FixedTime(math.inf).habits().until(100, False) == math.inf


def test_with_a_fixed_time_the_longest_idle_goes_first() -> None:
    habits = FixedTime().habits()
    assert habits.rank(Box(idle_since=1, calls=1_000)) < habits.rank(Box(idle_since=2))


# -- greedy dual -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (Box(calls=1), Box(calls=2)),
        (Box(init_seconds=0.1), Box(init_seconds=0.2)),
        (Box(init_seconds=None), Box(init_seconds=0.1)),
        (Box(max_memory=20 << 20), Box(max_memory=10 << 20)),
        (Box(clock=1), Box(clock=2)),
    ],
)
def test_frequent_slow_small_and_recent_sandboxes_are_worth_more(less: Box, more: Box) -> None:
    habits = GreedyDual().habits()
    assert habits.rank(less) < habits.rank(more)


def test_what_nobody_looked_at_yet_is_taken_to_hold_a_megabyte() -> None:
    assert GreedyDual().habits().rank(Box(max_memory=0)) == GreedyDual().habits().rank(Box(max_memory=1 << 20)) == 1.0


def test_the_clock_outruns_what_is_not_called_any_more() -> None:
    """A hundred others come and go, and each raises the clock a little; then the one with many calls goes too."""
    habits = GreedyDual().habits()
    favourite = Box(calls=50)
    clock = 0.0
    for _ in range(1_000):
        newcomer = Box(clock=clock)
        if habits.rank(favourite) < habits.rank(newcomer):
            break
        clock = habits.rank(newcomer)
    assert clock == pytest.approx(habits.rank(favourite))


# -- the histogram -----------------------------------------------------------------------------------------------------


def test_a_function_that_is_called_every_half_hour_has_a_sandbox_just_then() -> None:
    habits = after([30 * MINUTE + 5] * 10)
    assert habits.window() == (30 * MINUTE * 0.9, 31 * MINUTE * 1.1)
    ended = habits.ended
    assert ended is not None
    assert habits.until(ended, False) == ended, "it goes right after the call"
    made = habits.prewarm_at()
    assert made == ended + 27 * MINUTE
    assert habits.until(made, False) == ended + 31 * MINUTE * 1.1, "and the next waits until nobody comes any more"


def test_a_sandbox_is_made_ahead_once_between_two_calls() -> None:
    habits = after([30 * MINUTE] * 10)
    habits.prewarmed()
    assert habits.prewarm_at() == math.inf
    assert habits.ended is not None
    habits.called(habits.ended + 1_800, habits.ended + 1_801)
    assert habits.prewarm_at() < math.inf


def test_where_calls_may_follow_at_once_the_sandbox_stays_until_the_tail() -> None:
    habits = after([5.0] * 90 + [600.0] * 10)
    assert habits.window() == (0.0, 11 * MINUTE * 1.1)
    assert habits.prewarm_at() == math.inf


def test_one_gap_in_a_hundred_does_not_move_the_window() -> None:
    assert after([1_800.0] * 100 + [7_200.0]).window() == after([1_800.0] * 100).window()


@given(st.floats(60, BINS * MINUTE, exclude_max=True))
def test_the_window_of_a_punctual_function_holds_its_next_call(gap: float) -> None:
    pause, keep = after([gap] * 3).window()
    assert 0 < pause < gap < keep


@pytest.mark.parametrize(
    ("why", "habits"),
    [
        ("no call yet", HybridHistogram().habits()),
        ("one call", after([])),
        ("too few idle times", after([1_800.0] * 9, HybridHistogram(worth=math.inf))),
        ("half of them out of range", after([1_800.0, 20_000.0] * 10)),
        ("spread evenly", after([60.0 * minute for minute in range(BINS)])),
    ],
)
def test_where_the_histogram_says_nothing_the_time_is_fixed(why: str, habits: Histogram) -> None:
    assert habits.window() == (0.0, 300.0), why
    assert habits.prewarm_at() == math.inf
    now = 7.0 if habits.ended is None else habits.ended
    assert habits.until(now, False) == now + 300


def test_calls_that_overlap_end_no_idle_time() -> None:
    habits = PAPER.habits()
    habits.called(0, 10)
    habits.called(1, 11)
    habits.called(2, 700)
    habits.called(699, 701)
    assert (habits.within, habits.ended) == (0, 701)
    habits.called(761, 770)
    assert habits.bins[1] == 1


def test_others_than_the_last_are_kept_for_the_fixed_time_and_so_are_all_while_calls_are_at_work() -> None:
    stays = after([5.0] * 90 + [600.0] * 10)
    pauses = after([1_800.0] * 10)
    for habits in (stays, pauses):
        assert habits.ended is not None
        assert habits.until(habits.ended, True) == habits.ended + 300
    assert stays.ended is not None
    assert stays.until(stays.ended - 1, False) == stays.ended - 1 + 300


def test_old_idle_times_fade() -> None:
    habits = after([1_800.0] * (FORGET - 1))
    assert habits.within == FORGET - 1
    changed = after([1_800.0] * (FORGET - 1) + [600.0] * FORGET * 5)
    assert changed.within < FORGET
    assert changed.window() == after([600.0] * 10).window()


@given(gaps=gaps)
def test_its_sums_are_those_of_its_bins(gaps: list[float]) -> None:
    habits = after(gaps)
    assert len(habits.bins) == BINS
    assert habits.within == sum(habits.bins)
    assert habits.squares == sum(count * count for count in habits.bins)
    assert habits.within + habits.beyond == len(gaps)


@given(st.lists(st.integers(0, BINS - 1), min_size=1, max_size=60), st.floats(0, 100), st.floats(0, 100))
def test_the_window_spans_the_percentiles_of_the_idle_times(bins: list[int], one: float, other: float) -> None:
    """By counting through them in order."""
    head, tail = sorted((one, other))
    policy = HybridHistogram(samples=1, variation=0, worth=math.inf, margin=0, head=head, tail=tail)
    pause, keep = after([at * MINUTE + 30 for at in bins], policy).window()
    ordered = sorted(bins)
    ranks = [max(math.ceil(len(bins) * percent / 100), 1) for percent in (head, tail)]
    assert (pause, keep) == (ordered[ranks[0] - 1] * MINUTE, (ordered[ranks[1] - 1] + 1) * MINUTE)


# -- what a window is worth --------------------------------------------------------------------------------------------


def test_a_window_that_costs_more_than_it_spares_is_cut_to_nothing() -> None:
    """Called once in an hour or so: 20 minutes of idling for a start that is worth five."""
    habits = after([60.0 * minute for minute in range(60, 100)], HybridHistogram())
    assert habits.window() == (0.0, 0.0)
    assert habits.ended is not None
    assert habits.until(habits.ended, False) == habits.ended
    assert habits.prewarm_at() == math.inf


def test_a_window_ends_with_the_burst_where_the_next_one_is_far() -> None:
    habits = after(([5.0] * 9 + [7_200.0]) * 10, HybridHistogram())
    assert habits.window() == (0.0, 1.1 * MINUTE)
    assert after(([5.0] * 9 + [7_200.0]) * 10).window()[1] > 7_200


@given(
    bins=st.lists(st.integers(0, 30), min_size=10, max_size=40),
    worth=st.floats(0, 7_200),
    margin=st.floats(0, 1),
)
def test_no_end_of_the_window_pays_more_than_the_one_that_is_taken(
    bins: list[int], worth: float, margin: float
) -> None:
    policy = HybridHistogram(variation=0, worth=worth, margin=margin, tail=100)
    idle_times = [at * MINUTE + 30 for at in bins]
    habits = after(idle_times, policy)
    pause, keep = habits.window()
    first = habits._bin_at(policy.head)
    begin = first * MINUTE * (1 - margin)

    def gain(last: int) -> float:
        """What a window from ``begin`` to the end of this bin spares, less what it costs; bin by bin, call by call."""
        total = 0.0
        for at in bins:
            if first <= at <= last:
                total += worth - (at * MINUTE + 30 - begin)
            elif at > last:
                total -= (last + 1) * MINUTE * (1 + margin) - begin
        return total

    gains = {last: gain(last) for last in range(first, BINS)}
    if keep == 0:
        assert pause == 0
        assert max(gains.values()) <= 1e-6
    else:
        taken = round(keep / (1 + margin) / MINUTE) - 1
        assert pause == begin
        assert gains[taken] >= max(gains.values()) - 1e-6


# -- what is refused ---------------------------------------------------------------------------------------------------

WRONG: list[tuple[Any, str, list[Any], str]] = [
    (FixedTime, "seconds", [-1, "5", None, True, math.nan], "a number of seconds, at least 0"),
    (GreedyDual, "at_most", [-1, "5", None, True, math.nan], "a number of seconds, at least 0"),
    (HybridHistogram, "seconds", [-1, "5", None, True, math.nan], "a number of seconds, at least 0"),
    (HybridHistogram, "bin_seconds", [0, -1, "5", None, math.inf], "a number of seconds from 0.001 to 86400"),
    (HybridHistogram, "head", [-1, 101, "5", None], "a percentage from 0 to 100"),
    (HybridHistogram, "tail", [-1, 101, "5", None], "a percentage from 0 to 100"),
    (HybridHistogram, "margin", [-0.1, 1.1, None], "a share from 0 to 1"),
    (HybridHistogram, "samples", [0, 1.5, None, True], "a whole number, at least 1"),
    (HybridHistogram, "variation", [-1, None, math.nan], "a number, at least 0"),
    (HybridHistogram, "worth", [-1, "5", True, math.nan], "a number of seconds, at least 0, or None"),
]


@pytest.mark.parametrize(
    ("policy", "field", "value", "right"),
    [(policy, field, value, right) for policy, field, values, right in WRONG for value in values],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_would_be_right(
    policy: Any, field: str, value: Any, right: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        policy(**{field: value})
    assert str(caught.value) == f"{field}={value!r}: must be {right}"


def test_the_head_must_not_lie_behind_the_tail() -> None:
    with pytest.raises(ConfigurationError, match=r"head=60: must be at most tail=50"):
        HybridHistogram(head=60, tail=50)


def test_every_field_is_checked_here() -> None:
    for policy in (FixedTime, GreedyDual, HybridHistogram):
        fields = {field.name for field in attrs.fields(policy)}
        assert fields == {field for one, field, _, _ in WRONG if one is policy}
