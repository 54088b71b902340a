"""Streams: each function reads the records of a shard in their order, and passes over nothing that is not done."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from handlers import PLACE
from pyfaas import (
    ConfigurationError,
    InvalidEvent,
    PayloadTooLarge,
    Runtime,
    Stream,
    function,
    queue,
    stream,
    topic,
)
from pyfaas.testing import ManualClock, settle
from sources.tools import COUNT, REPORT, batches, events, read, read_flat, reader, recorder, wait_for
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


def arrived(file: Path, count: int) -> None:
    wait_until(lambda: len(read_flat(file)) >= count)


# -- there -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_what_is_put_comes_as_kinesis_tells_it(kind: str, tmp_path: Path, got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks)], store=None if kind == "memory" else tmp_path / "s", clock=clock):
        number = clicks.put({"user": 7}, key="ada")
        (event,) = wait_for(got, 1)
    assert event == {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "ada",
                    "sequenceNumber": number,
                    "data": "eyJ1c2VyIjo3fQ==",
                    "approximateArrivalTimestamp": 1_800_000_000.0,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"shardId-000000000000:{number}",
                "eventName": "aws:kinesis:record",
                "invokeIdentityArn": "arn:aws:iam::000000000000:role/lambda",
                "awsRegion": "us-east-1",
                "eventSourceARN": "arn:aws:kinesis:us-east-1:000000000000:stream/clicks",
            }
        ],
        "data": ['{"user":7}'],
    }


def test_bytes_come_as_they_are(got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks)]):
        clicks.put("ä".encode())
        wait_for(got, 1)
    assert read_flat(got) == ["ä"]


@pytest.mark.anyio
async def test_the_async_verbs_do_the_same(got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks)]):
        first = await clicks.aput("1", key="k")
        more = await clicks.aput_many(["2", "3"], key=lambda _: "k")
        arrived(got, 3)
    assert read_flat(got) == ["1", "2", "3"]
    assert [first, *more] == sorted({first, *more})


def test_records_of_one_key_come_in_their_order_and_others_beside_them(got: Path) -> None:
    clicks = stream("clicks", shards=4)
    with Runtime([reader(got, trigger=clicks.records(size=7))]):
        said = [f"{number % 10}-{number:03d}" for number in range(300)]
        clicks.put_many(said, key=lambda one: one.partition("-")[0])
        arrived(got, 300)
    assert sorted(read_flat(got)) == sorted(said)
    for key in "0123456789":
        of_key = [one for one in read_flat(got) if one.startswith(key)]
        assert of_key == sorted(of_key)
    shards = {event["Records"][0]["eventID"].partition(":")[0] for event in events(got)}
    assert len(shards) == 4
    assert max(map(len, batches(got))) == 7


def test_several_functions_read_each_for_itself(tmp_path: Path) -> None:
    clicks = stream("clicks")
    one, other = tmp_path / "one", tmp_path / "other"
    with Runtime([reader(one, trigger=clicks), reader(other, trigger=clicks)]):
        clicks.put_many(["1", "2"])
        arrived(one, 2)
        arrived(other, 2)


def test_a_batch_holds_no_more_than_an_event_may(got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks, memory=512)]):
        clicks.put_many([b"x" * 1_000_000] * 9)
        wait_until(lambda: len(read_flat(got)) == 9, 30)
    assert max(map(len, batches(got))) == 4


def test_a_window_waits_for_a_batch_to_fill(got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks.records(size=3, window=10))], clock=clock) as runtime:
        clicks.put_many(["1", "2"], key=lambda _: "k")
        settle(runtime)
        clock.advance(9)
        settle(runtime)
        assert batches(got) == []
        clock.advance(1)
        arrived(got, 2)
        clicks.put_many(["3", "4", "5", "6"], key=lambda _: "k")
        clock.advance(0.5)
        arrived(got, 5)
    assert batches(got) == [["1", "2"], ["3", "4", "5"]]


def test_filters_pass_over_what_fits_none(got: Path) -> None:
    clicks = stream("clicks")
    wanted = [{"data": {"kind": ["buy"]}}, {"partitionKey": ["vip"]}]
    with Runtime([reader(got, trigger=clicks.records(filters=wanted))]) as runtime:
        clicks.put({"kind": "look"}, key="a")
        clicks.put({"kind": "buy"}, key="a")
        clicks.put("anything", key="vip")
        arrived(got, 2)
        settle(runtime)
    assert sorted(read_flat(got)) == ["anything", '{"kind":"buy"}']


# -- where it begins, and goes on --------------------------------------------------------------------------------------


def test_a_function_begins_with_the_oldest_record_that_is_there(tmp_path: Path, got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([], store=tmp_path / "s"):
        clicks.put("early")
    with Runtime([reader(got, trigger=clicks)], store=tmp_path / "s"):
        arrived(got, 1)


def test_a_function_may_begin_with_the_next_record(tmp_path: Path, got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([], store=tmp_path / "s"):
        clicks.put("early")
    with Runtime([reader(got, trigger=clicks.records(start="latest"))], store=tmp_path / "s"):
        clicks.put("late")
        arrived(got, 1)
    assert read_flat(got) == ["late"]


def test_a_function_may_begin_with_a_moment(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    with Runtime([], store=tmp_path / "s", clock=clock):
        for number in range(5):
            clicks.put(str(number))
            clock.advance(60)
    since = datetime.fromtimestamp(1_800_000_000 + 180, timezone.utc)
    with Runtime([reader(got, trigger=clicks.records(start=since))], store=tmp_path / "s", clock=clock):
        arrived(got, 2)
    assert read_flat(got) == ["3", "4"]


def test_a_later_host_goes_on_where_the_last_one_was(tmp_path: Path, got: Path) -> None:
    clicks = stream("clicks")
    for number in range(3):
        with Runtime([reader(got, trigger=clicks)], store=tmp_path / "s") as runtime:
            clicks.put(str(number))
            arrived(got, number + 1)
            settle(runtime)
    assert read_flat(got) == ["0", "1", "2"]


def test_what_two_hosts_read_comes_once_and_in_order(tmp_path: Path, got: Path) -> None:
    clicks = stream("clicks", shards=3)
    declared = reader(got, trigger=clicks.records(size=5))
    with Runtime([declared], store=tmp_path / "s") as first, Runtime([declared], store=tmp_path / "s") as second:
        for number in range(100):
            (first, second)[number % 2].send(clicks, clicks.heard([[str(number % 5), _base64(number)]]))
        arrived(got, 100)
        settle(first)
        settle(second)
    assert sorted(map(int, read_flat(got))) == [*range(100)]
    for key in range(5):
        of_key = [int(one) for one in read_flat(got) if int(one) % 5 == key]
        assert of_key == sorted(of_key)


def _base64(number: int) -> str:
    return base64.b64encode(str(number).encode()).decode()


def test_with_more_shards_what_is_in_the_old_ones_comes_first(tmp_path: Path, got: Path) -> None:
    with Runtime([], store=tmp_path / "s"):
        stream("clicks").put_many([f"old-{number}" for number in range(50)], key=lambda one: one[-1])
    more = stream("clicks", shards=4)
    with Runtime([reader(got, trigger=more.records(size=3))], store=tmp_path / "s"):
        more.put_many([f"new-{number}" for number in range(50)], key=lambda one: one[-1])
        arrived(got, 100)
        assert more.statistics() == (100, 5)
    assert all(one.startswith("old") for one in read_flat(got)[:50])
    for key in "0123456789":
        of_key = [one for one in read_flat(got) if one[-1] == key]
        numbers = [(one[:3] == "new", int(one[4:])) for one in of_key]
        assert numbers == sorted(numbers)


def test_several_batches_of_a_shard_may_run_at_once_and_each_key_keeps_its_order(got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks.records(size=5, parallelization=4))]):
        clicks.put_many([f"{number % 9}-{number:03d}" for number in range(200)], key=lambda one: one[0])
        arrived(got, 200)
    assert len(read_flat(got)) == 200
    for key in "012345678":
        of_key = [one for one in read_flat(got) if one[0] == key]
        assert of_key == sorted(of_key)


def test_batches_of_one_shard_run_side_by_side(got: Path) -> None:
    clicks = stream("clicks")
    where = got

    def meet(event: Any) -> None:
        read(str(where), event, None)
        wait_until(lambda: len(batches(where)) == 2)

    declared = function(name="meet", trigger=clicks.records(parallelization=10), writes=[PLACE], timeout=20)(meet)
    with Runtime([declared]) as runtime:
        clicks.put("1", key="a")
        clicks.put("2", key="b")
        arrived(got, 2)
        settle(runtime)
        assert runtime.mappings()[0].last_result == "OK"


def test_another_parallelization_passes_nothing_over(got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks)]) as runtime:
        clicks.put_many([f"a{number}" for number in range(20)], key=lambda one: one)
        arrived(got, 20)
        settle(runtime)
        (mapping,) = runtime.mappings()
        mapping.change(parallelization=3)
        clicks.put_many([f"b{number}" for number in range(20)], key=lambda one: one)
        arrived(got, 40)
        settle(runtime)
    assert sorted(read_flat(got)) == sorted([f"{kind}{number}" for kind in "ab" for number in range(20)])


def test_a_paused_mapping_goes_on_where_it_was(got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks)]) as runtime:
        (mapping,) = runtime.mappings()
        assert (mapping.source, mapping.target, mapping.state) == ("stream/clicks", "function/read-got", "Enabled")
        assert mapping.last_result == "No records processed"
        assert mapping.iterator_age is None
        mapping.pause()
        clicks.put("1")
        settle(runtime)
        assert read_flat(got) == []
        mapping.resume()
        arrived(got, 1)
        settle(runtime)
        assert mapping.last_result == "OK"
        assert mapping.iterator_age is not None
        assert mapping.iterator_age < 60


def test_a_mapping_that_is_removed_and_made_again_begins_anew(tmp_path: Path, got: Path) -> None:
    clicks = stream("clicks")
    declared = reader(got, trigger=clicks)
    with Runtime([declared], store=tmp_path / "s") as runtime:
        clicks.put("1")
        arrived(got, 1)
        settle(runtime)
        runtime.mappings()[0].remove()
    with Runtime([declared], store=tmp_path / "s"):
        arrived(got, 2)
    assert read_flat(got) == ["1", "1"]


def test_records_are_kept_for_the_retention_read_or_not(
    tmp_path: Path, got: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    clicks = stream("clicks", retention=100)
    declared = reader(got, trigger=clicks)
    with Runtime([declared], store=tmp_path / "s", clock=clock) as runtime:
        clicks.put("1")
        arrived(got, 1)
        settle(runtime)
        runtime.mappings()[0].pause()
        clicks.put("2")
        clock.advance(99)
        clicks.put("3")
        clock.advance(1)
    with Runtime([declared], store=tmp_path / "s", clock=clock) as runtime:
        wait_until(lambda: clicks.statistics().records == 1)  # trimmed when a host begins, and now and then
        runtime.mappings()[0].resume()
        arrived(got, 2)
    assert read_flat(got) == ["1", "3"]
    assert "function/read-got had not read all that a stream's retention was over for" in caplog.text


# -- failures ----------------------------------------------------------------------------------------------------------


def waited(runtime: Runtime, clock: ManualClock, seconds: float, times: int = 1) -> None:
    """Let time pass in steps, and let what is due in it be done."""
    for _ in range(times):
        settle(runtime)
        clock.advance(seconds)
    settle(runtime)


def test_a_batch_that_fails_comes_back_as_it_was_and_what_is_behind_it_waits(got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks.records(size=3))], clock=clock) as runtime:
        clicks.put_many(["1", "fail"], key=lambda _: "k")
        wait_until(lambda: len(batches(got)) == 2)  # the second time at once
        settle(runtime)
        clicks.put_many(["2", "3"], key=lambda _: "k")
        waited(runtime, clock, 0.5)
        assert batches(got) == [["1", "fail"]] * 3
        waited(runtime, clock, 0.5)
        assert len(batches(got)) == 3, "1 s by now"
        waited(runtime, clock, 0.5)
        assert batches(got) == [["1", "fail"]] * 4
        assert runtime.mappings()[0].last_result == "PROBLEM: Function call failed"


def test_a_batch_that_failed_too_often_is_given_up_and_told_of(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    clicks, dead = stream("clicks"), queue("dead")
    told = tmp_path / "told"
    reads = reader(got, trigger=clicks.records(size=2, retries=2, on_failure=dead))
    with Runtime([reads, recorder(told, trigger=dead)], clock=clock) as runtime:
        first, last, _ = clicks.put_many(["1", "fail", "2"], key=lambda _: "k")
        waited(runtime, clock, 1, 3)
        (event,) = wait_for(told, 1)
    assert batches(got) == [["1", "fail"]] * 3 + [["2"]]
    record = json.loads(event["Records"][0]["body"])
    request_id = record["requestContext"].pop("requestId")
    assert len(request_id) == 36
    timestamp = record.pop("timestamp")
    assert timestamp.startswith("2027-01-15T08:00:0")
    assert record == {
        "requestContext": {
            "functionArn": "arn:aws:lambda:us-east-1:000000000000:function:read-got",
            "condition": "RetryAttemptsExhausted",
            "approximateInvokeCount": 3,
        },
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "version": "1.0",
        "KinesisBatchInfo": {
            "shardId": "shardId-000000000000",
            "startSequenceNumber": first,
            "endSequenceNumber": last,
            "approximateArrivalOfFirstRecord": "2027-01-15T08:00:00.000Z",
            "approximateArrivalOfLastRecord": "2027-01-15T08:00:00.000Z",
            "batchSize": 2,
            "streamArn": "arn:aws:kinesis:us-east-1:000000000000:stream/clicks",
        },
    }


def test_a_topic_may_be_told_too(tmp_path: Path, got: Path) -> None:
    clicks, sorry = stream("clicks"), topic("sorry")
    told = tmp_path / "told"
    reads = reader(got, trigger=clicks.records(retries=0, on_failure=sorry))
    with Runtime([reads, recorder(told, trigger=sorry)]):
        clicks.put("fail")
        (event,) = wait_for(told, 1)
    assert json.loads(event["Records"][0]["Sns"]["Message"])["KinesisBatchInfo"]["batchSize"] == 1


def test_bisect_finds_the_one_that_fails(got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks.records(retries=0, bisect=True))]) as runtime:
        clicks.put_many(["1", "2", "fail", "3", "4", "5"], key=lambda _: "k")
        wait_until(lambda: ["4", "5"] in batches(got) or ["3", "4", "5"] in batches(got))
        settle(runtime)
    assert batches(got) == [
        ["1", "2", "fail", "3", "4", "5"],
        ["1", "2", "fail"],
        ["1", "2"],
        ["fail"],
        ["3", "4", "5"],
    ]


def test_what_is_before_the_first_reported_record_is_done(got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    reads = reader(got, REPORT, trigger=clicks.records(report_failures=True, retries=1))
    with Runtime([reads], clock=clock) as runtime:
        clicks.put_many(["1", "bad-2", "3", "bad-4", "5"], key=lambda _: "k")
        waited(runtime, clock, 1, 3)
        clicks.put("6", key="k")
        arrived(got, 10)
    assert batches(got) == [["1", "bad-2", "3", "bad-4", "5"], ["bad-2", "3", "bad-4", "5"], ["6"]]


def test_bisect_and_reports_lose_only_what_is_bad(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    clicks, dead = stream("clicks"), queue("dead")
    told = tmp_path / "told"
    rules: dict[str, Any] = {"report_failures": True, "retries": 0, "bisect": True, "on_failure": dead}
    reads = reader(got, REPORT, trigger=clicks.records(**rules))
    with Runtime([reads, recorder(told, trigger=dead.batches(size=1))], clock=clock) as runtime:
        numbers = clicks.put_many(["1", "bad-2", "3", "bad-4", "5"], key=lambda _: "k")
        waited(runtime, clock, 1, 3)
        wait_for(told, 2)
    infos = [json.loads(event["Records"][0]["body"]) for event in events(told)]
    batch_infos = sorted((one["KinesisBatchInfo"] for one in infos), key=lambda one: one["startSequenceNumber"])
    assert [one["startSequenceNumber"] for one in batch_infos] == [numbers[1], numbers[3]]
    assert [one["batchSize"] for one in batch_infos] == [1, 1]
    assert {one["responseContext"]["functionError"] for one in infos} == {None}, "nothing was raised"
    assert batches(got)[-1] == ["5"]


@pytest.mark.parametrize(
    "reply", [{"batchItemFailures": [{"itemIdentifier": ""}]}, {"batchItemFailures": [{}]}, "text"]
)
def test_a_report_that_is_none_fails_the_batch(reply: Any, got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, reply, trigger=clicks.records(report_failures=True, retries=1))]) as runtime:
        clicks.put_many(["1", "2"], key=lambda _: "k")
        wait_until(lambda: len(batches(got)) == 2)
        settle(runtime)
    assert batches(got) == [["1", "2"]] * 2


@pytest.mark.parametrize("reply", [None, {}, {"batchItemFailures": []}, {"batchItemFailures": None}])
def test_an_empty_report_means_that_all_is_well(reply: Any, got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, reply, trigger=clicks.records(report_failures=True))]) as runtime:
        clicks.put("1")
        arrived(got, 1)
        settle(runtime)
    assert batches(got) == [["1"]]


def test_records_that_are_too_old_are_given_up_and_told_of(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    clicks, dead = stream("clicks"), queue("dead")
    told = tmp_path / "told"
    reads = reader(got, trigger=clicks.records(max_record_age=60, on_failure=dead))
    with Runtime([reads, recorder(told, trigger=dead)], clock=clock) as runtime:
        runtime.mappings()[0].pause()
        runtime.mappings()[1].pause()
        old = clicks.put("old")
        clock.advance(61)
        clicks.put("new")
        for mapping in runtime.mappings():
            mapping.resume()
        arrived(got, 1)
        (event,) = wait_for(told, 1)
    assert read_flat(got) == ["new"]
    record = json.loads(event["Records"][0]["body"])
    assert record["requestContext"]["condition"] == "RecordAgeExceeded"
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert record["KinesisBatchInfo"]["startSequenceNumber"] == old


def test_what_is_refused_uses_up_no_retry(got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    reads = reader(got, trigger=clicks.records(retries=0), reserved_concurrency=0)
    with Runtime([reads], clock=clock) as runtime:
        clicks.put("1")
        wait_until(lambda: "PROBLEM" in runtime.mappings()[0].last_result)
        waited(runtime, clock, 60, 3)
        assert clicks.statistics().records == 1
        assert read_flat(got) == []
        assert "reserved" in runtime.mappings()[0].last_result


def test_a_record_that_functions_put_in_a_circle_is_stopped(got: Path) -> None:
    circle = stream("circle")
    where = str(got)

    def again(event: Any) -> None:
        read(where, event, None)
        circle.put("round")

    declared = function(name="again", trigger=circle, allow=[circle.put], writes=[PLACE], timeout=10)(again)
    with Runtime([declared]) as runtime:
        circle.put("round")
        wait_until(lambda: len(read_flat(got)) >= 16, 30)
        settle(runtime)
    assert len(read_flat(got)) == 16


# -- tumbling windows --------------------------------------------------------------------------------------------------


def told_of_windows(file: Path) -> list[tuple[str, list[str], Any, bool]]:
    return [
        (event["window"]["start"][11:19], event["data"], event["state"], event["isFinalInvokeForWindow"])
        for event in events(file)
    ]


def test_a_tumbling_window_hands_its_state_on_and_ends(got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, COUNT, trigger=clicks.records(size=2, tumbling_window=30))], clock=clock) as runtime:
        clicks.put_many(["1", "2", "3"], key=lambda _: "k")
        waited(runtime, clock, 29)
        clicks.put("4", key="k")
        waited(runtime, clock, 1)
        clicks.put("5", key="k")
        waited(runtime, clock, 30)
        clock.advance(300)
        settle(runtime)
    assert told_of_windows(got) == [
        ("08:00:00", ["1", "2"], {}, False),
        ("08:00:00", ["3"], {"count": 2}, False),
        ("08:00:00", ["4"], {"count": 3}, False),
        ("08:00:00", [], {"count": 4}, True),
        ("08:00:30", ["5"], {}, False),
        ("08:00:30", [], {"count": 1}, True),
    ]
    event = events(got)[0]
    assert event["window"] == {"start": "2027-01-15T08:00:00Z", "end": "2027-01-15T08:00:30Z"}
    assert event["shardId"] == "shardId-000000000000"
    assert event["eventSourceARN"] == "arn:aws:kinesis:us-east-1:000000000000:stream/clicks"
    assert event["isWindowTerminatedEarly"] is False


def test_what_came_while_nobody_ran_is_told_by_its_windows(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    with Runtime([], store=tmp_path / "s", clock=clock):
        for number in range(4):
            clicks.put(str(number), key="k")
            clock.advance(20)
    reads = reader(got, COUNT, trigger=clicks.records(tumbling_window=30))
    with Runtime([reads], store=tmp_path / "s", clock=clock) as runtime:
        clock.advance(10)
        settle(runtime)
    assert told_of_windows(got) == [
        ("08:00:00", ["0", "1"], {}, True),
        ("08:00:30", ["2"], {}, True),
        ("08:01:00", ["3"], {}, True),
    ]


def test_the_state_of_a_window_outlives_its_host(tmp_path: Path, got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    reads = reader(got, COUNT, trigger=clicks.records(tumbling_window=30))
    for number in range(2):
        with Runtime([reads], store=tmp_path / "s", clock=clock) as runtime:
            clicks.put(str(number), key="k")
            settle(runtime)
    with Runtime([reads], store=tmp_path / "s", clock=clock) as runtime:
        clock.advance(30)
        settle(runtime)
    assert told_of_windows(got)[1:] == [("08:00:00", ["1"], {"count": 1}, False), ("08:00:00", [], {"count": 2}, True)]


@pytest.mark.parametrize("reply", [None, {"other": 1}, {"state": {"lone": "\ud800"}}])
def test_a_function_that_returns_no_state_has_failed(reply: Any, got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, reply, trigger=clicks.records(tumbling_window=900, retries=1))]) as runtime:
        clicks.put("1")
        wait_until(lambda: len(batches(got)) == 2)
        settle(runtime)
        assert runtime.mappings()[0].last_result == "PROBLEM: Function call failed"


def test_a_state_that_grows_too_large_ends_its_window_early(got: Path, clock: ManualClock) -> None:
    clicks = stream("clicks")
    large = {"state": {"text": "x" * 1_100_000}}
    reads = reader(got, large, trigger=clicks.records(tumbling_window=30), memory=512)
    with Runtime([reads], clock=clock) as runtime:
        clicks.put("1", key="k")
        wait_until(lambda: len(batches(got)) == 2)
        settle(runtime)
        clicks.put("2", key="k")
        wait_until(lambda: len(batches(got)) == 4)
        settle(runtime)
    told = [(one["data"], one["isFinalInvokeForWindow"], one["isWindowTerminatedEarly"]) for one in events(got)]
    assert told == [(["1"], False, False), ([], True, True), (["2"], False, False), ([], True, True)]
    assert [len(one["state"].get("text", "")) for one in events(got)] == [0, 1_100_000, 0, 1_100_000]


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"size": 0}, "size=0: must be a whole number from 1 to 10,000"),
        ({"window": 301}, "window=301: must be a number of seconds from 0 to 300"),
        ({"start": "LATEST"}, "start='LATEST': must be 'trim_horizon', 'latest' or a datetime with a time zone"),
        ({"start": datetime(2030, 1, 1)}, "must be 'trim_horizon', 'latest' or a datetime with a time zone"),  # noqa: DTZ001
        ({"parallelization": 11}, "parallelization=11: must be a whole number from 1 to 10"),
        ({"bisect": 1}, "bisect=1: must be True or False"),
        ({"retries": -1}, "retries=-1: must be a whole number from 0 to 10,000 or None"),
        ({"max_record_age": 59}, "max_record_age=59: must be a number of seconds from 60 to 604800 or None"),
        ({"report_failures": None}, "report_failures=None: must be True or False"),
        ({"filters": {"data": ["x"]}}, "filters={'data': ['x']}: must be a list of at most 10 patterns"),
        ({"tumbling_window": 901}, "tumbling_window=901: must be a whole number from 0 to 900"),
        ({"tumbling_window": 1, "parallelization": 2}, "parallelization=2: must be 1 with a tumbling_window"),
        ({"on_failure": "dead"}, "on_failure='dead': must be a queue with fifo=False, a topic, or None"),
    ],
)
def test_what_a_trigger_may_not_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        stream("clicks").records(**options)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"shards": 0}, "shards=0: must be a whole number from 1 to 1,000"),
        ({"retention": 59}, "retention=59: must be a number of seconds from 60 to 3.1536e+07"),
    ],
)
def test_what_a_stream_may_not_be_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        stream("clicks", **options)
    assert told in str(refused.value)


def test_what_may_not_be_put_is_refused() -> None:
    clicks = stream("clicks")
    with Runtime([]):
        for key in ("", "x" * 257, 7, "\ud800"):
            with pytest.raises(ConfigurationError, match="text of 1 to 256 characters, or None"):
                clicks.put("1", key=key)  # type: ignore[arg-type]
        with pytest.raises(PayloadTooLarge, match="the record has 1,048,577 bytes: at most 1,048,576"):
            clicks.put(b"x" * 1_048_577)
        with pytest.raises(InvalidEvent):
            clicks.put({"x": object()})
        with pytest.raises(InvalidEvent, match="must not be empty"):
            clicks.put("")
        assert clicks.statistics() == (0, 1)


def test_options_of_a_mapping_may_be_changed_and_bad_ones_are_refused(got: Path) -> None:
    clicks = stream("clicks")
    with Runtime([reader(got, trigger=clicks)]) as runtime:
        (mapping,) = runtime.mappings()
        mapping.change(size=2, start=datetime.now(timezone.utc) - timedelta(days=1))
        assert mapping.trigger is not None
        clicks.put_many(["1", "2", "3"], key=lambda _: "k")
        arrived(got, 3)
        with pytest.raises(ConfigurationError, match="this trigger has the options size, window, start"):
            mapping.change(colour="red")
    assert batches(got) == [["1", "2"], ["3"]]


# -- from inside a sandbox ---------------------------------------------------------------------------------------------


def test_a_function_may_put_what_it_was_granted(got: Path) -> None:
    clicks = stream("clicks")

    def put() -> Any:
        return [clicks.put("one", key="k"), *clicks.put_many([b"\x32", {"three": 3}], key=lambda _: "k")]

    declared: Any = function(name="put", allow=[clicks.put], timeout=10)(lambda _: put())
    by_name: Any = function(name="by-name", allow=["stream:clicks:put"], timeout=10)(lambda _: put())
    denied: Any = function(name="denied", timeout=10)(lambda _: put())
    with Runtime([reader(got, trigger=clicks), declared, by_name, denied]) as runtime:
        assert len(runtime.invoke(declared, None)) == 3
        assert len(runtime.invoke(by_name, None)) == 3
        with pytest.raises(Exception, match=r"needs allow=\[clicks.put\], or its name \"stream:clicks:put\""):
            runtime.invoke(denied, None)
        arrived(got, 6)
    assert read_flat(got) == ["one", "2", '{"three":3}'] * 2


def test_a_stream_is_known_by_its_name() -> None:
    assert stream("clicks", shards=2) == stream("clicks")
    assert isinstance(stream("clicks"), Stream)
    assert repr(stream("clicks")) == "<Stream 'clicks'>"
