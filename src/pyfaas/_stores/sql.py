"""
The statements, each a sentence with a name, from the ``.sql`` files beside this one.

    SQL["claim"]         a statement of queries.sql, under the name that stands before it as ``-- name: sentence``
    statements(text)     one statement after the other
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator

_NAME = re.compile(r"^-- (\w+): .*$", re.MULTILINE)


def read(name: str) -> str:
    """Give the text of a file beside this one."""
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name), encoding="utf-8") as file:
        return file.read()


def statements(text: str) -> Iterator[str]:
    """Take a script apart."""
    statement = ""
    for line in text.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement.strip()
            statement = ""


def _named(text: str) -> dict[str, str]:
    _, *parts = _NAME.split(text)
    return {name: statement.strip().rstrip(";") for name, statement in zip(parts[::2], parts[1::2], strict=True)}


SQL = _named(read("queries.sql"))
SCHEMA = (read("schema.sql"),)  # of each version, what makes it of the one before
