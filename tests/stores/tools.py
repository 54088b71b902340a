"""How the tests of this room use a store."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pyfaas._stores.database import Database, Transaction
from pyfaas._waits import run_blocking

T = TypeVar("T")


def do(database: Database, job: Callable[[Transaction], T]) -> T:
    return run_blocking(database.write(job))
