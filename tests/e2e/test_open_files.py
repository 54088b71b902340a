"""A sandbox takes three descriptors; the limit of open files is raised for them, or told of where it cannot be."""

from __future__ import annotations

import pytest

from e2e.tools import Host

PROGRAM = """
import os, resource, sys, threading
from pyfaas import HostError, Runtime, function

soft, hard = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

@function(timeout=60)
def echo(event):
    return event

@function(timeout=600)
def hold(event):
    import time
    while os.path.exists(event):
        time.sleep(0.05)
    return resource.getrlimit(resource.RLIMIT_NOFILE)

def limits():
    return resource.getrlimit(resource.RLIMIT_NOFILE)
"""


def test_a_few_sandboxes_leave_the_limit_alone(host: Host) -> None:
    host.run_script(
        PROGRAM
        + """
with Runtime() as runtime:
    list(echo.map(range(100)))
    assert limits() == (soft, hard)
""",
        "1024",
        "4096",
    )


def test_four_hundred_at_once_raise_it(host: Host) -> None:
    host.run_script(
        PROGRAM
        + """
path = os.path.join(os.environ["TMPDIR"], "holding")
open(path, "w").close()
COUNT = 400
found = []
with Runtime() as runtime:
    hold.invoke("")
    threads = [threading.Thread(target=lambda: found.append(hold.try_invoke(path)), daemon=True) for _ in range(COUNT)]
    for thread in threads:
        thread.start()
    import time
    until = time.monotonic() + 90
    while runtime.statistics().live < COUNT or not all(s.peer.phase == "open" for s in tuple(runtime._pool.running)):
        assert time.monotonic() < until, runtime
        time.sleep(0.01)
    assert limits() == (hard, hard)
    os.unlink(path)
    for thread in threads:
        thread.join()
    assert all(outcome.ok for outcome in found), [str(outcome.error) for outcome in found if not outcome.ok][:3]
    assert len(found) == COUNT
    assert {tuple(outcome.value) for outcome in found} == {(1024, 1024)}  # inside, it is Lambda's
    now = runtime.statistics()
    assert (now.live, now.in_flight) == (COUNT, 0), now
""",
        "1024",
        "4096",
        seconds=200,
    )
    host.assert_nothing_is_left()


@pytest.mark.parametrize("limit", ["64", "80"])
def test_too_low_a_hard_limit_is_told_by_its_number_and_costs_no_sandbox_that_works(host: Host, limit: str) -> None:
    host.run_script(
        PROGRAM
        + """
path = os.path.join(os.environ["TMPDIR"], "holding")
open(path, "w").close()
found, errors = [], []

def work():
    try:
        found.append(hold.invoke(path))
    except HostError as error:
        errors.append(str(error))

with Runtime() as runtime:
    assert echo.invoke(1) == 1
    threads = [threading.Thread(target=work, daemon=True) for _ in range(40)]
    for thread in threads:
        thread.start()
    import time
    until = time.monotonic() + 60
    while not errors or runtime.statistics().in_flight + len(errors) < 40:
        assert time.monotonic() < until, (runtime, errors)
        time.sleep(0.01)
    assert echo.invoke(1) == 1
    os.unlink(path)
    for thread in threads:
        thread.join()
    assert len(found) + len(errors) == 40
    assert len(found) > 5
    assert all(f"the limit is {soft}" in error for error in errors), set(errors)
    assert limits() == (soft, hard)
    assert echo.invoke(1) == 1
    assert runtime.statistics().in_flight == 0
""",
        limit,
        limit,
        seconds=100,
    )
    host.assert_nothing_is_left()
