"""
The triggers of one runtime's functions, made into running things; and what can be known of them, and changed.

    open(functions) ──► rows in the store (who gets what comes from where) ──► sources for the dispatcher
    mappings()      ──► pause, resume, change, remove: here, and in every other host that has the store open
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeVar

from pyfaas._invoke.deferred import Deferred, refuse_namesake
from pyfaas._invoke.dispatch import Source
from pyfaas._language.routes import Router
from pyfaas._sources.alarms import AlarmSource
from pyfaas._sources.auth.asking import Asked, hooks_of
from pyfaas._sources.buckets import BucketSource
from pyfaas._sources.http.application import Door, Open, router_of
from pyfaas._sources.http.connections import Api, Connections, apis_of
from pyfaas._sources.http.edges import Edge, edges_of
from pyfaas._sources.http.gate import Gate
from pyfaas._sources.mapping import EventSourceMapping
from pyfaas._sources.outside import OutsideSource
from pyfaas._sources.queues import QueueSource
from pyfaas._sources.replays import Replayer
from pyfaas._sources.schedules import Ticker, next_of
from pyfaas._sources.streams import StreamSource
from pyfaas._sources.tables import Carrier
from pyfaas._stores import log, mappings, queue, replays, schedules
from pyfaas._stores.database import Transaction
from pyfaas._stores.mappings import Mapping, Wanted
from pyfaas._waits import Trip, run_async, run_blocking
from pyfaas.alarms import AlarmTrigger
from pyfaas.doors import AuthTrigger, EdgeTrigger, HttpTrigger, SocketTrigger
from pyfaas.errors import ConfigurationError
from pyfaas.functions import Function
from pyfaas.resources import Bucket, Handle, Queue, Table, fed
from pyfaas.triggers import BucketTrigger, QueueTrigger, ScheduleTrigger, StreamTrigger, Trigger

T = TypeVar("T")
ServedTrigger: TypeAlias = QueueTrigger | StreamTrigger | AlarmTrigger
Served: TypeAlias = QueueSource | StreamSource | AlarmSource  # what is made of those
Key: TypeAlias = "tuple[str, str, str]"  # a mapping's source, target and name


class _Known(NamedTuple):
    """What the store told; ``order``: of two of them the later one is the higher."""

    order: int

    rows: list[Mapping]
    queues: dict[Queue, queue.Queue]
    logs: dict[str, log.Log]  # by the paths of their streams
    helpers: list[Source]  # those of ours that are needed
    current: int | None  # another number once a row has changed


class Doors(NamedTuple):
    """What leads from outside to functions."""

    router: Router[Door]
    hooks: dict[str, Asked]
    apis: dict[str, Api]
    edges: dict[str, Edge]


class Sources:
    """All of one runtime."""

    def __init__(self, deferred: Deferred) -> None:
        self.deferred = deferred
        self._gates: dict[Any, Gate] = {}
        self.connections = Connections()
        self._doors = Doors(Router(), {}, {}, {})
        self._triggers: dict[Key, tuple[Function[Any, Any], Trigger]] = {}
        self._sources: dict[int, Served] = {}
        self._enabled: dict[int, bool] = {}
        self._current: int | None = 0
        self._reads = 0
        self._latest = 0
        self._lock = threading.Lock()
        self._ticker, self._replayer = Ticker(deferred.house), Replayer(deferred.house)
        self._outside: dict[Handle, OutsideSource] = {}
        deferred.on_others = self.look_again
        deferred.database.clock.when_moved(self._time_moved)

    def open(self, functions: Iterable[Function[Any, Any]]) -> None:
        """
        Serve these, and connect their triggers; those of a function that was served before are connected anew.

        Raises ConfigurationError, and StoreUnavailable.
        """
        functions = [*functions]
        triggered = [function for function in functions if function.options.trigger]
        _refuse_namesakes(triggered)
        self.deferred.serve(functions if self.deferred.database.path is not None else triggered)
        wanted = self._wanted(triggered)
        self._look_at_doors(lambda _: True)  # two of one route, or hook, are refused before anything is written
        authorizers = [one.authorizer for one in self._all(HttpTrigger)]
        authorizers += [one.authorizer for one in self._all(SocketTrigger)]
        for authorizer in authorizers:
            if authorizer is not None:
                self.deferred.house.shelf_of(authorizer.function, None)  # one that is not ours is refused now
        try:
            self._open(functions, wanted)
        except BaseException:
            for handle, one in tuple(self._outside.items()):
                if not one.served:
                    self._outside.pop(handle).close()
            raise

    def _open(self, functions: list[Function[Any, Any]], wanted: list[Wanted]) -> None:
        self._watch()
        targets = {*(f"function/{function.name}" for function in functions), *(one.target for one in wanted)}

        wall = self.deferred.database.clock.wall()

        def job(transaction: Transaction) -> _Known:
            mappings.declare(transaction, targets, wanted)
            for function in functions:
                schedules.declare(transaction, function.name, _timetable(function), wall, next_of)
            for stream in {one.stream for one in self._all(StreamTrigger)}:
                log.declare(transaction, stream.path, stream.shards, stream.retention)
            for (_, target), rule in fed.items():
                if target.startswith("archive/"):
                    replays.declare(transaction, target, rule["retention"])
            return self._read(transaction)

        with self._lock:
            self._run(run_blocking(self.deferred.database.write(job)))

    def _watch(self) -> None:
        """Have nothing missed, from here on, of the tables and buckets of our triggers."""
        house, handles = self.deferred.house, {one.stream for one in self._all(StreamTrigger)}
        for handle in {*handles, *(one.bucket for one in self._all(BucketTrigger))} - self._outside.keys():
            made: OutsideSource
            if isinstance(handle, Table):
                made = Carrier(house, handle, self.deferred.dispatch.hurry)
            elif isinstance(handle, Bucket):
                made = BucketSource(house, handle, self.deferred.dispatch.hurry)
            else:
                continue
            made.open()
            self._outside[handle] = made  # from here on it is the dispatcher's

    def _wanted(self, functions: Iterable[Function[Any, Any]]) -> list[Wanted]:
        """List what is to connect what, as it is declared."""
        wanted: dict[Key, Wanted] = {}
        for function in functions:
            for trigger in function.options.trigger:
                row = Wanted(trigger.source, f"function/{function.name}", *trigger.row())
                if row[:3] in wanted:
                    raise ConfigurationError(f"{function.name!r} has {trigger.source} twice among its triggers")
                self._triggers[row[:3]] = (function, trigger)
                wanted[row[:3]] = row
        return [*wanted.values(), *(Wanted(source, target, "", rule) for (source, target), rule in fed.items())]

    # -- what can be known, and changed --------------------------------------------------------------------------------

    def mappings(self) -> list[EventSourceMapping]:
        """List all that the store knows, the oldest first."""
        known = run_blocking(self.deferred.database.write(self._read, durable=False))
        with self._lock:
            self._run(known)
        return [EventSourceMapping(self, row, self._triggers.get(row[1:4], (None, None))[1]) for row in known.rows]

    def is_enabled(self, number: int) -> bool:
        """Tell whether it takes events, as far as this runtime has heard."""
        return self._enabled.get(number, False)

    def source_of(self, number: int) -> Served | None:
        """Give what runs of it here, or ran last."""
        return self._sources.get(number)

    def problem_of(self, trigger: Trigger | None) -> str | None:
        """Tell why nothing comes from what it reads just now, as far as this runtime has heard."""
        handle = getattr(trigger, "stream", None) or getattr(trigger, "bucket", None)
        return None if handle not in self._outside else self._outside[handle].problem

    def enable(self, row: Mapping, *, enabled: bool) -> None:
        """Pause it, or let it go on."""
        self._do(lambda one: mappings.enable(one, row.id, enabled))

    def remove(self, row: Mapping) -> None:
        """Forget it."""
        self._triggers.pop(row[1:4], None)

        def job(transaction: Transaction) -> None:
            mappings.remove(transaction, row.id)
            kind, _, name = row.source.partition("/")
            if kind == "schedule":
                schedules.remove(transaction, row.target.partition("/")[2], name)

        self._do(job)

    def change(self, row: Mapping, trigger: Trigger) -> Trigger:
        """Let another trigger take the place of the declared one."""
        function, _ = self._triggers[row[1:4]]
        trigger.check(function.options.timeout)
        self._triggers[row[1:4]] = (function, trigger)
        (_, rule), wall = trigger.row(), self.deferred.database.clock.wall()

        def job(transaction: Transaction) -> None:
            mappings.change(transaction, row.id, rule)
            if isinstance(trigger, ScheduleTrigger):
                schedules.put(transaction, function.name, trigger.name, rule, wall, next_of, declared=True)

        self._do(job)
        return trigger

    def _do(self, change: Callable[[Transaction], None]) -> None:
        def job(transaction: Transaction) -> _Known:
            change(transaction)
            return self._read(transaction)

        with self._lock:
            self._run(run_blocking(self.deferred.database.write(job)))

    # -- schedules, by hand --------------------------------------------------------------------------------------------

    def schedule(self, function: Function[Any, Any], trigger: ScheduleTrigger) -> Trip[str]:
        """Have a function run at times from now on, and give the name for it. Raises ConfigurationError."""
        (_, rule), wall = trigger.row(), self.deferred.database.clock.wall()

        def job(transaction: Transaction) -> _Known:
            first = schedules.put(transaction, function.name, trigger.name, rule, wall, next_of, declared=False)
            if first is None:
                raise ConfigurationError(f"schedule={trigger.expression!r}: it is over, there is no such time any more")
            return self._read(transaction)

        yield from self.deferred.serve_also(function)
        known = yield from self.deferred.database.write(job)
        with self._lock:
            self._run(known)
        return trigger.name

    def unschedule(self, function: Function[Any, Any], name: str) -> Trip[bool]:
        """Forget a schedule; tell whether it was there."""
        return (yield from self.deferred.database.write(lambda one: schedules.remove(one, function.name, name)))

    def schedules(self, function: Function[Any, Any]) -> Trip[dict[str, float | None]]:
        """List the schedules of a function by name, with the moment of each at which it is due next."""
        found = yield from self.deferred.database.write(
            lambda one: schedules.of_function(one, function.name), durable=False
        )
        return {one.name: one.next_at for one in found}

    def _time_moved(self) -> None:
        self.deferred.dispatch.hurry(self._ticker)

    async def look_again(self) -> None:
        """Another host may have paused something, or made the first schedule."""

        def job(transaction: Transaction) -> _Known | None:
            is_news = mappings.current(transaction) != self._current
            return (
                self._read(transaction)
                if is_news or not all(one.served for one in self._helpers(transaction))
                else None
            )

        known = await run_async(self.deferred.database.write(job, durable=False))
        if known is not None:
            with self._lock:
                self._run(known)

    # -- what runs -----------------------------------------------------------------------------------------------------

    def _read(self, transaction: Transaction) -> _Known:
        """Read the rows, and find the queues and logs that our triggers need, and our places in these."""
        rows = mappings.every(transaction)
        handles = {trigger.queue for trigger in self._all(QueueTrigger)}
        handles |= {handle.dead_letter for handle in handles if handle.dead_letter is not None}
        queue_of = self.deferred.outbox.queue_of
        queues = {handle: queue_of(transaction, handle) for handle in handles}
        logs = {}
        for row in rows:
            _, trigger = self._triggers.get(row[1:4], (None, None))
            if isinstance(trigger, StreamTrigger):
                stream = trigger.stream
                logs[row.source] = of = log.find_or_make(transaction, stream.path, stream.shards, stream.retention)
                log.follow(transaction, of, row.id, trigger.parallelization, row.rule["start"])
        self._reads += 1
        return _Known(self._reads, rows, queues, logs, self._helpers(transaction), mappings.current(transaction))

    def _helpers(self, transaction: Transaction) -> list[Source]:
        """List those that serve all functions, if they have anything to do."""
        ticker = [] if schedules.next_fire(transaction) is None else [self._ticker]
        return [*ticker, *([self._replayer] if replays.is_any_wanted(transaction) else []), *self._outside.values()]

    def _all(self, kind: type[T]) -> list[T]:
        """List our triggers of a kind."""
        return [trigger for _, trigger in tuple(self._triggers.values()) if isinstance(trigger, kind)]

    def _run(self, known: _Known) -> None:
        """Begin with what is enabled and of our functions, and end what is not any more."""
        if known.order < self._latest:  # another thread has read since, and was here before
            return
        self._latest = known.order
        for helper in known.helpers:
            if not helper.served:
                self.deferred.dispatch.serve(helper)
        self._current = known.current
        self._enabled = {row.id: row.enabled for row in known.rows}
        enabled = {row[1:4] for row in known.rows if row.enabled}
        self._doors = self._look_at_doors(enabled.__contains__)
        wanted: dict[int, tuple[Function[Any, Any], ServedTrigger]] = {}
        for row in known.rows:
            function, trigger = self._triggers.get(row[1:4], (None, None))
            if function is not None and isinstance(trigger, ServedTrigger) and row.enabled:
                wanted[row.id] = (function, trigger)
        for number, source in self._sources.items():
            if source.served and wanted.get(number) != (source.function, source.trigger):
                self.deferred.dispatch.leave(source)
        for number, (function, trigger) in wanted.items():
            former = self._sources.get(number)
            if former is None or not former.served:
                self._sources[number] = source = self._made(number, function, trigger, known)
                self.deferred.dispatch.serve(source)

    def _wanting(self, kind: type[T], is_enabled: Callable[[Key], bool]) -> list[tuple[Function[Any, Any], T, bool]]:
        """List our triggers of a kind, each with its function and whether it is enabled."""
        found = tuple(self._triggers.items())
        return [(function, one, is_enabled(key)) for key, (function, one) in found if isinstance(one, kind)]

    def _look_at_doors(self, is_enabled: Callable[[Key], bool]) -> Doors:
        """Make what leads from outside to our functions. Raises ConfigurationError."""
        return Doors(
            router_of(self._wanting(HttpTrigger, is_enabled), self._gates),
            hooks_of(self._wanting(AuthTrigger, is_enabled)),
            apis_of(self._wanting(SocketTrigger, is_enabled), self._gates),
            edges_of(self._wanting(EdgeTrigger, is_enabled)),
        )

    @property
    def hooks(self) -> dict[str, Asked]:
        """Who is asked what at sign-in."""
        return self._doors.hooks

    def doors(self) -> Open:
        """Give what an application of our routes needs."""
        return Open(self.deferred.house, self._doors.router, self._doors.apis, self.connections, self._doors.edges)

    def _made(self, number: int, function: Function[Any, Any], trigger: ServedTrigger, known: _Known) -> Served:
        if isinstance(trigger, AlarmTrigger):
            return AlarmSource(self.deferred.house, function, trigger)
        if isinstance(trigger, StreamTrigger):
            return StreamSource(self.deferred.house, function, trigger, number, known.logs[trigger.source])
        handle: Queue = trigger.queue
        dead_letter = None if handle.dead_letter is None else known.queues[handle.dead_letter]
        rules = queue.Rules(handle.max_receives, dead_letter, handle.retention)
        return QueueSource(self.deferred.house, function, trigger, known.queues[handle], rules)


def _timetable(function: Function[Any, Any]) -> dict[str, dict[str, Any]]:
    """List the schedules among the triggers of a function, by name."""
    return {one.name: one.row()[1] for one in function.options.trigger if isinstance(one, ScheduleTrigger)}


def _refuse_namesakes(functions: Iterable[Function[Any, Any]]) -> None:
    names: dict[str, Function[Any, Any]] = {}
    for function in functions:
        refuse_namesake(names.setdefault(function.name, function), function)
