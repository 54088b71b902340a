"""What a host had leased is due at once when it has died, and not before."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pyfaas import Runtime, queue, stream
from pyfaas._clock import SystemClock
from pyfaas._stores import estates, hosts
from pyfaas._stores import queue as stored
from pyfaas._stores.database import Database
from pyfaas.testing import settle
from sources.tools import recorder, wait_for
from stores.tools import do
from support import SOURCE, wait_until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these locks are Linux's")


def opened(path: Path) -> Database:
    database = Database(str(path), "normal", SystemClock())
    estates.register(database)
    return database


def test_each_has_a_number_of_its_own_while_it_has_the_store_open(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "s"), opened(tmp_path / "s")
    assert first.host != second.host
    assert hosts.NOBODY not in (first.host, second.host)
    assert first.is_alive(second.host)
    assert second.is_alive(first.host)
    estates.leave(second)
    second.close()
    assert not first.is_alive(second.host)
    assert do(first, lambda one: one.run("hosts")) == [(first.host,)]
    first.close()


def test_a_store_in_memory_has_no_hosts() -> None:
    database = Database(None, "full", SystemClock())
    estates.register(database)
    assert database.host == hosts.NOBODY
    estates.leave(database)
    database.close()


@pytest.mark.parametrize("fifo", [False, True])
def test_what_the_living_have_leased_is_left_to_them(tmp_path: Path, fifo: bool) -> None:
    first = opened(tmp_path / "s")
    made = do(first, lambda one: stored.find_or_make(one, "orders", fifo=fifo))
    group = "g" if fifo else None
    do(first, lambda one: stored.send(one, made, b"1", group=group))
    do(first, lambda one: stored.send(one, made, b"2", group=group, delay=0.0 if fifo else 60.0))
    do(first, lambda one: stored.claim(one, made, 1, 60.0))
    second = opened(tmp_path / "s")
    assert do(second, lambda one: stored.claim(one, made, 10, 60.0)).messages == []
    first.close()  # as by dying: it has not said that it leaves
    second.close()
    third = opened(tmp_path / "s")
    found = do(third, lambda one: stored.claim(one, made, 10, 60.0)).messages
    assert [one.body for one in found] == ([b"1", b"2"] if fifo else [b"1"])
    third.close()


HOST = """
import sys, time
from pyfaas import Runtime, function, queue, stream

store, shared = sys.argv[1:]
orders, clicks = queue("orders", visibility=3600), stream("clicks")

@function(trigger=[orders, clicks], timeout=900, writes=[shared])
def work(event):
    open(shared + "/" + ("queue" if "body" in event["Records"][0] else "stream"), "x").close()
    time.sleep(3000)

with Runtime([work], store=store):
    orders.send("1")
    clicks.put("2")
    time.sleep(3000)
"""


def test_a_host_that_was_killed_leaves_what_it_had_to_the_next(tmp_path: Path, got: Path) -> None:
    shared, program = tmp_path / "shared", tmp_path / "host.py"
    shared.mkdir()
    shared.chmod(0o777)
    program.write_text(HOST)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with subprocess.Popen([sys.executable, program, tmp_path / "s", shared], env=environment) as host:
        try:
            wait_until(lambda: {one.name for one in shared.iterdir()} == {"queue", "stream"}, 30)
        finally:
            host.kill()
    orders, clicks = queue("orders", visibility=3600), stream("clicks")
    with Runtime([recorder(got, trigger=[orders, clicks], name="work")], store=tmp_path / "s") as runtime:
        wait_for(got, 2)
        settle(runtime)
        assert orders.statistics() == (0, 0, 0)
        assert [one.last_result for one in runtime.mappings()] == ["OK", "OK"]
