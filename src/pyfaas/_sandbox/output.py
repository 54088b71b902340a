"""
Where a handler's output goes: Python's streams over the log descriptor, and logging in AWS Lambda's format. (worker)

Descriptors 1 and 2 are one file that the host reads after the call. What goes through Python is counted: past 1 MB a
call it is dropped, and the log says how much. C code and subprocesses write the descriptors themselves.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from pyfaas import limits

if TYPE_CHECKING:
    from pyfaas.context import Context

    _StreamHandler = logging.StreamHandler[Any]
else:
    _StreamHandler = logging.StreamHandler  # Python 3.10 cannot subscript it


class Allowance:
    """How much one call may still write, for both streams together."""

    __slots__ = ("dropped", "left")

    def __init__(self) -> None:
        self.left = limits.LOG_BYTES
        self.dropped = 0


class _Log(io.RawIOBase):
    """One of descriptors 1 and 2, within the allowance."""

    name = "<log>"
    mode = "wb"

    def __init__(self, descriptor: int, allowance: Allowance) -> None:
        self._descriptor = descriptor
        self._allowance = allowance

    def write(self, data: Any) -> int:
        """Write all, or drop what is over the allowance; in either case the writer is told that all was taken."""
        with memoryview(data).cast("B") as view:
            size, allowed = len(view), min(len(view), self._allowance.left)
            written = 0
            while written < allowed:
                try:
                    written += os.write(self._descriptor, view[written:allowed])
                except OSError:  # the handler closed it, or made it too large
                    break
        self._allowance.left -= written
        self._allowance.dropped += size - written
        return size

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._descriptor


class Formatter(logging.Formatter):
    """AWS's format for Python's logging: ``[LEVEL]<TAB>time<TAB>request id<TAB>message``, in UTC."""

    converter = staticmethod(time.gmtime)

    def __init__(self) -> None:
        super().__init__(
            "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s", "%Y-%m-%dT%H:%M:%S"
        )


class _RequestId(logging.Filter):
    """Puts the id of the invocation at hand into each record."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def filter(self, record: logging.LogRecord) -> bool:
        context = self._output.context
        record.aws_request_id = "" if context is None else context.aws_request_id
        return True


class _CurrentStderr(_StreamHandler):
    """Writes to whatever ``sys.stderr`` is now, so that a handler that replaces it keeps its logging."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> Any:
        return sys.stderr


class Output:
    """The worker's streams and its logging, and which invocation they belong to."""

    def __init__(self) -> None:
        self.log = 2
        self.context: Context | None = None
        self.allowance = Allowance()

    def take(self, log: int) -> None:
        """Make this file what descriptors 1 and 2 write to."""
        self.log = log
        os.dup2(log, 1)
        os.dup2(log, 2)

    def install(self) -> None:
        """Put the streams over descriptors 1 and 2, and the logging handler, in place; before the fork."""
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            raw = _Log(descriptor, self.allowance)
            stream = io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", write_through=True)
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        handler = _CurrentStderr()
        handler.setFormatter(Formatter())
        handler.addFilter(_RequestId(self))
        logging.root.handlers[:] = [handler]

    def begin(self, context: Context) -> None:
        """Begin a call's output."""
        self.context = context
        if self.allowance.left != limits.LOG_BYTES:
            self.allowance.left = limits.LOG_BYTES

    def end(self) -> int:
        """End a call's output and give the position in the log where it ends."""
        if self.allowance.dropped:
            dropped, self.allowance.dropped = self.allowance.dropped, 0
            self.note(f"[pyfaas] {dropped:,} more bytes of output were dropped\n")
        try:
            return os.lseek(self.log, 0, os.SEEK_END)
        except OSError:  # the handler closed it
            return 0

    def note(self, text: str) -> None:
        """Write a line of the runtime's own, whatever the handler did to the streams."""
        try:
            os.write(self.log, text.encode("utf-8", "backslashreplace"))
        except OSError:
            pass
