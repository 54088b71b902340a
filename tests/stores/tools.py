"""A clock to move, and a store to use, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pyfaas._stores.database import Database, Transaction
from pyfaas._waits import run_blocking

T = TypeVar("T")


class MovedClock:
    """Goes only when told to; the wall and the steady one apart, as where somebody sets the clock."""

    def __init__(self, boot: str = "this one", wall: float = 1_800_000_000.0, steady: float = 5_000.0) -> None:
        self.boot = boot
        self._wall = wall
        self._steady = steady

    def wall(self) -> float:
        return self._wall

    def steady(self) -> float:
        return self._steady

    def pass_by(self, seconds: float) -> None:
        self._wall += seconds
        self._steady += seconds

    def set_wall(self, seconds: float) -> None:
        self._wall += seconds


def do(database: Database, job: Callable[[Transaction], T]) -> T:
    return run_blocking(database.write(job))
