"""Queues: what is sent reaches a function in batches, and is gone when it has dealt with it, not before."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from pyfaas import ConfigurationError, InvalidEvent, PayloadTooLarge, Queue, Runtime, _port, queue
from pyfaas._stores.queue import Waiting
from pyfaas._waits import run_blocking
from pyfaas.testing import ManualClock, settle
from sources.tools import REPORT, bodies, flat, recorder, wait_for
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


def emptied(of: Queue) -> None:
    wait_until(lambda: of.statistics() == Waiting(0, 0, 0))


# -- there and away ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_sent_comes_as_sqs_tells_it(kind: str, tmp_path: Path, got: Path, clock: ManualClock) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders)], store=None if kind == "memory" else tmp_path / "s", clock=clock):
        message_id = orders.send({"id": 7}, attributes={"kind": "new", "n": 5, "raw": b"\x00\xff"})
        (event,) = wait_for(got, 1)
        emptied(orders)
    (one,) = event["Records"]
    handle = one.pop("receiptHandle")
    assert handle
    assert one == {
        "messageId": message_id,
        "body": '{"id":7}',
        "attributes": {
            "ApproximateReceiveCount": "1",
            "SentTimestamp": "1800000000000",
            "SenderId": "000000000000",
            "ApproximateFirstReceiveTimestamp": "1800000000000",
        },
        "messageAttributes": {
            "kind": {"stringValue": "new", "stringListValues": [], "binaryListValues": [], "dataType": "String"},
            "n": {"stringValue": "5", "stringListValues": [], "binaryListValues": [], "dataType": "Number"},
            "raw": {"binaryValue": "AP8=", "stringListValues": [], "binaryListValues": [], "dataType": "Binary"},
        },
        "md5OfBody": hashlib.md5(b'{"id":7}').hexdigest(),
        "md5OfMessageAttributes": one["md5OfMessageAttributes"],
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:orders",
        "awsRegion": "us-east-1",
    }


def test_text_comes_as_it_is(got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders)]):
        orders.send("plain ä")
        wait_for(got, 1)
    assert bodies(got) == [["plain ä"]]


@pytest.mark.anyio
async def test_the_async_verbs_do_the_same(got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders)]):
        first = await orders.asend("1")
        more = await orders.asend_many(["2", "3"])
        wait_until(lambda: sorted(flat(got)) == ["1", "2", "3"])
    assert len({first, *more}) == 3


def test_many_come_in_batches_of_that_size(got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders.batches(size=20))]):
        orders.send_many([str(number) for number in range(50)])
        wait_until(lambda: len(flat(got)) == 50)
        emptied(orders)
    assert sorted(map(len, bodies(got))) == [10, 20, 20]
    assert sorted(map(int, flat(got))) == [*range(50)]


def test_a_batch_holds_no_more_than_an_event_may(got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders, memory=512)]):
        orders.send_many(["x" * 1_000_000] * 10)
        wait_until(lambda: len(flat(got)) == 10, 30)
    assert sorted(map(len, bodies(got))) == [4, 6]


def test_what_was_sent_before_anybody_received_waits_in_the_store(tmp_path: Path, got: Path) -> None:
    orders = queue("orders")
    with Runtime([], store=tmp_path / "s"):
        orders.send("early")
        assert orders.statistics() == Waiting(1, 0, 0)
    with Runtime([recorder(got, trigger=orders)], store=tmp_path / "s"):
        wait_for(got, 1)
        emptied(orders)


def test_a_function_that_is_declared_later_is_connected_too(tmp_path: Path, got: Path) -> None:
    orders = queue("orders")
    from pyfaas import functions

    with Runtime():
        orders.send("early")
        late = recorder(got, trigger=orders)
        functions.declared[late.module, "late"] = late
        try:
            orders.send("late")
            _port.declared_more()
            orders.send("later")
            wait_until(lambda: sorted(flat(got)) == ["early", "late", "later"])
        finally:
            del functions.declared[late.module, "late"]


def test_two_functions_share_what_comes(tmp_path: Path) -> None:
    orders = queue("orders")
    both = [recorder(tmp_path / name, trigger=orders.batches(size=1)) for name in "ab"]
    with Runtime(both):
        orders.send_many([str(number) for number in range(20)])
        wait_until(lambda: len(flat(tmp_path / "a") + flat(tmp_path / "b")) == 20)
        emptied(orders)
    assert sorted(map(int, flat(tmp_path / "a") + flat(tmp_path / "b"))) == [*range(20)]


# -- a window ----------------------------------------------------------------------------------------------------------


def test_a_window_waits_for_more(got: Path, clock: ManualClock) -> None:
    orders = queue("orders", visibility=60)
    with Runtime([recorder(got, trigger=orders.batches(size=10, window=20))], clock=clock) as runtime:
        orders.send("1")
        wait_until(lambda: orders.statistics().leased == 1)
        clock.advance(19)
        orders.send("2")
        wait_until(lambda: orders.statistics().leased == 2)
        assert bodies(got) == []
        clock.advance(1)
        wait_for(got, 1)
        settle(runtime)
    assert bodies(got) == [["1", "2"]]


def test_a_batch_that_is_full_does_not_wait(got: Path, clock: ManualClock) -> None:
    orders = queue("orders", visibility=60)
    with Runtime([recorder(got, trigger=orders.batches(size=2, window=20))], clock=clock):
        orders.send_many(["1", "2", "3"])
        wait_for(got, 1)
        assert bodies(got) == [["1", "2"]]


def test_what_waits_for_its_window_is_there_for_the_next_host(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    orders = queue("orders", visibility=600)
    patient = recorder(got, trigger=orders.batches(size=2, window=300))
    with Runtime([patient], store=tmp_path / "s", clock=clock):
        orders.send("1")
        wait_until(lambda: orders.statistics().leased == 1)
    with Runtime([], store=tmp_path / "s", clock=clock):
        assert orders.statistics() == Waiting(1, 0, 0)


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_batch_that_fails_comes_back_when_its_visibility_is_over(got: Path, clock: ManualClock) -> None:
    orders = queue("orders", visibility=45)
    with Runtime([recorder(got, trigger=orders)], clock=clock) as runtime:
        orders.send_many(["ok", "fail"])
        wait_for(got, 1)
        settle(runtime)
        assert orders.statistics() == Waiting(0, 2, 0)
        clock.advance(45)
        first, second = wait_for(got, 2)
        settle(runtime)
    assert [one["attributes"]["ApproximateReceiveCount"] for one in second["Records"]] == ["2", "2"]
    assert [one["messageId"] for one in second["Records"]] == [one["messageId"] for one in first["Records"]]


def test_what_fails_too_often_goes_to_the_dead_letter_queue(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    dead = queue("dead")
    orders = queue("orders", max_receives=2, dead_letter=dead)
    both = [recorder(got, trigger=orders.batches(size=1)), recorder(tmp_path / "dead", trigger=dead)]
    with Runtime(both, clock=clock) as runtime:
        message_id = orders.send("fail")
        for count in (1, 2):
            wait_for(got, count)
            settle(runtime)
            clock.advance(30)
        ((letter,),) = [one["Records"] for one in wait_for(tmp_path / "dead", 1)]
    assert letter["messageId"] == message_id
    assert letter["attributes"]["DeadLetterQueueSourceArn"] == "arn:aws:sqs:us-east-1:000000000000:orders"
    assert letter["attributes"]["ApproximateReceiveCount"] == "1"


def test_dead_letters_are_sent_back_by_redrive(got: Path, clock: ManualClock) -> None:
    dead = queue("dead")
    orders = queue("orders", max_receives=1, dead_letter=dead)
    with Runtime([recorder(got, trigger=orders.batches(size=1))], clock=clock) as runtime:
        orders.send("fail")
        wait_for(got, 1)
        settle(runtime)
        clock.advance(30)
        wait_until(lambda: dead.statistics() == Waiting(1, 0, 0))
        assert dead.redrive() == 1
        wait_for(got, 2)
        assert dead.statistics() == Waiting(0, 0, 0)


def test_reported_failures_come_back_and_the_rest_is_gone(got: Path, clock: ManualClock) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, REPORT, trigger=orders.batches(report_failures=True))], clock=clock) as runtime:
        orders.send_many(["good", "bad 1", "good", "bad 2"])
        wait_for(got, 1)
        settle(runtime)
        assert orders.statistics() == Waiting(0, 2, 0)
        clock.advance(30)
        wait_for(got, 2)
    assert bodies(got)[1] == ["bad 1", "bad 2"]


def test_without_report_failures_what_the_function_returns_is_ignored(got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, REPORT, trigger=orders)]):
        orders.send("bad")
        wait_for(got, 1)
        emptied(orders)


def test_a_report_of_an_unknown_message_fails_the_batch(got: Path, clock: ManualClock) -> None:
    orders = queue("orders")
    reply = {"batchItemFailures": [{"itemIdentifier": "nobody"}]}
    with Runtime([recorder(got, reply, trigger=orders.batches(report_failures=True))], clock=clock) as runtime:
        orders.send("1")
        wait_for(got, 1)
        settle(runtime)
        assert orders.statistics() == Waiting(0, 1, 0)
        (mapping,) = runtime.mappings()
        assert mapping.last_result == "PROBLEM: Function call failed"


# -- filters -----------------------------------------------------------------------------------------------------------


def test_what_no_filter_wants_is_deleted(got: Path) -> None:
    orders = queue("orders")
    trigger = orders.batches(filters=[{"body": {"kind": ["new"]}}, {"body": ["plain"]}])
    with Runtime([recorder(got, trigger=trigger)]):
        orders.send_many([{"kind": "new"}, {"kind": "old"}, "plain", "other", "[1]"])
        wait_until(lambda: len(flat(got)) == 2)
        emptied(orders)
    assert sorted(flat(got)) == ["plain", '{"kind":"new"}']


# -- FIFO --------------------------------------------------------------------------------------------------------------


def test_a_fifo_queue_keeps_the_order_of_each_group(got: Path) -> None:
    steps = queue("steps", fifo=True)
    with Runtime([recorder(got, trigger=steps.batches(size=3))]):
        for number in range(30):
            steps.send(f"{number % 3}-{number:02d}", group=str(number % 3))
        wait_until(lambda: len(flat(got)) == 30)
        emptied(steps)
    for group in "012":
        mine = [body for body in flat(got) if body.startswith(group)]
        assert mine == sorted(mine)


def test_a_fifo_record_tells_its_group_its_number_and_its_token(got: Path) -> None:
    steps = queue("steps", fifo=True, deduplicate=True)
    with Runtime([recorder(got, trigger=steps)]):
        first = steps.send("a", group="g")
        assert steps.send("a", group="g") == first
        steps.send("b", group="g", duplicate_id="t")
        wait_until(lambda: len(flat(got)) == 2)
    a, b = [one for event in wait_for(got, 1) for one in event["Records"]]
    assert a["eventSourceARN"].endswith(":steps.fifo")
    assert a["attributes"]["MessageGroupId"] == "g"
    assert len(a["attributes"]["MessageDeduplicationId"]) == 64
    assert b["attributes"]["MessageDeduplicationId"] == "t"
    assert a["attributes"]["SequenceNumber"] < b["attributes"]["SequenceNumber"]


def test_a_group_waits_for_one_of_it_that_failed(got: Path, clock: ManualClock) -> None:
    steps = queue("steps", fifo=True)
    trigger = steps.batches(size=1)
    with Runtime([recorder(got, trigger=trigger)], clock=clock) as runtime:
        steps.send("fail", group="a")
        wait_for(got, 1)
        steps.send("after", group="a")
        steps.send("other", group="b")
        wait_for(got, 2)
        settle(runtime)
        assert flat(got) == ["fail", "other"]


# -- how many at once --------------------------------------------------------------------------------------------------


def test_max_concurrency_holds(tmp_path: Path) -> None:
    """One at a time: no two of them see each other's file."""
    orders = queue("orders")
    lock = str(tmp_path / "lock")

    def handler(event: Any) -> None:
        import os

        os.close(os.open(lock, os.O_CREAT | os.O_EXCL))
        os.unlink(lock)

    from handlers import PLACE
    from pyfaas import function

    trigger = orders.batches(size=1, max_concurrency=1)
    with Runtime([function(trigger=trigger, writes=[PLACE], timeout=10)(handler)]) as runtime:
        orders.send_many(["x"] * 50)
        emptied(orders)
        assert runtime.statistics().live == 1


def test_a_batch_that_is_refused_waits_for_a_permit(got: Path) -> None:
    orders = queue("orders")
    shy = recorder(got, trigger=orders.batches(size=1), reserved_concurrency=1)
    with Runtime([shy]):
        orders.send_many([str(number) for number in range(6)])
        wait_until(lambda: sorted(flat(got)) == [*"012345"])
        emptied(orders)


# -- by hand -----------------------------------------------------------------------------------------------------------


def test_a_mapping_is_paused_and_goes_on(got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders)]) as runtime:
        (mapping,) = runtime.mappings()
        assert (mapping.source, mapping.target, mapping.state) == ("queue/orders", "function/record-got", "Enabled")
        mapping.pause()
        assert mapping.state == "Disabled"
        orders.send("1")
        assert orders.statistics() == Waiting(1, 0, 0)
        mapping.resume()
        wait_for(got, 1)
        assert mapping.state == "Enabled"


def test_a_pause_outlives_the_host_and_reaches_others(tmp_path: Path, got: Path) -> None:
    orders = queue("orders")
    consumer = recorder(got, trigger=orders)
    with Runtime([consumer], store=tmp_path / "s") as first:
        (mapping,) = first.mappings()
        second = Runtime([], store=tmp_path / "s").open()
        (seen,) = second.mappings()
        seen.pause()
        wait_until(lambda: mapping.state == "Disabled")
        second.close()
    with Runtime([consumer], store=tmp_path / "s") as later:
        (mapping,) = later.mappings()
        assert mapping.state == "Disabled"
        orders.send("1")
        assert orders.statistics() == Waiting(1, 0, 0)
        mapping.resume()
        wait_for(got, 1)


def test_a_pause_gives_back_what_waits_for_its_batch(got: Path, clock: ManualClock) -> None:
    orders = queue("orders", visibility=600)
    with Runtime([recorder(got, trigger=orders.batches(size=2, window=300))], clock=clock) as runtime:
        orders.send("1")
        wait_until(lambda: orders.statistics() == Waiting(0, 1, 0))
        (mapping,) = runtime.mappings()
        mapping.pause()
        wait_until(lambda: orders.statistics() == Waiting(1, 0, 0))
        mapping.resume()
        orders.send("2")
        wait_for(got, 1)
    assert sorted(flat(got)) == ["1", "2"]


def test_a_mapping_that_is_removed_takes_no_more(got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders)]) as runtime:
        (mapping,) = runtime.mappings()
        mapping.remove()
        assert runtime.mappings() == []
        orders.send("1")
        settle(runtime)
        assert orders.statistics() == Waiting(1, 0, 0)


def test_a_mapping_is_changed_while_it_runs(got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders.batches(size=1))]) as runtime:
        (mapping,) = runtime.mappings()
        mapping.pause()
        mapping.change(size=5)
        orders.send_many([*"12345"])
        mapping.resume()
        wait_for(got, 1)
        assert bodies(got) == [[*"12345"]]
        with pytest.raises(ConfigurationError, match="size=0: must be"):
            mapping.change(size=0)
        with pytest.raises(ConfigurationError, match="has the options size, window"):
            mapping.change(sise=1)


def test_a_trigger_that_is_not_declared_any_more_is_forgotten(tmp_path: Path, got: Path) -> None:
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders)], store=tmp_path / "s") as runtime:
        assert len(runtime.mappings()) == 1
    with Runtime([recorder(got)], store=tmp_path / "s") as runtime:
        assert runtime.mappings() == []


def test_a_purge_leaves_nothing() -> None:
    orders = queue("orders")
    with Runtime([]):
        orders.send_many([*"123"])
        assert orders.purge() == 3
        assert orders.statistics() == Waiting(0, 0, 0)


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_a_function_that_is_slower_than_the_queue_waits_is_refused(got: Path) -> None:
    orders = queue("orders", visibility=5)
    with pytest.raises(ConfigurationError, match=r"visibility=5 must be at least .* 10 s"):
        recorder(got, trigger=orders)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"visibility": -1}, "visibility=-1: must be a number of seconds from 0 to 43200"),
        ({"delay": 901}, "delay=901"),
        ({"retention": 59}, "retention=59"),
        ({"fifo": 1}, "fifo=1: must be True or False"),
        ({"max_receives": 3}, "give both, or neither"),
        ({"deduplicate": True}, "False where fifo=False"),
        ({"max_receives": 0, "dead_letter": None}, "max_receives=0"),
    ],
)
def test_a_queue_says_what_it_may_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        queue("orders", **options)


@pytest.mark.parametrize("name", ["", "a b", "a.fifo", None, "x" * 81])
def test_a_name_is_checked(name: Any) -> None:
    with pytest.raises(ConfigurationError, match="1 to 80 letters"):
        queue(name)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"body": ""}, InvalidEvent, "must not be empty"),
        ({"body": {1: 2}}, InvalidEvent, "key"),
        ({"body": "\ud800"}, InvalidEvent, "surrogates"),
        ({"body": "x" * 1_048_577}, PayloadTooLarge, "1,048,577 bytes"),
        ({"body": "x", "delay": 901}, ConfigurationError, "delay=901"),
        ({"body": "x", "group": "g"}, ConfigurationError, "was not declared with fifo=True"),
        ({"body": "x", "attributes": {"a": "\ud800"}}, ConfigurationError, "without lone surrogates"),
        ({"body": "x", "attributes": {"\ud800": "a"}}, ConfigurationError, "without lone surrogates"),
        ({"body": "x", "attributes": {"a": True}}, ConfigurationError, "text, a number or bytes"),
        ({"body": "x", "attributes": {str(n): 1 for n in range(11)}}, ConfigurationError, "at most 10"),
    ],
)
def test_what_cannot_be_sent_is_refused(given: dict[str, Any], error: type[Exception], told: str) -> None:
    orders = queue("orders")
    with pytest.raises(error, match=told):
        orders.send(**given)


def test_a_fifo_queue_asks_for_a_group() -> None:
    steps = queue("steps", fifo=True)
    with pytest.raises(ConfigurationError, match="group=None: must be 1 to 128"):
        steps.send("x")
    with pytest.raises(ConfigurationError, match="as in AWS"):
        steps.send("x", group="g", delay=1)


def test_a_queue_of_the_other_kind_in_the_store_is_refused(tmp_path: Path) -> None:
    with Runtime([], store=tmp_path / "s"):
        queue("orders").send("x")
        with pytest.raises(ConfigurationError, match="is a standard queue in this store"):
            queue("orders", fifo=True).send("x", group="g")


def test_a_handle_pickles_by_what_it_was_made_of() -> None:
    import pickle

    orders = queue("orders", delay=3)
    again = pickle.loads(pickle.dumps(orders))
    assert again == orders
    assert again.delay == 3


def test_what_another_thread_read_earlier_does_not_undo_what_was_read_later(tmp_path: Path, got: Path) -> None:
    """The dispatcher looks for what other hosts changed while a runtime is being opened."""
    orders = queue("orders")
    with Runtime([recorder(got, trigger=orders)], store=tmp_path / "s") as runtime:
        sources = runtime._sources
        earlier = run_blocking(sources.deferred.database.write(sources._read))
        (mapping,) = runtime.mappings()
        mapping.pause()
        sources._run(earlier)
        assert mapping.state == "Disabled"
