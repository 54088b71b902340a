"""A write to a file is told by the kernel, once it has happened, whoever wrote."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

from pyfaas._stores.changes import Watch, watch


def is_told(one: Watch, seconds: float) -> bool:
    readable, _, _ = select.select([one.fileno()], [], [], seconds)
    return bool(readable)


def test_a_write_of_another_process_is_told_until_it_is_drained(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.touch()
    one = watch(str(file))
    assert one is not None
    assert not is_told(one, 0.0)
    subprocess.run([sys.executable, "-c", f"open({str(file)!r}, 'a').write('x')"], check=True)
    assert is_told(one, 5.0)
    one.drain()
    assert not is_told(one, 0.0)
    one.drain()
    file.write_bytes(b"more")
    assert is_told(one, 5.0)
    descriptor = one.fileno()
    one.close()
    assert not os.path.exists(f"/proc/self/fd/{descriptor}") or sys.platform != "linux"


def test_a_file_that_is_not_there_is_not_watched(tmp_path: Path) -> None:
    assert watch(str(tmp_path / "nothing")) is None
