"""The host's handle of the zygote: it tells how each sandbox ended, and its end is everybody's end."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfaas._sandbox.control import MESSAGE, REAP, SIGNALLED, UNKNOWN
from pyfaas._sandbox.parent import Zygote, ZygoteDied, pid_of, search_path
from pyfaas._sandbox.sandbox import Sandbox
from support import is_alive, wait_until, zygotes_of


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    opened = Zygote(str(tmp_path))
    try:
        yield opened
    finally:
        opened.close()


def test_an_answer_to_a_question_that_was_given_up_is_not_taken_for_another(zygote: Zygote) -> None:
    """A reap that ran out of time leaves its answer in the socket."""
    sandbox = Sandbox(zygote, 1)
    wait_until(sandbox.has_unread)  # its HELLO
    sandbox.kill()
    wait_until(sandbox.is_gone)
    zygote._control.sendall(MESSAGE.pack(REAP, 999))
    assert zygote.reap(1) == (SIGNALLED, 9)
    assert zygote.reap(1) == (UNKNOWN, 0)
    sandbox.close()


def test_closing_it_ends_every_sandbox(zygote: Zygote) -> None:
    sandboxes = [Sandbox(zygote, number) for number in range(3)]
    for sandbox in sandboxes:
        wait_until(sandbox.has_unread)
        sandbox._look_for_hello()
        assert is_alive(sandbox.pid)
    assert zygote.pid in zygotes_of(os.getpid())
    zygote.close()
    assert all(sandbox.is_gone() for sandbox in sandboxes)
    with pytest.raises(ZygoteDied):
        zygote.spawn(4, sandboxes[0].channel.sock, sandboxes[0].log)
    with pytest.raises(ZygoteDied):
        zygote.reap(0)
    for sandbox in sandboxes:
        sandbox.close()


def test_a_pid_is_read_from_a_pidfd_until_the_process_is_gone() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    pidfd = os.pidfd_open(child)
    assert pid_of(pidfd) == child
    os.waitpid(child, 0)
    assert pid_of(pidfd) == -1
    os.close(pidfd)


def test_the_search_path_means_the_same_from_another_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend("")
    assert search_path()[0] == os.getcwd()
    assert all(os.path.isabs(entry) for entry in search_path())
