"""What becomes of an attempt that failed: AWS's waits, AWS's words."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyfaas._invoke.retries import (
    NO_CONCURRENCY,
    RETRIES_EXHAUSTED,
    TOO_OLD,
    Again,
    Over,
    after_failure,
    after_refusal,
    before,
)

SIX_HOURS = 21_600.0


def test_a_failure_is_repeated_after_one_minute_and_after_two() -> None:
    assert [after_failure(made, 2, 0.0, SIX_HOURS) for made in (1, 2, 3)] == [
        Again(60.0),
        Again(120.0),
        Over(RETRIES_EXHAUSTED),
    ]
    assert after_failure(1, 0, 0.0, SIX_HOURS) == Over(RETRIES_EXHAUSTED)


def test_a_retry_that_would_come_too_late_is_not_waited_for() -> None:
    assert after_failure(1, 2, 40.0, 100.0) == Again(60.0)
    assert after_failure(1, 2, 40.1, 100.0) == Over(TOO_OLD)
    assert after_failure(3, 2, 99.0, 100.0) == Over(RETRIES_EXHAUSTED)


def test_a_refusal_is_repeated_from_one_second_to_five_minutes() -> None:
    waits = [after_refusal(times, 0.0, SIX_HOURS) for times in range(1, 12)]
    assert waits == [Again(wait) for wait in (1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300)]
    assert after_refusal(10**6, 0.0, SIX_HOURS) == Again(300.0)


def test_what_is_too_old_or_may_never_run_is_not_tried() -> None:
    assert before(0.0, SIX_HOURS, None) is None
    assert before(SIX_HOURS, SIX_HOURS, 5) is None
    assert before(SIX_HOURS + 1, SIX_HOURS, None) == Over(TOO_OLD)
    assert before(0.0, SIX_HOURS, 0) == Over(NO_CONCURRENCY)


@given(refusals=st.integers(1, 50), age=st.floats(0, SIX_HOURS), max_age=st.floats(60, SIX_HOURS))
def test_nothing_is_tried_after_its_time(refusals: int, age: float, max_age: float) -> None:
    decided = after_refusal(refusals, age, max_age)
    assert isinstance(decided, Over) or age + decided.delay <= max_age
