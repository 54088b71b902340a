"""What the zygote prepares once for all its sandboxes: the root that they see, the network that leads nowhere."""

from __future__ import annotations

import contextlib
import os

from pyfaas._confine import mounts, root, view
from pyfaas._confine.host import look_around, make_empty_network, may_leave_network, separate_mounts
from pyfaas._confine.plan import Host
from pyfaas._confine.root import Grounds


def prepare(found: Host, sys_path: list[str], home: str, directory: str, *, off: bool) -> tuple[Host, Grounds]:
    """Prepare all that this host allows; ``directory`` is the runtime's own, ``off`` is ``confinement="off"``."""
    found = look_around(found, off=off)
    if off:
        return found, Grounds()
    paths = tuple(view.shown(sys_path, home))
    grounds = Grounds(paths=paths, below_tmp=tuple(root.below_tmp(paths)))
    if found.pid_namespace:
        found, grounds = _prepare_root(found, grounds, directory)
    if not found.view:
        found = found._replace(own_uids=False, uids_refused="needs a root of its own")
    elif found.own_uids and not view.readable_by_others(grounds.paths):
        found = found._replace(own_uids=False, uids_refused="parts of sys.path are readable by their owner only")
    if not found.pid_namespace or not may_leave_network():
        return found, grounds
    if not found.user_namespace:
        grounds = grounds._replace(network=make_empty_network())
    return found._replace(empty_network=True), grounds


def _prepare_root(found: Host, grounds: Grounds, directory: str) -> tuple[Host, Grounds]:
    scratch = os.path.join(directory, "root")
    os.makedirs(scratch, 0o700, exist_ok=True)  # a zygote before this one may have died here
    try:
        separate_mounts()
        _try_proc(scratch)
        return found._replace(view=True), grounds._replace(namespace=root.build(grounds.paths, scratch))
    except OSError as error:
        return found._replace(view_refused=str(error)), grounds
    finally:
        with contextlib.suppress(OSError):
            os.rmdir(scratch)


def _try_proc(place: str) -> None:
    """Containers that mask parts of ``/proc`` have the kernel refuse a new one: find out before a sandbox does."""
    mounts.mount("proc", place, mounts.NOSUID | mounts.NODEV | mounts.NOEXEC)
    mounts.unmount(place)


def slot_trees(slot: str, size_mb: int, owner: int) -> tuple[int, int]:
    """Give copies of a slot's two directories, to be attached elsewhere; make them if need be. Raises OSError."""
    if not root.is_prepared(slot):
        root.prepare_slot(slot, size_mb, owner)
    temporary = mounts.copy_tree(f"{slot}/tmp")
    try:
        return temporary, mounts.copy_tree(f"{slot}/shm")
    except BaseException:
        os.close(temporary)
        raise


def end_slots(directory: str) -> None:
    """Let go of what is mounted below the runtime's directory, so that it can be removed."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            with contextlib.suppress(OSError):
                mounts.unmount(os.path.join(directory, name))
