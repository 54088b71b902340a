"""
What must hold around every attack, said once.

    arena.attack(function, TimedOut)     neighbour at work ──► attack ──► error? soon? all gone? next call? neighbour?
                                         ──► files, threads, memory and processes of the host as before

Processes are found from outside, in /proc: the zygote has one child for each sandbox that the pool accounts for, and a
sandbox that has done its work is one process; whatever else hangs below the zygote has got away. A process cannot leave
its PID namespace, so those that bear the namespace of the attacked sandbox are counted as well.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from attacks import handlers
from pyfaas import FunctionError, Outcome, Runtime
from pyfaas._confine.plan import Host
from pyfaas._pool.pool import Pool
from pyfaas._sandbox.sandbox import Sandbox
from support import open_files, wait_until

TESTS = Path(__file__).parent.parent

# Beyond the deadline: a loaded machine is late, but a kill that waits for the attacker's consent never comes.
KILL_SECONDS = 1.0
# Before the neighbour says that it was held up; it looks at the clock every 5 ms.
PAUSE_SECONDS = 2.0
# What the allocator may keep of what was freed.
MEMORY_SLACK = 48 * 1_048_576


# -- looking at processes ----------------------------------------------------------------------------------------------


def stat_of(pid: int) -> list[str]:
    """Give the fields of /proc/<pid>/stat from the state on; [] if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return []
    return text[text.rfind(")") + 2 :].split()


def started_at(pid: int) -> str:
    """Tell two processes with the same number apart; "" for one that is not alive."""
    fields = stat_of(pid)
    return fields[19] if fields and fields[0] not in "ZX" else ""


def all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def below(ancestor: int) -> set[int]:
    """Give all descendants of a process that are not dead (a zombie of a sandbox's own is)."""
    parents = {}
    for pid in all_pids():
        fields = stat_of(pid)
        if fields:
            parents[pid] = int(fields[1]), fields[0]
    found: set[int] = set()
    fresh = {ancestor}
    while fresh:
        fresh = {pid for pid, (parent, _) in parents.items() if parent in fresh} - found
        found |= fresh
    return {pid for pid in found if parents[pid][1] not in "ZX"}


class Namespace:
    """The PID namespace of a process, held open: else its number would soon be another one's."""

    def __init__(self, pid: int) -> None:
        self._descriptor = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
        self.name = os.readlink(f"/proc/self/fd/{self._descriptor}")

    def living(self) -> list[int]:
        """Give the processes in it that are not dead."""
        found = []
        for pid in all_pids():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/ns/pid") == self.name and started_at(pid):
                    found.append(pid)
        return found

    def close(self) -> None:
        os.close(self._descriptor)


# -- looking at the host -----------------------------------------------------------------------------------------------


def threads() -> list[str]:
    """Name the threads of this process, but for those that trio keeps for ten seconds in case it needs one."""
    names = [thread.name for thread in threading.enumerate()]
    return sorted(name for name in names if not name.lower().startswith("trio"))


def resident_bytes() -> int:
    """Give the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def blanks(pool: Pool) -> int:
    """Count the sandboxes that wait for a function."""
    return int(pool.supply.standby is not None)


# -- the arena ---------------------------------------------------------------------------------------------------------


class Neighbour:
    """An invocation of another function that is in flight while the attack goes on."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.token = uuid.uuid4().hex
        self._until = directory / f"until-{self.token}"
        self._started = directory / f"started-{self.token}"
        self._outcome: Outcome | None = None
        self._thread = threading.Thread(target=self._call, args=(runtime,), name="neighbour")
        self._thread.start()
        try:
            wait_until(lambda: self._started.exists() or not self._thread.is_alive())
        except BaseException:
            self._until.touch()
            raise

    def _call(self, runtime: Runtime) -> None:
        event = {"token": self.token, "started": str(self._started), "until": str(self._until)}
        self._outcome = runtime.try_invoke(handlers.neighbour, event)

    def finish(self) -> None:
        """Let it answer."""
        self._until.touch()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the neighbour never answered"

    def assert_untouched(self) -> None:
        """Its answer is its own, it was cold only if nobody had called it before, nothing stopped it for long."""
        assert self._outcome is not None
        value = self._outcome.value  # raises what became of it
        assert value["token"] == self.token
        assert value["longest_pause"] < PAUSE_SECONDS, value


class Arena:
    """A runtime, and what must hold around each attack in it."""

    def __init__(self, runtime: Runtime, directory: Path) -> None:
        self.runtime = runtime
        self.directory = directory
        self.elapsed = 0.0  # of the last attack, until the caller knew
        self.namespace: Namespace | None = None  # of the sandbox that was last attacked from
        # One call starts all that a runtime keeps, a standby last; then none is being made or buried.
        runtime.invoke(handlers.neighbour, {})
        wait_until(lambda: self.pool.supply.standby is not None and self.settled(), 10.0)
        wait_until(
            lambda: bool(self.pool.watch and self.pool.watch.parked)
        )  # else it may hold what it is about to close
        self._open_files = self._files()  # sandboxes left out

    @property
    def pool(self) -> Pool:
        return self.runtime._pool  # type: ignore[no-any-return]

    @property
    def host(self) -> Host:
        """What the zygote found of this machine."""
        return self.pool.supply.zygote().host

    @property
    def confined(self) -> bool:
        """Whether the kernel holds the tree together, by a PID namespace."""
        return self.host.pid_namespace

    def held(self, guarantee: str) -> str:
        """Tell how the runtime says that it holds a guarantee."""
        return next(one.held for one in self.runtime.confinement() if one.guarantee == guarantee)

    # -- sandboxes -----------------------------------------------------------------------------------------------------

    def idle_sandbox(self, function: Any) -> Sandbox:
        """Give the sandbox that the next call of this function gets."""
        return self.pool.ledger.shelves[function].idle[-1]  # type: ignore[no-any-return]

    def running_sandbox(self, function: Any) -> Sandbox:
        """Wait for the sandbox that a call of this function is running in."""
        found: list[Sandbox] = []

        def look() -> bool:
            found[:] = [
                sandbox
                for sandbox in tuple(self.pool.running)
                if sandbox.shelf is not None and sandbox.shelf.function is function and sandbox.pid > 0
            ]
            return bool(found)

        wait_until(look)
        return found[0]

    def warm(self, function: Any) -> Sandbox:
        """Have one idle sandbox of this function at the least."""
        assert self.runtime.invoke(function, handlers.WORK) == handlers.DONE
        return self.idle_sandbox(function)

    # -- before and after ----------------------------------------------------------------------------------------------

    def settled(self) -> bool:
        """Nothing is in flight or on its way out, and below the zygote is one process for each sandbox."""
        pool = self.pool
        if pool.running or pool.supply.dying:
            return False
        sandboxes = pool.ledger.live + blanks(pool)
        return len(below(pool.supply.zygote().pid)) == sandboxes

    def settled_but_for_the_neighbour(self) -> bool:
        """The same, while one invocation is in flight."""
        pool = self.pool
        sandboxes = pool.ledger.live + blanks(pool)
        return len(pool.running) == 1 and not pool.supply.dying and len(below(pool.supply.zygote().pid)) == sandboxes

    def zombies_in(self, sandbox: Sandbox) -> int:
        """Count the dead children of a sandbox that nobody has waited for."""
        return sum(stat_of(pid)[:2] == ["Z", str(sandbox.pid)] for pid in all_pids())

    def wait_until_settled(self) -> None:
        try:
            wait_until(self.settled, 10.0)
        except AssertionError:
            pool = self.pool
            left = {pid: Path(f"/proc/{pid}/stat").read_text() for pid in below(pool.supply.zygote().pid)}
            for shelf in tuple(pool.ledger.shelves.values()):
                pool.retire(shelf.function)  # one failure is told once, not by every attack that follows
            raise AssertionError(
                f"{self.runtime!r} does not settle; alive: {left}; dying: {pool.supply.dying}"
            ) from None

    def _files(self) -> int:
        """Count our descriptors, less those that a sandbox has by right."""
        pool = self.pool
        greeted = sum(sandbox.pidfd >= 0 for shelf in pool.ledger.shelves.values() for sandbox in shelf.idle)
        if pool.supply.standby is not None:
            greeted += pool.supply.standby.pidfd >= 0
        sandboxes: int = pool.ledger.live + blanks(pool)
        return len(open_files()) - 2 * sandboxes - int(greeted) - int(self.namespace is not None)

    def _wait_for_files(self, count: int) -> None:
        """A sandbox that is buried is struck off first, then its descriptors are closed."""
        try:
            wait_until(lambda: self._files() == count, 5.0)
        except AssertionError:
            raise AssertionError(f"{self._files() - count} more files are open: {open_files()}") from None

    @contextlib.contextmanager
    def unharmed(self) -> Iterator[None]:
        """The host is after this block what it was before."""
        self.wait_until_settled()
        self._wait_for_files(self._open_files)
        before, memory = threads(), resident_bytes()
        yield
        self.wait_until_settled()
        wait_until(lambda: threads() == before, 5.0)
        self._wait_for_files(self._open_files)
        after = resident_bytes()
        if after > memory + MEMORY_SLACK:
            gc.collect()
            after = resident_bytes()
        assert after <= memory + MEMORY_SLACK, f"{(after - memory) >> 20} MB more are resident"

    @contextlib.contextmanager
    def beside_a_neighbour(self) -> Iterator[None]:
        """An invocation of another function is in flight during this block, and untouched by it."""
        neighbour = Neighbour(self.runtime, self.directory)
        try:
            yield
        finally:
            neighbour.finish()
        neighbour.assert_untouched()

    @contextlib.contextmanager
    def surroundings(self, function: Any, *, warm: bool = True) -> Iterator[None]:
        """All that must hold around an attack from this function, whatever it does in the block."""
        self.runtime.invoke(handlers.neighbour, {})
        if warm:
            self.warm(function)
        with self.unharmed(), self.beside_a_neighbour():
            yield
            assert self.runtime.invoke(function, handlers.WORK) == handlers.DONE

    # -- the attack ----------------------------------------------------------------------------------------------------

    def attack(
        self,
        function: Any,
        error: type[FunctionError] | None = None,
        *,
        event: Any = handlers.ATTACK,
        after: float = 0.0,
        within: float | None = None,
        lingering: float = 0.0,
        check: Callable[[Outcome], None] | None = None,
    ) -> Outcome:
        """
        Attack from a warm sandbox, and see to all that must hold.

        ``error``: what the caller must get, None for a value; then the sandbox is gone with everything in it.
        ``after``, ``within``: seconds that the caller's wait takes at the least and at the most; ``within`` is by
        default the time-out and what a kill may take. ``lingering``: seconds that the dying may go on after that.
        """
        if within is None:
            within = function.options.timeout + KILL_SECONDS
        with self.surroundings(function):
            sandbox = self.idle_sandbox(function)
            self.remember(sandbox)
            began_at = time.monotonic()
            outcome = self.runtime.try_invoke(function, event)
            self.elapsed = time.monotonic() - began_at
            self._assert_ending(outcome, error)
            assert after <= self.elapsed <= within, f"the caller waited {self.elapsed:.3f} s"
            if error is not None and (outcome.error is None or outcome.error.__class__.__name__ not in SURVIVABLE):
                self.assert_gone(sandbox, lingering)
            if check is not None:
                check(outcome)
        return outcome

    @staticmethod
    def _assert_ending(outcome: Outcome, error: type[FunctionError] | None) -> None:
        if error is None:
            assert outcome.error is None, repr(outcome.error)
        else:
            assert type(outcome.error) is error, repr(outcome.error) if outcome.error else outcome.payload[:200]

    def remember(self, sandbox: Sandbox) -> None:
        """Note whose processes must be gone afterwards."""
        self.forget()
        self.namespace = Namespace(sandbox.pid)

    def forget(self) -> None:
        """Let go of what was noted."""
        namespace, self.namespace = self.namespace, None
        if namespace is not None:
            namespace.close()

    def living(self) -> list[int]:
        """Give the living processes of the sandbox that was noted, where a namespace tells them from others."""
        assert self.namespace is not None
        return self.namespace.living() if self.confined else []

    def assert_gone_soon(self, sandbox: Sandbox) -> None:
        """Nothing of it is alive after what a kill may take; its answer was taken before it was killed."""
        self.assert_gone(sandbox, KILL_SECONDS)

    def assert_gone(self, sandbox: Sandbox, lingering: float = 0.0) -> None:
        """Nothing of this sandbox is alive, from the moment on when its caller knows, or soon after."""
        wait_until(lambda: not self.living(), lingering)
        assert sandbox not in self.pool.running


# Failures that the sandbox outlives.
SURVIVABLE = {"HandlerFailed", "BadResponse"}
