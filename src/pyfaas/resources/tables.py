"""Tables: ``table("stock", "shop.db")`` names one of any SQLite database; functions get what changes in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from pyfaas import _capture, _port, limits
from pyfaas._capture import quoted
from pyfaas.errors import ConfigurationError, HostError
from pyfaas.options import a_path, one_of, refuse, seconds
from pyfaas.resources.handles import beside, has_surrogate
from pyfaas.resources.recorded import Recorded

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")

VIEWS = ("new_and_old_images", "new_image", "old_image", "keys_only")


class Table(Recorded):
    """A table of a SQLite database; see ``table``."""

    kind = "table"
    is_asked = True
    shards = 1
    database: str
    table: str
    view: str

    def connect(self, script: str = "", **options: Any) -> sqlite3.Connection:
        """
        Open its database, as ``sqlite3.connect`` does, for a writer whose changes are all caught.

        From here on each committed change of the table has its event, by whatever program it is made. This connection
        has ``PRAGMA recursive_triggers=ON`` besides: a row that ``REPLACE`` overwrites has its REMOVE too, which it has
        not where another program overwrites it without that.

        - ``script``: SQL that is run before, such as ``CREATE TABLE IF NOT EXISTS stock (...)``
        - ``options``: those of ``sqlite3.connect``; ``timeout`` is 30 seconds if it is not among them

        Raises ConfigurationError where there is no such table, or it cannot be watched, and HostError where the
        database cannot be opened or written to.
        """
        return self._open(script, options)[0]

    def _open(self, script: str, options: dict[str, Any]) -> tuple[sqlite3.Connection, _capture.Layout]:
        import sqlite3

        options.setdefault("timeout", limits.TABLE_LOCK_SECONDS)
        try:
            first = sqlite3.connect(self.database, isolation_level=None, timeout=options["timeout"])
            try:
                first.executescript(script)
                layout = _capture.install(first, self.table)
                if layout is None:
                    raise ConfigurationError(f"{self!r}: {self.database!r} has no such table; make it by script=")
            finally:
                first.close()
            connection: sqlite3.Connection = sqlite3.connect(self.database, **options)
            connection.execute("PRAGMA recursive_triggers=ON")
        except sqlite3.Error as error:
            raise HostError(f"{self!r}: {self.database!r}: {error}") from error
        return connection, layout

    def put(self, item: Mapping[str, Any]) -> None:
        """
        Insert a row, or give the one of the same key these values; columns that are not named stay as they are.

        A key is what the table's primary key is. Raises ConfigurationError, and HostError for what SQLite refuses.
        """
        row = _checked_row("item", item)
        if _port.in_sandbox:
            _port.current().ask(self, "put", row)
            return

        def write(connection: sqlite3.Connection, keys: list[str]) -> None:
            given = _key_of("item", row, keys, or_more=True)
            names = ", ".join(map(quoted, row))
            others = ", ".join(f"{quoted(name)} = excluded.{quoted(name)}" for name in row if name not in given)
            change = f"DO UPDATE SET {others}" if others else "DO NOTHING"
            at = ", ".join(map(quoted, keys))
            values = ", ".join("?" * len(row))
            statement = f"INSERT INTO {quoted(self.table)} ({names}) VALUES ({values}) ON CONFLICT ({at}) {change}"  # noqa: S608 - names are quoted
            connection.execute(statement, [*row.values()])

        self._run(write)

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Give the row of a key, such as ``{"id": 7}``; None without one. Raises ConfigurationError and HostError."""
        row = _checked_row("key", key)
        if _port.in_sandbox:
            return _port.current().ask(self, "get", row)  # type: ignore[no-any-return]

        def read(connection: sqlite3.Connection, keys: list[str]) -> dict[str, Any] | None:
            given = _key_of("key", row, keys)
            found = connection.execute(f"SELECT * FROM {quoted(self.table)} WHERE {_where(given)}", [*given.values()])  # noqa: S608 - names are quoted
            names = [column[0] for column in found.description]
            values = found.fetchone()
            return None if values is None else dict(zip(names, values, strict=True))

        return self._run(read)

    def delete(self, key: Mapping[str, Any]) -> None:
        """Delete the row of a key, if there is one. Raises ConfigurationError and HostError."""
        row = _checked_row("key", key)
        if _port.in_sandbox:
            _port.current().ask(self, "delete", row)
            return

        def remove(connection: sqlite3.Connection, keys: list[str]) -> None:
            given = _key_of("key", row, keys)
            connection.execute(f"DELETE FROM {quoted(self.table)} WHERE {_where(given)}", [*given.values()])  # noqa: S608 - names are quoted

        self._run(remove)

    async def aput(self, item: Mapping[str, Any]) -> None:
        """Do what ``put`` does from async code."""
        await beside(self.put, item)

    async def aget(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Do what ``get`` does from async code."""
        return await beside(self.get, key)

    async def adelete(self, key: Mapping[str, Any]) -> None:
        """Do what ``delete`` does from async code."""
        await beside(self.delete, key)

    def _run(self, do: Callable[[sqlite3.Connection, list[str]], T]) -> T:
        """Do something with the rows, in a transaction of its own."""
        import sqlite3

        connection, layout = self._open("", {"isolation_level": None})
        try:
            return do(connection, layout.keys)
        except sqlite3.Error as error:
            raise HostError(f"{self!r}: {self.database!r}: {error}") from error
        finally:
            connection.close()

    def disconnect(self) -> None:
        """
        Take everything away that catches changes, with those that no runtime has read yet.

        SQLite drops no column that a trigger names: do this before, and ``connect`` again after it. Raises HostError.
        """
        import sqlite3

        try:
            connection = sqlite3.connect(self.database, isolation_level=None, timeout=limits.TABLE_LOCK_SECONDS)
            try:
                _capture.remove(connection, self.table)
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise HostError(f"{self!r}: {self.database!r}: {error}") from error


def table(
    name: str,
    database: str | os.PathLike[str],
    *,
    table: str | None = None,
    view: str = "new_and_old_images",
    retention: float = 86_400.0,
) -> Table:
    """
    Name a table of a SQLite database: ``trigger=stock`` gives a function what is inserted, modified and removed.

    - ``database``: the path of the file, which may be any program's
    - ``table``: what it is called there; default ``name``
    - ``view``: what an event tells of a row besides its keys: ``"new_and_old_images"``, ``"new_image"``,
      ``"old_image"`` or ``"keys_only"`` (AWS: StreamViewType)
    - ``retention``: seconds for which a change is kept once a runtime has read it, 60 to 31,536,000 (AWS: 24 hours)

    Raises ConfigurationError.
    """
    known: Any = name if table is None else table
    if not isinstance(known, str) or not known or "\0" in known or known.lower().startswith(("sqlite_", "pyfaas_")):
        raise refuse("table", known, "the name of a table of yours")
    one_of(*VIEWS)("view", view)
    seconds(*limits.STREAM_RETENTION_SECONDS)("retention", retention)
    return Table(
        name,
        database=a_path("database", database, "the path of a SQLite file"),
        table=known,
        view=view,
        retention=float(retention),
    )


def _checked_row(field: str, given: Any) -> dict[str, Any]:
    scalars = (str, bytes, int, float, type(None))
    if not isinstance(given, Mapping) or not given or not all(isinstance(name, str) for name in given):
        raise refuse(field, given, "a dict of columns to values")
    for name, value in given.items():
        if not isinstance(value, scalars) or (isinstance(value, int) and not -(2**63) <= value < 2**63):
            raise refuse(f"{field}[{name!r}]", value, "text, a number of up to 64 bits, bytes or None")
        if isinstance(value, str) and has_surrogate(value):
            raise refuse(f"{field}[{name!r}]", value, "text without lone surrogates")
    return dict(given)


def _key_of(field: str, row: Mapping[str, Any], keys: list[str], *, or_more: bool = False) -> dict[str, Any]:
    if not set(keys) <= row.keys() or (not or_more and len(row) != len(keys)):
        raise refuse(field, row, f"a dict with {', '.join(keys)}" + ("" if or_more else ", and no more"))
    return {name: row[name] for name in keys}


def _where(key: Mapping[str, Any]) -> str:
    return " AND ".join(f"{quoted(name)} IS ?" for name in key)
