"""
Where sandboxes come from and where they go: the zygote, the blank one on stand-by, the slots, the dying.

    make(job) ──► at work, idle, at work ... (pool.py) ──► retire() ──► bury()

Nothing here knows of permits or calls. One lock for what is kept, one for starting the zygote; neither is held while a
process is waited for.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import resource
import tempfile
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from pyfaas import limits
from pyfaas._confine.cgroups import Group, Groups, lid_bytes
from pyfaas._confine.plan import Holding, hold, lids, missing, uid_of
from pyfaas._sandbox.branch import Branch
from pyfaas._sandbox.packing import Job, extra_reads, pack_birth, pack_init, pack_restore, user_of
from pyfaas._sandbox.parent import Zygote, ZygoteDied, holders, making
from pyfaas._sandbox.sandbox import Sandbox
from pyfaas._sandbox.slots import Slots
from pyfaas._sandbox.template import Template
from pyfaas._sandbox.vitals import tree
from pyfaas.errors import HostError, InternalError

SPARE_DESCRIPTORS = 64
TOO_MANY_FILES = "{}, the limit is {} (ulimit -Hn): a sandbox needs three more"


class Supply:
    """The processes of one pool."""

    def __init__(
        self,
        confinement: str,
        check_open: Callable[[], None],
        wake_watch: Callable[[], None],
        drop_idle_of: Callable[[Zygote], None],
    ) -> None:
        self.slots = Slots(tempfile.mkdtemp(prefix="pyfaas-"))
        self.dying: list[Sandbox] = []
        self.begun: deque[Sandbox] = deque()  # whose first call is over, to be looked at by the watch
        self.spawned = 0
        self.current: Zygote | None = None
        self.branches: dict[tuple[str, ...], Branch] = {}  # by what they have imported
        self.templates: dict[Any, Template] = {}  # by shelf
        self.groups = Groups([] if confinement == "off" else None)
        self._groups_left: list[Group] = []
        self._confinement = confinement
        self._check_open = check_open
        self._wake_watch = wake_watch
        self._drop_idle_of = drop_idle_of
        self._ended = False
        self._modules: set[str] = set()
        self._lock = threading.Lock()
        self._start_lock = threading.Lock()
        self._numbers = itertools.count(1)

    # -- the zygote ----------------------------------------------------------------------------------------------------

    def zygote(self) -> Zygote:
        """Give the zygote, starting it on first use and after its death."""
        zygote = self.current
        if zygote is not None:
            return zygote
        with self._start_lock:
            self._check_open()
            if self.current is None:
                self.current = Zygote(self.slots.root, self._modules, self._confinement)
                if self._confinement == "best":
                    _tell_what_is_not_held(self.holdings())
            return self.current

    def holdings(self) -> list[Holding]:
        """Tell how each guarantee is held here."""
        host = self.current.host if self.current is not None else self.zygote().host
        return hold(host, self.groups.controllers)

    def _source(self, modules: tuple[str, ...]) -> Zygote:
        """Give the zygote, or the branch of it that has imported these modules. Raises ZygoteDied."""
        trunk = self.zygote()
        if not modules:
            return trunk
        branch = self.branches.get(modules)
        if branch is None:
            with self._start_lock:
                self._check_open()
                branch = self.branches.get(modules)
                if branch is None:
                    branch = self.branches[modules] = Branch(trunk, modules)
        return branch

    def _is_current(self, zygote: Zygote) -> bool:
        return zygote is self.current or zygote in (*self.branches.values(), *self.templates.values())

    def preload(self, module: str) -> None:
        """Have a module imported ahead of all sandboxes to come."""
        if module not in self._modules:
            self._modules.add(module)
            self.zygote().preload([module])

    def forget(self, zygote: Zygote) -> None:
        """Let go of a zygote that died, with all that are idle. The next sandbox starts another."""
        with self._start_lock:
            if not self._is_current(zygote):
                return
            if zygote is self.current:
                self.current = None
            # Those of a zygote go with it; of a branch or a template that died, itself.
            gone: list[Zygote] = [one for one in self.branches.values() if zygote in (one, one.trunk)]
            gone += [one for one in self.templates.values() if one is zygote or one.trunk in (zygote, *gone)]
            self.branches = {key: one for key, one in self.branches.items() if one not in gone}
            lost = [self.templates.pop(shelf) for shelf in [*self.templates] if self.templates[shelf] in gone]
        for template in lost:
            self.retire(template.keeper)
        for one in dict.fromkeys([*gone, zygote]):
            with self._lock:
                spare, one.spare = one.spare, None
            if spare is not None:
                self.retire(spare)
            self._drop_idle_of(one)
            one.close()

    # -- making --------------------------------------------------------------------------------------------------------

    def make(self, owner: object, job: Job, slot: str, *, suppressed: bool = False) -> Sandbox:
        """
        Make the sandbox of a job, of the one on stand-by if that will do; ``slot``: of a sandbox that crashed.

        Raises HostError, and ConfigurationError for what the function is granted and does not exist.
        """
        options = job.function.options
        reads = extra_reads(job.function, self.zygote())
        plain = not (options.writes or reads or slot)
        source = self.branches.get(options.preload) if options.preload else self.current
        sandbox = self._take_spare(owner, source, plain=plain) if source is not None and not job.template else None
        if sandbox is None:
            sandbox = self._make(owner, options.preload)
        try:
            with self._lock:
                sandbox.slot = sandbox.slot or slot or self.slots.make()
            weighed = "cpu" not in self.groups.controllers
            sandbox.uid = user_of(job.function, reads, self._uid_of(sandbox))
            init = pack_init(job, sandbox, reads, weighed=weighed)
            timeout, memory = float(options.timeout), options.memory * limits.MB
            init_limit = max(limits.SNAP_INIT_SECONDS, timeout) if job.template else None
            sandbox.assign(init, timeout, memory, suppressed=suppressed, init_limit=init_limit)
            sandbox.peer.may_call = bool(options.allow)
        except BaseException:
            self.retire(sandbox)
            raise
        return sandbox

    def fork(self, owner: object, job: Job, slot: str, template: Template, *, suppressed: bool = False) -> Sandbox:
        """Make the sandbox of a job from the template that has run its init. Raises ZygoteDied and HostError."""
        options = job.function.options
        sandbox = None if slot else self._take_spare(owner, template, plain=True)
        sandbox = sandbox or self._fork(owner, slot, template)
        init = pack_restore(job, sandbox)
        sandbox.assign(init, float(options.timeout), options.memory * limits.MB, suppressed=suppressed)
        sandbox.peer.may_call = bool(options.allow)
        return sandbox

    def _fork(self, owner: object, slot: str, template: Template) -> Sandbox:
        with self._lock:
            slot = slot or self.slots.make()
        try:
            with making:
                _make_room_for_descriptors()
                sandbox = Sandbox(template, next(self._numbers), owner, slot)
        except BaseException as error:
            self.remove_slots([slot])
            if isinstance(error, OSError):
                raise _no_sandbox(error) from error
            raise
        self.spawned += 1
        return sandbox

    def _uid_of(self, sandbox: Sandbox) -> int:
        return uid_of(sandbox.zygote.host, self.slots.number, self.slots.number_of(sandbox.slot))

    def _take_spare(self, owner: object, source: Zygote, *, plain: bool) -> Sandbox | None:
        """Take the one on stand-by; one that was born sees what all see, which is not enough for every function."""
        with self._lock:
            sandbox: Sandbox | None = source.spare
            if sandbox is None or (sandbox.born and not plain):
                return None
            source.spare = None
            sandbox.owner = owner
            return sandbox

    def _make(self, owner: object, modules: tuple[str, ...] = ()) -> Sandbox:
        for attempt in range(3):  # a branch may be found dead, then the zygote
            zygote = self.zygote()
            try:
                zygote = self._source(modules)
                with making:
                    _make_room_for_descriptors()
                    sandbox = Sandbox(zygote, next(self._numbers), owner)
            except ZygoteDied as error:
                self.forget(zygote)
                if self.current is not None and self.current.is_gone():  # a branch of it was the first to tell
                    self.forget(self.current)
                if attempt == 2:
                    raise HostError(f"the process that makes sandboxes dies and dies: {error}") from error
            except OSError as error:
                raise _no_sandbox(error) from error
            else:
                self.spawned += 1
                return sandbox
        raise InternalError("a loop of three ended")

    @property
    def standby(self) -> Sandbox | None:
        """The blank one that the zygote forked ahead; branches and templates have one each of their own."""
        return self.current.spare if self.current is not None else None

    def want_spare(self, started: Sandbox) -> None:
        """A cold start is over: let the watch make the next one ahead, after the answer and not beside it."""
        started.zygote.spare_wanted = True
        self.begun.append(started)
        self._wake_watch()

    def refill(self) -> None:
        """Make the next blank one of each source of which one was wanted. Raises HostError."""
        if self.current is not None and self._wants_spare(self.current):
            self._keep_spare(self._bear(()))
        for modules, branch in tuple(self.branches.items()):
            if self._wants_spare(branch):
                self._keep_spare(self._bear(modules))
        for template in tuple(self.templates.values()):
            if self._wants_spare(template):
                with contextlib.suppress(ZygoteDied):  # a call will tell
                    self._keep_spare(self._fork(self, "", template))

    @staticmethod
    def _wants_spare(source: Zygote) -> bool:
        wanted = source.spare_wanted and source.spare is None and not source.is_gone()
        source.spare_wanted = False
        return wanted

    def _bear(self, modules: tuple[str, ...]) -> Sandbox:
        """Make a blank one, and have it take its first steps."""
        sandbox = self._make(self, modules)
        host = sandbox.zygote.host
        if host.view:
            with self._lock:
                sandbox.slot = self.slots.make()
            sandbox.be_born(pack_birth(sandbox.slot, self._uid_of(sandbox), host))
        return sandbox

    def _keep_spare(self, sandbox: Sandbox) -> None:
        source = sandbox.zygote
        with self._lock:
            keep = source.spare is None and self._is_current(source) and not self._ended
            if keep:
                source.spare = sandbox
                sandbox.owner = None
        if not keep:
            self.retire(sandbox)

    # -- ends ----------------------------------------------------------------------------------------------------------

    def orphans(self, owner: object, idle: set[Sandbox]) -> list[Sandbox]:
        """Find the sandboxes of this owner, and those that are nobody's and in no place where such belong."""
        with self._lock, making:
            sources = [self.current, *self.branches.values(), *self.templates.values()]
            spares = {one.spare for one in sources if one is not None}
            placed = {*idle, *self.dying, *spares, *(one.keeper for one in self.templates.values())}
            return [
                one
                for one in tuple(holders)
                if isinstance(one, Sandbox)
                and self._is_current(one.zygote)
                and (one.owner is owner or one.owner is None)
                and one not in placed
                and one.is_open
            ]

    def retire(self, sandbox: Sandbox) -> None:
        """Kill a sandbox that nobody uses; it is buried by the watch, or here where that has ended."""
        sandbox.kill()
        with self._lock:
            self.dying.append(sandbox)
        if self._ended:
            self.bury()
        else:
            self._wake_watch()

    def bury(self) -> None:
        """Close what is held of the sandboxes that are gone, and remove their directories."""
        with self._lock:
            gone = [sandbox for sandbox in self.dying if sandbox.is_gone()]
            self.dying = [sandbox for sandbox in self.dying if sandbox not in gone]
            for sandbox in gone:
                sandbox.owner = self  # else whoever mends an interrupt now would take it for one that was lost
        for sandbox in tuple(self.dying):
            sandbox.press()
        for sandbox in gone:
            sandbox.bury()
            self.remove_slots([sandbox.slot])
        groups = [*self._groups_left, *(sandbox.group for sandbox in gone if sandbox.group is not None)]
        self._groups_left = [group for group in groups if not group.remove()]

    def hold_by_group(self, sandbox: Sandbox) -> None:
        """Put a sandbox, with all that it has started, into a cgroup of its own, where there are such."""
        options = sandbox.shelf.function.options
        group = self.groups.make(f"sandbox-{sandbox.number}", lids(sandbox.zygote.host, options.processors()))
        if group is None:
            return
        sandbox.group = group
        try:
            group.limit(lid_bytes(options.memory, options.ephemeral_storage), limits.PROCESSES, options.processors())
            seen: set[int] = set()
            while more := set(tree(sandbox.pid)) - seen:  # what starts meanwhile outside is found next time
                seen |= more
                for pid in more:
                    with contextlib.suppress(ProcessLookupError):
                        group.add(pid)
        except OSError:  # it is gone, or may not be moved: then the watch is alone with it
            pass

    def remove_slots(self, slots: Iterable[str]) -> None:
        """Remove directories that no sandbox uses any more."""
        for slot in slots:
            if slot:
                self.slots.remove(slot)

    def close(self) -> None:
        """End every process, and close what is held of those that nobody uses. An interrupted close may be repeated."""
        with self._start_lock:
            zygotes = [one for one in (self.current, *self.branches.values()) if one is not None]
            for zygote in zygotes:
                zygote.close()
            zygotes += self.templates.values()
        with self._lock, making:
            self._ended = True
            ours = [one for one in tuple(holders) if isinstance(one, Sandbox) and one.zygote in zygotes]
            rest = [one for one in ours if one.owner is None]
            rest += self.dying
        for sandbox in rest:
            sandbox.close()
        self.slots.close()
        self.groups.close()
        with self._lock:
            self.dying = [sandbox for sandbox in self.dying if sandbox.is_open]
        self.current = None
        self.branches.clear()
        self.templates.clear()

    def abandon(self) -> None:
        """In a forked child of the host: forget what is the parent's. No lock is taken."""
        self._ended = True
        self._lock = threading.Lock()
        self._start_lock = threading.Lock()
        self.dying = []
        self.current = None
        self.branches = {}
        self.templates = {}


_told: set[str] = set()


def _tell_what_is_not_held(holdings: list[Holding]) -> None:
    """Warn, once in a process, of what this host cannot keep."""
    told = ", ".join(one.guarantee for one in missing(holdings))
    if told and told not in _told:
        _told.add(told)
        warnings.warn(f"this host does not hold: {told} (`pyfaas doctor` says why)", RuntimeWarning, stacklevel=2)


def _make_room_for_descriptors() -> None:
    """Raise the soft limit of open files to the hard one, but only when it comes near. Raises HostError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.close(probe)
    # Of a sandbox's three descriptors one comes with its HELLO: up to half as many as are open may be on their way.
    if soft == resource.RLIM_INFINITY or probe + probe // 2 < soft - SPARE_DESCRIPTORS:
        return
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    elif probe + sum(one.pidfd < 0 for one in tuple(holders) if isinstance(one, Sandbox)) >= soft - 8:
        raise HostError(TOO_MANY_FILES.format(f"{probe} files are open", soft))


def _no_sandbox(error: OSError) -> HostError:
    """What says why none could be made; whoever fills the table between our look and our need is told of alike."""
    if error.errno != errno.EMFILE:
        return HostError(f"no sandbox could be made: {error}")
    return HostError(TOO_MANY_FILES.format("too many files are open", resource.getrlimit(resource.RLIMIT_NOFILE)[0]))
