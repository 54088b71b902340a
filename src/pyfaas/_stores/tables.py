"""
Reading what the triggers of ``_capture`` caught in somebody's database, and forgetting there what is in our store.

    Changes.read(identity, position) ──► those after that one, in the order of their commits
    Changes.forget(position)         ──► gone, unless another reader of the table has not read them yet
    position, move                   ──► how far our store has come
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from pyfaas import _capture, limits
from pyfaas._stores.database import Transaction
from pyfaas.errors import HostError

LOCK_SECONDS = 5.0  # closing waits for that
LOCK_PAUSE_SECONDS = 0.005
READ_AT_ONCE = 1_000
READ_BYTES = 8 * limits.MB


class Place(NamedTuple):
    """How far a table was read: of its changes as they are kept under this identity, up to the one of this number."""

    identity: str = ""
    number: int = 0


class Change(NamedTuple):
    """One change of a row: what its columns held before and after, None where there was none, and its keys."""

    number: int
    kind: str
    at: float
    old: dict[str, Any] | None
    new: dict[str, Any] | None
    keys: list[str]


class Changes:
    """
    The changes of one table; ``reader`` names ours among several stores that read it.

    Everything that it does may wait for the database, and raises HostError.
    """

    def __init__(self, database: str, table: str, reader: str) -> None:
        self._path = database
        self._table = table
        self._reader = reader
        self._connection: sqlite3.Connection | None = None
        self._opened: tuple[int, int] | None = None
        self._layouts: dict[int, _capture.Layout] = {}
        self._schema = -1

    @property
    def files(self) -> tuple[str, str]:
        """Those that are written to when somebody commits."""
        return self._path, f"{self._path}-wal"

    def install(self) -> bool:
        """See that changes are caught; tell whether there is such a table. Raises ConfigurationError, HostError."""
        with self._telling():
            return self._current() is not None

    def read(self, place: Place) -> tuple[Place, list[Change]]:
        """
        Give the changes after a place, some thousand of them at most, and the place behind them.

        Raises ConfigurationError and HostError.
        """
        until = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                with self._telling():
                    return self._read_from(place)
            except HostError as error:
                # SQLite does not wait by itself while somebody changes the journal's kind, or recovers the database.
                if not _is_locked(error.__cause__) or time.monotonic() > until:
                    raise
            time.sleep(LOCK_PAUSE_SECONDS)

    def forget(self, number: int) -> None:
        """Say that all up to this one is in our store. Raises HostError."""
        with self._telling():
            connection = self._current_connection()
            with _capture.transaction(connection):
                connection.execute(
                    'INSERT OR REPLACE INTO pyfaas_reader ("table", reader, position) VALUES (?, ?, ?)',
                    (self._table, self._reader, number),
                )
                connection.execute(
                    f"DELETE FROM {_capture.changes_of(self._table)} "  # noqa: S608 - it is quoted
                    'WHERE id <= (SELECT min(position) FROM pyfaas_reader WHERE "table" = ?)',
                    (self._table,),
                )

    def close(self) -> None:
        """Let go of the database."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(sqlite3.Error):
                connection.close()

    # -- the database --------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """After anything that goes wrong the database is opened anew."""
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            raise HostError(f"{self._path!r}: {error}") from error
        except BaseException:
            self.close()
            raise

    def _current_connection(self) -> sqlite3.Connection:
        """Give a connection to the file that is there now, which may have come in the place of another one."""
        try:
            found = os.stat(self._path)
        except OSError as error:
            raise HostError(f"{self._path!r}: {error.strerror}") from None
        if self._connection is not None and self._opened == (found.st_dev, found.st_ino):
            return self._connection
        self.close()
        self._connection = sqlite3.connect(
            f"file:{_quoted(self._path)}?mode=rw",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=LOCK_SECONDS,
        )
        self._connection.text_factory = lambda raw: raw.decode("utf-8", "replace")  # what is no UTF-8 is no JSON either
        self._opened, self._schema = (found.st_dev, found.st_ino), -1
        return self._connection

    def _current(self) -> _capture.Layout | None:
        """Give the table's layout; where the schema has changed, see that its changes are still caught."""
        connection = self._current_connection()
        # The version from before we looked: a column that comes while we do is not passed over.
        while (schema := connection.execute("PRAGMA schema_version").fetchone()[0]) != self._schema:
            if _capture.install(connection, self._table) is None:
                return None
            self._layouts = _capture.layouts(connection, self._table)
            self._schema = schema
        return self._layouts[max(self._layouts)]

    def _begin(self) -> int:
        """Give where to begin who has read nothing; from now on nothing is forgotten that we have not read."""
        connection = self._current_connection()
        connection.execute(
            'INSERT OR IGNORE INTO pyfaas_reader ("table", reader, position) VALUES (?, ?, 0)',
            (self._table, self._reader),
        )
        found = connection.execute(
            'SELECT position FROM pyfaas_reader WHERE "table" = ? AND reader = ?', (self._table, self._reader)
        )
        return int(found.fetchone()[0])

    def _read_from(self, place: Place) -> tuple[Place, list[Change]]:
        layout = self._current()
        if layout is None:
            raise HostError(f"{self._path!r} has no table {self._table!r}")
        if layout.identity != place.identity:
            place = Place(layout.identity, self._begin())
        return self._read(place)

    def _read(self, place: Place) -> tuple[Place, list[Change]]:
        found: list[Change] = []
        size = 0
        rows = self._current_connection().execute(
            f"SELECT * FROM {_capture.changes_of(self._table)} WHERE id > ? ORDER BY id LIMIT ?",  # noqa: S608 - it is quoted
            (place.number, READ_AT_ONCE),
        )
        for number, layout, kind, at, *values in rows:
            known = self._layouts[layout]
            count = len(known.columns)
            old = dict(zip(known.columns, values[0 : 2 * count : 2], strict=True))
            new = dict(zip(known.columns, values[1 : 2 * count : 2], strict=True))
            found.append(
                Change(
                    number,
                    kind,
                    at,
                    None if kind == _capture.INSERT else old,
                    None if kind == _capture.REMOVE else new,
                    known.keys,
                )
            )
            size += sum(len(value) for value in values if isinstance(value, (str, bytes)))
            if size > READ_BYTES:
                break
        return place._replace(number=found[-1].number if found else place.number), found


def _is_locked(error: BaseException | None) -> bool:
    return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


# -- in our store ------------------------------------------------------------------------------------------------------


def position(transaction: Transaction, name: str) -> Place:
    """Tell how far a table was read."""
    told = transaction.one("fact", name=f"{name}/place")
    if told is None:
        return Place()
    identity, _, number = told.partition("/")
    return Place(identity, int(number))


def move(transaction: Transaction, name: str, place: Place) -> None:
    """Note that it was read up to there."""
    transaction.run("set_fact", name=f"{name}/place", value=f"{place.identity}/{place.number}")
