"""
The host's handle of a branch: a fork of the zygote that has imported what some functions name in ``preload=``.

It takes the same messages as the zygote and makes sandboxes in the same way, but they start with those modules in them,
in pages that all share. It lives in a PID namespace of its own below the zygote's: its death takes its sandboxes and
nobody else's, the zygote's takes all.
"""

from __future__ import annotations

import contextlib
import socket
import threading

from pyfaas._descriptors import receive_descriptors, socket_pair
from pyfaas._sandbox import control
from pyfaas._sandbox.parent import START_SECONDS, Zygote, ZygoteDied, holders, making
from pyfaas.errors import HostError


class Branch(Zygote):
    """A branch that runs; its imports go on while sandboxes are asked for already."""

    def __init__(self, trunk: Zygote, modules: tuple[str, ...]) -> None:
        self._lock = threading.Lock()
        self._pidfd = -1
        self._process = None
        self._directory = trunk._directory
        self._confinement = trunk._confinement
        self._modules = set(modules)
        self.trunk = trunk
        self.mark = trunk.mark
        self.search_path = trunk.search_path
        self.host = trunk.host
        with making:
            self._control, theirs = socket_pair()
            holders.add(self)
            try:
                trunk.fork_branch(theirs)
            except BaseException:
                self._control.close()
                holders.discard(self)
                raise
            finally:
                theirs.close()
        try:
            self._hear_greeting()
            self._send(control.PRELOAD, sorted(modules), needed=True)
        except BaseException as error:
            self.close()
            if not isinstance(error, OSError):
                raise
            if trunk.is_gone():
                raise ZygoteDied(str(error)) from error
            raise HostError(f"no process could be made for preload={modules}: {error}") from error

    def _hear_greeting(self) -> None:
        self._control.settimeout(START_SECONDS)
        data, descriptors = receive_descriptors(self._control, 1)
        self._pidfd = descriptors[0] if descriptors else -1
        if not data:
            raise ConnectionResetError("it hung up before it said a word")

    def close(self) -> None:
        """End it, and with it every sandbox that it made, for good."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)  # where there is no pidfd, this ends it
        super().close()
