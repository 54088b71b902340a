"""
A thread that hears of changes below a directory, from watchfiles.

    Watcher(directory, hear, lost).close()      hear(keys): look at these; lost(): look at all
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from pyfaas._files import is_ours
from pyfaas.errors import ConfigurationError

STEP_MILLISECONDS = 50
GATHER_MILLISECONDS = 200
LOOK_MILLISECONDS = 1_000  # at the directory itself: nobody tells of its renaming
_log = logging.getLogger("pyfaas")


class Watcher:
    """Hears, once it is made, until it is closed. Raises ConfigurationError without watchfiles, and OSError."""

    def __init__(self, directory: str, hear: Callable[[Iterable[str]], None], lost: Callable[[], None]) -> None:
        self._directory = directory
        self._hear = hear
        self._lost = lost
        self._ended = threading.Event()
        self._identity = _identity(directory)
        self._notify: Any = self._begin()
        self._thread = threading.Thread(target=self._live, name="pyfaas-files", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hear no more."""
        self._ended.set()
        self._thread.join()

    def _begin(self) -> Any:
        try:
            from watchfiles._rust_notify import RustNotify  # documented as its lower level: what is made listens
        except ImportError:
            raise ConfigurationError("a bucket as a trigger needs watchfiles: pip install pyfaas[files]") from None
        return RustNotify([self._directory], False, False, 300, True, True)

    def _live(self) -> None:
        while not self._ended.is_set():
            if self._notify is None:
                self._ended.wait(LOOK_MILLISECONDS / 1000)
                self._begin_again()
            else:
                self._listen()

    def _begin_again(self) -> None:
        self._identity = _identity(self._directory)
        if self._identity is None:
            return
        try:
            self._notify = self._begin()
        except OSError as error:
            _log.warning("nothing is heard of %s: %s", self._directory, error)
        self._lost()

    def _listen(self) -> None:
        """Hear of one round of changes; where the directory is another one by now, begin again."""
        try:
            found = self._notify.watch(GATHER_MILLISECONDS, STEP_MILLISECONDS, LOOK_MILLISECONDS, self._ended)
        except Exception as error:  # noqa: BLE001 - whatever it was: look at all, and begin again
            _log.warning("nothing is heard of %s for a second: %s", self._directory, error)
            found = None
        if found is None or _identity(self._directory) != self._identity:
            self._notify.close()
            self._notify = None
            self._lost()
        elif isinstance(found, set):
            top = os.path.join(self._directory, "")
            keys = {path[len(top) :] for _, path in found if path.startswith(top)}
            self._hear([key for key in keys if key and not is_ours(key)])


def _identity(directory: str) -> tuple[int, int] | None:
    try:
        found = os.stat(directory)
    except OSError:
        return None
    return found.st_dev, found.st_ino
