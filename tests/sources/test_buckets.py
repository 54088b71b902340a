"""Buckets: each file that is put, changed or gone has its event once, whoever did it and whenever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from urllib.parse import unquote_plus

import pytest

from pyfaas import (
    AccessDenied,
    Bucket,
    ConfigurationError,
    HandlerFailed,
    HostError,
    NoSuchKey,
    Runtime,
    _port,
    bucket,
    function,
    table,
)
from pyfaas.testing import settle
from sources.tools import events, recorder, wait_for
from support import wait_until

pytestmark = pytest.mark.filterwarnings("ignore:.* submitted events that were not run:RuntimeWarning")
ALL = ["ObjectCreated:*", "ObjectRemoved:*"]


@pytest.fixture
def uploads(tmp_path: Path) -> Bucket:
    return bucket("uploads", tmp_path / "uploads", settle=0.05)


def place(of: Bucket, key: str = "") -> Path:
    return Path(of.directory) / key


def told(file: Path) -> list[tuple[str, str]]:
    """Give what came: the kind of each event, and the key."""
    records = [one for event in events(file) for one in event["Records"]]
    return sorted((one["eventName"].split(":")[0][6:], unquote_plus(one["s3"]["object"]["key"])) for one in records)


def sizes(file: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for event in events(file):
        of = event["Records"][0]["s3"]["object"]
        found.setdefault(of["key"], []).append(of.get("size", -1))
    return found


@pytest.mark.parametrize("store", [None, "app.db"])
def test_what_is_put_written_changed_and_deleted_has_its_event(
    uploads: Bucket, store: str | None, tmp_path: Path, got: Path
) -> None:
    with Runtime([recorder(got, trigger=uploads.objects(ALL))], store=store and tmp_path / store) as runtime:
        uploads.put("a b/ä+.txt", "hello")
        settle(runtime)
        (event,) = events(got)
        place(uploads, "by-others").write_bytes(b"one")
        settle(runtime)
        place(uploads, "by-others").write_bytes(b"three")
        settle(runtime)
        uploads.delete("a b/ä+.txt")
        place(uploads, "by-others").unlink()
        settle(runtime)
    assert told(got) == [
        ("Created", "a b/ä+.txt"),
        ("Created", "by-others"),
        ("Created", "by-others"),
        ("Removed", "a b/ä+.txt"),
        ("Removed", "by-others"),
    ]
    record = event["Records"][0]
    assert (record["eventName"], record["eventSource"]) == ("ObjectCreated:Put", "aws:s3")
    assert record["s3"]["bucket"]["name"] == "uploads"
    of = record["s3"]["object"]
    assert (of["key"], of["size"], of["eTag"]) == ("a+b/%C3%A4%2B.txt", 5, "5d41402abc4b2a76b9719d911017c592")
    numbers = [one["Records"][0]["s3"]["object"]["sequencer"] for one in events(got)]
    assert len(set(numbers)) == 5
    assert all(len(number) == 16 for number in numbers)


def test_what_happened_while_no_runtime_was_open_comes_with_the_next_one(
    uploads: Bucket, tmp_path: Path, got: Path
) -> None:
    place(uploads).mkdir()
    for name in ("old", "changed", "gone"):
        place(uploads, name).write_text(name)
    seen = recorder(got, trigger=uploads.objects(ALL))
    with Runtime([seen], store=tmp_path / "app.db") as runtime:
        settle(runtime)
        assert told(got) == []  # it begins with the files that are there
    place(uploads, "changed").write_text("is longer now")
    place(uploads, "gone").unlink()
    uploads.put("new", b"")
    for _ in range(2):
        with Runtime([seen], store=tmp_path / "app.db") as runtime:
            settle(runtime)
    assert told(got) == [("Created", "changed"), ("Created", "new"), ("Removed", "gone")]


@pytest.mark.parametrize("count", [2_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_among_very_many_files_those_that_change_are_found(
    count: int, uploads: Bucket, tmp_path: Path, got: Path
) -> None:
    for number in range(count):
        if number % 1_000 == 0:
            place(uploads, f"{number // 1_000:03d}").mkdir(parents=True)
        place(uploads, f"{number // 1_000:03d}/{number:06d}").touch()
    seen = recorder(got, trigger=uploads.objects(ALL))
    last = f"{(count - 1) // 1_000:03d}/{count - 1:06d}"
    with Runtime([seen], store=tmp_path / "app.db") as runtime:
        settle(runtime, 60)
        assert events(got) == []
        place(uploads, "000/000007").write_text("changed")
        settle(runtime, 60)
        assert told(got) == [("Created", "000/000007")]
    place(uploads, last).unlink()
    place(uploads, "001/new").touch()
    with Runtime([seen], store=tmp_path / "app.db") as runtime:
        settle(runtime, 60)
    assert told(got) == [("Created", "000/000007"), ("Created", "001/new"), ("Removed", last)]


def test_triggers_pick_by_kind_prefix_and_suffix(uploads: Bucket, got: Path) -> None:
    picks = [uploads.objects(prefix="in/", suffix=".png"), uploads.objects("ObjectRemoved:Delete", name="gone")]
    with Runtime([recorder(got, trigger=picks)]) as runtime:
        for key in ("in/a.png", "in/a.txt", "out/a.png"):
            uploads.put(key, b"")
        settle(runtime)
        uploads.delete("out/a.png")
        uploads.delete("out/never-was")
        settle(runtime)
    assert told(got) == [("Created", "in/a.png"), ("Removed", "out/a.png")]


def test_a_file_that_is_open_for_writing_waits_until_it_is_closed(uploads: Bucket, got: Path) -> None:
    with Runtime([recorder(got, trigger=uploads)]) as runtime:
        with place(uploads, "slow").open("wb") as file:
            for _ in range(3):
                file.write(b"half")
                file.flush()
                wait_until(lambda: runtime._sources._outside[uploads]._pending)
                threading.Event().wait(0.15)  # longer than it must be left alone
            assert events(got) == []
        settle(runtime)
    assert sizes(got) == {"slow": [12]}


def test_one_that_is_written_again_and_again_waits_until_it_is_left_alone(tmp_path: Path, got: Path) -> None:
    uploads = bucket("uploads", tmp_path / "up", settle=0.4)
    with Runtime([recorder(got, trigger=uploads)]) as runtime:
        for number in range(8):
            with place(uploads, "log").open("ab") as file:
                file.write(b"part")
            if number == 0:
                wait_until(lambda: runtime._sources._outside[uploads].is_behind)
            threading.Event().wait(0.05)
        settle(runtime)
    assert sizes(got) == {"log": [32]}


def test_one_that_is_renamed_into_its_place_need_not_wait(tmp_path: Path, got: Path) -> None:
    uploads = bucket("uploads", tmp_path / "up", settle=3600)
    with Runtime([recorder(got, trigger=uploads)]) as runtime:
        place(uploads, "a.part").write_bytes(b"whole")
        pending = runtime._sources._outside[uploads]._pending
        wait_until(lambda: "a.part" in pending and pending["a.part"].stamp is not None)
        place(uploads, "a.part").rename(place(uploads, "a"))
        wait_for(got, 1)
    assert sizes(got) == {"a": [5]}


def test_directories_that_come_go_and_are_renamed_bring_and_take_their_files(
    uploads: Bucket, tmp_path: Path, got: Path
) -> None:
    (tmp_path / "set/deep").mkdir(parents=True)
    for name in ("1", "deep/2"):
        (tmp_path / "set" / name).write_text(name)
    with Runtime([recorder(got, trigger=uploads.objects(ALL))], store=tmp_path / "app.db") as runtime:
        (tmp_path / "set").rename(place(uploads, "a"))
        settle(runtime)
        place(uploads, "a").rename(place(uploads, "b"))
        settle(runtime)
        assert told(got) == [
            *(("Created", key) for key in ("a/1", "a/deep/2", "b/1", "b/deep/2")),
            *(("Removed", key) for key in ("a/1", "a/deep/2")),
        ]
        place(uploads).rename(tmp_path / "elsewhere")  # all of it: that is not each of its files being deleted
        (mapping,) = runtime.mappings()
        wait_until(lambda: mapping.last_result.startswith("PROBLEM: "))
        (tmp_path / "elsewhere").rename(place(uploads))
        place(uploads, "c").write_text("c")
        wait_until(lambda: ("Created", "c") in told(got))
    assert len(events(got)) == 7


def test_links_are_not_followed_and_what_is_no_file_is_passed_over(uploads: Bucket, tmp_path: Path, got: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    with Runtime([recorder(got, trigger=uploads)]) as runtime:
        place(uploads, "file").symlink_to(tmp_path / "outside/secret")
        place(uploads, "directory").symlink_to(tmp_path / "outside")
        os.mkfifo(place(uploads, "pipe"))
        (tmp_path / "outside/more").write_text("more")
        settle(runtime)
    assert events(got) == []
    assert uploads.list() == []
    for key in ("file", "directory/secret", "pipe"):
        with pytest.raises((NoSuchKey, HostError)):
            uploads.get(key)
    with pytest.raises(HostError):
        uploads.put("directory/new", b"")
    uploads.delete("directory/secret")
    uploads.put("file", b"mine")  # in the place of the link
    assert (tmp_path / "outside/secret").read_text() == "secret"
    assert not (tmp_path / "outside/new").exists()


def test_two_hosts_make_one_event_of_each_file(uploads: Bucket, tmp_path: Path, got: Path) -> None:
    seen = recorder(got, trigger=uploads)
    with Runtime([seen], store=tmp_path / "app.db") as first, Runtime([seen], store=tmp_path / "app.db") as second:
        for number in range(60):
            place(uploads, f"{number}").write_text("x")
        for runtime in (first, second, first):
            settle(runtime)
        wait_for(got, 60)
    assert told(got) == sorted(("Created", f"{number}") for number in range(60))


def test_a_host_that_is_killed_in_the_middle_loses_none_and_makes_none_twice_but_what_ran(
    uploads: Bucket, tmp_path: Path, got: Path
) -> None:
    program = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
from pyfaas import Runtime, bucket
from sources.tools import recorder
uploads = bucket("uploads", {uploads.directory!r}, settle=0.05)
with Runtime([recorder(Path({str(got)!r}), trigger=uploads)], store={str(tmp_path / "app.db")!r}):
    print("open", flush=True)
    sys.stdin.read()
"""
    host = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert host.stdout is not None
    assert host.stdout.readline() == b"open\n"
    for number in range(300):
        place(uploads, f"{number}").write_text("x")
    wait_for(got, 20)
    host.kill()
    host.communicate()
    with Runtime([recorder(got, trigger=uploads)], store=tmp_path / "app.db") as runtime:
        settle(runtime)
        wait_until(lambda: len(set(told(got))) == 300)
        settle(runtime)
    made = {(of["key"], of["sequencer"]) for event in events(got) for of in [event["Records"][0]["s3"]["object"]]}
    assert len(made) == 300  # what was running has come twice, as the same event


def test_a_directory_that_cannot_be_is_told_and_nothing_goes_on(uploads: Bucket, tmp_path: Path, got: Path) -> None:
    (tmp_path / "file").write_text("")
    broken = bucket("broken", tmp_path / "file")
    seeing = recorder(got, trigger=[uploads, broken])
    with pytest.raises(HostError, match="File exists"), Runtime([seeing], store=tmp_path / "app.db"):
        pass
    assert [one.name for one in threading.enumerate() if one.name == "pyfaas-files"] == []


def test_what_fails_for_good_is_filed_in_a_bucket_under_aws_s_key(tmp_path: Path) -> None:
    lost = bucket("lost", tmp_path / "lost")

    def fail(event: Any) -> None:
        raise ValueError(event)

    failing = function(name="fail-into-bucket", retries=0, on_failure=lost)(fail)
    with Runtime([failing]) as runtime:
        request_id = runtime.submit(failing, 7)
        runtime.wait(request_id)
    (stored,) = lost.list()
    assert stored.key.startswith("aws/lambda/async/fail-into-bucket/20")
    assert stored.key.endswith(f"-{request_id}")
    assert json.loads(lost.get(stored.key))["requestPayload"] == 7


def fail_after(file: Any) -> None:
    file.write(b"new")
    raise HostError("the disk")


# -- the handle --------------------------------------------------------------------------------------------------------


def test_files_are_put_listed_opened_and_deleted(uploads: Bucket) -> None:
    assert uploads.list() == []
    with pytest.raises(NoSuchKey, match="has no file 'a'"):
        uploads.get("a")
    uploads.put("b/1", "ä")
    uploads.put("a", b"1")
    with uploads.open("b/2", "wb") as file:
        file.write(b"2")
        assert [one.key for one in uploads.list()] == ["a", "b/1"]  # it has no key yet
    assert [(one.key, one.size) for one in uploads.list()] == [("a", 1), ("b/1", 2), ("b/2", 1)]
    assert [one.key for one in uploads.list("b/")] == ["b/1", "b/2"]
    assert [one.key for one in uploads.list("b/2")] == ["b/2"]
    assert uploads.list("c/d/") == []
    assert uploads.get("b/1") == "ä".encode()
    with uploads.open("b/2") as read:
        assert read.read() == b"2"
    uploads.delete("b/2")
    uploads.delete("b/2")
    with pytest.raises(NoSuchKey):
        uploads.open("b/2")


def test_what_is_not_finished_takes_no_key(uploads: Bucket) -> None:
    uploads.put("a", b"old")
    with pytest.raises(HostError, match="the disk"), uploads.open("a", "wb") as file:
        fail_after(file)
    forgotten = uploads.open("a", "wb")
    forgotten.write(b"newer")
    del forgotten
    assert uploads.get("a") == b"old"
    assert [path.name for path in place(uploads).iterdir()] == ["a"]


def test_a_full_file_system_keeps_what_was_there(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    if os.getuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", mount], check=False).returncode:
        pytest.skip("needs a file system of its own")
    try:
        small = bucket("small", mount / "files")
        small.put("a", b"old")
        with pytest.raises(HostError, match="No space left on device"):
            small.put("a", b"x" * 100_000)
        assert small.get("a") == b"old"
        assert [path.name for path in (mount / "files").iterdir()] == ["a"]
    finally:
        subprocess.run(["umount", mount], check=True)


@pytest.mark.anyio
async def test_the_async_verbs_do_the_same(uploads: Bucket) -> None:
    await uploads.aput("a", b"1")
    assert await uploads.aget("a") == b"1"
    assert [one.key for one in await uploads.alist()] == ["a"]
    await uploads.adelete("a")
    assert await uploads.alist() == []


@pytest.mark.parametrize(
    "key", ["", "/a", "a/", "a//b", ".", "../a", "a/../b", "a\0", "x" * 1025, ".pyfaas-a", 7, "\ud800\udfff\ud800"]
)
def test_a_key_that_leads_elsewhere_is_refused(uploads: Bucket, key: Any) -> None:
    for verb in (uploads.get, uploads.delete, uploads.open, lambda one: uploads.put(one, b"")):
        with pytest.raises(ConfigurationError, match="key="):
            verb(key)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: bucket("uploads", 7), "path=7"),  # type: ignore[arg-type]
        (lambda: bucket("uploads", "/"), "path='/'"),
        (lambda: bucket("uploads", "a", settle=-1), "settle=-1"),
        (lambda: bucket("uploads", "a").objects("ObjectRestore:*"), "events='ObjectRestore"),
        (lambda: bucket("uploads", "a").objects([]), r"events=\[\]"),
        (lambda: bucket("uploads", "a").objects(prefix=7), "prefix=7"),  # type: ignore[arg-type]
        (lambda: bucket("uploads", "a").objects(name="a b"), "name='a b'"),
        (lambda: bucket("uploads", "a").list("../"), "prefix='../'"),
        (lambda: bucket("uploads", "a").open("a", "r+"), "mode='r\\+'"),
        (lambda: bucket("uploads", "a").put("a", 7), "data=7"),  # type: ignore[arg-type]
        (lambda: bucket("uploads", "a").put("a", "\ud800"), "data="),
    ],
)
def test_a_wrong_option_is_named(make: Any, field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        make()


# -- from inside a sandbox ---------------------------------------------------------------------------------------------


def test_a_function_may_do_what_is_granted_and_nothing_else(uploads: Bucket, tmp_path: Path) -> None:
    stock = table("stock", tmp_path / "shop.db")
    stock.connect("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, picture BLOB)").close()

    def work(event: Any) -> Any:
        uploads.put("in/a", b"\x00\xff")
        stock.put({"id": 1, "name": "cup", "picture": b"\x00"})
        stock.put({"id": 1, "name": "pot"})
        stock.put({"id": 2})
        stock.delete({"id": 2})
        keys = [one.key for one in uploads.list("in/")]
        return [keys, list(uploads.get("in/a")), stock.get({"id": 1})["name"], stock.get({"id": 2})]  # type: ignore[index]

    def steal(event: Any) -> Any:
        verbs: dict[str, Any] = {"get": uploads.get, "open": uploads.open, "delete": stock.delete}
        return verbs[event]({"id": 1} if event == "delete" else "in/a")

    grants: list[Any] = [uploads.put, uploads.get, uploads.list, stock.put, stock.get, stock.delete]
    working = function(name="work-on-files", allow=grants)(work)
    stealing = function(name="steal-files", allow=["bucket:uploads:list"])(steal)
    with Runtime([working, stealing]) as runtime:
        assert runtime.invoke(working, None) == [["in/a"], [0, 255], "pot", None]
        for verb, grant in {"get": "uploads.get", "delete": "stock.delete"}.items():
            with pytest.raises(HandlerFailed, match=rf"AccessDenied|allow=\[{grant}\]"):
                runtime.invoke(stealing, verb)
        with pytest.raises(HandlerFailed, match="open\\(\\) is not there in a sandbox"):
            runtime.invoke(stealing, "open")
    assert stock.get({"id": 1}) == {"id": 1, "name": "pot", "picture": b"\x00"}


def test_what_is_refused_inside_is_refused_as_outside(uploads: Bucket) -> None:
    def miss(event: Any) -> Any:
        try:
            return uploads.get(event).decode()
        except NoSuchKey as error:
            return f"no such key: {error}"

    missing = function(name="miss-a-file", allow=[uploads.get])(miss)
    with Runtime([missing]) as runtime:
        assert "has no file 'a'" in runtime.invoke(missing, "a")
        with pytest.raises(HandlerFailed, match=r"key='\.\./a'"):
            runtime.invoke(missing, "../a")
        uploads.put("big", b"x" * 7_000_000)
        with pytest.raises(HandlerFailed, match="PayloadTooLarge"):
            runtime.invoke(missing, "big")


def test_a_call_that_no_worker_makes_ends_its_sandbox(uploads: Bucket) -> None:
    def forge(event: Any) -> Any:
        port = _port.current()
        try:
            port._ask("bucket", "uploads", "put", {"what": event}, b"")  # type: ignore[attr-defined]
        except AccessDenied:
            return "denied"
        return "done"

    forging = function(name="forge-a-put", allow=[uploads.put])(forge)
    with Runtime([forging]) as runtime:
        for what in ("a", {"bytes": "é"}, ["a"], ["a", b"".hex(), 1], [["a"], "x"]):
            outcome = runtime.try_invoke(forging, what)
            assert not outcome.ok, what
        assert runtime.statistics().in_flight == 0
    assert uploads.list() == []


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({}, "item={}"),
        ({"id": 2**63}, r"item\['id'\]"),
        ({"name": "x"}, "a dict with id"),
        ({"id": []}, r"item\['id'\]"),
    ],
)
def test_a_row_that_cannot_be_is_named(item: Any, field: str, tmp_path: Path) -> None:
    stock = table("stock", tmp_path / "shop.db")
    stock.connect("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT)").close()
    with pytest.raises(ConfigurationError, match=field):
        stock.put(item)


def test_a_row_that_sqlite_refuses_is_a_host_error(tmp_path: Path) -> None:
    stock = table("stock", tmp_path / "shop.db")
    stock.connect("CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").close()
    with pytest.raises(HostError, match="NOT NULL"):
        stock.put({"id": 1, "name": None})
    with pytest.raises(ConfigurationError, match="and no more"):
        stock.get({"id": 1, "name": "x"})
