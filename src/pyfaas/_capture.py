"""
What catches the changes of a table in anybody's SQLite database: triggers, which run in the writer's own transaction.

    a writer commits ──► the triggers have put each change into pyfaas_change_<table>, in the same transaction
    install(connection, table) ──► the triggers are those of the table's columns as they are now

So what is committed has its change, and what is rolled back has none, whoever writes, in whatever language. Nothing of
this needs pyfaas once it is installed, nor an extension of SQLite.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from pyfaas.errors import ConfigurationError

if TYPE_CHECKING:
    import sqlite3

MOST_COLUMNS = 500
INSERT, MODIFY, REMOVE = "INSERT", "MODIFY", "REMOVE"
_NOW = "(julianday('now') - 2440587.5) * 86400.0"
_ROWID_NAMES = ("rowid", "_rowid_", "oid")


class Layout(NamedTuple):
    """The columns of a table, by which its changes are to be read; ``identity``: of where they are kept."""

    number: int
    columns: list[str]
    keys: list[str]
    identity: str


def quoted(name: str) -> str:
    """Write the name of something as SQL."""
    return '"' + name.replace('"', '""') + '"'


def changes_of(table: str) -> str:
    """Name, as SQL, what keeps a table's changes."""
    return quoted(f"pyfaas_change_{table}")


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all of it, or nothing, with nobody else writing meanwhile. Raises sqlite3.Error."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def install(connection: sqlite3.Connection, table: str) -> Layout | None:
    """
    See that each change of a table is caught; None where there is no such table.

    Where its columns are others than they were, the triggers are made anew. Raises ConfigurationError for what cannot
    have them, and sqlite3.Error.
    """
    found = _current(connection, table)
    if found is not None:
        return found
    with transaction(connection):
        return _make(connection, table)


def remove(connection: sqlite3.Connection, table: str) -> None:
    """Catch no more changes of a table, and forget those that were caught. Raises sqlite3.Error."""
    with transaction(connection):
        for name in _triggers(table):
            connection.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")
        connection.execute(f"DROP TABLE IF EXISTS {changes_of(table)}")
        if _exists(connection, "pyfaas_layout"):
            _forget_readers(connection, table)


def layouts(connection: sqlite3.Connection, table: str) -> dict[int, Layout]:
    """Give all layouts that a table had while its changes were caught, by their numbers."""
    rows = connection.execute(
        'SELECT number, columns, keys, identity FROM pyfaas_layout WHERE "table" = ?', (table,)
    ).fetchall()
    return {row[0]: Layout(row[0], json.loads(row[1]), json.loads(row[2]), row[3]) for row in rows}


def _forget_readers(connection: sqlite3.Connection, table: str) -> None:
    """Forget who has read how far of a table's changes, and by which layouts those were to be read."""
    connection.execute('DELETE FROM pyfaas_layout WHERE "table" = ?', (table,))
    connection.execute('DELETE FROM pyfaas_reader WHERE "table" = ?', (table,))


def _exists(connection: sqlite3.Connection, name: str) -> bool:
    found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
    return found.fetchone() is not None


def _columns(connection: sqlite3.Connection, table: str) -> tuple[list[str], list[str]] | None:
    """Give the columns of a table, and those of them that are its key; None where there is no such table."""
    rows = connection.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    if not rows:
        return None
    if rows[0][0] != "table" or str(rows[0][1]).upper().startswith("CREATE VIRTUAL"):
        raise ConfigurationError(f"table={table!r}: is a view or a virtual table, which triggers cannot watch")
    info = connection.execute("SELECT name, pk FROM pragma_table_xinfo(?) WHERE hidden <> 1", (table,)).fetchall()
    if len(info) > MOST_COLUMNS:
        raise ConfigurationError(f"table={table!r}: has {len(info)} columns, and at most {MOST_COLUMNS} are watched")
    columns = [name for name, _ in info]
    keys = [name for name, place in sorted(info, key=lambda one: one[1]) if place]
    if not keys:
        taken = {name.lower() for name in columns}
        rowid = next((name for name in _ROWID_NAMES if name not in taken), None)
        if rowid is None:
            raise ConfigurationError(f"table={table!r}: must have a primary key, for its columns hide the rowid")
        columns, keys = [*columns, rowid], [rowid]
    return columns, keys


def _current(connection: sqlite3.Connection, table: str) -> Layout | None:
    """Give the layout if the triggers are there that it needs."""
    found = _columns(connection, table)
    if found is None or not _exists(connection, "pyfaas_layout") or not _exists(connection, f"pyfaas_change_{table}"):
        return None
    known = layouts(connection, table)
    newest = known[max(known)] if known else None
    if newest is None or (newest.columns, newest.keys) != found:
        return None
    there = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = ? AND name IN (?, ?, ?)",
        (table, *_triggers(table)),
    ).fetchall()
    return newest if len(there) == len(_triggers(table)) else None


def _triggers(table: str) -> tuple[str, str, str]:
    return f"pyfaas_insert_{table}", f"pyfaas_modify_{table}", f"pyfaas_remove_{table}"


def _make(connection: sqlite3.Connection, table: str) -> Layout | None:
    found = _columns(connection, table)
    if found is None:
        return None
    columns, keys = found
    connection.execute(
        'CREATE TABLE IF NOT EXISTS pyfaas_layout (number INTEGER PRIMARY KEY AUTOINCREMENT, "table" TEXT NOT NULL, '
        "columns TEXT NOT NULL, keys TEXT NOT NULL, identity TEXT NOT NULL)"
    )
    connection.execute(
        'CREATE TABLE IF NOT EXISTS pyfaas_reader ("table" TEXT NOT NULL, reader TEXT NOT NULL, '
        'position INTEGER NOT NULL, PRIMARY KEY ("table", reader)) WITHOUT ROWID'
    )
    if not _exists(connection, f"pyfaas_change_{table}"):
        _forget_readers(connection, table)  # numbers begin anew
        connection.execute(
            f"CREATE TABLE {changes_of(table)} (id INTEGER PRIMARY KEY AUTOINCREMENT, layout INTEGER NOT NULL, "
            "kind TEXT NOT NULL, at REAL NOT NULL)"
        )
    kept = connection.execute("SELECT count(*) FROM pragma_table_info(?)", (f"pyfaas_change_{table}",)).fetchone()[0]
    for number in range((kept - 4) // 2, len(columns)):
        for image in "on":  # no type: each value stays what it is
            connection.execute(f"ALTER TABLE {changes_of(table)} ADD COLUMN {image}{number}")
    known = layouts(connection, table)
    identity = known[max(known)].identity if known else _random(connection)
    row = connection.execute(
        'INSERT INTO pyfaas_layout ("table", columns, keys, identity) VALUES (?, ?, ?, ?)',
        (table, json.dumps(columns), json.dumps(keys), identity),
    ).lastrowid
    layout = Layout(row or 0, columns, keys, identity)
    for name in _triggers(table):
        connection.execute(f"DROP TRIGGER IF EXISTS {quoted(name)}")
    for statement in _trigger_texts(table, layout):
        connection.execute(statement)
    return layout


def _random(connection: sqlite3.Connection) -> str:
    return str(connection.execute("SELECT hex(randomblob(8))").fetchone()[0])


def _trigger_texts(table: str, layout: Layout) -> list[str]:
    """Write the three triggers; one that changes nothing of a row puts nothing, as in DynamoDB."""
    inserted, modified, removed = _triggers(table)
    columns = [quoted(name) for name in layout.columns]
    is_other = " OR ".join(f"old.{one} COLLATE BINARY IS NOT new.{one}" for one in columns)

    def body(kind: str, *images: str) -> str:
        fields = [f"{image[0]}{number}" for image in images for number in range(len(columns))]
        values = [f"{image}.{one}" for image in images for one in columns]
        into = f"{changes_of(table)} (layout, kind, at, {', '.join(fields)})"
        row = f"{layout.number}, '{kind}', {_NOW}, {', '.join(values)}"
        return f"BEGIN INSERT INTO {into} VALUES ({row}); END"  # noqa: S608 - names are quoted

    on = f"ON {quoted(table)}"
    return [
        f"CREATE TRIGGER {quoted(inserted)} AFTER INSERT {on} {body(INSERT, 'new')}",
        f"CREATE TRIGGER {quoted(modified)} AFTER UPDATE {on} WHEN {is_other} {body(MODIFY, 'old', 'new')}",
        f"CREATE TRIGGER {quoted(removed)} AFTER DELETE {on} {body(REMOVE, 'old')}",
    ]
