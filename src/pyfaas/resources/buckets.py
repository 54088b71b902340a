"""Buckets: ``bucket("uploads", "./uploads")`` names a directory; functions get what is put there, by whoever."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import IO, Any, TypeVar

from pyfaas import _port
from pyfaas._files import Folder, Stored, StoredFiles, Writing, is_key
from pyfaas.errors import AccessDenied, ConfigurationError, HostError, NoSuchKey
from pyfaas.options import a_path, refuse, seconds
from pyfaas.resources.handles import Handle, beside, has_surrogate
from pyfaas.triggers import BucketTrigger, bucket_trigger

T = TypeVar("T")


class Bucket(Handle):
    """A directory; see ``bucket``."""

    kind = "bucket"
    is_asked = True
    directory: str
    settle: float

    def put(self, key: str, data: bytes | str) -> None:
        """
        Write a file, whole or not at all; it is on the disk then.

        Whoever looks meanwhile sees what was there before.

        - ``key``: its path below the directory, such as ``"2026/a.png"``: 1 to 1,024 bytes, made as it needs be
        - ``data``: bytes, or text, which is written as UTF-8

        Raises ConfigurationError, and HostError where the file system refuses.
        """
        _check_key(key)
        raw = _raw(data)
        if _port.in_sandbox:
            _port.current().ask(self, "put", key, raw)
            return
        self._do(lambda folder: folder.put(key, raw))

    def get(self, key: str) -> bytes:
        """Give what a file holds. Raises NoSuchKey, ConfigurationError and HostError."""
        _check_key(key)
        if _port.in_sandbox:
            return _port.current().ask(self, "get", key)  # type: ignore[no-any-return]

        def read(folder: Folder) -> bytes:
            with folder.open(key) as file:
                return file.read()

        return self._do(read, key)

    def delete(self, key: str) -> None:
        """Delete a file, if there is one, as S3 does. Raises ConfigurationError and HostError."""
        _check_key(key)
        if _port.in_sandbox:
            _port.current().ask(self, "delete", key)
            return
        self._do(lambda folder: folder.delete(key))

    def list(self, prefix: str = "") -> StoredFiles:
        """List the files whose keys begin so, in the order of their keys: each its key, size and time of change."""
        if prefix and not is_key(prefix[:-1] if prefix[-1:] == "/" else prefix):
            raise refuse("prefix", prefix, "the beginning of keys, such as '2026/'")
        if _port.in_sandbox:
            return [Stored(*one) for one in _port.current().ask(self, "list", prefix)]
        return self._do(lambda folder: folder.list(prefix))

    def open(self, key: str, mode: str = "rb") -> IO[bytes]:
        """
        Open a file, ``"rb"`` to read it, or ``"wb"`` to write it, for those that are large.

        What is written takes its key when it is closed, as a whole, and not at all where an exception leaves ``with``;
        writing and closing raise OSError, as of any file.
        In a sandbox there is no such verb: a function with ``reads=[uploads.directory]`` opens the files themselves.

        Raises NoSuchKey, ConfigurationError and HostError.
        """
        _check_key(key)
        if mode not in ("rb", "wb"):
            raise refuse("mode", mode, "'rb' or 'wb'")
        if _port.in_sandbox:
            raise AccessDenied(
                f"{self!r}: open() is not there in a sandbox; get, put, or reads=[{self.name}.directory]"
            )
        if mode == "rb":
            return self._do(lambda folder: folder.open(key), key)
        return self._do(lambda folder: Writing(folder, key))  # type: ignore[arg-type, return-value]

    async def aput(self, key: str, data: bytes | str) -> None:
        """Do what ``put`` does from async code."""
        await beside(self.put, key, data)

    async def aget(self, key: str) -> bytes:
        """Do what ``get`` does from async code."""
        return await beside(self.get, key)

    async def adelete(self, key: str) -> None:
        """Do what ``delete`` does from async code."""
        await beside(self.delete, key)

    async def alist(self, prefix: str = "") -> StoredFiles:
        """Do what ``list`` does from async code."""
        return await beside(self.list, prefix)

    def objects(
        self,
        events: str | Sequence[str] = "ObjectCreated:*",
        *,
        prefix: str = "",
        suffix: str = "",
        name: str = "",
    ) -> BucketTrigger:
        """
        Make a trigger: the function gets each file that changes, one at a time, ``{"Records": [...]}`` as of S3.

        - ``events``: ``"ObjectCreated:*"`` (or ``:Put``), ``"ObjectRemoved:*"`` (or ``:Delete``), or a list
        - ``prefix``, ``suffix``: of the key, as it is, not as an event writes it
        - ``name``: tells it from another trigger of the same function on this bucket

        Raises ConfigurationError.
        """
        return bucket_trigger(self, events, prefix, suffix, name)

    def as_trigger(self) -> BucketTrigger:
        """What ``trigger=uploads`` means."""
        return self.objects()

    def _do(self, do: Callable[[Folder], T], key: str = "") -> T:
        try:
            return do(Folder(self.directory))
        except (FileNotFoundError, NotADirectoryError) as error:
            if key:
                raise NoSuchKey(f"{self!r} has no file {key!r}") from None
            raise HostError(f"{self!r}: {error}") from error
        except OSError as error:
            raise HostError(f"{self!r}: {error}") from error


def bucket(name: str, path: str | os.PathLike[str], *, settle: float = 0.5) -> Bucket:
    """
    Name a directory: a handle to put files in and get them, and a trigger (``uploads`` alone is ``uploads.objects()``).

    - ``path``: the directory; it is made if it is not there. All regular files in it and below belong to the bucket;
      symbolic links do not
    - ``settle``: seconds, 0 to 3,600, for which a file that another program writes must be left alone until there is an
      event. One that is open for writing waits until it is closed, where the system tells; one that is renamed into its
      place when it is complete, as ``put`` does, need not wait

    Raises ConfigurationError.
    """
    seconds(0, 3600)("settle", settle)
    directory = a_path("path", path, "the path of a directory")
    if os.path.dirname(directory) == directory:
        raise refuse("path", path, "a directory below that of the system")
    return Bucket(name, directory=directory, settle=float(settle))


def _raw(data: Any) -> bytes:
    if isinstance(data, str) and not has_surrogate(data):
        return data.encode()
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise refuse("data", data, "bytes, or text without lone surrogates")
    return bytes(data)


def _check_key(key: Any) -> None:
    if not is_key(key):
        right = "a path below the directory, of 1 to 1,024 bytes, without '.', '..' and empty parts"
        raise ConfigurationError(f"key={str(key)[:100]!r}: must be {right}")
