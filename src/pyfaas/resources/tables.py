"""Tables: ``table("stock", "shop.db")`` names one of any SQLite database; functions get what changes in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pyfaas import limits
from pyfaas.errors import ConfigurationError, HostError
from pyfaas.options import a_path, one_of, refuse, seconds
from pyfaas.resources.recorded import Recorded

if TYPE_CHECKING:
    import sqlite3

VIEWS = ("new_and_old_images", "new_image", "old_image", "keys_only")


class Table(Recorded):
    """A table of a SQLite database; see ``table``."""

    kind = "table"
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
        import sqlite3

        from pyfaas import _capture

        options.setdefault("timeout", limits.TABLE_LOCK_SECONDS)
        try:
            first = sqlite3.connect(self.database, isolation_level=None, timeout=options["timeout"])
            try:
                first.executescript(script)
                if _capture.install(first, self.table) is None:
                    raise ConfigurationError(f"{self!r}: {self.database!r} has no such table; make it by script=")
            finally:
                first.close()
            connection: sqlite3.Connection = sqlite3.connect(self.database, **options)
            connection.execute("PRAGMA recursive_triggers=ON")
        except sqlite3.Error as error:
            raise HostError(f"{self!r}: {self.database!r}: {error}") from error
        return connection

    def disconnect(self) -> None:
        """
        Take everything away that catches changes, with those that no runtime has read yet.

        SQLite drops no column that a trigger names: do this before, and ``connect`` again after it. Raises HostError.
        """
        import sqlite3

        from pyfaas import _capture

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
