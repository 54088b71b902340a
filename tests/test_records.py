"""Outcome and Report: what was measured, rounded as AWS does."""

from __future__ import annotations

import copy
import pickle

import pytest

import handlers
from pyfaas import HandlerFailed, Outcome, Report, Runtime, TimedOut
from pyfaas._records import Facts, make_report
from pyfaas._telemetry.logs import compose_log

MB = 1_048_576


def facts(**changes: object) -> Facts:
    made = Facts(bytes(range(16)), "thumbnail", 256)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_durations_are_rounded_and_the_bill_is_rounded_up() -> None:
    report = make_report(facts(duration=0.0123456, max_memory_bytes=10 * MB + 1, queued=0.5), "success")
    assert report == Report(
        request_id="00010203-0405-0607-0809-0a0b0c0d0e0f",
        function="thumbnail",
        version="$LATEST",
        cold=False,
        duration_ms=12.35,
        billed_ms=13,
        init_ms=None,
        memory_mb=256,
        max_memory_mb=11,
        status="success",
        queued_ms=500.0,
    )


def test_init_is_billed_as_in_awss_sample() -> None:
    """Duration 133.61 and Init 80.00 are billed as 214."""
    report = make_report(facts(duration=0.13361, init=0.08, cold=True), "success")
    assert (report.duration_ms, report.init_ms, report.billed_ms) == (133.61, 80.0, 214)


def test_memory_never_shows_above_the_limit() -> None:
    assert make_report(facts(max_memory_bytes=400 * MB), "error").max_memory_mb == 256


def test_a_report_is_frozen() -> None:
    with pytest.raises(AttributeError):
        make_report(facts(), "success").status = "other"  # type: ignore[misc]


def test_an_outcome_with_a_value() -> None:
    outcome = Outcome({"a": 1}, b'{"a":1}', None, facts(), compose_log)
    assert outcome.ok
    assert outcome.value == {"a": 1}
    assert outcome.payload == b'{"a":1}'
    assert outcome.error is None
    assert outcome.report.status == "success"
    assert repr(outcome) == "<Outcome 00010203-0405-0607-0809-0a0b0c0d0e0f ok, 7 bytes>"


def test_an_outcome_with_an_error_raises_it_for_whoever_asks_for_the_value() -> None:
    error = HandlerFailed("it broke", "ValueError")
    outcome = Outcome(None, b"", error, facts(), compose_log)
    assert not outcome.ok
    assert outcome.report.status == "error"
    with pytest.raises(HandlerFailed) as caught:
        _ = outcome.value
    assert caught.value is error
    assert repr(outcome) == "<Outcome 00010203-0405-0607-0809-0a0b0c0d0e0f HandlerFailed: it broke>"


def test_a_time_out_has_a_status_of_its_own() -> None:
    assert Outcome(None, b"", TimedOut("late"), facts(), compose_log).report.status == "timeout"


@pytest.mark.parametrize("event", [0, None, False, [], "", {"a": [1.5, None]}])
def test_an_outcome_pickles_and_copies_whole(session_runtime: Runtime, event: object) -> None:
    outcome = session_runtime.try_invoke(handlers.echo, event)
    for again in (pickle.loads(pickle.dumps(outcome)), copy.copy(outcome), copy.deepcopy(outcome)):
        assert again.value == event
        assert again.report == outcome.report
        assert again.log == outcome.log
        assert repr(again) == repr(outcome)


def test_a_real_report_tells_what_was_seen(session_runtime: Runtime) -> None:
    with Runtime() as fresh:
        cold = fresh.try_invoke(handlers.sleep, 0.02).report
        warm = fresh.try_invoke(handlers.sleep, 0.02).report
    assert (cold.cold, warm.cold) == (True, False)
    assert cold.function == "sleep"
    assert cold.duration_ms >= 20
    assert cold.init_ms is not None
    assert cold.billed_ms >= cold.duration_ms + cold.init_ms
    assert warm.init_ms is None
    assert warm.billed_ms < warm.duration_ms + 1.01
    assert (cold.memory_mb, cold.version, cold.status) == (128, "$LATEST", "success")
    assert 5 <= cold.max_memory_mb <= 60
