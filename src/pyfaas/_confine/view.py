"""
Which files a sandbox sees: the interpreter, system libraries, the directories of ``sys.path``, and what was granted.

Everything else is not hidden but not there: the view is built from nothing. A directory of ``sys.path`` that is
somebody's home, or a place where anybody puts things, is not shown whole; of it only Python's files are.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator

SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/nix/store",
    "/gnu/store",
    *(
        f"/etc/{name}"
        for name in (
            "alternatives",
            "ca-certificates",
            "crypto-policies",
            "gai.conf",
            "host.conf",
            "hosts",
            "ld.so.cache",
            "ld.so.conf",
            "ld.so.conf.d",
            "localtime",
            "mime.types",
            "nsswitch.conf",
            "pki/ca-trust",  # of these two not all: private keys lie beside
            "pki/tls/cert.pem",
            "pki/tls/certs",
            "pki/tls/openssl.cnf",
            "protocols",
            "resolv.conf",
            "services",
            "ssl/cert.pem",
            "ssl/certs",
            "ssl/openssl.cnf",
        )
    ),
)
DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
# Nobody would call these a code directory, whatever stands in them.
_COMMON = frozenset(
    {"/", "/etc", "/home", "/media", "/mnt", "/opt", "/root", "/run", "/srv", "/tmp", "/var", "/var/tmp"}
)
_CODE = (".py", ".pyc", ".so", ".zip", ".egg", ".whl")


def shown(sys_path: Iterable[str], home: str) -> list[str]:
    """List what every sandbox of a runtime sees, without what lies below another entry."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    wanted = [*SYSTEM, *sorted(prefixes), *_mapped_libraries()]
    for entry in sys_path:
        wanted += code_of(entry, home)
    return without_nested(wanted)


def code_of(entry: str, home: str) -> Iterator[str]:
    """Give what is shown of one entry of ``sys.path``: itself, or the code that lies in it."""
    if not _is_common(os.path.realpath(entry), home):
        yield entry
        return
    try:
        with os.scandir(entry) as found:
            names = sorted(one.name for one in found)
    except OSError:
        return
    for name in names:
        path = os.path.join(entry, name)
        is_package = not name.startswith(".") and os.path.isfile(os.path.join(path, "__init__.py"))
        if is_package or (name.endswith(_CODE) and os.path.isfile(path)):
            yield path


def _is_common(path: str, home: str) -> bool:
    """Tell whether a directory holds a user's things, not a program's."""
    return (
        path in _COMMON or os.path.dirname(path) == "/home" or os.path.join(home, "").startswith(os.path.join(path, ""))
    )


def _mapped_libraries() -> list[str]:
    """Find the directories of the libraries that this interpreter runs with, wherever they were built to."""
    try:
        with open("/proc/self/maps") as file:
            mapped = {line.split(None, 5)[5].rstrip("\n") for line in file if "/" in line}
    except OSError:
        return []
    return sorted({os.path.dirname(path) for path in mapped if ".so" in os.path.basename(path) and path[0] == "/"})


def without_nested(paths: Iterable[str]) -> list[str]:
    """Drop what does not exist, what is named twice, and what lies below something else that is named."""
    kept: list[str] = []
    for path in sorted({os.path.normpath(path) for path in paths if os.path.lexists(path)}):
        if not any(is_below(path, above) for above in kept):
            kept.append(path)
    return kept


def is_below(path: str, above: str) -> bool:
    """Tell whether a path is another one, or lies below it."""
    return path == above or path.startswith(os.path.join(above, ""))


def readable_by_others(paths: Iterable[str]) -> bool:
    """Tell whether a user who is a stranger to all of these could read them."""
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except OSError:
            continue
        if not mode & 0o004 or (os.path.isdir(path) and not mode & 0o001):
            return False
    return True
