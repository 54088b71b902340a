"""
One SQLite file, or one in memory, and the one thread of this process that writes to it.

    caller ──job──► put() ──► writer: all jobs that wait, in one transaction ──► commit (one sync for all) ──► answers

A job is a function of a Transaction; it may run twice (alone, where its transaction failed because of another one), so
it changes nothing but the database. Nothing is answered before it is on the disk (``durability="full"``).

Several processes may have the file open. SQLite before 3.51.3 can damage a write-ahead log when two of them write and
checkpoint at once; so commits and checkpoints are done under one lock on a file beside the store, and none comes by
itself.

The store's own time is the wall's when the file was first opened in this boot, and goes on by a clock that nobody sets:
delays and leases of all processes agree, and no jump of the wall clock touches them.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import logging
import os
import queue
import random
import re
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from pyfaas._clock import Clock
from pyfaas._stores import hosts
from pyfaas._stores.sql import SCHEMA, SQL, statements
from pyfaas._waits import Trip, Turn
from pyfaas.context import request_id_text
from pyfaas.errors import StoreUnavailable

T = TypeVar("T")
Ticket: TypeAlias = "int | str"  # what may be waited for: a queue, by its number, or something else, by a name

APPLICATION = 0x70794661  # "pyFa", in the file's header
OLDEST = (3, 35, 0)  # RETURNING
BATCH = 256
MOST_ROWS = 32  # of one statement
_ROW = re.compile(r"(?<=VALUES )(\([?, ]+\))")
LOCK_SECONDS = 30.0
WAL_FRAMES = 4096  # pages, 16 MB
IN_MEMORY = ":memory:"

_log = logging.getLogger("pyfaas")
_open: weakref.WeakSet[Database] = weakref.WeakSet()
_abandoned: list[Any] = []  # a connection that came by a fork must not even be closed: that would touch the file


class Transaction:
    """What a job sees."""

    __slots__ = ("_connection", "_host", "now", "touched")

    def __init__(self, connection: sqlite3.Connection, now: float, host: int = hosts.NOBODY) -> None:
        self._connection = connection
        self._host = host
        self.now = now
        self.touched: dict[Ticket, float] = {}  # where something comes due, and when

    def run(self, statement: str, /, **values: Any) -> list[tuple[Any, ...]]:
        """Run a statement, and give its rows."""
        return self._connection.execute(SQL[statement], values).fetchall()

    def each(self, statement: str, /, **values: Any) -> Iterator[tuple[Any, ...]]:
        """Run a statement, and give its rows one after the other: for those that are large."""
        return self._connection.execute(SQL[statement], values)

    def one(self, statement: str, /, **values: Any) -> Any:
        """Run a statement, and give the one value of its first row; None without one."""
        row = self._connection.execute(SQL[statement], values).fetchone()
        return None if row is None else row[0]

    def new_lease(self) -> int:
        """Make the number of a lease: by its last bits one knows whose it is."""
        return random.getrandbits(62 - hosts.BITS) + 1 << hosts.BITS | self._host

    def touch(self, ticket: Ticket, due_at: float) -> None:
        """Note that something may be claimed there from then on; those who wait are told after the commit."""
        self.touched[ticket] = min(due_at, self.touched.get(ticket, due_at))

    def insert(self, statement: str, /, **values: Any) -> int:
        """Run a statement that makes a row, and give its number."""
        return self._connection.execute(SQL[statement], values).lastrowid or 0

    def insert_rows(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert rows, in their order, by a statement that is for one, and give the number of the last."""
        number = 0
        for cursor in self._in_parts(statement, rows):
            number = cursor.lastrowid or 0
        return number

    def run_rows(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        """Run a statement that is for one row with all of these, and give the rows that it finds."""
        return [found for cursor in self._in_parts(statement, rows) for found in cursor.fetchall()]

    def _in_parts(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> Iterator[sqlite3.Cursor]:
        """
        Run a statement whose VALUES are one row with many.

        Each run of a statement lets go of the interpreter, and others who want it are in no hurry to give it back; so
        many rows go into one.
        """
        head, row, tail = _ROW.split(SQL[statement])
        done = 0
        while done < len(rows):
            size = min(MOST_ROWS, 1 << (len(rows) - done).bit_length() - 1)  # few sizes: each is prepared once
            some = rows[done : done + size]
            text = f"{head}{','.join([row] * size)}{tail}"
            yield self._connection.execute(text, [value for one in some for value in one])
            done += size

    def version(self) -> int:
        """Give a number that is another one once another connection has committed something."""
        return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def count(self, statement: str, /, **values: Any) -> int:
        """Run a statement, and tell how many rows it changed."""
        return self._connection.execute(SQL[statement], values).rowcount


Job = Callable[[Transaction], T]


class Mergeable(Generic[T]):
    """A job that is done faster together with others of its kind."""

    def __call__(self, transaction: Transaction) -> T:
        """Do it."""
        return self.all_of(transaction, [self])[0]

    @staticmethod
    def all_of(transaction: Transaction, jobs: list[Any]) -> list[T]:
        """Do several of them, in their order."""
        raise NotImplementedError


class Answer(Turn, Generic[T]):
    """The wait for a job's commit; granted with itself."""

    __slots__ = ("durable", "error", "job", "value")

    def __init__(self, job: Job[T], *, durable: bool) -> None:
        super().__init__()
        self.job = job
        self.durable = durable
        self.value: T | None = None
        self.error: BaseException | None = None

    def block(self) -> Any:
        """Wait in this thread: for a sync of the disk, so also in one that runs an event loop."""
        self._lock.acquire()
        return self


class Database:
    """
    The store of one runtime; ``path`` is None for one in memory.

    ``host`` is its number among those that have the file open, ``hosts.NOBODY`` in memory.

    ``on_touched`` is called by the writer, after a commit, with the tickets of what comes due, and when.
    Raises StoreUnavailable, saying why and what to do.
    """

    def __init__(self, path: str | None, durability: str, clock: Clock) -> None:
        self.path = path
        self.on_touched: Callable[[dict[Ticket, float]], None] = lambda _: None
        self.clock = clock
        self._durability = durability
        self._synchronous = ""
        self._jobs: queue.SimpleQueue[Answer[Any] | None] = queue.SimpleQueue()
        self._closed = False
        self.host = hosts.NOBODY
        self._lock_file = -1
        self._offset = 0.0
        self._identity = b""
        self._commits = 0  # since the last checkpoint
        self._commits_a_checkpoint = 100
        self._gate = threading.Lock()  # nothing is put behind the end
        self._thread: threading.Thread | None = None
        self._connection = self._open()
        _open.add(self)

    # -- for everybody -------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Give the store's own time."""
        return self.clock.steady() + self._offset

    def message_id(self, number: int) -> str:
        """Give the name, a UUID, by which a row of this store is known outside."""
        digest = hashlib.blake2b(number.to_bytes(8, "big"), digest_size=16, key=self._identity).digest()
        return request_id_text(digest)

    @property
    def reader(self) -> str:
        """Name this store where it reads somebody else's; those in memory are one: they forget how far they were."""
        return "memory" if self.path is None else self._identity.hex()

    def is_alive(self, host: int) -> bool:
        """Tell whether another host of this number has the store open."""
        return hosts.is_alive(self._lock_file, host)

    def put(self, job: Job[T], *, durable: bool = True) -> Answer[T]:
        """
        Hand a job to the writer; its answer may be waited for in either world.

        ``durable=False``: nobody relies on it yet, as on a claim or an ack, so it need not be on the disk when it is
        answered; it will be with the next one that must. If the power fails before, it has not been.
        """
        answer = Answer(job, durable=durable)
        with self._gate:
            if not self._closed:
                self._jobs.put(answer)
                if self._thread is None:
                    self._thread = threading.Thread(target=self._live, name="pyfaas-store", daemon=True)
                    self._thread.start()
                return answer
        self._refuse([answer], self._unavailable("it is closed"))
        return answer

    def write(self, job: Job[T], *, durable: bool = True) -> Trip[T]:
        """Have a job done and committed, and give what it gave. Raises StoreUnavailable, and what the job raised."""
        answer = yield self.put(job, durable=durable)
        if answer.error is not None:
            raise answer.error
        return answer.value  # type: ignore[no-any-return]

    def close(self) -> None:
        """Do what was put so far, and close the file; whoever is last of all processes leaves it without its log."""
        with self._gate:
            self._closed = True
            self._jobs.put(None)
        if self._thread is not None:
            self._thread.join()
        with contextlib.suppress(sqlite3.Error, StoreUnavailable), self._exclusively():
            self._connection.close()  # the last of all processes checkpoints, and removes the log
        if self._lock_file >= 0:
            os.close(self._lock_file)
            self._lock_file = -1
        _open.discard(self)

    def abandon(self) -> None:
        """In a forked child of the host: forget what is the parent's, and touch none of it."""
        self._closed = True
        self._gate = threading.Lock()
        _abandoned.append(self._connection)
        self._jobs = queue.SimpleQueue()
        self._thread = None
        if self._lock_file >= 0:
            os.close(self._lock_file)  # a lock belongs to all that hold the file open: this lets go of our share
            self._lock_file = -1

    # -- the writer ----------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        while True:
            batch = [self._jobs.get()]
            with contextlib.suppress(queue.Empty):
                while len(batch) < BATCH and batch[-1] is not None:
                    batch.append(self._jobs.get_nowait())
            answers = [answer for answer in batch if answer is not None]
            if answers:
                self._do(answers)
            if batch[-1] is None:
                return

    def _do(self, answers: list[Answer[Any]]) -> None:
        try:
            with self._exclusively():
                self._commit_and_tell(answers)
                self._checkpoint_if_long()
        except BaseException as error:  # noqa: BLE001 - whoever waits must be told
            self._refuse([answer for answer in answers if answer.granted is None], self._told(error))

    def _commit_and_tell(self, answers: list[Answer[Any]]) -> None:
        """
        Commit them all together, or each by itself where one of them is at fault; raises what the store is.

        Those who wait for what comes due hear of it before the answers are out: who has an answer may rely on that.
        """
        try:
            touched = self._commit(answers)
        except Exception as error:
            if not _is_of_a_job(error):
                raise
            if len(answers) > 1:
                for answer in answers:
                    self._commit_and_tell([answer])
            else:
                self._refuse(answers, error)
            return
        if touched:
            try:
                self.on_touched(touched)
            except Exception:  # noqa: BLE001 - what is in the store must not wait for who is told of it
                _log.exception("a wake-up failed, and the store goes on; please report this")
        for answer in answers:
            answer.grant(answer)

    def _commit(self, answers: list[Answer[Any]]) -> dict[Ticket, float]:
        connection = self._connection
        self._sync(any(answer.durable for answer in answers))
        connection.execute("BEGIN IMMEDIATE")
        try:
            transaction = Transaction(connection, self.now(), self.host)
            for kind, some in itertools.groupby(answers, key=_kind_of):
                together = [*some]
                if kind is None or len(together) == 1:
                    for answer in together:
                        answer.value = answer.job(transaction)
                else:
                    values = kind.all_of(transaction, [answer.job for answer in together])
                    for answer, value in zip(together, values, strict=True):
                        answer.value = value
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.Error):
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise
        return transaction.touched

    def _sync(self, durable: bool) -> None:
        """Have commits wait for the disk, or not."""
        wanted = self._durability if durable else "normal"
        if wanted != self._synchronous:
            self._connection.execute(f"PRAGMA synchronous={wanted}")
            self._synchronous = wanted

    @staticmethod
    def _refuse(answers: Iterable[Answer[Any]], error: BaseException) -> None:
        for answer in answers:
            answer.error = error
            answer.grant(answer)

    def _checkpoint_if_long(self) -> None:
        """
        Move what the log holds into the file, now and then: the log is then written from its beginning again.

        How long it is only a checkpoint tells; so the next one is due after as many commits as made it long enough.
        """
        self._commits += 1
        if self.path is None or self._commits < self._commits_a_checkpoint:
            return
        try:
            _, frames, _ = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as error:  # what was committed is safe in the log, which goes on growing
            _log.warning("%s (its log could not be moved into the file; this is tried again)", self._told(error))
            frames = WAL_FRAMES
        self._commits_a_checkpoint = min(max(self._commits * WAL_FRAMES // max(frames, 1), 10), 10_000)
        self._commits = 0

    # -- one process at a time -----------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold the lock beside the store. Raises StoreUnavailable where another process does not let go of it."""
        if self._lock_file < 0:
            yield
            return
        import fcntl

        deadline, pause = time.monotonic() + LOCK_SECONDS, 0.0001
        while True:
            try:
                fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._unavailable(
                        f"another process has held {self.path}.lock for {LOCK_SECONDS:g} s"
                    ) from None
            time.sleep(pause)
            pause = min(pause * 1.5, 0.005)
        try:
            yield
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    # -- opening -------------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        if sqlite3.sqlite_version_info < OLDEST:
            needed = ".".join(map(str, OLDEST[:2]))
            raise self._unavailable(f"this Python has SQLite {sqlite3.sqlite_version}; it needs {needed} or newer")
        connection = None
        try:
            if self.path is not None:
                self._lock_file = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
                self.host = hosts.enter(self._lock_file)
            with self._exclusively():
                connection = sqlite3.connect(
                    self.path or IN_MEMORY, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS
                )
                self._prepare(connection)
        except BaseException as error:
            if connection is not None:
                connection.close()
            if self._lock_file >= 0:
                os.close(self._lock_file)
            raise self._told(error) from error
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Look at what is there before a byte of it is changed; then bring it to this version."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and owner != APPLICATION:
            raise self._unavailable("it is a database of another program; give pyfaas a file of its own")
        if version > len(SCHEMA):
            told = f"a newer pyfaas wrote it (version {version} of its tables, this one knows {len(SCHEMA)})"
            raise self._unavailable(f"{told}; update pyfaas")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA wal_autocheckpoint=0")
        connection.execute("BEGIN IMMEDIATE")
        for number, script in enumerate(SCHEMA[version:], version + 1):
            for statement in statements(script):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version={number}")
            connection.execute(f"PRAGMA application_id={APPLICATION}")
        self._set_time(Transaction(connection, 0.0))
        connection.execute("COMMIT")

    def _set_time(self, transaction: Transaction) -> None:
        """Take on the store's time; in a boot that it has not seen begin at the wall's, but never behind itself."""
        boot, offset = transaction.one("fact", name="boot"), transaction.one("fact", name="offset")
        if boot is None or boot != self.clock.boot or not self.clock.boot:
            wall = self.clock.wall()
            offset = max(wall, transaction.one("last_sent") or 0.0) - self.clock.steady()
            transaction.run("set_fact", name="boot", value=self.clock.boot)
            transaction.run("set_fact", name="offset", value=offset)
        self._offset = offset
        identity = transaction.one("fact", name="identity")
        if identity is None:
            identity = os.urandom(16)
            transaction.run("set_fact", name="identity", value=identity)
        self._identity = identity

    # -- what may go wrong ---------------------------------------------------------------------------------------------

    def _unavailable(self, why: str) -> StoreUnavailable:
        return StoreUnavailable(f"store={self.path!r}: {why}")

    def _told(self, error: BaseException) -> BaseException:
        """Say what SQLite said so that one can do something about it; what a job raised stays as it is."""
        if isinstance(error, OSError):
            return self._unavailable(f"{error.strerror or error}: {error.filename or self.path}")
        if not isinstance(error, sqlite3.DatabaseError):
            return error
        text = str(error)
        return self._unavailable(next((told for part, told in _REASONS.items() if part in text), text))


def _kind_of(answer: Answer[Any]) -> type[Mergeable[Any]] | None:
    return type(answer.job) if isinstance(answer.job, Mergeable) else None


def _is_of_a_job(error: BaseException) -> bool:
    """Tell whether the next job may fare better."""
    return not isinstance(error, (sqlite3.Error, OSError, MemoryError)) or isinstance(error, _OF_A_JOB)


# A job's own fault.
_OF_A_JOB = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError)
_REASONS = {
    "disk is full": "the disk, or what its user may use of it, is full; nothing was lost that had been accepted",
    "readonly": "it, or its directory, may not be written to",
    "locked": f"another program has held it locked for {LOCK_SECONDS:g} s",
    "unable to open": "it cannot be opened: its directory must exist, and both must be readable and writable",
    "not a database": "it is damaged, or no store; it stays as it is: move it away, or put a backup in its place",
    "malformed": "it is damaged; it stays as it is: move it away, or put a backup in its place",
    "disk I/O error": "the disk fails; nothing was lost that had been accepted",
}


def _abandon_all() -> None:
    for database in tuple(_open):
        database.abandon()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_abandon_all)
