"""What a zygote has before it forks is counted no more where CPython can, and nothing else is different."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pyfaas._sandbox.immortal import _MINE

needs_immortals = pytest.mark.skipif(not _MINE, reason="CPython 3.12 and 3.13 have objects that are not counted")


def run(program: str) -> list[str]:
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


LIVE_ON = """
import asyncio, gc, json, logging, subprocess, sys, threading, types
from pyfaas._sandbox.immortal import share
kept = {"key": [object(), "text" * 3, (1.5, frozenset("ab"))]}
dropped = [types.SimpleNamespace(one=object())]
steps = sum(1 for _ in share())
never = sys.getrefcount(None)
inside = [kept, kept["key"], *kept["key"], json.dumps, json.dumps.__code__, json.dumps.__code__.co_consts]
print(steps > 1, all(sys.getrefcount(one) == never for one in inside))

# Life goes on, and what comes is counted.
dropped.clear()
kept["key"] += [[]]
kept["new"] = {}
text = kept["key"][1]
text += "more"
assert text == "text" * 3 + "more"
assert sys.getrefcount(kept["new"]) < 10
assert json.loads(json.dumps({"a": [1, None, 1.5]})) == {"a": [1, None, 1.5]}
thread = threading.Thread(target=lambda: kept.update(thread=1))
thread.start()
thread.join()
assert asyncio.run(asyncio.sleep(0, 7)) == 7
subprocess.run([sys.executable, "-c", ""], check=True)
try:
    1 / 0
except ZeroDivisionError as error:
    logging.getLogger().debug("%s", error)
import decimal
for _ in range(3):
    gc.collect()
steps = sum(1 for _ in share())  # and once more, for what came
print(sys.getrefcount(kept["new"]) == never, sys.getrefcount(decimal.Decimal) == never)
"""


@needs_immortals
def test_all_there_is_becomes_immortal_and_life_goes_on() -> None:
    assert run(LIVE_ON) == ["True"] * 4


PAGES = """
import asyncio, decimal, email.message, gc, http.client, json, os, sys, typing
from pyfaas._sandbox.immortal import share
things = gc.get_objects()
gc.disable()
if SHARED:
    for _ in share():
        pass
read, write = os.pipe()
if os.fork() == 0:
    more = [list(things) for _ in range(2)]
    with open("/proc/self/smaps_rollup") as file:
        dirty = [line.split()[1] for line in file if line.startswith("Private_Dirty")]
    os.write(write, dirty[0].encode())
    os._exit(0)
os.wait()
print(os.read(read, 100).decode())
"""


@needs_immortals
@pytest.mark.skipif(sys.platform != "linux", reason="smaps is Linux's")
def test_a_fork_that_looks_at_everything_shares_most_of_it() -> None:
    plain = int(run(PAGES.replace("SHARED", "False"))[0])
    shared = int(run(PAGES.replace("SHARED", "True"))[0])
    assert shared < 0.5 * plain


@pytest.mark.skipif(_MINE, reason="here they are")
def test_elsewhere_nothing_happens() -> None:
    program = """
import sys
from pyfaas._sandbox.immortal import share
kept = []
before = sys.getrefcount(kept)
print(sum(1 for _ in share()), sys.getrefcount(kept) - before)
"""
    assert run(program) == ["0", "0"]
