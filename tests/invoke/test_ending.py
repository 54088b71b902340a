"""What became of events that nobody waits for is told to the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from pyfaas import Runtime, function, queue
from support import wait_until


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.WARNING, "pyfaas.function"):
        yield caplog


def test_why_an_event_of_a_source_failed_is_a_warning_in_which_it_can_begin_no_line(
    log: pytest.LogCaptureFixture,
) -> None:
    letters = queue("letters")

    @function(trigger=letters, name="parse")
    def parse(event: object) -> None:
        print("says nothing to this log")
        raise ValueError("no letter\nINFO all is well \x1b[2J")

    with Runtime([parse]) as runtime:
        letters.send("?")
        wait_until(lambda: bool(log.records))
        for mapping in runtime.mappings():
            mapping.pause()
        letters.purge()
    (record,) = log.records
    lines = record.getMessage().split("\n")
    assert record.levelname == "WARNING"
    assert lines[0].startswith("'parse' failed, request ")
    assert lines[0].endswith(": ValueError: no letter")
    assert lines[1] == "    INFO all is well \\x1b[2J"
    assert any("in parse" in line for line in lines)  # the traceback
    assert all(line.startswith("    ") for line in lines[1:])


def test_what_was_submitted_says_all_of_it_to_those_who_want_it(log: pytest.LogCaptureFixture) -> None:
    @function(name="greet")
    def greet(event: str) -> None:
        print(f"hello {event}")

    with Runtime([greet]) as runtime:
        assert runtime.wait(runtime.submit(greet, "quietly"), 30) is not None
        log.set_level(logging.INFO, "pyfaas.function")
        assert runtime.wait(runtime.submit(greet, "you"), 30) is not None
    (record,) = log.records
    lines = record.getMessage().split("\n")
    assert lines[0].startswith("'greet' ran: START RequestId: ")
    assert lines[1] == "    hello you"
    assert lines[-1].startswith("    REPORT RequestId: ")


def test_a_caller_who_waits_is_told_himself(log: pytest.LogCaptureFixture) -> None:
    @function
    def fail(event: object) -> None:
        raise ValueError

    with Runtime() as runtime:
        assert not runtime.try_invoke(fail, None).ok
    assert not log.records
