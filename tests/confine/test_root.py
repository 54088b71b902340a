"""The slot's own file system: whole, or to be made again."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

KILLED_AT_ANY_MOMENT = """
import contextlib, os, signal, sys, tempfile, time
from pyfaas._confine import kernel, mounts, root

kernel.unshare((kernel.CLONE_NEWUSER if os.getuid() else 0) | kernel.CLONE_NEWNS)
if os.getuid() == 65534:
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {sys.argv[1]} 1"), ("gid_map", f"0 {sys.argv[2]} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
mounts.make_private()
half = whole = 0
with tempfile.TemporaryDirectory() as above:
    for step in range(300):
        slot = f"{above}/{step}"
        os.mkdir(slot)
        child = os.fork()
        if child == 0:
            root.prepare_slot(slot, 8, 0)
            os._exit(0)
        time.sleep(step * 2e-6)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        if not root.is_prepared(slot):
            half += 1
            root.prepare_slot(slot, 8, 0)  # over whatever is there
        else:
            whole += 1
        for name in ("tmp", "shm"):
            assert os.stat(f"{slot}/{name}").st_mode & 0o7777 == 0o1777, (step, name)
        assert sorted(os.listdir(slot)) == ["proc", "shm", "tmp"], os.listdir(slot)
        for _ in range(2):
            with contextlib.suppress(OSError):
                mounts.unmount(slot)
print(half, whole)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="there are mounts")
def test_a_slot_whose_making_was_broken_off_at_any_moment_is_made_again_or_whole() -> None:
    """Whoever had it may have been killed half-way; the next sandbox of the function is given the same slot."""
    program = [sys.executable, "-c", KILLED_AT_ANY_MOMENT, str(os.getuid()), str(os.getgid())]
    told = subprocess.run(program, check=False, capture_output=True, text=True, timeout=60)
    if "PermissionError" in told.stderr:
        pytest.skip("this user may not mount")
    assert told.returncode == 0, told.stderr
    assert sum(map(int, told.stdout.split())) == 300
