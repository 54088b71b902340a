"""What follows of a batch: nothing that is well is lost, and nothing is passed over but what is given up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfaas._sources.progress import Progress, after, after_refusal, progress_of


@pytest.mark.parametrize(
    ("failed", "retries", "bisect", "before", "told"),
    [
        (None, 0, False, Progress(attempts=3, ends=(4, 9)), (4, (9,), 0, 0.0, None)),
        (0, None, False, Progress(), (0, (4,), 1, 0.0, None)),
        (0, None, False, Progress(attempts=1, ends=(4,)), (0, (4,), 2, 0.5, None)),
        (0, None, False, Progress(attempts=2, ends=(4,)), (0, (4,), 3, 1.0, None)),
        (0, None, False, Progress(attempts=50, ends=(4,)), (0, (4,), 51, 60.0, None)),
        (0, 0, False, Progress(), (4, (), 0, 0.0, 0)),
        (0, 2, False, Progress(attempts=2, ends=(4, 9)), (4, (9,), 0, 0.0, 0)),
        (2, 2, False, Progress(attempts=2, ends=(4,)), (2, (4,), 1, 0.0, None)),
        (2, 0, False, Progress(), (4, (), 0, 0.0, 2)),
        (0, 0, True, Progress(), (0, (2, 4), 0, 0.0, None)),
        (0, 0, True, Progress(ends=(4, 9)), (0, (2, 4, 9), 0, 0.0, None)),
        (2, 0, True, Progress(), (2, (4,), 0, 0.0, None)),
        (3, 0, True, Progress(), (4, (), 0, 0.0, 3)),
    ],
)
def test_each_rule_of_the_table(
    failed: int | None,
    retries: int | None,
    bisect: bool,
    before: Progress,
    told: tuple[int, tuple[int, ...], int, float, int | None],
) -> None:
    step = after([1, 2, 3, 4], failed, before=0, through=4, progress=before, retries=retries, bisect=bisect)
    assert (step.position, step.progress.ends, step.progress.attempts, step.delay, step.given_up) == told


def test_what_is_refused_comes_back_as_it_was() -> None:
    step = after_refusal(before=0, through=4, progress=Progress(attempts=1, ends=(4, 9)))
    assert (step.position, step.progress, step.delay) == (0, Progress(attempts=1, ends=(4, 9), refusals=1), 0.5)
    step = after_refusal(before=0, through=4, progress=step.progress)
    assert (step.progress.refusals, step.delay) == (2, 1.0)


def test_progress_is_kept_as_json_and_only_what_there_is() -> None:
    assert Progress().noted() == {}
    kept = Progress(ends=(4, 9), attempts=1, window=30.0, state={"a": 1}, early=True)
    assert progress_of(kept.noted()) == kept


@given(
    records=st.integers(1, 30),
    poison=st.sets(st.integers(1, 30), max_size=4),
    retries=st.integers(0, 2),
    bisect=st.booleans(),
    reports=st.booleans(),
    size=st.integers(1, 12),
)
def test_each_record_is_done_or_given_up_in_order(
    records: int, poison: set[int], retries: int, bisect: bool, reports: bool, size: int
) -> None:
    """With bisect only those are given up that are at fault, and each of them was tried as often as it says."""
    position, progress = 0, Progress()
    done: list[int] = []
    lost: list[int] = []
    tried: dict[int, int] = {}
    while position < records:
        end = min(progress.ends[0] if progress.ends else records, records)
        ids = [*range(position + 1, end + 1)][:size]
        failed = next((at for at, number in enumerate(ids) if number in poison), None)
        if failed is not None:
            tried[ids[failed]] = tried.get(ids[failed], 0) + 1
        failed = 0 if failed is not None and not reports else failed
        step = after(ids, failed, before=position, through=ids[-1], progress=progress, retries=retries, bisect=bisect)
        assert step.position >= position
        over = [number for number in ids if position < number <= step.position]
        given_up = [] if step.given_up is None else ids[step.given_up :]
        assert set(given_up) <= set(over)
        lost += given_up
        done += [number for number in over if number not in given_up]
        position, progress = step.position, step.progress
    assert sorted(done + lost) == [*range(1, records + 1)]
    assert done == sorted(done)
    assert not poison & set(done)
    if bisect:
        assert set(lost) == poison & set(range(1, records + 1))
    for number in lost:
        if number in tried:
            assert tried[number] > retries
