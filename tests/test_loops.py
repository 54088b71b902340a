"""Sleeping in an asyncio loop until a socket has something: many at once, and nothing stays with the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import TypeAlias

import pytest

from pyfaas import _loops
from pyfaas._loops import readable, running_loop
from support import open_files

Pair: TypeAlias = "tuple[socket.socket, socket.socket]"


@pytest.fixture(params=["as here", "without epoll"])
def pairs(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Pair]]:
    """A hundred pairs of sockets, and both ways to wait for one."""
    monkeypatch.setattr(_loops, "_HAS_EPOLL", request.param == "as here" and _loops._HAS_EPOLL)
    made = [socket.socketpair() for _ in range(100)]
    yield made
    for ours, theirs in made:
        ours.close()
        theirs.close()


async def wait_for(sock: socket.socket) -> bytes:
    await readable(running_loop(), sock.fileno())
    return sock.recv(10, socket.MSG_DONTWAIT)


def watched() -> set[int]:
    """Give the descriptors that asyncio watches for others than itself."""
    loop = asyncio.get_running_loop()
    return set(loop._selector.get_map()) - {loop._ssock.fileno()}  # type: ignore[attr-defined]


@pytest.fixture(autouse=True)
def nothing_is_left_open() -> Iterator[None]:
    before = len(open_files())
    yield
    assert len(open_files()) == before


def test_each_of_many_is_woken_by_its_own_socket(pairs: list[Pair]) -> None:
    async def main() -> list[bytes]:
        tasks = [asyncio.create_task(wait_for(ours)) for ours, _ in pairs]
        for number, (_, theirs) in reversed(list(enumerate(pairs))):
            await asyncio.sleep(0)
            theirs.send(b"%d" % number)
        found = await asyncio.gather(*tasks)
        assert not watched()
        return found

    assert asyncio.run(main()) == [b"%d" % number for number in range(100)]


def test_what_is_there_already_and_a_hang_up_wake_at_once(pairs: list[Pair]) -> None:
    async def main() -> None:
        (ours, theirs), *_ = pairs
        for _ in range(3):
            theirs.send(b"x")
            assert await wait_for(ours) == b"x"
        theirs.close()
        assert await wait_for(ours) == b""
        assert not watched()

    asyncio.run(main())


def test_one_that_is_cancelled_leaves_the_others_waiting_and_wakes_nobody(
    pairs: list[Pair],
) -> None:
    async def main() -> None:
        (first, its), (second, the_others), *_ = pairs
        cancelled, waiting = asyncio.create_task(wait_for(first)), asyncio.create_task(wait_for(second))
        await asyncio.sleep(0)
        cancelled.cancel()
        with suppress(asyncio.CancelledError):
            await cancelled
        its.send(b"nobody")
        the_others.send(b"second")
        assert await waiting == b"second"
        assert not watched()
        assert await wait_for(first) == b"nobody"

    asyncio.run(main())


def test_a_number_that_another_socket_has_by_now_is_watched_anew(pairs: list[Pair]) -> None:
    """What was closed after its answer came, or by another thread while a task waited for it, is forgotten."""

    async def main() -> None:
        ours, theirs = pairs[0]
        number = ours.fileno()
        theirs.send(b"x")
        assert await wait_for(ours) == b"x"
        for closed_while_waiting in (False, True):
            task = asyncio.create_task(wait_for(ours)) if closed_while_waiting else None
            await asyncio.sleep(0)
            ours.close()
            if task is not None:
                task.cancel()
                with suppress(asyncio.CancelledError, OSError):
                    await task
            ours, theirs = socket.socketpair()
            pairs.append((ours, theirs))
            assert ours.fileno() == number
            theirs.send(b"new")
            assert await asyncio.wait_for(wait_for(ours), 10) == b"new"
        assert not watched()

    asyncio.run(main())


def test_loops_one_after_the_other_and_side_by_side_each_watch_their_own(
    pairs: list[Pair],
) -> None:
    loops = [asyncio.new_event_loop() for _ in range(2)]
    tasks = [loop.create_task(wait_for(ours)) for loop, (ours, _) in zip(loops, pairs, strict=False)]
    for loop in loops:
        loop.run_until_complete(asyncio.sleep(0))
    for number in (1, 0):
        pairs[number][1].send(b"%d" % number)
        assert loops[number].run_until_complete(tasks[number]) == b"%d" % number
    for loop in loops:
        loop.close()
    pairs[2][1].send(b"later")
    assert asyncio.run(wait_for(pairs[2][0])) == b"later"
