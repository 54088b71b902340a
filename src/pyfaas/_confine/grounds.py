"""What the zygote prepares once for all its sandboxes: the root that they see, the network that leads nowhere."""

from __future__ import annotations

import contextlib
import os

from pyfaas._confine import mounts, root, view
from pyfaas._confine.apply import Grounds
from pyfaas._confine.host import look_around, make_empty_network, may_leave_network, separate_mounts
from pyfaas._confine.plan import Host


def prepare(found: Host, sys_path: list[str], home: str, directory: str) -> tuple[Host, Grounds]:
    """Prepare all that this host allows; ``directory`` is the runtime's own."""
    found = look_around(found)
    grounds = Grounds(paths=tuple(view.shown(sys_path, home)))
    if not found.pid_namespace:
        return found._replace(own_uids=False, uids_refused="needs a root of its own"), grounds
    try:
        separate_mounts()
        _try_proc(directory)
        grounds = grounds._replace(namespace=root.build(grounds.paths, _scratch(directory)))
        found = found._replace(view=True)
        os.rmdir(_scratch(directory))
    except OSError as error:
        found = found._replace(view_refused=str(error), own_uids=False, uids_refused="needs a root of its own")
    if found.own_uids and not view.readable_by_others(grounds.paths):
        found = found._replace(own_uids=False, uids_refused="parts of sys.path are readable by their owner only")
    if not may_leave_network():
        return found, grounds
    if not found.user_namespace:
        grounds = grounds._replace(network=make_empty_network())
    return found._replace(empty_network=True), grounds


def _scratch(directory: str) -> str:
    path = os.path.join(directory, "root")
    os.makedirs(path, 0o700, exist_ok=True)
    return path


def _try_proc(directory: str) -> None:
    """Containers that mask parts of ``/proc`` have the kernel refuse a new one: find out before a sandbox does."""
    path = _scratch(directory)
    mounts.mount("proc", path, mounts.NOSUID | mounts.NODEV | mounts.NOEXEC)
    mounts.unmount(path)


def end_slots(directory: str) -> None:
    """Let go of what is mounted below the runtime's directory, so that it can be removed."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                mounts.unmount(os.path.join(directory, name))
