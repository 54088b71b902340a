"""Fixtures of the tests of whole lives."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.tools import Host
from pyfaas import Runtime


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What is left of a process is read from /proc."""
    if sys.platform != "linux":
        for item in items:
            item.add_marker(pytest.mark.skip("looks at processes through Linux's /proc"))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    """Where host programs run."""
    host = Host(tmp_path)
    try:
        yield host
    finally:
        host.end()


@pytest.fixture
def runtime() -> Iterator[Runtime]:
    """A runtime in this process, entered."""
    with Runtime() as runtime:
        yield runtime
