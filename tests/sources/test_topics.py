"""Topics and buses: what is published is with all who want it, or with none."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from pyfaas import ConfigurationError, InvalidEvent, PayloadTooLarge, Runtime, bus, queue, topic
from pyfaas.testing import ManualClock, settle
from sources.tools import bodies, events, recorder, wait_for

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")


def left(runtime: Runtime) -> int:
    return int(runtime._later().database.put(lambda one: one.one("count_all")).block().value)


# -- topics ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_message_comes_as_sns_tells_it(kind: str, tmp_path: Path, got: Path) -> None:
    receipts = topic("receipts")
    store = None if kind == "memory" else tmp_path / "s"
    with Runtime([recorder(got, trigger=receipts)], store=store, clock=ManualClock()):
        message_id = receipts.publish({"paid": 7}, subject="Paid", attributes={"kind": "card", "n": 5})
        (event,) = wait_for(got, 1)
    (record,) = event["Records"]
    assert (record["EventSource"], record["EventVersion"]) == ("aws:sns", "1.0")
    assert record["EventSubscriptionArn"].startswith("arn:aws:sns:us-east-1:000000000000:receipts:")
    told = record["Sns"]
    assert told.pop("UnsubscribeUrl").endswith(record["EventSubscriptionArn"])
    assert told == {
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": "arn:aws:sns:us-east-1:000000000000:receipts",
        "Subject": "Paid",
        "Message": '{"paid":7}',
        "Timestamp": "2027-01-15T08:00:00.000Z",
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertUrl": "https://sns.us-east-1.amazonaws.com/unsigned.pem",
        "MessageAttributes": {"kind": {"Type": "String", "Value": "card"}, "n": {"Type": "Number", "Value": "5"}},
    }


def test_every_function_and_queue_gets_it(tmp_path: Path) -> None:
    receipts, audit, plain = topic("receipts"), queue("audit"), queue("plain")
    receipts.subscribe(audit)
    receipts.subscribe(plain, raw=True)
    functions = [
        recorder(tmp_path / "a", trigger=receipts),
        recorder(tmp_path / "b", trigger=receipts),
        recorder(tmp_path / "audit", trigger=audit),
        recorder(tmp_path / "plain", trigger=plain),
    ]
    with Runtime(functions) as runtime:
        receipts.publish("hello", attributes={"k": "v"})
        for name in ("a", "b", "audit", "plain"):
            wait_for(tmp_path / name, 1)
        settle(runtime)
    ((envelope,),) = bodies(tmp_path / "audit")
    told = json.loads(envelope)
    assert (told["Type"], told["Message"], told["MessageAttributes"]) == (
        "Notification", "hello", {"k": {"Type": "String", "Value": "v"}},
    )  # fmt: skip
    assert "Subject" not in told
    assert "UnsubscribeURL" in told
    assert bodies(tmp_path / "plain") == [["hello"]]
    (record,) = events(tmp_path / "plain")[0]["Records"]
    assert record["messageAttributes"]["k"]["stringValue"] == "v"


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"filter": {"kind": ["card"]}}, "ab"),
        ({"filter": {"n": [{"numeric": [">", 4]}]}}, "bc"),
        ({"filter": {"user": {"name": ["Ada"]}}, "filter_on": "body"}, "c"),
        ({"filter": {"kind": [{"exists": False}]}}, "d"),
    ],
)
def test_a_filter_looks_at_the_attributes_or_the_body(options: dict[str, Any], wanted: str, got: Path) -> None:
    receipts = topic("receipts")
    with Runtime([recorder(got, trigger=receipts.messages(**options))]) as runtime:
        receipts.publish("a", attributes={"kind": "card"})
        receipts.publish("b", attributes={"kind": "card", "n": 5})
        receipts.publish({"c": 1, "user": {"name": "Ada"}}, attributes={"kind": "cash", "n": 6.5})
        receipts.publish("d")
        settle(runtime)
    messages = [event["Records"][0]["Sns"]["Message"] for event in events(got)]
    assert sorted("c" if one.startswith("{") else one for one in messages) == [*wanted]


def test_a_function_that_fails_has_its_retries(got: Path) -> None:
    receipts = topic("receipts")
    clock = ManualClock()

    def handler(event: Any) -> None:
        from sources.tools import record

        record(str(got), event, None)
        raise ValueError

    from handlers import PLACE
    from pyfaas import function

    with Runtime([function(trigger=receipts, writes=[PLACE], timeout=10)(handler)], clock=clock) as runtime:
        receipts.publish("x")
        wait_for(got, 1)
        settle(runtime)
        clock.advance(60)
        wait_for(got, 2)
    first, second = events(got)
    assert first == second


def test_whoever_subscribed_before_gets_it_also_from_a_host_that_never_heard_of_it(tmp_path: Path, got: Path) -> None:
    receipts = topic("receipts")
    with Runtime([recorder(got, trigger=receipts)], store=tmp_path / "s"):
        pass
    with Runtime([], store=tmp_path / "s"):
        receipts.publish("while it was away")
    assert events(got) == []
    with Runtime([recorder(got, trigger=receipts)], store=tmp_path / "s"):
        (event,) = wait_for(got, 1)
    assert event["Records"][0]["Sns"]["Message"] == "while it was away"


def test_nobody_gets_what_was_published_before_or_while_paused(got: Path) -> None:
    receipts = topic("receipts")
    with Runtime([recorder(got, trigger=receipts)]) as runtime:
        (mapping,) = runtime.mappings()
        mapping.pause()
        receipts.publish("lost")
        mapping.resume()
        receipts.publish("kept")
        (event,) = wait_for(got, 1)
    assert event["Records"][0]["Sns"]["Message"] == "kept"


def test_a_filter_is_changed_while_it_runs(got: Path) -> None:
    receipts = topic("receipts")
    with Runtime([recorder(got, trigger=receipts)]) as runtime:
        (mapping,) = runtime.mappings()
        mapping.change(filter={"kind": ["card"]})
        receipts.publish("no")
        receipts.publish("yes", attributes={"kind": "card"})
        (event,) = wait_for(got, 1)
    assert event["Records"][0]["Sns"]["Message"] == "yes"


@pytest.mark.anyio
async def test_publishing_from_async_code(got: Path) -> None:
    receipts, shop = topic("receipts"), bus("shop")
    async with Runtime([recorder(got, trigger=[receipts, shop.rule({"source": ["till"]})])]):
        await receipts.apublish("1")
        await shop.aput_event({}, source="till", detail_type="Sold")
        await shop.aput_events([{"detail": {}, "source": "till", "detail_type": "Sold"}])
        wait_for(got, 3)


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ({"message": ""}, InvalidEvent, "must not be empty"),
        ({"message": "x", "subject": ""}, ConfigurationError, "subject=''"),
        ({"message": "x", "subject": "a\nb"}, ConfigurationError, "printable"),
        ({"message": "x" * 1_048_577}, PayloadTooLarge, "1,048,577 bytes"),
    ],
)
def test_what_cannot_be_published_is_refused(given: dict[str, Any], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        topic("receipts").publish(**given)


def test_a_bad_filter_says_where() -> None:
    with pytest.raises(ConfigurationError, match=r"filter\.kind='card': must be"):
        topic("receipts").messages(filter={"kind": "card"})
    with pytest.raises(ConfigurationError, match="filter_on='head': must be 'attributes' or 'body'"):
        topic("receipts").messages(filter_on="head")
    with pytest.raises(ConfigurationError, match="must be a queue with fifo=False"):
        topic("receipts").subscribe(queue("q", fifo=True))


# -- buses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_an_event_comes_as_eventbridge_tells_it(kind: str, tmp_path: Path, got: Path) -> None:
    shop = bus("shop")
    store = None if kind == "memory" else tmp_path / "s"
    function = recorder(got, trigger=shop.rule({"source": ["till"]}))
    with Runtime([function], store=store, clock=ManualClock()) as runtime:
        event_id = shop.put_event({"price": 5}, source="till", detail_type="Sold", resources=["shelf"])
        shop.put_event({}, source="door", detail_type="Opened")
        (event,) = wait_for(got, 1)
        settle(runtime)
    assert event == {
        "version": "0",
        "id": event_id,
        "detail-type": "Sold",
        "source": "till",
        "account": "000000000000",
        "time": "2027-01-15T08:00:00Z",
        "region": "us-east-1",
        "resources": ["shelf"],
        "detail": {"price": 5},
    }


def test_a_function_may_have_many_rules_and_gets_an_event_once_for_each(got: Path) -> None:
    shop = bus("shop")
    rules = [
        shop.rule({"detail": {"price": [{"numeric": [">", 10]}]}}, name="dear", path="$.detail.price"),
        shop.rule({"source": ["till"]}, name="all", template='{"rule": <aws.events.rule-name>, "p": "<p>"}', paths={
            "p": "$.detail.price",
        }),
        shop.rule({"detail-type": ["Sold"]}, name="sold", input={"sold": True}),
    ]  # fmt: skip
    with Runtime([recorder(got, trigger=rules)]) as runtime:
        shop.put_event({"price": 11}, source="till", detail_type="Sold")
        settle(runtime)
        assert [mapping.name for mapping in runtime.mappings()] == ["dear", "all", "sold"]
    assert sorted(events(got), key=str) == [11, {"rule": "all", "p": "11"}, {"sold": True}]


def test_of_several_events_all_are_put_or_none(got: Path) -> None:
    shop = bus("shop")
    sold = {"detail": {}, "source": "till", "detail_type": "Sold"}
    with Runtime([recorder(got, trigger=shop.rule({"source": ["till"]}))]) as runtime:
        with pytest.raises(InvalidEvent, match="detail='x': must be a dict"):
            shop.put_events([sold, {**sold, "detail": "x"}])
        assert left(runtime) == 0
        assert len(set(shop.put_events([sold, sold]))) == 2
        wait_for(got, 2)


def test_an_event_may_say_when_it_was(got: Path) -> None:
    shop = bus("shop")
    with Runtime([recorder(got, trigger=shop.rule({"source": ["till"]}))]):
        shop.put_event({}, source="till", detail_type="Sold", time=datetime(2020, 2, 3, 4, 5, 6, tzinfo=timezone.utc))
        (event,) = wait_for(got, 1)
    assert event["time"] == "2020-02-03T04:05:06Z"


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"source": ""}, "source='': must be text of 1 to 256 characters"),
        ({"detail_type": 7}, "detail_type=7"),
        ({"resources": "shelf"}, "resources='shelf': must be a list"),
        ({"time": datetime(2020, 1, 1)}, "with a time zone"),  # noqa: DTZ001
    ],
)
def test_an_event_says_what_it_may_be(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        bus("shop").put_event({}, **{"source": "till", "detail_type": "Sold", **given})


def test_an_event_over_1_mb_is_refused() -> None:
    with Runtime([]), pytest.raises(PayloadTooLarge, match="at most 1,048,576"):
        bus("shop").put_event({"x": "x" * 1_048_576}, source="till", detail_type="Sold")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"pattern": {"source": "till"}}, r"pattern\.source='till': must be"),
        ({"pattern": {}}, "pattern={}"),
        ({"pattern": {"source": ["x"]}, "path": "$.x", "input": 1}, "give one of input, path, and template"),
        ({"pattern": {"source": ["x"]}, "paths": {"a": "$"}}, "give one of"),
        ({"pattern": {"source": ["x"]}, "path": "x"}, "must be a path such as"),
        ({"pattern": {"source": ["x"]}, "name": "a b"}, "name='a b'"),
    ],
)
def test_a_rule_says_what_it_may_be(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        bus("shop").rule(**options)


def test_the_same_source_twice_is_refused(got: Path) -> None:
    receipts = topic("receipts")
    with (
        pytest.raises(ConfigurationError, match="has topic/receipts twice among its triggers"),
        Runtime([recorder(got, trigger=[receipts, receipts.messages(filter={"a": ["b"]})])]),
    ):
        pass
