"""The waits and their two drivers: the same exchange in a thread and in a task."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pyfaas import InvokeError
from pyfaas._loops import in_event_loop
from pyfaas._waits import (
    AnyReadable,
    Channel,
    Ended,
    NextEvent,
    Transmit,
    Trip,
    Turn,
    run_async,
    run_blocking,
)
from support import output_of, wait_until


@pytest.fixture
def pair() -> Iterator[tuple[Channel, socket.socket]]:
    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    yield channel, theirs
    channel.close()
    theirs.close()


def receive(channel: Channel, size: int) -> Trip[bytes]:
    """An exchange: take so many bytes."""
    data = b""
    while len(data) < size:
        part = yield channel
        if not part:
            break
        data += part
    return data


def transmit(channel: Channel, data: bytes) -> Trip[str]:
    yield Transmit(channel, memoryview(data))
    return "sent"


def drain(sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += sock.recv(1 << 20)
    return data


# -- the drivers -------------------------------------------------------------------------------------------------------


class Recorder:
    """A wait that gives, or raises, what it was made with."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def block(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    async def suspend(self) -> Any:
        return self.block()


def exchange(log: list[Any]) -> Trip[str]:
    log.append((yield Recorder(1)))
    try:
        yield Recorder(KeyError("inside"))
    except KeyError as error:
        log.append(error.args[0])
    log.append((yield Recorder(2)))
    return "done"


def test_a_blocking_driver_resumes_with_answers_and_throws_errors_in() -> None:
    log: list[Any] = []
    assert run_blocking(exchange(log)) == "done"
    assert log == [1, "inside", 2]


@pytest.mark.anyio
async def test_an_async_driver_does_the_same() -> None:
    log: list[Any] = []
    assert await run_async(exchange(log)) == "done"
    assert log == [1, "inside", 2]


def closing(log: list[str]) -> Trip[None]:
    try:
        yield Recorder(ValueError("lost"))
    finally:
        log.append("closed")


def test_an_error_that_nobody_catches_comes_out_and_the_exchange_is_closed() -> None:
    log: list[str] = []
    with pytest.raises(ValueError, match="lost"):
        run_blocking(closing(log))
    assert log == ["closed"]


@pytest.mark.anyio
async def test_cancellation_goes_through_the_exchange(pair: tuple[Channel, socket.socket]) -> None:
    log: list[str] = []

    def waiting() -> Trip[None]:
        try:
            yield pair[0]
        except BaseException as error:
            log.append(type(error).__name__)
            raise

    with anyio.move_on_after(0.02) as scope:
        await run_async(waiting())
    assert scope.cancelled_caught
    assert log in (["CancelledError"], ["Cancelled"])


# -- the channel -------------------------------------------------------------------------------------------------------


def test_a_thread_receives(pair: tuple[Channel, socket.socket]) -> None:
    channel, theirs = pair
    threading.Thread(target=theirs.sendall, args=(b"x" * 200_000,)).start()
    assert run_blocking(receive(channel, 200_000)) == b"x" * 200_000


@pytest.mark.anyio
@pytest.mark.parametrize("pause", [0.0, 0.02])
async def test_a_task_receives_what_is_there_what_comes_soon_and_what_comes_late(
    pair: tuple[Channel, socket.socket], pause: float
) -> None:
    channel, theirs = pair

    async def send() -> None:
        for _ in range(5):
            await anyio.sleep(pause)
            theirs.send(b"abc")

    async with anyio.create_task_group() as group:
        group.start_soon(send)
        assert await run_async(receive(channel, 15)) == b"abc" * 5


@pytest.mark.anyio
async def test_a_task_sees_the_other_side_hang_up(pair: tuple[Channel, socket.socket]) -> None:
    channel, theirs = pair
    theirs.shutdown(socket.SHUT_RDWR)
    assert await run_async(receive(channel, 1)) == b""


@pytest.mark.anyio
async def test_a_channel_may_be_read_by_a_task_then_a_thread_then_a_task(pair: tuple[Channel, socket.socket]) -> None:
    channel, theirs = pair
    for number in range(3):
        async with anyio.create_task_group() as group:

            async def send() -> None:
                await anyio.sleep(0.005)
                theirs.send(b"task")

            group.start_soon(send)
            assert await run_async(receive(channel, 4)) == b"task"
        theirs.send(b"thread")
        assert await anyio.to_thread.run_sync(run_blocking, receive(channel, 6)) == b"thread", number


@pytest.mark.anyio
async def test_no_reader_stays_behind_in_the_loop(pair: tuple[Channel, socket.socket]) -> None:
    """Bytes that come while nobody waits must not keep the loop busy."""
    channel, theirs = pair
    with anyio.move_on_after(0.01):
        await run_async(receive(channel, 1))
    theirs.send(b"unread")
    used = time.process_time()
    await anyio.sleep(0.2)
    assert time.process_time() - used < 0.15
    assert await run_async(receive(channel, 6)) == b"unread"


# -- sending -----------------------------------------------------------------------------------------------------------


def test_a_thread_sends_more_than_any_buffer(pair: tuple[Channel, socket.socket]) -> None:
    channel, theirs = pair
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(drain(theirs, 5_000_000)))
    reader.start()
    assert run_blocking(transmit(channel, b"y" * 5_000_000)) == "sent"
    reader.join()
    assert got == [b"y" * 5_000_000]


@pytest.mark.anyio
async def test_a_task_sends_more_than_any_buffer(pair: tuple[Channel, socket.socket]) -> None:
    channel, theirs = pair
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(drain(theirs, 5_000_000)))
    reader.start()
    assert await run_async(transmit(channel, b"y" * 5_000_000)) == "sent"
    reader.join()
    assert got == [b"y" * 5_000_000]


def any_readable(readers: list[Channel], writers: list[Channel], seconds: float) -> Trip[None]:
    yield AnyReadable(readers, writers, seconds)


@pytest.mark.anyio
@pytest.mark.parametrize("world", ["thread", "task"])
@pytest.mark.parametrize("what", ["readable", "writable", "nothing"])
async def test_waiting_for_any_ends_with_the_first_or_with_the_time(
    pair: tuple[Channel, socket.socket], world: str, what: str
) -> None:
    channel, _ = pair
    second_ours, second_theirs = socket.socketpair()
    second = Channel(second_ours)
    try:
        if what == "readable":
            second_theirs.send(b"x")
        writers = [channel] if what == "writable" else []
        readers = [second] if writers else [channel, second]
        began = time.monotonic()
        trip = any_readable(readers, writers, 0.05 if what == "nothing" else 30.0)
        if world == "thread":
            await anyio.to_thread.run_sync(run_blocking, trip)
        else:
            await run_async(trip)
        took = time.monotonic() - began
        assert took < 10
        if what == "nothing":
            assert took >= 0.04
    finally:
        second.close()
        second_theirs.close()


# -- ends, events, turns -----------------------------------------------------------------------------------------------


def ended(pidfd: int, seconds: float) -> Trip[bool]:
    return bool((yield Ended(pidfd, seconds)))


@pytest.mark.anyio
async def test_the_end_of_a_process_is_awaited_in_both_worlds() -> None:
    for world in ("thread", "task"):
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os.close(reader)
        pidfd = os.pidfd_open(child)
        assert run_blocking(ended(pidfd, 0.0)) is False
        os.close(writer)
        trip = ended(pidfd, 10.0)
        over = run_blocking(trip) if world == "thread" else await run_async(trip)
        assert over is True
        os.close(pidfd)
        os.waitpid(child, 0)  # noqa: ASYNC222 - it is over


def next_event(source: Any) -> Trip[Any]:
    return (yield NextEvent(source))


@pytest.mark.anyio
async def test_the_next_event_comes_in_the_async_world_only() -> None:
    class Sevens:
        async def __anext__(self) -> int:
            return 7

    assert await run_async(next_event(Sevens())) == 7
    with pytest.raises(TypeError, match="use amap for an async one"):
        run_blocking(next_event(Sevens()))


def turn_of(turn: Turn) -> Trip[Any]:
    return (yield turn)


@pytest.mark.parametrize("before", [True, False])
def test_a_thread_waits_for_its_turn(before: bool) -> None:
    turn = Turn()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(run_blocking(turn_of(turn))))
    if before:
        turn.grant("granted")
        thread.start()
    else:
        thread.start()
        assert got == []
        turn.grant("granted")
    thread.join(10)
    assert got == ["granted"]


@pytest.mark.anyio
@pytest.mark.parametrize("before", [True, False])
async def test_a_task_waits_for_its_turn_which_a_thread_may_give(before: bool) -> None:
    turn = Turn()
    if before:
        turn.grant("granted")
        assert await run_async(turn_of(turn)) == "granted"
        return
    async with anyio.create_task_group() as group:

        async def give() -> None:
            await anyio.sleep(0.01)
            await anyio.to_thread.run_sync(turn.grant, "granted")

        group.start_soon(give)
        assert await run_async(turn_of(turn)) == "granted"


@pytest.mark.anyio
async def test_a_blocking_wait_for_a_turn_on_a_thread_with_a_loop_raises() -> None:
    assert in_event_loop()
    with pytest.raises(InvokeError, match="use ainvoke there"):
        run_blocking(turn_of(Turn()))
    assert not await anyio.to_thread.run_sync(in_event_loop)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_turn_may_be_granted_when_the_loop_has_ended(backend: str) -> None:
    """Whoever grants it has others to serve."""
    turn = Turn()

    async def give_up() -> None:
        with anyio.move_on_after(0.01):
            await run_async(turn_of(turn))

    anyio.run(give_up, backend=backend)
    turn.grant("late")
    assert turn.granted == "late"


@pytest.mark.parametrize("what", ["Channel(socket.socketpair()[0])", "Turn()"])
def test_ctrl_c_ends_a_wait(what: str) -> None:
    """In a process of its own, for the signal comes again and again: one may fall between two steps of the wait."""
    program = """
        import os, signal, socket, sys, threading, time
        from pyfaas._waits import Channel, Turn, run_blocking
        def wait_for(what):
            yield what
        def interrupt():
            while True:
                time.sleep(0.02)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        pair = socket.socketpair()
        threading.Thread(target=interrupt, daemon=True).start()
        try:
            run_blocking(wait_for(eval(sys.argv[1])))
        except KeyboardInterrupt:
            os.write(1, b"interrupted")
        finally:
            os._exit(0)
    """
    assert output_of(program, what.replace("socket.socketpair()", "pair")) == "interrupted"


def test_closing_a_channel_that_a_loop_watched_leaves_no_descriptor() -> None:
    import asyncio

    before = len(os.listdir("/proc/self/fd"))

    async def use() -> None:
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        asyncio.get_running_loop().call_later(0.005, theirs.send, b"x")
        assert await run_async(receive(channel, 1)) == b"x"
        channel.close()
        theirs.close()

    asyncio.run(use())
    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)
