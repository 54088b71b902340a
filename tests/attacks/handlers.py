"""
What handlers may do, by accident or on purpose: each is well-behaved when it is asked to work, and attacks otherwise.

A module of its own, so that these functions travel to their sandboxes by name.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import hashlib
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

from pyfaas import Function, function
from pyfaas._sandbox import protocol

WORK, ATTACK, DONE = "work", "attack", "done"
MB = 1_048_576
AGES = 3600.0  # seconds that no time-out in here leaves anybody

PLACE = os.environ.get("PYFAAS_TESTS_PLACE", "/nowhere")  # where pytest makes its ``tmp_path``s

Attack = Callable[[Any], Any]


def attacker(**options: Any) -> Callable[[Attack], Function[Any, Any]]:
    """Declare a function that attacks unless it is asked to work."""

    def declare(attack: Attack) -> Function[Any, Any]:
        @functools.wraps(attack)
        def handler(event: Any) -> Any:
            global invocations
            invocations += 1
            return DONE if event == WORK else attack(event)

        declared: Function[Any, Any] = function(**{"timeout": 0.3, **options})(handler)
        return declared

    return declare


# How many invocations this sandbox has begun: the sequence number of the one at hand.
invocations = 0
kept: list[Any] = []


@function(timeout=900, writes=[PLACE])
def neighbour(event: dict[str, str]) -> dict[str, Any]:
    """Work beside an attack, until told to answer; measure for how long it was held up."""
    longest, looked_at = 0.0, time.monotonic()
    if event:
        Path(event["started"]).touch()
        while not os.path.exists(event["until"]):
            time.sleep(0.005)
            now = time.monotonic()
            longest, looked_at = max(longest, now - looked_at), now
    return {"token": event.get("token"), "longest_pause": longest}


# -- time --------------------------------------------------------------------------------------------------------------


def spin() -> NoReturn:
    while True:
        pass


@attacker()
def busy_loop(event: Any) -> None:
    spin()


@attacker()
def sleeps(event: Any) -> None:
    time.sleep(AGES)


@attacker(timeout=60)
def sleeps_long(event: Any) -> None:
    time.sleep(AGES)


@attacker(timeout=60)
def spins_long(event: Any) -> None:
    spin()


@attacker()
def ignores_signals(event: Any) -> None:
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(AGES)


@attacker(memory=1024)
def blocks_in_c(event: str) -> None:
    if event == "ctypes":
        ctypes.CDLL(None).sleep(3600)
    elif event == "ctypes, holding the interpreter's lock":
        ctypes.PyDLL(None).sleep(3600)
    elif event == "regular expression":
        re.match(r"(a+)+$", "a" * 60 + "b")
    elif event == "power":
        print(10**10**8 % 7)


@attacker(timeout=2)
def kills_itself(event: int) -> str:
    os.kill(os.getpid(), event)
    return "survived"


@attacker()
def burns_eight_threads(event: Any) -> None:
    for _ in range(7):
        threading.Thread(target=_burn, daemon=True).start()
    _burn()


@attacker(timeout=20, cpu_seconds=0.2)
def burns_cpu_time(event: Any) -> None:
    for _ in range(7):
        threading.Thread(target=_burn, daemon=True).start()
    _burn()


@attacker(timeout=20, cpu_seconds=0.2)
def burns_cpu_time_in_children(event: Any) -> None:
    if os.fork() == 0:
        spin()
    time.sleep(AGES)


def _burn() -> None:
    while True:
        hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 100_000)


class Endless(list[Any]):
    """Claims to be short, and never ends."""

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield 1


@attacker()
def result_never_ends(event: Any) -> Any:
    return Endless([1])


@attacker()
def loops_in_finally(event: Any) -> None:
    try:
        sys.exit(0)
    finally:
        spin()


@attacker()
def loops_at_exit(event: Any) -> None:
    atexit.register(spin)
    sys.exit(0)


# -- memory ------------------------------------------------------------------------------------------------------------


@attacker(timeout=20)
def allocates(event: int) -> None:
    kept.append(b"x" * event)
    time.sleep(AGES)


@attacker(timeout=20)
def leaks(event: int) -> dict[str, Any]:
    kept.append(b"x" * event)
    return {"held": len(kept), "sandbox": os.environ["AWS_LAMBDA_LOG_STREAM_NAME"]}


@attacker(timeout=20)
def forks_hoarders(event: dict[str, int]) -> None:
    for _ in range(event["children"]):
        if os.fork() == 0:
            kept.append(b"x" * event["bytes"])
            time.sleep(AGES)
    time.sleep(AGES)


@attacker(timeout=20)
def forks_hoarders_briefly(event: dict[str, int]) -> int:
    """Let the children live for as long as the watch needs to look at them."""
    reader, writer = os.pipe()
    for _ in range(event["children"]):
        if os.fork() == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
    time.sleep(0.3)
    os.close(writer)
    for _ in range(event["children"]):
        os.wait()
    return event["children"]


# -- processes ---------------------------------------------------------------------------------------------------------


@attacker(timeout=0.5, memory=1024)
def fork_bomb(event: Any) -> None:
    while True:
        try:
            os.fork()
        except OSError:
            pass


@attacker(timeout=0.5, memory=1024)
def fork_bomb_of_sessions(event: Any) -> None:
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            pass


@attacker(timeout=20, memory=1024)
def forks_until_refused(event: Any) -> dict[str, Any]:
    children: list[int] = []
    try:
        while len(children) < 20_000:
            child = os.fork()
            if child == 0:
                time.sleep(AGES)
            children.append(child)
    except OSError as error:
        refused = type(error).__name__
    else:
        refused = ""
    for child in children:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return {"children": len(children), "refused": refused}


def _start_daemon() -> None:
    """Leave session, group, parent and parent-death signal behind; it lives when this returns."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            os.write(writer, b"up")
            time.sleep(AGES)
        os._exit(0)
    assert os.read(reader, 2) == b"up"
    print("the daemon is up")


@attacker(timeout=0.5)
def daemonises_and_hangs(event: Any) -> None:
    _start_daemon()
    time.sleep(AGES)


@attacker(timeout=5)
def daemonises_and_exits(event: Any) -> None:
    _start_daemon()
    os._exit(3)


@attacker(timeout=5)
def daemonises(event: Any) -> str:
    _start_daemon()
    return "daemonised"


@attacker(timeout=0.5)
def starts_a_program_and_hangs(event: Any) -> None:
    subprocess.Popen(["/bin/sh", "-c", "trap '' TERM INT HUP; echo the program is up; sleep 3600 & wait; sleep 3600"])
    time.sleep(AGES)


@attacker(timeout=5)
def opens_files(event: Any) -> dict[str, Any]:
    try:
        while len(kept) < 100_000:
            kept.append(os.open(os.devnull, os.O_RDONLY))
    except OSError as error:
        return {"opened": len(kept), "refused": error.strerror}
    return {"opened": len(kept), "refused": ""}


@attacker(timeout=5)
def opens_sockets(event: Any) -> dict[str, Any]:
    try:
        while len(kept) < 100_000:
            kept.extend(socket.socketpair())
    except OSError as error:
        return {"opened": len(kept), "refused": error.strerror}
    return {"opened": len(kept), "refused": ""}


@attacker(timeout=15, memory=512)
def starts_threads(event: str) -> dict[str, Any]:
    forever = threading.Event()
    threading.stack_size(65_536)
    count, refused = 0, ""
    try:
        while count < 20_000:
            threading.Thread(target=forever.wait, daemon=True).start()
            count += 1
    except (RuntimeError, MemoryError) as error:
        refused = type(error).__name__
    if event == "and hangs":
        time.sleep(AGES)
    if event == "and lets go":
        forever.set()
    return {"threads": count, "refused": refused}


@attacker(timeout=0.5, memory=512)
def thread_bomb(event: Any) -> None:
    threading.stack_size(65_536)
    while True:
        try:
            threading.Thread(target=thread_bomb.handler, args=(event,), daemon=True).start()
        except (RuntimeError, MemoryError):
            continue


@attacker(timeout=20, memory=512)
def leaves_zombies(event: int) -> dict[str, Any]:
    """Leave children that ended and that nobody waits for."""
    refused = ""
    count = 0
    try:
        while count < event:
            if os.fork() == 0:
                os._exit(0)
            count += 1
    except OSError as error:
        refused = type(error).__name__
    return {"zombies": count, "refused": refused}


@attacker(timeout=20, memory=512)
def leaves_orphans(event: int) -> dict[str, Any]:
    """Leave grandchildren that end later, as orphans; their parents are waited for."""
    refused = ""
    count = 0
    try:
        while count < event:
            child = os.fork()
            if child == 0:
                for _ in range(50):
                    if os.fork() == 0:
                        os._exit(0)
                os._exit(0)
            os.waitpid(child, 0)
            count += 50
    except OSError as error:
        refused = type(error).__name__
    return {"orphans": count, "refused": refused}


# -- the channel -------------------------------------------------------------------------------------------------------


def wire() -> int:
    """Find the worker's end of the control socket among what it inherited."""
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return int(name)
        except OSError:
            continue
    raise AssertionError("no socket is open")


def send(data: bytes) -> None:
    descriptor = wire()
    while data:
        data = data[os.write(descriptor, data) :]


def value_frame(payload: bytes, *, sequence: int = 0, size: int | None = None, kind: int = protocol.VALUE) -> bytes:
    """Forge an answer; ``sequence`` counts from the invocation at hand."""
    size = len(payload) if size is None else size
    return protocol.ANSWER.pack(size, kind, (invocations + sequence) & 0xFFFFFFFF, 0.0, 0.0, 0) + payload


@attacker(timeout=10, memory=512)
def writes_much(event: str) -> str:
    """100 MB to each stream."""
    line = "x" * 1_023 + "\n"
    if event == "print":
        for _ in range(100 * 1_024):
            print(line, end="")
            print(line, end="", file=sys.stderr)
    elif event == "descriptors":
        for _ in range(100):
            os.write(1, line.encode() * 1_024)
            os.write(2, line.encode() * 1_024)
    elif event == "program":
        command = ["/bin/sh", "-c", "head -c 104857600 /dev/zero; head -c 104857600 /dev/zero >&2"]
        subprocess.run(command, check=True)
    return "written"


@attacker(timeout=10)
def writes_without_end(event: Any) -> None:
    line = b"x" * MB
    while True:
        os.write(1, line)


@attacker(timeout=10)
def bends_its_log(event: str) -> str:
    """Make the log another file than the host thinks."""
    if event == "sparse":
        os.truncate("/proc/self/fd/1", 400 * MB)
    elif event == "shrunk":
        print("x" * 100_000)
        os.ftruncate(1, 0)
    elif event == "closed":
        os.close(1)
        os.close(2)
    return "bent"


@attacker(timeout=5)
def writes_to_every_descriptor(event: int) -> str:
    mine = {int(name) for name in os.listdir("/proc/self/fd")}
    for descriptor in mine:
        try:
            os.write(descriptor, b"\xa5" * event)
        except OSError:
            continue
    return "written"


@attacker(timeout=5)
def lists_its_descriptors(event: Any) -> dict[str, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
    return found


@attacker(timeout=5)
def closes_the_wire(event: str) -> str:
    descriptor = wire()
    if event == "close, then return":
        os.close(descriptor)
    elif event == "close, then sleep":
        os.close(descriptor)
        time.sleep(AGES)
    elif event == "shut down writing":
        socket.socket(fileno=os.dup(descriptor)).shutdown(socket.SHUT_WR)
        time.sleep(AGES)
    elif event == "shut down reading":
        socket.socket(fileno=os.dup(descriptor)).shutdown(socket.SHUT_RD)
    elif event == "close all":
        os.closerange(0, 1_024)
        time.sleep(AGES)
    return "returned"


@attacker(timeout=0.3)
def lets_go_of_the_wire(event: str) -> None:
    descriptor = wire()
    if event == "put another file in its place":
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    elif event == "leave it to a child":
        os.set_inheritable(descriptor, True)
        subprocess.Popen(["/bin/sleep", "3600"], close_fds=False)
        os.close(descriptor)
    time.sleep(AGES)


@attacker(timeout=0.3)
def truncates(event: str) -> str:
    """Promise 100 bytes and give 10."""
    send(value_frame(b'"truncated', size=100))
    if event == "exit":
        os._exit(0)
    if event == "sleep":
        time.sleep(AGES)
    return "returned"


@attacker(timeout=5)
def forges(event: dict[str, Any]) -> None:
    """Write the frame that the event describes, then sleep."""
    times, payload = event.get("times", 1), event.get("payload", '"forged"')
    begin = bytes.fromhex(payload) if event.get("hex") else payload.encode()
    frame = value_frame(
        begin * times + event.get("end", "").encode() * times,
        sequence=event.get("sequence", 0),
        size=event.get("size"),
        kind=event.get("kind", protocol.VALUE),
    )
    send(frame * event.get("frames", 1))
    time.sleep(AGES)


@attacker(timeout=5)
def lies_about_itself(event: Any) -> None:
    """Answer well, with measurements that cannot be."""
    times = float("-inf"), float("nan")
    send(protocol.ANSWER.pack(6, protocol.VALUE, invocations, *times, 2**64 - 1) + b'"lied"')
    os._exit(0)


@attacker(timeout=5)
def replies_twice(event: Any) -> str:
    send(value_frame(b'"first"'))
    return "second"


@attacker(timeout=5, writes=[PLACE])
def replies_late(event: dict[str, Any]) -> str:
    """Answer later once more, from a thread, under the number of this invocation or of the next."""
    frame = value_frame(b'"late"', sequence=event["sequence"])
    start = threading.Event()

    def reply() -> None:
        start.wait()
        while not os.path.exists(event["when"]):
            time.sleep(0.001)
        send(frame)
        Path(event["sent"]).touch()

    threading.Thread(target=reply, daemon=True).start()
    start.set()
    return "in time"


@attacker(timeout=20, memory=128)
def returns_a_gigabyte(event: Any) -> str:
    return "x" * 2**30


@attacker(timeout=20, memory=512)
def returns_text(event: int) -> str:
    return "x" * event


@attacker(timeout=60, memory=4096)
def returns_a_deep_nest(event: dict[str, Any]) -> Any:
    gc.disable()
    result: Any = None
    if event["of"] == "lists":
        for _ in range(event["depth"]):
            result = [result]
    elif event["of"] == "dicts":
        for _ in range(event["depth"]):
            result = {"a": result}
    else:
        for _ in range(event["depth"]):
            result = (result,)
    return result


@attacker(timeout=20, memory=1024)
def returns_many_lists(event: int) -> Any:
    return [[] for _ in range(event)]


@attacker(timeout=5)
def returns_a_huge_integer(event: Any) -> int:
    return 1 << 1_000_000


@attacker(timeout=20)
def returns_a_cycle(event: Any) -> Any:
    cycle: list[Any] = []
    cycle.append({"again": cycle})
    return cycle


class Reduces:
    """Would run code in whoever unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch " + kept[-1],)


class ReducesText(str):
    """JSON takes it for the text that it is."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch " + kept[-1],)


@attacker(timeout=5)
def returns_what_reduces(event: dict[str, str]) -> Any:
    import pickle

    kept.append(event["path"])
    if event["how"] == "object":
        return Reduces()
    if event["how"] == "inside":
        return {"a": [1, Reduces()]}
    if event["how"] == "text":
        return ReducesText("harmless")
    if event["how"] == "raised":
        raise ValueError(Reduces())
    send(value_frame(pickle.dumps(Reduces(), 0 if event["how"] == "pickled as text" else 4)))
    time.sleep(AGES)
    return None


class TwoArguments(Exception):
    """Cannot be made anew from its ``args``, which breaks pools that pickle it."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(f"{first} and {second}")


class Locked(Exception):
    """Does not pickle."""

    def __init__(self) -> None:
        super().__init__("locked")
        self.lock = threading.Lock()


class LiesInStr(Exception):
    """Its text is none."""

    def __str__(self) -> str:
        return 42  # type: ignore[return-value]  # noqa: PLE0307


class RaisesInStr(Exception):
    """Its text raises."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


class Nameless(type):
    """A metaclass whose classes have no name to be told."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("no name")


class NoName(Exception, metaclass=Nameless):
    """A class whose name raises."""


class LoopsInStr(Exception):
    """Its text never ends."""

    def __str__(self) -> str:  # noqa: PLE0307
        spin()


class ExitsInStr(Exception):
    """Its text is the end."""

    def __str__(self) -> str:  # noqa: PLE0307
        sys.exit(5)


@attacker(timeout=20, memory=512)
def raises(event: str) -> None:
    if event == "two arguments":
        raise TwoArguments("this", "that")
    if event == "does not pickle":
        raise Locked
    if event == "huge argument":
        raise ValueError("x" * 50 * MB)
    if event == "many arguments":
        raise ValueError(*range(1_000_000))
    if event == "cause cycle":
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        raise first
    if event == "own cause":
        error = ValueError("mine")
        error.__cause__ = error.__context__ = error
        raise error
    if event == "long chain":
        chain: BaseException | None = None
        for number in range(20_000):
            link = ValueError(number)
            link.__cause__, chain = chain, link
        assert chain is not None
        raise chain
    if event == "surrogate":
        raise ValueError("\ud800")
    if event == "terminal escapes":
        raise ValueError("\x1b]0;owned\x07\x1b[2J")
    if event == "keyboard interrupt":
        raise KeyboardInterrupt
    if event == "generator exit":
        raise GeneratorExit
    if event == "deep":
        raises_deep()
    kinds: dict[str, Any] = {
        "str lies": LiesInStr,
        "str raises": RaisesInStr,
        "no name": NoName,
        "str exits": ExitsInStr,
    }
    raise kinds[event]


@attacker()
def raises_without_end(event: Any) -> None:
    raise LoopsInStr


def raises_deep() -> None:
    raises_deep()


class LenLies(list[Any]):
    def __len__(self) -> int:
        return 2**62


class LenNegative(list[Any]):
    def __len__(self) -> int:
        return -1  # noqa: PLE0303


class LenRaises(list[Any]):
    def __len__(self) -> int:
        raise RuntimeError("no length")


class IterRaises(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("nothing to see")


class ReprRaises:
    def __repr__(self) -> str:
        raise RuntimeError("no picture")

    __str__ = __repr__


class ItemsLie(dict[Any, Any]):
    def items(self) -> Any:
        yield "a", self

    def values(self) -> Any:
        return [1]


class KeysLie(dict[Any, Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(["a"])

    def items(self) -> Any:
        return [(1, 2), ((), 3)]


class IntLies(int):
    def __repr__(self) -> str:
        return '"}],{forged'

    __str__ = __repr__


class FloatLies(float):
    def __repr__(self) -> str:
        return '"}],{forged'

    __str__ = __repr__


class TextLies(str):
    __slots__ = ()

    def __str__(self) -> str:
        return '"}],{forged'

    __repr__ = __str__

    def __len__(self) -> int:
        return 2**40

    def __iter__(self) -> Iterator[str]:
        return iter(["forged"])


class ClassLies:
    @property
    def __class__(self) -> Any:
        return dict

    @__class__.setter
    def __class__(self, kind: Any) -> None: ...


class HashRaises(str):
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = str.__hash__


LIARS: dict[str, Callable[[], Any]] = {
    "len lies": lambda: LenLies([1]),
    "len is negative": lambda: LenNegative([1]),
    "len raises": lambda: LenRaises([1]),
    "iter raises": lambda: IterRaises([1]),
    "repr raises": ReprRaises,
    "repr raises, inside": lambda: {"a": [ReprRaises()]},
    "items lie": lambda: ItemsLie(a=1),
    "keys lie": lambda: KeysLie(a=1),
    "int lies": lambda: IntLies(7),
    "float lies": lambda: FloatLies(0.5),
    "text lies": lambda: TextLies("true"),
    "text lies as a key": lambda: {TextLies("true"): 1},
    "class lies": ClassLies,
    "equal to all": lambda: {HashRaises("a"): 1},
}


@attacker(timeout=2)
def returns_a_liar(event: str) -> Any:
    return LIARS[event]()


# -- life and death ----------------------------------------------------------------------------------------------------


def die(how: str) -> None:
    """End this process, or what it can of it."""
    if how == "os._exit(0)":
        os._exit(0)
    elif how == "os._exit(7)":
        os._exit(7)
    elif how == "SystemExit":
        raise SystemExit(4)
    elif how == "segfault":
        ctypes.string_at(0)
    elif how == "abort":
        os.abort()
    elif how == "illegal instruction":
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(b"\x0f\x0b" if os.uname().machine == "x86_64" else bytes(4))
        kept.append(page)
        ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()


class DiesWhenTold(list[Any]):
    """Ends the process while its elements are being written."""

    def __iter__(self) -> Iterator[Any]:
        yield 1
        die(self[0])


class DiesInStr(Exception):
    """Ends the process while it is told of."""

    def __str__(self) -> str:
        die(self.args[0])
        return ""


@attacker(timeout=5, writes=[PLACE])
def dies(event: dict[str, str]) -> Any:
    at, how = event["at"], event["how"]
    if at == "in the handler":
        die(how)
    elif at == "while the result is encoded":
        return DiesWhenTold([how])
    elif at == "while the error is told":
        raise DiesInStr(how)
    elif at == "in the middle of the answer":
        send(value_frame(b'"whole"')[:20])
        die(how)
    elif at == "in the payload of the answer":
        send(value_frame(b'"x' + b"x" * 100_000, size=200_000))
        die(how)
    elif at == "in a thread":
        threading.Thread(target=die, args=(how,)).start()
        time.sleep(AGES)
    elif at == "in a child":
        child = os.fork()
        if child == 0:
            die(how)
        os.waitpid(child, 0)
        return "the child died"
    elif at == "between calls":

        def later() -> None:
            while not os.path.exists(event["when"]):
                time.sleep(0.001)
            die(how)

        threading.Thread(target=later, daemon=True).start()
        return "not yet"
    return None


# -- information -------------------------------------------------------------------------------------------------------


def call(name: str, *arguments: int) -> int:
    """Make a system call by its name."""
    from pyfaas._confine import seccomp

    numbers = {**seccomp.EPERM, **seccomp.ENOSYS}[name]
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(numbers[os.uname().machine == "aarch64"], *map(ctypes.c_long, arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return int(result)


def fill(directory: str) -> int:
    """Write until it is refused; tell how many megabytes went in, and leave nothing behind."""
    written = 0
    paths = [os.path.join(directory, f"part-{number}") for number in range(20)]
    try:
        for path in paths:
            with open(path, "wb", buffering=0) as file:
                for _ in range(100):
                    written += file.write(bytes(MB))
    except OSError:
        pass
    finally:
        for path in paths:
            if os.path.exists(path):
                os.unlink(path)
    return written // MB


def many_files(directory: str) -> int:
    """Make empty files until it is refused."""
    made = 0
    try:
        while made < 100_000:
            os.close(os.open(os.path.join(directory, f"empty-{made}"), os.O_CREAT | os.O_WRONLY))
            made += 1
    except OSError:
        pass
    for number in range(made):
        os.unlink(os.path.join(directory, f"empty-{number}"))
    return made


def evaluate_all(event: Any) -> Any:
    if event == WORK:
        return DONE
    found = []
    for source in event:
        try:
            found.append(eval(source))
        except Exception as error:
            found.append(type(error).__name__)
    return found


attempts = function(name="attempts", timeout=20, memory=256)(evaluate_all)
attempts_with_much_memory = function(name="attempts_with_much_memory", timeout=20, memory=2048)(evaluate_all)
attempts_without_network = function(name="attempts_without_network", timeout=20, network=False)(evaluate_all)
attempts_that_may_write = function(name="attempts_that_may_write", timeout=20, writes=[PLACE])(evaluate_all)
