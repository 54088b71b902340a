"""Tables: a committed change has its event, whoever made it; a rolled-back one has none."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from pyfaas import ConfigurationError, HostError, Runtime, Table, function, queue, table
from pyfaas._stores.tables import Changes, Place
from pyfaas.testing import events as made
from pyfaas.testing import settle
from sources.tools import events, recorder
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")
STOCK = "CREATE TABLE IF NOT EXISTS stock (id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE, amount)"


@pytest.fixture
def stock(tmp_path: Path) -> Table:
    return table("stock", tmp_path / "shop.db")


def changes(file: Path) -> list[tuple[str, Any, Any]]:
    """Give what came: the kind of each change, and its images."""
    told = [one for event in events(file) for one in event["Records"]]
    return [(one["eventName"], *(one["dynamodb"].get(image) for image in ("OldImage", "NewImage"))) for one in told]


def row(number: int, name: str, amount: Any = None) -> dict[str, Any]:
    given = {"id": number, "name": name, "amount": amount}
    return dict(made.table(given)["Records"][0]["dynamodb"]["NewImage"])


@pytest.mark.parametrize("journal", ["wal", "delete"])
@pytest.mark.parametrize("store", [None, "app.db"])
def test_what_is_committed_comes_and_what_is_rolled_back_does_not(
    stock: Table, store: str | None, journal: str, tmp_path: Path, got: Path
) -> None:
    with (
        stock.connect(STOCK, isolation_level=None) as shop,
        Runtime([recorder(got, trigger=stock)], store=store and tmp_path / store) as runtime,
    ):
        shop.execute(f"PRAGMA journal_mode={journal}")
        shop.execute("BEGIN")
        shop.execute("INSERT INTO stock VALUES (1, 'cup', 5)")
        shop.execute("COMMIT")
        shop.execute("BEGIN")
        shop.execute("INSERT INTO stock VALUES (2, 'pot', 5)")
        shop.execute("ROLLBACK")
        shop.execute("UPDATE stock SET amount = 4")
        shop.execute("DELETE FROM stock")
        settle(runtime)
    assert changes(got) == [
        ("INSERT", None, row(1, "cup", 5)),
        ("MODIFY", row(1, "cup", 5), row(1, "cup", 4)),
        ("REMOVE", row(1, "cup", 4), None),
    ]
    shop.close()


def test_a_running_runtime_hears_of_a_commit_of_another_process(stock: Table, got: Path) -> None:
    stock.connect(STOCK).close()
    with Runtime([recorder(got, trigger=stock)]) as runtime:
        settle(runtime)
        program = f"import sqlite3; c = sqlite3.connect({stock.database!r}); c.execute("
        program += "'INSERT INTO stock VALUES (1, ?, 2)', ('cup',)); c.commit()"
        subprocess.run([sys.executable, "-S", "-c", program], check=True)
        wait_until(lambda: changes(got))
    assert changes(got) == [("INSERT", None, row(1, "cup", 2))]


def test_each_commit_is_seen_though_its_log_is_written_before_it_can_be(stock: Table, got: Path) -> None:
    """Between the last write that the system tells of and the commit lies a sync of the disk."""
    with stock.connect(STOCK, isolation_level=None) as shop, Runtime([recorder(got, trigger=stock)]):
        shop.execute("PRAGMA journal_mode=WAL")
        for number in range(1, 21):
            shop.execute("INSERT INTO stock (name) VALUES ('cup')")
            wait_until(lambda: len(changes(got)) == number, 2.0)  # noqa: B023 - it is over by then
    shop.close()


def test_what_changed_while_no_runtime_was_open_comes_with_the_next_one(
    stock: Table, tmp_path: Path, got: Path
) -> None:
    store, shop = tmp_path / "app.db", stock.connect(STOCK, isolation_level=None)
    for number in range(3):
        shop.execute("INSERT INTO stock (name) VALUES (?)", (f"{number}",))
        with Runtime([recorder(got, trigger=stock)], store=store) as runtime:
            settle(runtime)
    assert [new["name"]["S"] for _, _, new in changes(got)] == ["0", "1", "2"]
    assert shop.execute("SELECT count(*) FROM pyfaas_change_stock").fetchone() == (0,)
    shop.close()


def test_replace_tells_of_the_row_that_it_overwrites_only_with_recursive_triggers(stock: Table, got: Path) -> None:
    shop, other = stock.connect(STOCK, isolation_level=None), sqlite3.connect(stock.database, isolation_level=None)
    with Runtime([recorder(got, trigger=stock)]) as runtime:
        shop.execute("INSERT INTO stock VALUES (1, 'cup', 1)")
        shop.execute("REPLACE INTO stock VALUES (1, 'cup', 2)")
        other.execute("REPLACE INTO stock VALUES (1, 'cup', 3)")
        settle(runtime)
        (mapping,) = runtime.mappings()
        assert "recursive_triggers=ON" in mapping.notes[0]
    assert [kind for kind, _, _ in changes(got)] == ["INSERT", "REMOVE", "INSERT", "INSERT"]
    shop.close()
    other.close()


def test_an_update_that_changes_nothing_has_no_event_and_one_of_a_letter_s_case_has(stock: Table, got: Path) -> None:
    with stock.connect(STOCK, isolation_level=None) as shop, Runtime([recorder(got, trigger=stock)]) as runtime:
        shop.execute("INSERT INTO stock VALUES (1, 'cup', 1)")
        shop.execute("UPDATE stock SET name = 'cup', amount = 1")
        shop.execute("UPDATE stock SET name = 'CUP'")  # equal by the column's collation
        settle(runtime)
    assert [new["name"]["S"] for _, _, new in changes(got)] == ["cup", "CUP"]
    shop.close()


def test_a_row_that_gets_another_key_is_removed_and_inserted(stock: Table, got: Path) -> None:
    with stock.connect(STOCK, isolation_level=None) as shop, Runtime([recorder(got, trigger=stock)]) as runtime:
        shop.execute("INSERT INTO stock VALUES (1, 'cup', 1)")
        shop.execute("UPDATE stock SET id = 2")
        settle(runtime)
    assert changes(got)[1:] == [("REMOVE", row(1, "cup", 1), None), ("INSERT", None, row(2, "cup", 1))]
    shop.close()


VALUES = [None, 0, -(2**63), 2**63 - 1, 0.1, 1e300, float("inf"), "", "a\0b", "äöü", b"", b"\x00\xff"]


def test_every_value_of_sqlite_arrives_as_it_is(stock: Table, got: Path) -> None:
    with stock.connect(STOCK, isolation_level=None) as shop, Runtime([recorder(got, trigger=stock)]) as runtime:
        shop.executemany("INSERT INTO stock (amount) VALUES (?)", [(value,) for value in VALUES])
        settle(runtime)
    told = [new["amount"] for _, _, new in changes(got)]
    plain = [one for one, value in zip(told, VALUES, strict=True) if not isinstance(value, bytes)]
    assert plain[:6] == [{"NULL": True}, *({"N": repr(value)} for value in VALUES[1:6])]
    assert plain[6:] == [{"N": "Infinity"}, *({"S": value} for value in VALUES[7:10])]
    assert told[-2:] == [{"B": ""}, {"B": "AP8="}]
    shop.close()


@pytest.mark.parametrize(
    ("make", "keys"),
    [
        ("CREATE TABLE stock (a, b)", {"rowid": {"N": "1"}}),
        ("CREATE TABLE stock (rowid, b)", {"_rowid_": {"N": "1"}}),
        ("CREATE TABLE stock (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID", {"b": {"N": "2"}, "a": {"N": "1"}}),
        ('CREATE TABLE stock (a, "b ""c" INTEGER PRIMARY KEY)', {'b "c': {"N": "2"}}),
    ],
)
def test_keys_are_those_of_the_table_or_its_rowid(stock: Table, make: str, keys: Any, got: Path) -> None:
    with stock.connect(make, isolation_level=None) as shop, Runtime([recorder(got, trigger=stock)]) as runtime:
        shop.execute("INSERT INTO stock VALUES (1, 2)")
        settle(runtime)
    assert events(got)[0]["Records"][0]["dynamodb"]["Keys"] == keys
    shop.close()


def test_columns_that_come_go_and_are_renamed_are_noticed(stock: Table, tmp_path: Path, got: Path) -> None:
    with (
        stock.connect(STOCK, isolation_level=None) as shop,
        Runtime([recorder(got, trigger=stock)], store=tmp_path / "app.db") as runtime,
    ):
        shop.execute("INSERT INTO stock VALUES (1, 'cup', 1)")
        shop.execute("ALTER TABLE stock ADD COLUMN colour")
        shop.execute("ALTER TABLE stock RENAME COLUMN amount TO count")
        settle(runtime)
        shop.execute("INSERT INTO stock VALUES (2, 'pot', 1, 'red')")
        settle(runtime)
        # As SQLite's documentation has it for other changes: the triggers go with the old table.
        shop.executescript(
            "BEGIN; CREATE TABLE new (id INTEGER PRIMARY KEY, name); INSERT INTO new SELECT id, name FROM stock;"
            "DROP TABLE stock; ALTER TABLE new RENAME TO stock; COMMIT"
        )
        settle(runtime)
        shop.execute("INSERT INTO stock VALUES (3, 'pan')")
        settle(runtime)
    assert [sorted(new) for _, _, new in changes(got)] == [
        ["amount", "id", "name"],
        ["colour", "count", "id", "name"],
        ["id", "name"],
    ]
    shop.close()


def test_a_column_may_be_dropped_once_nothing_is_caught(stock: Table, got: Path) -> None:
    with stock.connect(STOCK, isolation_level=None) as shop:
        with pytest.raises(sqlite3.OperationalError, match="amount"):
            shop.execute("ALTER TABLE stock DROP COLUMN amount")
        stock.disconnect()
        names = "SELECT name FROM sqlite_master WHERE name LIKE 'pyfaas%stock'"
        assert shop.execute(names).fetchall() == []
        shop.execute("ALTER TABLE stock DROP COLUMN amount")
        with Runtime([recorder(got, trigger=stock)]) as runtime:
            shop.execute("INSERT INTO stock VALUES (1, 'cup')")
            settle(runtime)
    assert [sorted(new) for _, _, new in changes(got)] == [["id", "name"]]
    shop.close()


def test_a_table_that_is_made_later_is_watched_from_then_on(
    stock: Table, got: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING), Runtime([recorder(got, trigger=stock)]) as runtime:
        settle(runtime)
        (mapping,) = runtime.mappings()
        assert mapping.last_result == f"PROBLEM: {stock.database!r}: No such file or directory"
        with stock.connect(STOCK, isolation_level=None) as shop:
            shop.execute("INSERT INTO stock VALUES (1, 'cup', 1)")
            settle(runtime)
        assert mapping.last_result == "OK"
    assert [kind for kind, _, _ in changes(got)] == ["INSERT"]
    assert "table 'stock' waits" in caplog.text
    shop.close()


def test_a_database_in_the_place_of_another_one_is_read_from_its_beginning(
    stock: Table, tmp_path: Path, got: Path
) -> None:
    stock.connect(STOCK, isolation_level=None).close()
    other = table("stock", tmp_path / "other.db")
    with Runtime([recorder(got, trigger=stock)]) as runtime:
        with other.connect(STOCK, isolation_level=None) as shop:
            shop.execute("INSERT INTO stock VALUES (7, 'pan', 1)")
        shop.close()
        settle(runtime)
        Path(other.database).rename(stock.database)
        wait_until(lambda: changes(got))
    assert changes(got) == [("INSERT", None, row(7, "pan", 1))]


def test_writers_side_by_side_lose_nothing_and_each_row_keeps_its_order(
    stock: Table, tmp_path: Path, got: Path
) -> None:
    stock.connect(STOCK, isolation_level=None).execute("PRAGMA journal_mode=WAL").connection.close()

    def write(number: int) -> None:
        shop = sqlite3.connect(stock.database, isolation_level=None, timeout=60)
        shop.execute("INSERT INTO stock VALUES (?, '', 0)", (number,))
        for _ in range(50):
            shop.execute("UPDATE stock SET amount = amount + 1 WHERE id = ?", (number,))
        shop.close()

    reading = recorder(got, trigger=stock.records(size=20, parallelization=4))
    with Runtime([reading], store=tmp_path / "app.db") as runtime, Runtime([reading], store=tmp_path / "app.db"):
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        settle(runtime, 30)
        wait_until(lambda: len(changes(got)) >= 4 * 51)  # the other host may have them still
    seen: dict[str, list[int]] = {}
    for _, _, new in changes(got):
        seen.setdefault(new["id"]["N"], []).append(int(new["amount"]["N"]))
    assert seen == {str(number): [*range(51)] for number in range(4)}


def test_two_stores_read_the_same_table_and_what_one_has_not_read_is_kept(
    stock: Table, tmp_path: Path, got: Path
) -> None:
    other = got.with_name("other")
    shop = stock.connect(STOCK, isolation_level=None)
    with Runtime([recorder(other, trigger=stock)], store=tmp_path / "2.db") as runtime:
        settle(runtime)
    shop.execute("INSERT INTO stock VALUES (1, 'cup', 1)")
    with Runtime([recorder(got, trigger=stock)], store=tmp_path / "1.db") as runtime:
        settle(runtime)
    with Runtime([recorder(other, trigger=stock)], store=tmp_path / "2.db") as runtime:
        settle(runtime)
    assert changes(got) == changes(other) == [("INSERT", None, row(1, "cup", 1))]
    assert shop.execute("SELECT count(*) FROM pyfaas_change_stock").fetchone() == (0,)
    shop.close()


def test_views_filters_and_failures_are_as_of_dynamodb(tmp_path: Path, got: Path) -> None:
    lost = queue("lost-changes")
    stock = table("shelf", tmp_path / "shop.db", table="stock", view="old_image")
    wanted = {"eventName": ["REMOVE"], "dynamodb": {"Keys": {"id": {"N": ["2"]}}}}

    def fail(event: Any) -> None:
        raise ValueError(event["Records"][0]["eventName"])

    failing = function(name="fail-on-change", trigger=stock.records(retries=0, on_failure=lost))(fail)
    picking = recorder(got, trigger=stock.records(filters=[wanted]))
    with (
        stock.connect(STOCK, isolation_level=None) as shop,
        Runtime([picking, failing, recorder(got.with_name("lost"), trigger=lost)]) as runtime,
    ):
        shop.execute("INSERT INTO stock VALUES (1, 'cup', 1), (2, 'pot', 2)")
        shop.execute("DELETE FROM stock")
        settle(runtime)
    (told,) = [one["dynamodb"] for event in events(got) for one in event["Records"]]
    assert (told["StreamViewType"], sorted(told.keys() & {"OldImage", "NewImage"})) == ("OLD_IMAGE", ["OldImage"])
    assert told["OldImage"] == row(2, "pot", 2)
    (record, *_) = [one["body"] for event in events(got.with_name("lost")) for one in event["Records"]]
    assert '"DDBStreamBatchInfo":{"shardId"' in record
    assert "table/shelf/stream" in record
    shop.close()


def test_a_mapping_that_is_paused_goes_on_where_it_was(stock: Table, tmp_path: Path, got: Path) -> None:
    with (
        stock.connect(STOCK, isolation_level=None) as shop,
        Runtime([recorder(got, trigger=stock)], store=tmp_path / "app.db") as runtime,
    ):
        (mapping,) = runtime.mappings()
        mapping.pause()
        shop.execute("INSERT INTO stock VALUES (1, 'cup', 1)")
        settle(runtime)
        assert changes(got) == []
        mapping.resume()
        settle(runtime)
    assert [kind for kind, _, _ in changes(got)] == ["INSERT"]
    shop.close()


def test_a_row_too_large_for_an_event_tells_its_keys(stock: Table, got: Path, caplog: pytest.LogCaptureFixture) -> None:
    with stock.connect(STOCK, isolation_level=None) as shop, Runtime([recorder(got, trigger=stock)]) as runtime:
        shop.execute("INSERT INTO stock VALUES (1, 'cup', zeroblob(800000))")
        settle(runtime)
    assert changes(got) == [("INSERT", None, None)]
    assert "too large for its event" in caplog.text
    shop.close()


def test_a_writer_that_holds_the_database_locked_is_waited_for(stock: Table, got: Path) -> None:
    """In a rollback journal nobody can read while somebody commits."""
    with stock.connect(STOCK, isolation_level=None) as shop, Runtime([recorder(got, trigger=stock)]) as runtime:
        shop.execute("BEGIN EXCLUSIVE")
        shop.execute("INSERT INTO stock VALUES (1, 'cup', 1)")
        ended = threading.Timer(0.2, lambda: None)
        ended.start()
        ended.join()
        shop.execute("COMMIT")
        settle(runtime)
    assert [kind for kind, _, _ in changes(got)] == ["INSERT"]
    shop.close()


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"database": 7}, "database=7"),
        ({"database": ""}, "database=''"),
        ({"database": b"shop.db"}, "database="),
        ({"table": ""}, "table=''"),
        ({"table": "sqlite_master"}, "table='sqlite_master'"),
        ({"view": "all"}, "view='all'"),
        ({"retention": 1}, "retention=1"),
    ],
)
def test_a_wrong_option_is_named(given: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        table("stock", **{"database": "shop.db", **given})


@pytest.mark.parametrize(
    "make", ["CREATE VIEW stock AS SELECT 1", f"CREATE TABLE stock ({', '.join(f'c{n}' for n in range(501))})"]
)
def test_what_cannot_be_watched_is_refused_at_once(stock: Table, make: str, got: Path) -> None:
    with pytest.raises(ConfigurationError, match="table='stock'"):
        stock.connect(make)
    with pytest.raises(ConfigurationError, match="table='stock'"), Runtime([recorder(got, trigger=stock)]):
        pass


def test_connect_says_what_stands_in_its_way(stock: Table, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="has no such table; make it by script="):
        stock.connect()
    Path(stock.database).write_bytes(b"x" * 4096)
    with pytest.raises(HostError, match=r"shop\.db': file is not a database"):
        stock.connect(STOCK)
    with pytest.raises(HostError, match="unable to open"):
        table("stock", tmp_path / "none" / "shop.db").disconnect()


def test_what_was_read_is_known_by_the_identity_of_where_it_was_kept(stock: Table) -> None:
    """Numbers begin anew where everything was taken away in between."""
    shop = stock.connect(STOCK, isolation_level=None)
    shop.execute("INSERT INTO stock VALUES (1, 'cup', 1), (2, 'pot', 2)")
    reading = Changes(stock.database, "stock", "me")
    place, found = reading.read(Place())
    assert [one.number for one in found] == [1, 2]
    reading.forget(place.number)
    stock.disconnect()
    stock.connect().close()
    shop.execute("DELETE FROM stock WHERE id = 1")
    other, found = reading.read(place)
    assert [(one.number, one.kind) for one in found] == [(1, "REMOVE")]
    assert other.identity != place.identity
    reading.close()
    shop.close()
