"""``outcome.log``: AWS Lambda's lines, tabs and all, around what the handler wrote; also where it crashed."""

from __future__ import annotations

import re
import sys
from typing import Any

import pytest

import handlers
from pyfaas import Function, Outcome, Runtime, SandboxDied, function
from pyfaas._records import Facts, make_report
from pyfaas._telemetry.logs import compose_log

NUMBER = r"\d+\.\d\d"
INIT = (
    r"INIT_START Runtime Version: python:3\.\d+\.v\d+\tRuntime Version ARN: arn:aws:lambda:us-east-1::runtime:\w{64}\n"
)
INIT_DURATION = rf"Init Duration: {NUMBER} ms\t"


def check(outcome: Outcome, written: str, *, cold: bool = True, init: bool = True, status: str = "") -> None:
    """The log is just this; ``written`` is what stands between START and END, a regular expression."""
    number = re.escape(outcome.request_id)
    pattern = (
        f"{INIT if cold else ''}"
        rf"START RequestId: {number} Version: \$LATEST\n"
        f"{written}"
        rf"END RequestId: {number}\n"
        rf"REPORT RequestId: {number}\tDuration: {NUMBER} ms\tBilled Duration: \d+ ms\tMemory Size: 128 MB\t"
        rf"Max Memory Used: \d+ MB\t{INIT_DURATION if cold and init else ''}{status}\n"
    )
    assert re.fullmatch(pattern, outcome.log), outcome.log


def run(runtime: Runtime, code: str, *, timeout: float = 10) -> Outcome:
    """Run this code as a handler of its own."""

    def handler(event: str, context: Any) -> None:
        import ctypes
        import logging
        import os
        import subprocess
        import sys
        import time

        names = {"logging": logging, "os": os, "subprocess": subprocess, "sys": sys, "time": time}
        exec(event, {**names, "ctypes": ctypes, "context": context})

    declared: Function[str, None] = function(timeout=timeout)(handler)
    return runtime.try_invoke(declared, code)


# -- the lines ---------------------------------------------------------------------------------------------------------


def test_a_cold_call_and_a_warm_one(runtime: Runtime) -> None:
    check(runtime.try_invoke(handlers.echo, 1), "")
    check(runtime.try_invoke(handlers.echo, 1), "", cold=False)


def test_the_numbers_are_those_of_the_report(session_runtime: Runtime) -> None:
    outcome = run(session_runtime, "pass")
    report = outcome.report
    last = outcome.log.splitlines()[-1]
    assert f"\tDuration: {report.duration_ms:.2f} ms\tBilled Duration: {report.billed_ms} ms\t" in last
    assert f"\tMax Memory Used: {report.max_memory_mb} MB\t" in last
    assert last.endswith(f"\tInit Duration: {report.init_ms:.2f} ms\t")


WRITES = [
    ("print('a'); print('b', file=sys.stderr); print('c')", "a\nb\nc\n"),
    ("print('no newline', end='')", "no newline\n"),
    ("sys.stdout.write('é\\U0001f600\\n')", "é\U0001f600\n"),
    ("sys.stdout.buffer.write(b'raw\\n')", "raw\n"),
    ("os.write(1, b'one\\n'); os.write(2, b'two\\n')", "one\ntwo\n"),
    ("subprocess.run(['echo', 'from a subprocess'])", "from a subprocess\n"),
    ("subprocess.run('echo to stderr >&2', shell=True)", "to stderr\n"),
    ("libc = ctypes.CDLL(None); libc.puts(b'from C'); libc.fflush(None)", "from C\n"),
    ("print('python'); os.write(1, b'descriptor\\n'); print('python')", "python\ndescriptor\npython\n"),
    ("context.log('a'); context.log('b\\n')", "ab\n"),
    ("sys.stdout.write('\\ud800\\n')", "\\\\ud800\n"),
    ("os.write(1, b'\\xff\\n')", "\ufffd\n"),
    ("sys.stdout = sys.stderr; print('swapped')", "swapped\n"),
    ("sys.stdout.flush(); print(sys.stdout.isatty(), sys.stdout.encoding)", "False utf-8\n"),
]


@pytest.mark.parametrize(("code", "written"), WRITES)
def test_whatever_is_written_stands_between_start_and_end(session_runtime: Runtime, code: str, written: str) -> None:
    check(run(session_runtime, code), written)


STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.mark.parametrize(
    ("code", "level", "message"),
    [
        ("logging.warning('a %s', 'b')", "WARNING", "a b"),
        ("logging.getLogger('deep.down').error('x')", "ERROR", "x"),
        ("logging.getLogger().setLevel('INFO'); logging.info('x')", "INFO", "x"),
        ("logging.basicConfig(level='DEBUG'); logging.critical('x')", "CRITICAL", "x"),
    ],
)
def test_logging_has_awss_format(session_runtime: Runtime, code: str, level: str, message: str) -> None:
    outcome = run(session_runtime, code)
    check(outcome, rf"\[{level}\]\t{STAMP}\t{re.escape(outcome.request_id)}\t{message}\n")


def test_below_warning_nothing_is_logged_unless_asked_for(session_runtime: Runtime) -> None:
    check(run(session_runtime, "logging.info('x'); logging.debug('y')"), "")


def test_each_call_logs_under_its_own_id(runtime: Runtime) -> None:
    def handler(event: Any) -> None:
        import logging

        logging.getLogger().warning("x")

    declared = function(handler)
    for cold in (True, False):
        outcome = runtime.try_invoke(declared, None)
        check(outcome, rf"\[WARNING\]\t{STAMP}\t{re.escape(outcome.request_id)}\tx\n", cold=cold)


def test_each_call_has_only_its_own_output(runtime: Runtime) -> None:
    def handler(event: str) -> None:
        print(event)

    declared = function(handler)
    for number in range(3):
        check(runtime.try_invoke(declared, f"number {number}"), f"number {number}\n", cold=number == 0)


# -- failures ----------------------------------------------------------------------------------------------------------


def test_an_exception_is_logged_as_aws_does(session_runtime: Runtime) -> None:
    """Indented with no-break spaces, so that readers of logs that trim lines keep the shape."""
    outcome = session_runtime.try_invoke(handlers.fail, "it broke")
    space = "\u00a0"
    line = handlers.fail.handler.__code__.co_firstlineno + 2
    written = (
        "[ERROR] ValueError: it broke\nTraceback (most recent call last):\n"
        f'{space * 2}File "{handlers.__file__}", line {line}, in fail\n{space * 4}raise ValueError(event)\n'
    )
    assert written in outcome.log
    check(outcome, re.escape(written).replace("\\\n", "\n"), cold="INIT_START" in outcome.log)


def test_only_the_indentation_becomes_no_break_spaces(session_runtime: Runtime) -> None:
    def handler(event: Any) -> Any:
        return {}[event]  # two  spaces

    outcome = session_runtime.try_invoke(function(handler), "two  spaces")
    assert "[ERROR] KeyError: 'two  spaces'\n" in outcome.log
    assert "\n\u00a0\u00a0\u00a0\u00a0return {}[event]  # two  spaces\n" in outcome.log
    for line in outcome.log.splitlines():
        inner = line.lstrip("\u00a0")
        assert "\u00a0" not in inner
        assert not inner.startswith(" ")


def test_a_result_that_cannot_be_taken_is_logged(session_runtime: Runtime) -> None:
    outcome = session_runtime.try_invoke(function(lambda event: {1}), None)
    told = r"\[ERROR\] Runtime.MarshalError: Unable to marshal response: Object of type set is not JSON serializable\n"
    check(outcome, told)


def test_a_time_out_keeps_what_was_written(session_runtime: Runtime) -> None:
    outcome = run(session_runtime, "print('before'); os.write(2, b'more'); time.sleep(60)", timeout=0.2)
    check(outcome, "before\nmore\n", status="Status: timeout\t")


EXIT = "Status: error\tError Type: Runtime.ExitError\t"


@pytest.mark.parametrize("code", ["sys.exit(0)", "sys.exit(3)", "os._exit(1)"])
def test_an_exit_keeps_what_was_written(session_runtime: Runtime, code: str) -> None:
    outcome = run(session_runtime, f"print('before'); {code}")
    check(outcome, "before\n", status=EXIT)


def test_a_crash_keeps_what_was_written_and_tells_where(session_runtime: Runtime) -> None:
    outcome = run(session_runtime, "print('before'); ctypes.string_at(0)")
    assert isinstance(outcome.error, SandboxDied)
    check(outcome, r"before\nFatal Python error: Segmentation fault\n(.*\n)*?.*string_at\n(.*\n)*?", status=EXIT)


def test_what_an_exit_tells_on_stderr_is_there(session_runtime: Runtime) -> None:
    check(run(session_runtime, "sys.exit('the reason')"), "the reason\n", status=EXIT)


def test_the_log_of_an_oom_tells_the_platforms_error_type(session_runtime: Runtime) -> None:
    outcome = run(session_runtime, "print('before'); kept = []\nwhile True: kept.append(bytearray(1000000))")
    check(outcome, "before\n", status="Status: error\tError Type: Runtime.OutOfMemory\t")
    assert "\tMemory Size: 128 MB\tMax Memory Used: 128 MB\t" in outcome.log


# -- sizes -------------------------------------------------------------------------------------------------------------


def test_only_the_last_four_kilobytes_are_kept(session_runtime: Runtime) -> None:
    outcome = run(session_runtime, "for number in range(2000): print(f'line {number:05}')")
    assert len(outcome.log.encode()) == 4_096
    assert outcome.log.splitlines()[-1].startswith("REPORT")
    assert "\nline 01999\nEND" in outcome.log
    assert "START" not in outcome.log


def test_a_letter_is_never_cut_in_two(session_runtime: Runtime) -> None:
    outcome = run(session_runtime, "print('\\U0001f600' * 2000)")
    assert "\ufffd" not in outcome.log
    assert 4_090 < len(outcome.log.encode()) <= 4_096


def test_past_a_megabyte_output_is_dropped_and_the_log_says_how_much(session_runtime: Runtime) -> None:
    outcome = run(session_runtime, "for number in range(30): sys.stdout.write('x' * 99_999 + '\\n')")
    assert outcome.ok
    assert f"[pyfaas] {3_000_000 - 1_048_576:,} more bytes of output were dropped\nEND" in outcome.log


def test_after_a_call_that_wrote_too_much_the_next_may_write_again(runtime: Runtime) -> None:
    def handler(event: int) -> None:
        import sys

        sys.stdout.write("x" * event + "\n")

    declared = function(handler)
    for _ in range(3):
        assert "dropped" in runtime.try_invoke(declared, 2_000_000).log
        check(runtime.try_invoke(declared, 3), "xxx\n", cold=False)


def test_a_line_that_looks_like_a_report_is_not_the_last(session_runtime: Runtime) -> None:
    outcome = run(session_runtime, "print('REPORT RequestId: forged')")
    assert outcome.log.splitlines()[-1].startswith(f"REPORT RequestId: {outcome.request_id}")


def test_output_while_the_module_loads_belongs_to_the_first_call(runtime: Runtime) -> None:
    class Loud:
        def __reduce__(self) -> Any:
            return (print, ("loading",))

    loud = Loud()
    outcome = runtime.try_invoke(function(lambda event: print("running", loud)), None)
    assert re.search(r"loading\n(START .*\n)?running", outcome.log)


# -- composing ---------------------------------------------------------------------------------------------------------


def test_a_log_is_composed_of_the_hosts_lines_and_the_handlers_bytes() -> None:
    facts = Facts(bytes(16), "f", 128, cold=True, duration=0.00301, init=0.1101, max_memory_bytes=36 << 20, log=b"text")
    version = f"python:3.{sys.version_info.minor}.v{sys.version_info.micro}"
    lines = compose_log(facts, make_report(facts, "success"), None).splitlines()
    number = "00000000-0000-0000-0000-000000000000"
    report = (
        f"REPORT RequestId: {number}\tDuration: 3.01 ms\tBilled Duration: 114 ms\tMemory Size: 128 MB\t"
        "Max Memory Used: 36 MB\tInit Duration: 110.10 ms\t"
    )
    assert lines[0].startswith(f"INIT_START Runtime Version: {version}\tRuntime Version ARN: ")
    assert lines[1:] == [
        f"START RequestId: {number} Version: $LATEST",
        "text",
        f"END RequestId: {number}",
        report,
    ]
