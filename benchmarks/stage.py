"""
A stage for one contender: a process of its own that waits until it is its turn.

    with Stage("pebble", workers=2) as stage:
        stage.do("block", calls=200, gap=0.0)  ──► durations

So no contender's threads take turns of another's interpreter lock, none forks from a process full of strangers, and
all are children of the one process that tells them when. While one is measured the others block in a read.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from types import TracebackType
from typing import Any

from benchmarks.measure import ROOT, environment


class Stage:
    """The host's end: gives orders, hears results."""

    def __init__(self, name: str, workers: int = 1) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the stage
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.stage", name, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=ROOT,
            env=environment(),
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The contender's process."""
        return self._process.pid

    def do(self, verb: str, *, limit: float = 120.0, **order: Any) -> Any:
        """Have it do something and give what it answers. Raises RuntimeError with its last words."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": verb, **order}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise RuntimeError(f"{self.name} is gone: {self._last_words()}") from None
        if not select.select([self._process.stdout], [], [], limit)[0]:
            raise RuntimeError(f"{self.name} did not {verb} within {limit} s: {self._last_words()}")
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} died in {verb}: {self._last_words()}")
        return json.loads(line)

    def _last_words(self) -> str:
        self._errors.seek(0)
        return self._errors.read().decode("utf-8", "replace")[-2000:]

    def _wait_for_end(self, seconds: float) -> None:
        """Wait until it has ended, without reaping it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                return
            time.sleep(0.005)

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.close()
        except OSError:
            pass
        self._wait_for_end(5.0)
        # It is not reaped yet, so its number is nobody else's: this ends it and what a broken pool left behind.
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
            pass
        self._process.wait()
        self._process.stdout.close()
        self._errors.close()


def main() -> None:
    """Be the contender: read orders, write results."""
    import resource

    from benchmarks.acts import make

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # some crash on purpose
    results = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    act = make(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        order = json.loads(line)
        verb = order.pop("do")
        result = getattr(act, verb)(**order)
        results.write(json.dumps(result) + "\n")
        results.flush()
    act.close()


if __name__ == "__main__":
    main()
