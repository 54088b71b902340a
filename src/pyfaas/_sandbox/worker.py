"""
The worker: a sandbox from inside. (child side; standard library only)

Forked blank from the zygote, as PID 1 of a namespace of its own. It says HELLO, and from then on does what frames say:

    BIRTH  ──► what can be done before its function is known (a standby)
    INIT   ──► limits, environment, directory, streams ──► the loader ──► READY or FAULT
    INVOKE ──► the handler ──► VALUE or ERROR, written before the next frame is read

A template (snap start, see snapshot.py) goes on after READY by forking workers, that begin again with their HELLO.

The end of the socket is the end of the process.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # without the enums of the module above it
import _thread
import atexit
import contextlib
import faulthandler
import gc
import json
import os
import pickle
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from pyfaas import _port, limits
from pyfaas._confine import root
from pyfaas._confine.apply import CpuBackstop, apply
from pyfaas._confine.hints import hint
from pyfaas._confine.root import Grounds
from pyfaas._payload import decode_event, encode_result
from pyfaas._sandbox import forking, loader, protocol, snapshot
from pyfaas._sandbox.orphans import Orphans
from pyfaas._sandbox.output import Output
from pyfaas._sandbox.port import SandboxPort
from pyfaas._sandbox.rehearsal import rehearse
from pyfaas.context import Context, context_for_call
from pyfaas.errors import BadResponse, FunctionError, InitFailed, InvokeError

CHUNK_BYTES = 65_536
PATIENCE_SECONDS = 0.003


class Worker:
    """What one worker holds between frames. Made once, in the zygote; each fork brings its copy to life."""

    wire: socket.socket
    grounds: Grounds
    template: snapshot.Template
    preload_trouble = ""

    def __init__(self) -> None:
        self.output = Output()
        self.peer = protocol.WorkerPeer()
        self.pid = 0
        self.forked = False  # this is a child that the handler forked
        self.orphans = Orphans()
        self.calling = _thread.allocate_lock()  # for the wire, where other threads of the handler may call the host
        self.current = 0  # the sequence of the invocation that is going on, where it may call
        self.sequence = 0  # the same, as long as its handler runs
        self.calls = 0
        self.result: bytes | None = None
        self.early: list[protocol.Invocation] = []  # came while a call waited for its result

    def prepare(self) -> None:
        """In the zygote: do all that is the same in every sandbox, so that its pages stay shared."""
        self.output.install()
        faulthandler.enable(2, all_threads=False)
        # In a child that the handler forks, the wire is closed: it can neither answer nor keep the socket open.
        os.register_at_fork(after_in_child=self._forked)
        self.orphans.watch_own_children()
        sys.argv[:] = [""]
        os.umask(0o022)

    def live(self, wire: int, log: int, grounds: Grounds) -> None:
        """In the fork: from HELLO to the end of the socket."""
        os.setsid()
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        _signal.signal(_signal.SIGINT, _signal.default_int_handler)
        self.pid = os.getpid()
        self.grounds = grounds
        self.network = True
        self.wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=wire)
        self.output.take(log)
        forking.settle()
        _reseed()
        self.say_hello()
        self._rehearse_unless_called(PATIENCE_SECONDS)
        self.run()

    def _rehearse_unless_called(self, seconds: float) -> None:
        """Where nobody waits, a standby writes its pages now, not when its function comes."""
        if not select.select([self.wire], [], [], seconds)[0]:
            rehearse()

    def _forked(self) -> None:
        self.forked = True
        self.wire.close()

    def say_hello(self) -> None:
        """Tell the host that this worker lives, and how to kill it."""
        hello = protocol.answer_frame(protocol.HELLO, 0, 0.0, 0.0, self.pid, b"")
        if not hasattr(os, "pidfd_open"):
            self.wire.sendall(hello)
            return
        pidfd = os.pidfd_open(self.pid)
        socket.send_fds(self.wire, [hello], [pidfd])
        os.close(pidfd)

    def run(self) -> None:
        """Take frames until the host hangs up."""
        frames = self._first_frames()
        if frames[0].kind == protocol.BIRTH:
            apply(pickle.loads(frames.pop(0).payload), self.grounds)  # noqa: S301 - the host's own bytes
            if not frames:
                self._rehearse_unless_called(0.0)
            frames = frames or self._first_frames()
        started_at = time.monotonic()
        wanted = pickle.loads(frames.pop(0).payload)  # noqa: S301 - the host's own bytes
        self._settle(wanted)
        handler = self._answered(started_at, self._load, wanted)
        if wanted["template"]:
            frames = self._fork_sandboxes()  # comes back in each of them
            wanted.update(pickle.loads(frames.pop(0).payload))  # noqa: S301 - likewise
            handler = self._answered(time.monotonic(), self._restore, handler, wanted)
        if wanted["granted_calls"]:
            call = self._with_calls(self._make_call(self._among_calls(handler), wanted))
        else:
            call = self._make_call(handler, wanted)
        recv, receive = self.wire.recv, self.peer.receive
        while True:
            for frame in frames:
                call(frame)
            self.orphans.reap()
            if self.early:
                frames, self.early = self.early, []
                continue
            data = recv(CHUNK_BYTES)
            if not data:
                os._exit(0)
            frames = receive(data)
            while not frames:
                frames = self._rest_of_event()

    def _rest_of_event(self) -> list[protocol.Invocation]:
        """Read on; a large event goes where it is to lie."""
        room = self.peer.room()
        if room is None:
            data = self.wire.recv(CHUNK_BYTES)
            if not data:
                os._exit(0)
            return self.peer.receive(data)
        size = self.wire.recv_into(room)
        if not size:
            os._exit(0)
        self.peer.filled(size)
        return self.peer.receive(b"")

    def _first_frames(self) -> list[protocol.Invocation]:
        frames: list[protocol.Invocation] = []
        while not frames:
            frames = self._rest_of_event()
        return frames

    def call_host(self, payload: bytes) -> bytes:
        """Ask the host for something, and wait for the result. Raises InvokeError where no invocation is going on."""
        with self.calling:
            if not self.sequence or self.forked or os.getpid() != self.pid:
                raise InvokeError("the host can be called while an invocation runs, by the process that runs it")
            self.calls += 1
            self.result = None
            frame = protocol.answer_frame(protocol.CALL, self.sequence, 0.0, 0.0, self.calls, payload)
            self._undisturbed(self.wire.sendall, frame)
            while self.result is None:
                select.select([self.wire], [], [])  # here, and nowhere else, a handler of a signal may break it off
                self._undisturbed(self._take_in)
            return self.result

    def _among_calls(self, handler: Callable[[Any, Context], Any]) -> Callable[[Any, Context], Any]:
        """Let the handler call the host as long as it runs, and let nobody else."""

        def handle(event: Any, context: Context) -> Any:
            self.sequence = self.current
            try:
                return handler(event, context)
            finally:
                if not self.forked:
                    with self.calling:  # what a thread of the handler has begun comes to its end
                        self.sequence = 0

        return handle

    def _with_calls(self, call: Callable[[protocol.Invocation], None]) -> Callable[[protocol.Invocation], None]:
        """Note which invocation calls; drop the results of calls that were broken off."""

        def note(frame: protocol.Invocation) -> None:
            if frame.kind == protocol.INVOKE:
                self.current = frame.sequence
                call(frame)

        return note

    @staticmethod
    def _undisturbed(do: Callable[..., Any], *arguments: Any) -> None:
        """Do it without handlers of signals in between, which may raise, and leave half of a frame behind."""
        before = _signal.pthread_sigmask(_signal.SIG_BLOCK, _signal.valid_signals())
        try:
            do(*arguments)
        finally:
            _signal.pthread_sigmask(_signal.SIG_SETMASK, before)

    def _take_in(self) -> None:
        for frame in self._rest_of_event():
            if frame.kind != protocol.RESULT:
                self.early.append(frame)
            elif frame.budget == self.calls:  # else of a call that was broken off
                self.result = bytes(frame.payload)

    # -- init ----------------------------------------------------------------------------------------------------------

    def _answered(self, started_at: float, step: Callable[..., Any], *arguments: Any) -> Any:
        """Do a step of becoming the sandbox of one function, and tell the host how that ended."""
        try:
            done = step(*arguments)
        except InitFailed as error:
            self._answer_init(protocol.FAULT, started_at, _error_payload(error))
            os._exit(1)
        except SystemExit as error:
            self._exit(loader.exit_code_of(error))
        except BaseException as error:
            failed = InitFailed(loader.message_of(error), type(error).__name__, loader.stack_of(error))
            failed.remote_traceback = loader.trace_text(error)
            self._answer_init(protocol.FAULT, started_at, _error_payload(failed))
            os._exit(1)
        self._answer_init(protocol.READY, started_at, b"")
        gc.enable()
        return done

    def _load(self, wanted: dict[str, Any]) -> Callable[[Any, Context], Any]:
        """Find the handler; where sandboxes will be forked, get all ready for that."""
        if wanted["no_template"]:
            raise InitFailed(wanted["no_template"], "Runtime.SnapStartUnavailable")
        if self.preload_trouble:
            raise InitFailed(f"preload={wanted['preload']!r}: {self.preload_trouble}", "Runtime.ImportModuleError")
        handler = loader.load(wanted["handler"])
        if not wanted["template"]:
            return self._shape(handler, wanted)
        snapshot.run_before_hooks()
        snapshot.refuse_trouble()
        reads, writes = wanted["granted"]
        below = (*root.below_tmp((*self.grounds.paths, *reads)), *root.below_tmp(writes))
        self.template = snapshot.Template(self.wire, below)
        self.template.seal(self.output.log)
        return handler

    def _fork_sandboxes(self) -> list[protocol.Invocation]:
        """In the template: fork a sandbox for each order. Comes back in those alone, with their first frames."""
        wire, log, temporary, shared = self.template.wait_for_order()
        os.close(self.output.log)
        self.output.take(log)
        os.setsid()
        self.template.settle(temporary, shared)
        self.pid = os.getpid()
        self.forked = False
        self.wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM, 0, fileno=wire)
        self.peer = protocol.WorkerPeer()
        _reseed()
        self.say_hello()
        return self._first_frames()

    def _restore(self, handler: Callable[..., Any], wanted: dict[str, Any]) -> Callable[[Any, Context], Any]:
        """In a sandbox that was forked from a template: give up the rest, and do what must be done anew."""
        apply(wanted["steps"], self.grounds)
        snapshot.run_after_hooks()
        return self._shape(handler, wanted)

    def _answer_init(self, kind: int, started_at: float, payload: bytes) -> None:
        duration = time.monotonic() - started_at
        self.wire.sendall(protocol.answer_frame(kind, 0, started_at, duration, self.output.end(), payload))

    def _settle(self, wanted: dict[str, Any]) -> None:
        """Take on the limits, the environment and the directory."""
        os.environ.update(wanted["environment"])
        if "TZ" in wanted["environment"]:
            time.tzset()
        if "tempfile" in sys.modules:
            sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined]
        sys.path[:] = wanted["sys_path"]
        _port.opened(SandboxPort(wanted["function"], wanted["granted_calls"], self.call_host))
        _port.in_sandbox = True
        self.network = wanted["network"]
        wanted["no_template"] = ""
        try:
            apply(wanted["steps"], self.grounds)
        except OSError as error:
            if not wanted["template"]:
                raise
            wanted["no_template"] = str(error)  # the host will make a sandbox that needs none
        self.grounds.close()
        self.grounds = Grounds(paths=self.grounds.paths)
        self.pid = os.getpid()
        os.chdir(wanted["directory"])

    def _shape(self, handler: Callable[..., Any], wanted: dict[str, Any]) -> Callable[[Any, Context], Any]:
        """Make every handler one of ``(event, context)`` that returns its result."""
        if wanted["takes_context"]:
            call = handler
        else:

            def call(event: Any, _context: Context) -> Any:
                return handler(event)

        if not wanted["is_async"]:
            return call
        import asyncio

        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)

        def call_async(event: Any, context: Context) -> Any:
            return loop.run_until_complete(call(event, context))

        return call_async

    # -- one invocation ------------------------------------------------------------------------------------------------

    def _make_call(
        self, handler: Callable[[Any, Context], Any], wanted: dict[str, Any]
    ) -> Callable[[protocol.Invocation], None]:
        """Bind what every invocation needs, once."""
        output, wire = self.output, self.wire
        monotonic = time.monotonic
        backstop = CpuBackstop(wanted["cpu_seconds"])
        template = Context(
            wanted["function"],
            memory_limit_in_mb=str(wanted["memory_mb"]),
            log_stream_name=wanted["log_stream"],
            tenant_id=wanted["tenant"],
        )

        def call(frame: protocol.Invocation) -> None:
            _, sequence, budget, request_id, event = frame
            started_at = monotonic()
            if started_at >= backstop.due_at:
                backstop.arm(started_at)
            context = context_for_call(template, request_id, started_at + budget)
            output.begin(context)
            kind = protocol.VALUE
            try:
                payload = encode_result(handler(decode_event(event), context))
            except BaseException as error:
                kind, payload = protocol.ERROR, self._failure(error)
            if self.forked:
                os._exit(0)  # a child that the handler forked came back from it
            header = protocol.answer_header(
                kind, sequence, started_at, monotonic() - started_at, output.end(), len(payload)
            )
            if len(payload) < protocol.BULK_BYTES:
                wire.sendall(header + payload)
            else:
                wire.sendall(header)
                wire.sendall(payload)

        return call

    def _failure(self, error: BaseException) -> bytes:
        """Write down what the handler raised, in the log as well, as AWS's runtime does."""
        if isinstance(error, SystemExit):
            if self.forked:
                os._exit(loader.exit_code_of(error))
            self._exit(loader.exit_code_of(error))
        if isinstance(error, BadResponse):
            self.output.note(f"[ERROR] {error.error_type}: {error.message}\n")
            return _error_payload(error)
        name = type(error).__name__
        if told := hint(error, network=self.network):
            self.output.note(f"[HINT] {told}\n")
        failed = FunctionError(loader.message_of(error), name, loader.stack_of(error))
        failed.remote_traceback = loader.trace_text(error)
        frames = "\n".join(map(_indent_hard, "".join(failed.stack_trace).split("\n")))
        trace = f"Traceback (most recent call last):\n{frames}" if frames else ""
        self.output.note(f"[ERROR] {name}: {failed.message}\n{trace}"[: limits.TRACE_CHARACTERS].rstrip("\n") + "\n")
        return _error_payload(failed)

    def _exit(self, code: int) -> None:
        """End as the interpreter would, with the handler's atexit calls."""
        with contextlib.suppress(BaseException):
            atexit._run_exitfuncs()
        os._exit(code)


def _indent_hard(line: str) -> str:
    """AWS indents with no-break spaces, so that readers of logs that trim lines keep the shape."""
    text = line.lstrip(" ")
    return "\u00a0" * (len(line) - len(text)) + text


def _reseed() -> None:
    """Give the generators that the fork copied a seed of their own (the random module reseeds itself)."""
    random = sys.modules.get("numpy.random")  # NumPy itself would import it now, only to be asked
    if random is not None:
        random.seed()


def _error_payload(error: FunctionError) -> bytes:
    told = {
        "errorMessage": error.message,
        "errorType": error.error_type,
        "stackTrace": error.stack_trace,
        "trace": error.remote_traceback,
        "bad": isinstance(error, BadResponse),
    }
    payload = json.dumps(told).encode()
    if len(payload) > limits.ERROR_BYTES:
        told.update(stackTrace=[], trace="", errorMessage=error.message[:8192])
        payload = json.dumps(told).encode()
    return payload
