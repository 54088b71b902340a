"""Idempotency: an event whose key was seen gets the result of the first one, whoever sends it, and when."""

from __future__ import annotations

import base64
import gzip
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from handlers import PLACE
from pyfaas import (
    AlreadyInProgress,
    ConfigurationError,
    Function,
    HandlerFailed,
    Idempotency,
    InvalidEvent,
    PayloadMismatch,
    Runtime,
    function,
    queue,
)
from pyfaas._stores.queue import Waiting
from pyfaas.testing import ManualClock, events, settle
from support import SOURCE, wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


@pytest.fixture
def runtime(clock: ManualClock) -> Iterator[Runtime]:
    with Runtime(clock=clock, drain=0) as opened:
        yield opened


def counter(tmp_path: Path, idempotency: Any = "id", **options: Any) -> Function[Any, Any]:
    """Declare a function that counts its runs in a file, and returns the number; ``fails``: it fails up to that one."""
    runs = str(tmp_path / "runs")

    def handler(event: Any) -> Any:
        import os
        import time

        with open(runs, "a") as file:
            file.write("x")
        number = os.path.getsize(runs)
        while isinstance(event, dict) and event.get("until") and not os.path.exists(event["until"]):
            time.sleep(0.002)
        if isinstance(event, dict) and number <= event.get("fails", 0):
            raise ValueError(number)
        return {"run": number}

    options = {"name": "counter", "writes": [PLACE], "timeout": 10, "retries": 0, **options}
    return function(idempotency=idempotency, **options)(handler)


def runs(tmp_path: Path) -> int:
    file = tmp_path / "runs"
    return os.path.getsize(file) if file.exists() else 0


def test_the_second_one_gets_the_result_of_the_first(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path)
    assert count.invoke({"id": 7, "n": 1}) == {"run": 1}
    assert count.invoke({"id": 7, "n": 2}) == {"run": 1}
    assert count.invoke({"id": 8}) == {"run": 2}
    outcome = count.try_invoke({"id": 7})
    assert (outcome.value, outcome.payload) == ({"run": 1}, b'{"run":1}')


@pytest.mark.anyio
async def test_from_async_code_too(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path)
    assert await count.ainvoke({"id": 7}) == {"run": 1}
    assert await count.ainvoke({"id": 7}) == {"run": 1}
    assert (await count.atry_invoke({"id": 7})).value == {"run": 1}


def test_what_was_submitted_twice_is_run_once(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path)
    ids = [count.submit({"id": 7}) for _ in range(2)]
    settle(runtime)
    runtime._later().database.clock.advance(5)  # the second may have found the first one running
    settle(runtime)
    assert [(runtime.submission(one) or pytest.fail("unknown")).value for one in ids] == [{"run": 1}, {"run": 1}]
    assert runs(tmp_path) == 1


def test_messages_with_one_key_are_run_once(tmp_path: Path, clock: ManualClock) -> None:
    orders = queue("orders")
    count = counter(tmp_path, "Records[0].body", trigger=orders.batches(size=1))
    with Runtime([count], clock=clock) as runtime:
        orders.send("a")
        settle(runtime)
        orders.send_many(["a", "b"])
        settle(runtime)
        assert orders.statistics() == Waiting(0, 0, 0)
    assert runs(tmp_path) == 2


def test_a_result_is_forgotten_when_it_expires(runtime: Runtime, clock: ManualClock, tmp_path: Path) -> None:
    count = counter(tmp_path, Idempotency("id", expires=60))
    assert count.invoke({"id": 7}) == {"run": 1}
    clock.advance(59)
    assert count.invoke({"id": 7}) == {"run": 1}
    clock.advance(1)
    assert count.invoke({"id": 7}) == {"run": 2}


def test_a_result_outlives_the_host(tmp_path: Path) -> None:
    count = counter(tmp_path)
    for _ in range(2):
        with Runtime([count], store=tmp_path / "s"):
            assert count.invoke({"id": 7}) == {"run": 1}


def test_a_failure_is_not_kept(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path)
    with pytest.raises(HandlerFailed):
        count.invoke({"id": 7, "fails": 1})
    assert count.invoke({"id": 7, "fails": 1}) == {"run": 2}
    assert count.invoke({"id": 7, "fails": 1}) == {"run": 2}


def test_while_one_runs_another_one_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path)
    event = {"id": 7, "until": str(tmp_path / "there")}
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(runtime.invoke(count, event)))
    thread.start()
    wait_until(lambda: runs(tmp_path) == 1)
    with pytest.raises(AlreadyInProgress, match="'counter' runs with this key already: 7"):
        count.invoke(event)
    (tmp_path / "there").touch()
    thread.join(10)
    assert got == [{"run": 1}]
    assert count.invoke(event) == {"run": 1}


def test_a_lock_whose_holder_died_ends_with_its_time(tmp_path: Path, clock: ManualClock) -> None:
    program = f"""
        import sys
        from invoke.test_once import counter
        from pathlib import Path
        from pyfaas import Runtime
        from pyfaas.testing import ManualClock
        count = counter(Path({str(tmp_path)!r}))
        with Runtime([count], store={str(tmp_path / "s")!r}, clock=ManualClock()):
            count.invoke({{"id": 7, "until": "/nowhere"}})
    """
    lines = "\n".join(line.strip() for line in program.splitlines())
    lines = lines.replace("\ncount.invoke", "\n    count.invoke")
    tests = str(Path(__file__).parents[1])
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}{os.pathsep}{tests}"}
    with subprocess.Popen([sys.executable, "-c", lines], env=env) as host:
        wait_until(lambda: runs(tmp_path) == 1)
        host.kill()
    count = counter(tmp_path)
    with Runtime([count], store=tmp_path / "s", clock=clock):
        with pytest.raises(AlreadyInProgress):
            count.invoke({"id": 7})
        clock.advance(25)  # the time-out, and 15 s
        assert count.invoke({"id": 7}) == {"run": 2}


def test_another_payload_under_a_key_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path, Idempotency("id", payload="amount"))
    assert count.invoke({"id": 7, "amount": 5, "n": 1}) == {"run": 1}
    assert count.invoke({"id": 7, "amount": 5, "n": 2}) == {"run": 1}
    with pytest.raises(PayloadMismatch, match="with this key and another amount: 7"):
        count.invoke({"id": 7, "amount": 6})
    told = runtime.wait(count.submit({"id": 7, "amount": 6}), 10)
    assert told is not None
    assert (told.state, type(told.error)) == ("failed", PayloadMismatch)


def test_without_a_key_an_event_is_run_as_any_other(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path)
    assert [count.invoke(event) for event in ({}, {}, {"id": None}, "text", 5)] == [{"run": n} for n in range(1, 6)]
    required = counter(tmp_path, Idempotency("id", required=True), name="required")
    with pytest.raises(InvalidEvent, match="has no key: id gives nothing"):
        required.invoke({})


def test_a_key_of_many_parts(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path, "[user, order]")
    assert count.invoke({"user": 1, "order": 2}) == {"run": 1}
    assert count.invoke({"order": 2, "user": 1}) == {"run": 1}
    assert count.invoke({"user": 1}) == {"run": 2}
    assert count.invoke({"user": 1}) == {"run": 2}
    assert [count.invoke({}) for _ in range(2)] == [{"run": 3}, {"run": 4}]


def test_tenants_have_keys_of_their_own(runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path, tenant_isolated=True)
    assert count.invoke({"id": 7}, tenant="a") == {"run": 1}
    assert count.invoke({"id": 7}, tenant="b") == {"run": 2}
    assert count.invoke({"id": 7}, tenant="a") == {"run": 1}


def test_the_functions_of_powertools_read_what_is_inside(runtime: Runtime, tmp_path: Path) -> None:
    text = json.dumps({"id": 7})
    packed = base64.b64encode(gzip.compress(text.encode())).decode()
    for number, (expression, body) in enumerate(
        [
            ("powertools_json(body).id", text),
            ("powertools_json(powertools_base64(body)).id", base64.b64encode(text.encode()).decode()),
            ("powertools_json(powertools_base64_gzip(body)).id", packed),
            ("Records[0].body", None),
        ]
    ):
        count = counter(tmp_path, expression, name=f"counter-{number}")
        event = events.queue(text) if body is None else {"body": body}
        before = runs(tmp_path)
        assert count.invoke(event) == count.invoke(event)
        assert runs(tmp_path) == before + 1


@pytest.mark.parametrize("body", ["no json", "[" * 10_000, 7, None])
def test_a_key_that_cannot_be_read_is_none(body: Any, runtime: Runtime, tmp_path: Path) -> None:
    count = counter(tmp_path, "powertools_json(body).id")
    assert [count.invoke({"body": body})["run"] for _ in range(2)] == [1, 2]


def test_streams_are_refused(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="map sends ahead; use invoke, or submit"):
        counter(tmp_path).map([{"id": 1}])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (7, "idempotency=7: must be a JMESPath expression"),
        ("", "key='': must be a JMESPath expression"),
        ("a[", "key='a\\[': is no JMESPath: "),
    ],
)
def test_what_is_no_key_is_refused(given: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=told):
        counter(tmp_path, given)


@pytest.mark.parametrize(
    ("given", "told"),
    [({"expires": 0}, "expires=0"), ({"payload": "a["}, "payload='a\\['"), ({"required": 1}, "required=1")],
)
def test_its_options_are_checked(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Idempotency("id", **given)
    with pytest.raises(AttributeError, match="frozen"):
        Idempotency("id").key = "other"
