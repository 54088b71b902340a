"""
``map`` and its sisters: many events through few sandboxes, pipelined, lazily, in order. Written once for both worlds.

    events ──► feed ──► lane: sandbox + window of events that were sent ahead ──► collect ──► endings, by number
                   └──► lane: ...

A worker writes each answer before it reads the next event, so the first unanswered event of a lane is the only one that
can have started: a crash or a time-out costs that one, the others of the window are sent again elsewhere. Nothing here
blocks in sending while there are answers to read. A permit is per lane.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any, Generic, NamedTuple, TypeVar

import attrs

from pyfaas import limits
from pyfaas._invoke.direct import ending_of, mourned, read_answer, run
from pyfaas._invoke.ending import Ending
from pyfaas._invoke.ids import new_id
from pyfaas._payload import encode_event
from pyfaas._pool.policy import Shelf
from pyfaas._pool.pool import Pool
from pyfaas._sandbox import protocol
from pyfaas._sandbox.protocol import Answer, ProtocolError
from pyfaas._sandbox.sandbox import MEASURE_SECONDS, Lost, Sandbox
from pyfaas._waits import DONTWAIT, AnyReadable, NextEvent, Trip, run_async, run_blocking
from pyfaas.errors import HostError, InvokeError, Throttled

T = TypeVar("T")

# So much work is sent ahead: enough that a worker never waits for the host, little enough to be shared among lanes.
AHEAD_SECONDS = 0.002
_NOTHING = memoryview(b"")
FIRST_WINDOW = 4
SMALL_BYTES = 4096
HELD_BYTES = 2 * limits.RESPONSE_BYTES  # of results that wait for an earlier one, or to be taken
LANES = max(2, os.cpu_count() or 1)


@attrs.define(eq=False)
class Item:
    """One event on its way."""

    number: int
    payload: bytes
    raw_id: bytes


@attrs.define(eq=False)
class Lane:
    """One sandbox at work for the stream."""

    sandbox: Sandbox
    window: deque[Item] = attrs.field(factory=deque)
    window_bytes: int = 0
    target: int = FIRST_WINDOW
    unsent: memoryview = _NOTHING
    broken: bool = False  # nothing can be sent any more, but answers may lie there
    pace: float = 0.0  # seconds an event, a moving mean

    @property
    def may_call(self) -> bool:
        """Whether its handler may call the host, who then answers that before it sends more."""
        return self.sandbox.peer.may_call

    def has_room(self) -> bool:
        """Tell whether it may be sent more."""
        most = self.sandbox.shelf.most_calls
        if most is not None and self.sandbox.calls + len(self.window) >= most:
            return False
        if self.window and self.may_call:
            return False
        return (
            not (self.unsent or self.broken)
            and 2 * len(self.window) <= self.target
            and self.window_bytes < limits.WINDOW_BYTES
        )

    def learn(self, duration: float) -> None:
        """Follow how long events take. The worker's word: a lie only makes its own window too long."""
        self.pace = duration if not self.pace else 0.8 * self.pace + 0.2 * duration
        self.target = max(2, min(limits.WINDOW_EVENTS, int(AHEAD_SECONDS / max(self.pace, 1e-6))))


class Broken(NamedTuple):
    """In the place of an event: the source raised this instead of giving one."""

    error: BaseException


class Pipeline:
    """The stream itself: ``advance`` gives the next ending, or None at the end."""

    def __init__(self, pool: Pool, shelf: Shelf, events: Any, *, bare: bool) -> None:
        self._pool = pool
        self._shelf = shelf
        self._bare = bare
        self._source: Any = None
        self._next: Callable[[], Any] | None = None  # of a source that nobody has to wait for
        self._events = events
        self._lanes: list[Lane] = []
        self._again: deque[Item] = deque()
        self._ready: dict[int, Ending | InvokeError | Broken] = {}
        self._taken = 0
        self._given = 0
        self._sizes: dict[int, int] = {}  # of the larger results that are ready
        self._held = 0
        self._exhausted = False
        self.closed = False

    def ready(self) -> Ending | InvokeError | None:
        """Give the next ending if it is here already. Raises what the source raised, once its turn has come."""
        ending = self._ready.pop(self._given, None)
        if ending is None:
            return None
        self._given += 1
        if isinstance(ending, Broken):
            self.close()
            raise ending.error
        if self._sizes:
            self._held -= self._sizes.pop(self._given - 1, 0)
        return ending

    def advance(self) -> Trip[Ending | InvokeError | None]:
        """Move everything until the next ending is here."""
        try:
            while True:
                ending = self.ready()
                if ending is not None:
                    return ending
                if self.closed:
                    return None
                yield from self._feed()
                if any(lane.window for lane in self._lanes):
                    yield from self._collect()
                elif self._exhausted and not self._again and not self._ready:
                    self.close()
        except BaseException:
            self.close()
            self._pool.mend(self)
            raise

    # -- sending -------------------------------------------------------------------------------------------------------

    def _feed(self) -> Trip[None]:
        """Fill the windows, opening lanes while there is more to send than the open ones take."""
        for lane in self._lanes:
            if lane.has_room():
                yield from self._fill(lane)
        while not self._exhausted or self._again:
            busy = [lane for lane in self._lanes if lane.window]
            if busy and (len(self._lanes) >= LANES or self._far_ahead() or not self._may_open()):
                return
            item = yield from self._next_item()
            if item is None:
                return
            idle = next((lane for lane in self._lanes if not lane.window and lane.has_room()), None)
            lane_or_none = idle or (yield from self._open_lane(item, wait=not busy))
            if lane_or_none is None:
                if not busy and item.number not in self._ready:
                    raise HostError("no sandbox could be made for this stream")
                continue
            yield from self._fill(lane_or_none, item)

    def _may_open(self) -> bool:
        budget = self._shelf.budget
        return budget.free > 0 and not budget.waiting

    def _far_ahead(self) -> bool:
        """Tell whether the source must wait: for one slow event, or for whoever takes the results."""
        if self._again:  # those were taken from it long ago
            return False
        return self._taken - self._given >= LANES * limits.WINDOW_EVENTS * 2 or self._held >= HELD_BYTES

    def _next_item(self) -> Trip[Item | None]:
        """Take an event from those to be sent again, or from the source; what cannot be sent ends right here."""
        if self._next is not None:
            return self._item_at_hand(self._next)
        while not (self._again or self._exhausted):
            try:
                if self._source is None:
                    self._open_source()
                    if self._next is not None:
                        return self._item_at_hand(self._next)
                event = yield NextEvent(self._source)
            except Exception as error:  # noqa: BLE001 - the source's own
                self._end_source(error)
            else:
                item = self._admit(event)
                if item is not None:
                    return item
        return self._again.popleft() if self._again else None

    def _item_at_hand(self, take: Callable[[], Any]) -> Item | None:
        """Do the same where the source has nothing to wait for: a stream's speed is decided here."""
        while not (self._again or self._exhausted):
            try:
                event = take()
            except Exception as error:  # noqa: BLE001 - the source's own
                self._end_source(error)
            else:
                item = self._admit(event)
                if item is not None:
                    return item
        return self._again.popleft() if self._again else None

    def _open_source(self) -> None:
        events = self._events
        if hasattr(events, "__aiter__"):
            self._source = aiter(events)
        else:
            self._source = iter(events)
            self._next = self._source.__next__

    def _admit(self, event: Any) -> Item | None:
        """Number an event; one that cannot be sent has ended."""
        number = self._taken
        self._taken = number + 1
        try:
            return Item(number, encode_event(event), new_id())
        except InvokeError as refused:
            self._ready[number] = refused
            return None

    def _end_source(self, error: Exception) -> None:
        """There are no more events: the source has ended, or broken, which is told after all that came before."""
        self._exhausted = True
        if not isinstance(error, (StopIteration, StopAsyncIteration)):
            self._ready[self._taken] = Broken(error)
            self._taken += 1

    def _open_lane(self, item: Item, *, wait: bool) -> Trip[Lane | None]:
        """Find one more sandbox. None: there is none to spare, or ``item`` ended in trying."""
        pool = self._pool
        try:
            sandbox = pool.take(self._shelf, self) or (yield from pool.obtain(self._shelf, self))
        except Throttled:
            if wait:
                raise
            self._again.appendleft(item)
            return None
        try:
            if sandbox.peer.phase is not protocol.OPEN:
                sandbox.begin()
                yield from sandbox.open()
                pool.supply.want_spare(sandbox)
        except Lost:
            pool.discard(sandbox)
            # One that does not load: let a single call find out why, with all its second chances.
            self._ready[item.number] = yield from run(pool, self._shelf, item.payload, bare=self._bare)
            return None
        except BaseException:
            pool.discard(sandbox)
            raise
        sandbox.pipelined = True
        sandbox.rest()
        lane = Lane(sandbox)
        self._lanes.append(lane)
        return lane

    def _fill(self, lane: Lane, first: Item | None = None) -> Trip[None]:
        """Send events until the window is full, all in one write."""
        frames = []
        sandbox, peer = lane.sandbox, lane.sandbox.peer
        most = sandbox.shelf.most_calls
        was_empty = not lane.window
        while len(lane.window) < lane.target and lane.window_bytes < limits.WINDOW_BYTES:
            if most is not None and sandbox.calls + len(lane.window) >= most:
                break
            if lane.window and lane.may_call:
                break
            if first is None and self._far_ahead() and any(one.window for one in self._lanes):
                break
            item = first or (self._item_at_hand(self._next) if self._next else (yield from self._next_item()))
            first = None
            if item is None:
                break
            lane.window.append(item)
            lane.window_bytes += len(item.payload)
            frames.append(peer.invoke(sandbox.timeout, item.raw_id, item.payload))
        if first is not None:
            self._again.appendleft(first)
        if frames:
            if was_empty:
                sandbox.begin()
            lane.unsent = memoryview(b"".join(frames))
            self._push(lane, rested=was_empty and sandbox.calls > 0)

    def _push(self, lane: Lane, *, rested: bool = False) -> None:
        """
        Send what the socket takes.

        Where the sandbox died at rest nothing has reached it, and all goes elsewhere unseen. Where it died at work its
        last answers may still lie in the socket: they are received first, and then its end.
        """
        try:
            lane.unsent = lane.unsent[lane.sandbox.channel.sock.send(lane.unsent, DONTWAIT) :]
        except BlockingIOError:
            pass
        except OSError:
            if rested:
                self._drop(lane)
            else:
                lane.broken = True
                lane.unsent = _NOTHING

    # -- receiving -----------------------------------------------------------------------------------------------------

    def _collect(self) -> Trip[None]:
        """Wait for answers, and take all that came."""
        lanes = [lane for lane in self._lanes if lane.window]
        if len(lanes) == 1 and not lanes[0].unsent:
            yield from self._receive(lanes[0], wait=True)
            return
        soonest = min(lane.sandbox.due_at for lane in lanes)
        readers = [lane.sandbox.channel for lane in lanes if not lane.unsent]
        writers = [lane.sandbox.channel for lane in lanes if lane.unsent]
        yield AnyReadable(readers, writers, soonest - monotonic())
        for lane in lanes:
            if lane.unsent:
                self._push(lane)
            if lane in self._lanes:
                yield from self._receive(lane, wait=False)

    def _receive(self, lane: Lane, *, wait: bool) -> Trip[None]:
        channel = lane.sandbox.channel
        try:
            data = (yield channel) if wait else channel.receive_nowait()
            if not data:
                raise Lost("gone")
            answers = lane.sandbox.peer.receive(data)
        except BlockingIOError:
            if wait or monotonic() >= lane.sandbox.due_at:
                yield from self._lose(lane, Lost("late"))
            return
        except ProtocolError as error:
            yield from self._lose(lane, Lost("forged", str(error)))
            return
        except (Lost, OSError):
            yield from self._lose(lane, Lost("gone"))
            return
        calls = [answer for answer in answers if answer.kind == protocol.CALL]
        for answer in answers:
            if answer.kind == protocol.CALL:
                continue
            item = lane.window.popleft()
            lane.window_bytes -= len(item.payload)
            ending = read_answer(lane.sandbox, answer, item.raw_id, 0.0, bare=self._bare)
            self._ready[item.number] = ending
            if len(answer.payload) > SMALL_BYTES:
                self._sizes[item.number] = len(answer.payload)
                self._held += len(answer.payload)
            lane.sandbox.calls += 1
            lane.learn(answer.duration)
        if len(answers) > len(calls):
            self._after_answers(lane, len(answers) - len(calls))
        for call in calls:
            yield from self._serve(lane, call)

    def _serve(self, lane: Lane, call: Answer) -> Trip[None]:
        """Do what the handler asks for; the lane has one event at a time, so nothing else is on its way to it."""
        item = lane.window[0]
        serve = partial(self._pool.calls_back.serve, raw_id=item.raw_id, hops=0)
        try:
            yield from lane.sandbox.answer_call(call, serve)
        except ProtocolError as error:
            yield from self._lose(lane, Lost("forged", str(error)))
        except OSError:
            yield from self._lose(lane, Lost("gone"))
        except Lost as lost:
            yield from self._lose(lane, lost)

    def _after_answers(self, lane: Lane, count: int) -> None:
        """The next event of the window has begun: its time runs from now on."""
        sandbox = lane.sandbox
        sandbox.begin()
        now = sandbox.started_at
        self._pool.count(sandbox.shelf, count)
        over = now - sandbox.measured_at > MEASURE_SECONDS and sandbox.measure(now) > sandbox.limit_bytes
        most = sandbox.shelf.most_calls
        if sandbox.verdict == "forged" or (over and not lane.window):
            self._drop(lane)
        elif over:
            self._pool.condemn(sandbox, "memory")
        elif not lane.window and (sandbox.shelf.retired or (most is not None and sandbox.calls >= most)):
            self._drop(lane)
        elif not lane.window:
            sandbox.rest()
            sandbox.tidy_log()

    def _lose(self, lane: Lane, lost: Lost) -> Trip[None]:
        """The lane ended: its first event bears it, the others go elsewhere."""
        sandbox = lane.sandbox
        self._lanes.remove(lane)
        try:
            ending = yield from ending_of(self._pool, sandbox, lost)
            if lane.window:
                head = lane.window.popleft()
                self._ready[head.number] = mourned(self._pool, sandbox, lost, ending, head.raw_id, 0.0)
            self._again.extendleft(reversed(lane.window))
        finally:
            self._pool.discard(sandbox)

    def _drop(self, lane: Lane) -> None:
        """Let a lane go that is of no more use; what it had not answered goes elsewhere."""
        self._lanes.remove(lane)
        self._again.extendleft(reversed(lane.window))
        self._pool.discard(lane.sandbox)

    def close(self) -> None:
        """Give back what rests, kill what runs, forget the rest. Twice is fine."""
        try:
            self._close()
        except BaseException:
            self._pool.mend(self)
            raise

    def _close(self) -> None:
        self.closed = True
        self._exhausted = True
        self._again.clear()
        lanes, self._lanes = self._lanes, []
        for lane in lanes:
            lane.sandbox.pipelined = False
            if lane.window or lane.unsent:
                self._pool.discard(lane.sandbox)
            else:
                self._pool.return_lane(lane.sandbox)
        self._ready.clear()
        close = getattr(self._source, "close", None)
        if close is not None:
            close()

    async def aclose(self) -> None:
        """Do the same, and close an asynchronous source too."""
        self.close()
        source, self._source = self._source, None
        if hasattr(source, "aclose"):
            await source.aclose()


def _close_with(stream: object, pipeline: Pipeline) -> None:
    """
    Close the pipeline when its stream is dropped, also where Ctrl-C strikes in ``__del__``.

    Python swallows what a finalizer raises, and with it the closing; it can strike in one of the two only.
    """
    weakref.finalize(stream, pipeline.close).atexit = False


class BlockingStream(Iterator[T], Generic[T]):
    """What ``map`` and ``try_map`` give: an iterator; ``close()`` ends what still runs."""

    def __init__(self, pipeline: Pipeline, finish: Callable[[Any], T]) -> None:
        self._pipeline = pipeline
        self._finish = finish
        _close_with(self, pipeline)

    def __iter__(self) -> BlockingStream[T]:
        return self

    def __next__(self) -> T:
        pipeline = self._pipeline
        ending = pipeline.ready() or run_blocking(pipeline.advance())
        if ending is None:
            raise StopIteration
        try:
            return self._finish(ending)
        except BaseException:
            pipeline.close()
            raise

    def close(self) -> None:
        """End what still runs and forget the rest."""
        self._pipeline.close()

    def __del__(self) -> None:
        self._pipeline.close()


class AsyncStream(AsyncIterator[T], Generic[T]):
    """What ``amap`` and ``atry_map`` give: an async iterator; ``aclose()`` ends what still runs."""

    def __init__(self, pipeline: Pipeline, finish: Callable[[Any], T]) -> None:
        self._pipeline = pipeline
        self._finish = finish
        _close_with(self, pipeline)

    def __aiter__(self) -> AsyncStream[T]:
        return self

    async def __anext__(self) -> T:
        pipeline = self._pipeline
        ending = pipeline.ready() or await run_async(pipeline.advance())
        if ending is None:
            raise StopAsyncIteration
        try:
            return self._finish(ending)
        except BaseException:
            await pipeline.aclose()
            raise

    async def aclose(self) -> None:
        """End what still runs and forget the rest."""
        await self._pipeline.aclose()

    def __del__(self) -> None:
        self._pipeline.close()
