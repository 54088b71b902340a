"""For a handler that was refused something: which option would grant it. (worker side; said in its log, no more)"""

from __future__ import annotations

import errno
import os

from pyfaas._confine.view import is_below

_NO_NETWORK = (errno.EACCES, errno.ENETUNREACH, errno.EAFNOSUPPORT, errno.EHOSTUNREACH, errno.EADDRNOTAVAIL)
_OWN = ("/tmp", "/proc", "/dev")  # the sandbox's own


def hint(error: BaseException, *, network: bool) -> str:
    """Give a line for the log, or nothing where confinement has no part in the error."""
    if not isinstance(error, OSError):
        return ""
    if not network and error.filename is None and (error.errno in _NO_NETWORK or type(error).__name__ == "gaierror"):
        return "this function was declared with network=False: network=True lets it out"
    path = error.filename
    if not isinstance(path, str) or not os.path.isabs(path) or any(is_below(path, own) for own in _OWN):
        return ""
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and os.path.lexists(os.path.dirname(path)):
        place = path if os.path.isdir(path) else os.path.dirname(path)
        return f"a sandbox writes to /tmp alone: writes=[{place!r}] would let this function write there"
    if error.errno == errno.ENOENT and not os.path.isdir(os.path.dirname(path)):
        place = os.path.dirname(path)
        return f"a sandbox sees code and libraries alone: reads=[{place!r}] would show this function what is there"
    return ""
