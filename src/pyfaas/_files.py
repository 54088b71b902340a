"""
A directory as a bucket holds it: files by their keys, written whole or not at all, and nothing that lies outside.

    Folder(path).put(key, data) ──► .pyfaas-7f3a... ──fsync──► renamed to its key     (nobody sees half of it)
    Folder(path).scan()         ──► each file, and what tells whether it is the same as before

Every step of a path is taken without following symbolic links: what is one, or lies behind one, is not in the bucket.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import stat
import time
import types
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple, TypeAlias

TEMPORARY = ".pyfaas-"
WHOLE_DIGEST_BYTES = 16 * 1024 * 1024
_STALE_SECONDS = 3600.0
_CHUNK = 1024 * 1024
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

# Who is told at once of what this process puts and deletes: {the folder's path: [call(key)]}.
listeners: dict[str, list[Callable[[str], None]]] = {}


class Stamp(NamedTuple):
    """What is another one when a file has been written."""

    size: int
    mtime_ns: int
    inode: int


class Stored(NamedTuple):
    """A file of a bucket: its ``size`` in bytes, and when it was ``modified``, in seconds since 1970."""

    key: str
    size: int
    modified: float


StoredFiles: TypeAlias = list[Stored]  # in classes that have a verb ``list``


def stamp_of(found: os.stat_result) -> Stamp:
    """Give the stamp of a file."""
    return Stamp(found.st_size, found.st_mtime_ns, found.st_ino)


def is_key(key: Any) -> bool:
    """Tell whether something can be a key: 1 to 1,024 bytes, as in S3, and a path that stays below the directory."""
    if not isinstance(key, str) or "\0" in key:
        return False
    try:
        size = len(os.fsencode(key))
    except UnicodeEncodeError:
        return False
    parts = key.split("/")
    return 0 < size <= 1024 and not any(part in ("", ".", "..") for part in parts) and not is_ours(parts[0])


def is_ours(name: str) -> bool:
    """Tell whether a file is one of ours that is being written."""
    return name.startswith(TEMPORARY)


class Folder:
    """One directory; made when something is put in it. Everything raises OSError."""

    def __init__(self, path: str) -> None:
        self.path = path

    # -- reading -------------------------------------------------------------------------------------------------------

    def open(self, key: str) -> IO[bytes]:
        """Open a file for reading. Raises FileNotFoundError where there is none of this key."""
        with self._parent(key) as (directory, name):
            # A pipe would keep us waiting for whoever writes to it.
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
        if not stat.S_ISREG(os.fstat(file).st_mode):
            os.close(file)
            raise FileNotFoundError(errno.ENOENT, "no file", key)
        return os.fdopen(file, "rb")

    def stamp(self, key: str) -> Stamp | None:
        """Give the stamp of a file; None where there is none."""
        try:
            with self._parent(key) as (directory, name):
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            return None
        return stamp_of(found) if stat.S_ISREG(found.st_mode) else None

    def digest(self, key: str, stamp: Stamp) -> str | None:
        """
        Give the MD5 of what a file holds, of a large one that of its stamp.

        None if it is another one by now, or some process has it open for writing, where the system tells.
        """
        digest = hashlib.md5(usedforsecurity=False)
        try:
            with self.open(key) as file:
                if _is_being_written(file):
                    return None
                if stamp.size > WHOLE_DIGEST_BYTES:  # as S3's of what came in parts: no digest of the whole
                    digest.update(repr(stamp).encode())
                    return f"{digest.hexdigest()}-1"
                while part := file.read(_CHUNK):
                    digest.update(part)
                is_same = stamp_of(os.fstat(file.fileno())) == stamp
        except (FileNotFoundError, NotADirectoryError):
            return None
        return digest.hexdigest() if is_same else None

    def scan(self, prefix: str = "") -> Iterator[tuple[str, os.stat_result]]:
        """Give each file whose key begins so, and what is known of it; directories that vanish meanwhile are empty."""
        top, _, _ = prefix.rpartition("/")
        try:
            with self._directory(top.split("/") if top else []) as directory:
                yield from self._below(directory, f"{top}/" if top else "", prefix)
        except (FileNotFoundError, NotADirectoryError):
            return

    def _below(self, directory: int, above: str, prefix: str) -> Iterator[tuple[str, os.stat_result]]:
        with os.scandir(directory) as entries:
            found = [*entries]
        for entry in found:
            key = f"{above}{entry.name}"
            if above == "" and is_ours(entry.name):
                continue
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if entry.is_file(follow_symlinks=False):
                    if key.startswith(prefix):
                        yield key, os.stat(entry.name, dir_fd=directory, follow_symlinks=False)
                elif entry.is_dir(follow_symlinks=False) and f"{key}/".startswith(prefix[: len(key) + 1]):
                    below = os.open(entry.name, _DIRECTORY, dir_fd=directory)
                    try:
                        yield from self._below(below, f"{key}/", prefix)
                    finally:
                        os.close(below)

    def list(self, prefix: str = "") -> StoredFiles:
        """List the files whose keys begin so, in the order of their keys."""
        found = [Stored(key, one.st_size, one.st_mtime) for key, one in self.scan(prefix)]
        return sorted(found, key=lambda one: os.fsencode(one.key))

    # -- writing -------------------------------------------------------------------------------------------------------

    def put(self, key: str, data: bytes) -> None:
        """Write a file, whole or not at all, in the place of the one that is there; it is on the disk then."""
        with self.writing(key) as file:
            file.write(data)

    @contextlib.contextmanager
    def writing(self, key: str) -> Iterator[IO[bytes]]:
        """Give a file to write to, which takes its key when all went well, and is gone otherwise."""
        os.makedirs(self.path, exist_ok=True)
        with self._directory([]) as root:
            temporary = f"{TEMPORARY}{os.urandom(8).hex()}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                with os.fdopen(os.open(temporary, flags, 0o666, dir_fd=root), "w+b") as file:
                    yield file
                    file.flush()
                    os.fsync(file.fileno())
                *above, name = key.split("/")
                with self._directory(above, make=True) as directory:
                    os.rename(temporary, name, src_dir_fd=root, dst_dir_fd=directory)
                    os.fsync(directory)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=root)
                raise
        self._tell(key)

    def delete(self, key: str) -> bool:
        """Delete a file; tell whether there was one."""
        try:
            with self._parent(key) as (directory, name):
                if not stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
                    return False
                os.unlink(name, dir_fd=directory)
        except (FileNotFoundError, NotADirectoryError):
            return False
        self._tell(key)
        return True

    def tidy(self) -> None:
        """Remove what writers left that died in the middle, an hour ago."""
        with contextlib.suppress(OSError), os.scandir(self.path) as entries:
            for entry in entries:
                if is_ours(entry.name) and entry.stat(follow_symlinks=False).st_mtime < time.time() - _STALE_SECONDS:
                    with contextlib.suppress(OSError):
                        os.unlink(entry.path)

    def _tell(self, key: str) -> None:
        for call in tuple(listeners.get(self.path, ())):
            call(key)

    # -- paths ---------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _parent(self, key: str) -> Iterator[tuple[int, str]]:
        *above, name = key.split("/")
        with self._directory(above) as directory:
            yield directory, name

    @contextlib.contextmanager
    def _directory(self, parts: Sequence[str], *, make: bool = False) -> Iterator[int]:
        """Go down to a directory, step by step; ``make`` those that are not there."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=directory)
                below = os.open(part, _DIRECTORY, dir_fd=directory)
                os.close(directory)
                directory = below
            yield directory
        finally:
            os.close(directory)


def _is_being_written(file: IO[bytes]) -> bool:
    """Tell whether some process has a file open for writing; False where the system does not tell."""
    try:
        import fcntl
        import signal

        # A lease for reading is refused while somebody may write. Who opens it while we hold it waits for that moment,
        # and we are sent a signal that nobody minds.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except (OSError, AttributeError) as error:
        return isinstance(error, OSError) and error.errno == errno.EAGAIN
    return False


class Writing(io.BufferedIOBase):
    """What ``bucket.open(key, "wb")`` gives: a file that takes its key when it is closed, and not after an error."""

    def __init__(self, folder: Folder, key: str) -> None:
        self._stack = contextlib.ExitStack()
        self._file = self._stack.enter_context(folder.writing(key))

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, data: Any) -> int:
        """Write some of it."""
        return self._file.write(data)

    def close(self) -> None:
        """Give it its key. Raises OSError, and then it has not got it."""
        if not self.closed:
            super().close()
            self._stack.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
            return
        super().close()
        with contextlib.suppress(kind):
            self._stack.__exit__(kind, error, trace)

    def __del__(self) -> None:
        """One that was forgotten was not finished."""
        if not self.closed:
            super().close()
            lost = ResourceWarning("not closed")
            with contextlib.suppress(ResourceWarning):
                self._stack.__exit__(ResourceWarning, lost, None)
