"""The file and its writer: jobs that commit together, errors that say what to do, a time that does not jump."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import anyio.lowlevel
import pytest

from pyfaas import ConfigurationError, StoreUnavailable
from pyfaas._clock import SystemClock
from pyfaas._stores import database as module
from pyfaas._stores import queue
from pyfaas._stores.database import APPLICATION, Database, Mergeable, Ticket, Transaction
from pyfaas._stores.sql import SCHEMA, SQL, statements
from pyfaas._waits import run_async
from pyfaas.testing import ManualClock
from stores.tools import do
from support import output_of, wait_until


def opened(path: Path | None, durability: str = "full", clock: Any = None) -> Database:
    return Database(None if path is None else str(path), durability, clock or SystemClock())


def note(value: Any) -> Any:
    """Make a job that notes a fact, and gives what was noted before."""

    def job(transaction: Transaction) -> Any:
        before = transaction.one("fact", name="noted")
        transaction.run("set_fact", name="noted", value=value)
        return before

    return job


def noted(transaction: Transaction) -> Any:
    return transaction.one("fact", name="noted")


@pytest.fixture(params=["file", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    found = opened(tmp_path / "store.db" if request.param == "file" else None)
    yield found
    found.close()


# -- jobs --------------------------------------------------------------------------------------------------------------


def test_a_job_is_done_and_its_value_comes_back(database: Database) -> None:
    assert do(database, note(1)) is None
    assert do(database, note(2)) == 1


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    for expected in (None, 1, 1):
        database = opened(tmp_path / "store.db")
        assert do(database, note(1)) == expected
        database.close()
    assert sorted(os.listdir(tmp_path)) == ["store.db", "store.db.lock"], "the last one tidies up"


def test_a_job_that_raises_changes_nothing_and_hurts_no_other(database: Database) -> None:
    def fail(transaction: Transaction) -> None:
        transaction.run("set_fact", name="noted", value="bad")
        raise ConfigurationError("no")

    stop = threading.Event()
    blocker = database.put(lambda _: stop.wait(10))  # what follows is put while this one runs: one transaction
    answers = [database.put(note(1)), database.put(fail), database.put(note(2)), database.put(fail)]
    stop.set()
    for answer in (blocker, *answers):
        answer.block()
    assert [type(answer.error) for answer in answers] == [
        type(None),
        ConfigurationError,
        type(None),
        ConfigurationError,
    ]
    assert do(database, noted) == 2


def test_jobs_that_wait_together_are_committed_together(tmp_path: Path) -> None:
    database = opened(tmp_path / "store.db")
    commits: list[int] = []
    commit = database._commit

    def counted(answers: list[Any]) -> dict[Ticket, float]:
        commits.append(len(answers))
        return commit(answers)

    database._commit = counted  # type: ignore[method-assign]
    stop = threading.Event()
    database.put(lambda _: stop.wait(10))
    answers = [database.put(note(number)) for number in range(20)]
    stop.set()
    for answer in answers:
        answer.block()
    assert sum(commits) == 21
    assert len(commits) <= 3
    database.close()


def test_many_threads_at_once_lose_nothing(database: Database) -> None:
    def count(transaction: Transaction) -> None:
        transaction.run("set_fact", name="noted", value=(transaction.one("fact", name="noted") or 0) + 1)

    def many() -> None:
        for _ in range(50):
            do(database, count)

    threads = [threading.Thread(target=many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert do(database, noted) == 400


@pytest.mark.anyio
async def test_a_task_waits_for_its_commit_without_holding_up_the_loop(database: Database) -> None:
    stop = threading.Event()
    database.put(lambda _: stop.wait(10))
    done: list[Any] = []

    async def write() -> None:
        done.append(await run_async(database.write(note(1))))

    async with anyio.create_task_group() as group:
        group.start_soon(write)
        await anyio.lowlevel.checkpoint()
        assert not done
        stop.set()
    assert done == [None]


def test_what_comes_after_closing_is_refused_and_what_came_before_is_done(database: Database) -> None:
    stop = threading.Event()
    database.put(lambda _: stop.wait(10))
    answer = database.put(note(1))
    threading.Timer(0.01, stop.set).start()
    database.close()
    assert answer.granted is answer
    assert answer.error is None
    with pytest.raises(StoreUnavailable, match="it is closed"):
        do(database, note(2))
    database.close()


def test_who_is_told_of_commits_may_fail_without_harm(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    def fail(touched: dict[Ticket, float]) -> None:
        raise ValueError(touched)

    database.on_touched = fail
    made = do(database, lambda transaction: queue.find_or_make(transaction, "orders"))
    do(database, lambda transaction: queue.send(transaction, made, b"1"))
    assert do(database, lambda transaction: queue.count(transaction, made)).due == 1
    wait_until(lambda: "please report this" in caplog.text)


# -- several processes -------------------------------------------------------------------------------------------------


def add_many(path: Path, count: int) -> None:
    database = opened(path, "normal")
    for _ in range(count):
        do(
            database,
            lambda transaction: transaction.run(
                "set_fact", name="noted", value=(transaction.one("fact", name="noted") or 0) + 1
            ),
        )
    database.close()


def test_five_processes_on_one_file_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAL_FRAMES", 8)  # checkpoint all the time: that is where SQLite had its bug
    path = tmp_path / "store.db"
    opened(path).close()
    fork = multiprocessing.get_context("fork")
    hosts = [fork.Process(target=add_many, args=(path, 200)) for _ in range(5)]
    for host in hosts:
        host.start()
    for host in hosts:
        host.join(60)
        assert host.exitcode == 0
    database = opened(path)
    assert do(database, noted) == 1000
    database.close()
    assert_intact(path)


def assert_intact(path: Path) -> None:
    plain = sqlite3.connect(path)
    assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    plain.close()


def test_a_forked_child_touches_nothing_of_its_parents_store(tmp_path: Path) -> None:
    database = opened(tmp_path / "store.db")
    do(database, note(1))
    child = os.fork()
    if child == 0:
        try:
            database.close()
            answer = database.put(note(2))
            os._exit(0 if isinstance(answer.error, StoreUnavailable) else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert do(database, note(3)) == 1
    database.close()
    assert_intact(tmp_path / "store.db")


def test_a_process_that_stops_in_the_middle_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    database = opened(tmp_path / "store.db")
    program = (
        "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True); input()"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "store.db.lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(StoreUnavailable, match=r"another process has held .*store\.db\.lock for 0\.05 s"):
            do(database, note(1))
        other.kill()
    assert do(database, note(2)) is None
    database.close()


@pytest.mark.parametrize("rounds", [5, pytest.param(200, marks=pytest.mark.long)])
def test_killed_at_any_moment_what_was_answered_is_there(tmp_path: Path, rounds: int) -> None:
    """Each round: a process that writes numbers, and says so after each commit, is killed after some of them."""
    program = """
        import os, sys, threading
        from pyfaas._clock import SystemClock
        from pyfaas._stores.database import Database
        from pyfaas._waits import run_blocking
        database = Database(sys.argv[1], "full", SystemClock())
        def add(number):
            def job(transaction):
                transaction.run("set_fact", name=f"n{number}", value=number)
            run_blocking(database.write(job))
            os.write(1, b"%d\\n" % number)  # one call, for several threads do so
        def many(first):
            for number in range(first, 10**9, 4):
                add(number)
        for first in range(4):
            threading.Thread(target=many, args=(int(sys.argv[2]) + first,)).start()
    """
    path, first = tmp_path / "store.db", 0
    told: set[int] = set()
    for number in range(rounds):
        with subprocess.Popen(
            [sys.executable, "-c", _dedent(program), str(path), str(first)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            told |= {int(writer.stdout.readline()) for _ in range(20 + 7 * number % 50)}
            writer.send_signal(signal.SIGKILL)
            told |= {int(line) for line in writer.stdout.read().split("\n")[:-1]}
        first = max(told) + 8 - max(told) % 4
    assert_intact(path)
    plain = sqlite3.connect(path)
    there = {value for (value,) in plain.execute("SELECT value FROM fact WHERE name LIKE 'n%'")}
    plain.close()
    assert told <= there


def _dedent(program: str) -> str:
    import textwrap

    return textwrap.dedent(program)


# -- what may be wrong with a file -------------------------------------------------------------------------------------


def test_a_directory_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match=r"No such file or directory: .*nowhere"):
        opened(tmp_path / "nowhere" / "store.db")


def test_a_damaged_file_is_told_of_and_kept_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"no database at all" * 100)
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="it is damaged, or no store; it stays as it is"):
        opened(path)
    assert path.read_bytes() == before


def test_a_file_that_is_damaged_inside_is_told_of_by_whoever_meets_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    database = opened(path)
    made = do(database, lambda transaction: queue.find_or_make(transaction, "orders"))
    for _ in range(300):
        do(database, lambda transaction: queue.send(transaction, made, b"x" * 1000))
    database.close()
    content = bytearray(path.read_bytes())
    half = len(content) // 2  # behind where the tables begin
    content[half:] = b"\xff" * len(content[half:])
    path.write_bytes(content)
    database = opened(path)
    with pytest.raises(StoreUnavailable, match="it is damaged; it stays as it is"):
        do(database, lambda transaction: queue.claim(transaction, made, 300, 30.0))
    database.close()


def test_a_file_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    plain = sqlite3.connect(path)
    plain.execute("CREATE TABLE theirs (x)")
    plain.close()
    before = path.read_bytes()
    with pytest.raises(StoreUnavailable, match="database of another program"):
        opened(path)
    assert path.read_bytes() == before


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    opened(path).close()
    plain = sqlite3.connect(path)
    plain.execute(f"PRAGMA user_version={len(SCHEMA) + 1}")
    plain.close()
    with pytest.raises(StoreUnavailable, match=rf"a newer pyfaas wrote it \(version {len(SCHEMA) + 1} of its tables"):
        opened(path)


def test_a_file_that_another_program_holds_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 0.05)
    path = tmp_path / "store.db"
    database = opened(path)
    plain = sqlite3.connect(path, isolation_level=None)
    plain.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="another program has held it locked"):
        do(database, note(1))
    plain.execute("ROLLBACK")
    plain.close()
    assert do(database, note(2)) is None
    database.close()


def test_an_older_sqlite_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 34, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.34.1")
    with pytest.raises(StoreUnavailable, match=r"this Python has SQLite 3\.34\.1; it needs 3\.35 or newer"):
        opened(None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small file system")
def test_a_full_disk_refuses_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", disk], check=False).returncode != 0:
        pytest.skip("no file system may be mounted here")
    try:
        database = opened(disk / "store.db")
        made = do(database, lambda transaction: queue.find_or_make(transaction, "orders"))
        errors = [database.put(lambda one: queue.send(one, made, b"x" * 10_000)).block().error for _ in range(300)]
        sent = errors.count(None)
        assert 10 < sent < 300
        refused = [error for error in errors if error is not None]
        assert {type(error) for error in refused} == {StoreUnavailable}
        assert "the disk, or what its user may use of it, is full" in str(refused[0])
        assert do(database, lambda transaction: queue.count(transaction, made)).due == sent
        database.close()
        assert_intact(disk / "store.db")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_directory_that_may_not_be_written_to_is_told_of(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("root may write everywhere")
    opened(tmp_path / "store.db").close()
    program = f"""
        import os, sys
        sys.path.insert(0, {str(Path(module.__file__).parents[2])!r})
        from pyfaas import StoreUnavailable
        from pyfaas._clock import SystemClock
        from pyfaas._stores.database import Database
        os.setgid(65534); os.setuid(65534)
        try:
            Database({str(tmp_path / "store.db")!r}, "full", SystemClock())
        except StoreUnavailable as error:
            print(error)
    """
    for directory in (tmp_path, *tmp_path.parents):
        os.chmod(directory, os.stat(directory).st_mode | 0o055)
    assert f"{os.strerror(errno.EACCES)}: {tmp_path / 'store.db.lock'}" in output_of(program)


# -- versions ----------------------------------------------------------------------------------------------------------


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    opened(tmp_path / "store.db").close()
    plain = sqlite3.connect(tmp_path / "store.db")
    assert plain.execute("PRAGMA application_id").fetchone() == (APPLICATION,)
    assert plain.execute("PRAGMA user_version").fetchone() == (len(SCHEMA),)
    assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    plain.close()


def test_every_statement_fits_the_tables() -> None:
    plain = sqlite3.connect(":memory:")
    for script in SCHEMA:
        for statement in statements(script):
            plain.execute(statement)
    for name, statement in SQL.items():
        named = dict.fromkeys(module_values(statement), 1)
        plain.execute(f"EXPLAIN {statement}", named or [1] * statement.count("?")).fetchall()
        assert name.isidentifier()
    plain.close()


def module_values(statement: str) -> list[str]:
    import re

    return re.findall(r":(\w+)", statement)


def test_a_claim_of_a_long_queue_walks_along_an_index() -> None:
    plain = sqlite3.connect(":memory:")
    for script in SCHEMA:
        for statement in statements(script):
            plain.execute(statement)
    for name in ("claim", "due_groups", "next_due", "next_due_group", "head_of_group", "redrive"):
        values = dict.fromkeys(module_values(SQL[name]), 1)
        steps = [row[3] for row in plain.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", values)]
        assert not [step for step in steps if "SCAN" in step or "TEMP B-TREE" in step], (name, steps)
    for name in ("read", "unread", "next_arrival", "last_of_shard", "trim", "due_cursors", "next_due_cursor"):
        values = dict.fromkeys(module_values(SQL[name]), 1)
        steps = [row[3] for row in plain.execute(f"EXPLAIN QUERY PLAN {SQL[name]}", values)]
        assert not [step for step in steps if step.startswith(("SCAN record", "SCAN cursor"))], (name, steps)
    plain.close()


# -- time --------------------------------------------------------------------------------------------------------------


def test_the_stores_time_goes_on_whatever_happens_to_the_clock_on_the_wall(tmp_path: Path) -> None:
    clock = ManualClock()
    database = opened(tmp_path / "store.db", clock=clock)
    began = database.now()
    assert began == clock.wall()
    for jump in (3_600.0, -7_200.0):
        clock.set_wall(jump)
        clock.advance(10.0)
    assert database.now() == began + 20.0
    second = opened(tmp_path / "store.db", clock=clock)
    assert second.now() == began + 20.0, "all processes of a boot agree"
    second.close()
    database.close()


def test_after_a_boot_the_stores_time_is_the_walls_but_never_behind_itself(tmp_path: Path) -> None:
    clock = ManualClock()
    database = opened(tmp_path / "store.db", clock=clock)
    made = do(database, lambda transaction: queue.find_or_make(transaction, "orders"))
    clock.advance(100.0)
    do(database, lambda transaction: queue.send(transaction, made, b"1"))
    last = database.now()
    database.close()
    ahead = opened(tmp_path / "store.db", clock=ManualClock(clock.wall() + 50.0, "the next"))
    assert ahead.now() == last + 50.0
    ahead.close()
    behind = opened(tmp_path / "store.db", clock=ManualClock(clock.wall() - 9_999.0, "one more"))
    assert behind.now() == last
    behind.close()


def test_the_clock_of_this_machine_tells_its_boot() -> None:
    clock = SystemClock()
    assert clock.boot or sys.platform != "linux"
    assert clock.boot == SystemClock().boot
    first, second = clock.steady(), clock.steady()
    assert first <= second


class Noted(Mergeable[int]):
    """Puts a fact into the store, alone or together with others; counts how it was done."""

    together: ClassVar[list[int]] = []

    def __init__(self, number: int, *, bad: bool = False) -> None:
        self.number = number
        self.bad = bad

    @staticmethod
    def all_of(transaction: Transaction, jobs: list[Noted]) -> list[int]:
        Noted.together.append(len(jobs))
        for job in jobs:
            if job.bad:
                raise ValueError("as it was told to")
            note(job.number)(transaction)
        return [job.number for job in jobs]


def test_jobs_of_a_kind_that_follow_each_other_are_done_together(database: Database) -> None:
    stop = threading.Event()
    Noted.together.clear()
    database.put(lambda _: stop.wait(10))
    answers = [database.put(Noted(1)), database.put(Noted(2)), database.put(note(3)), database.put(Noted(4))]
    stop.set()
    assert [answer.block().value for answer in answers] == [1, 2, 2, 4]
    assert Noted.together == [2, 1]


def test_one_that_is_at_fault_is_refused_alone(database: Database) -> None:
    stop = threading.Event()
    database.put(lambda _: stop.wait(10))
    answers = [database.put(Noted(number, bad=number == 2)) for number in range(1, 4)]
    stop.set()
    ended = [answer.block() for answer in answers]
    assert [answer.value for answer in ended] == [1, None, 3]
    assert [type(answer.error) for answer in ended] == [type(None), ValueError, type(None)]


@pytest.mark.parametrize("count", [1, 2, 3, 31, 32, 33, 100])
def test_rows_that_are_put_in_together_are_numbered_in_their_order(database: Database, count: int) -> None:
    made = do(database, lambda one: queue.find_or_make(one, "orders"))
    now = database.now()
    rows = [(made.id, now, now, None, str(number).encode(), None) for number in range(count)]
    last = do(database, lambda one: one.insert_rows("send_rows", rows))
    found = do(database, lambda one: queue.claim(one, made, 200, 10.0)).messages
    assert [(one.id, one.body) for one in found] == [
        (last - count + 1 + number, str(number).encode()) for number in range(count)
    ]
