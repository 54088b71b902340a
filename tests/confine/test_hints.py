"""A refusal that an option would have prevented names that option; no other error does."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pyfaas._confine.hints import hint


def test_a_file_of_the_host_names_reads() -> None:
    assert "reads=['/data/of/somebody']" in hint(FileNotFoundError(2, "x", "/data/of/somebody/file"), network=True)


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_place_that_cannot_be_written_names_writes(tmp_path: Path, number: int) -> None:
    place = os.path.dirname(os.__file__)
    assert f"writes=[{place!r}]" in hint(OSError(number, "x", f"{place}/file"), network=True)


def test_a_network_that_is_not_there_names_network() -> None:
    assert "network=True" in hint(OSError(errno.ENETUNREACH, "x"), network=False)
    assert hint(OSError(errno.ENETUNREACH, "x"), network=True) == ""


@pytest.mark.parametrize(
    "error",
    [
        ValueError("/data/file"),
        FileNotFoundError(2, "x", "/tmp/mine"),
        FileNotFoundError(2, "x", "relative"),
        FileNotFoundError(2, "x", f"{os.path.dirname(os.__file__)}/not_there.py"),
        OSError(errno.EIO, "x", "/data/file"),
        OSError("x"),
    ],
)
def test_what_has_other_reasons_gets_no_hint(error: Exception) -> None:
    assert hint(error, network=True) == ""
