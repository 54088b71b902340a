"""
What is measured of doors, each in a fresh process: ``python -m benchmarks.doors_acts http pyfaas 2``.

Prints what it found as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import psutil
import uvicorn
import websockets

from benchmarks.measure import percentile
from pyfaas import Runtime, bucket, function, http, table, websocket
from pyfaas._sources.http import answers
from pyfaas._sources.http.application import _body, _request_of, _send, router_of
from pyfaas._sources.http.events import version_2
from pyfaas._waits import run_blocking
from pyfaas.testing import settle as settled

CLIENTS = 32
REQUEST = b"GET /hello/ada?x=1 HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"


def _directory() -> Any:
    return tempfile.TemporaryDirectory(dir=Path(__file__).parent, prefix=".stores-")


def _memory() -> Any:
    """Give a directory in memory: where 10,000 files were just removed, ext4 takes seconds to make as many again."""
    return tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


def greet(event: dict[str, Any]) -> dict[str, Any]:
    """Say hello."""
    return {"hello": event["pathParameters"]["name"]}


class Beside:
    """The same application, with the handler called in another way."""

    def __init__(self, call: Callable[[Any], Awaitable[Any]], runtime: Runtime) -> None:
        self._call = call
        self._later = runtime._later()
        declared = function(name="greet", trigger=http("GET /hello/{name}"))(greet)
        self._router = router_of([(declared, _TRIGGER, True)], {})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve a request."""
        body = await _body(scope, receive)
        request = _request_of(scope, body, self._later.house)  # type: ignore[arg-type]
        match = self._router.find(request.method, request.path)
        assert match is not None
        value = await self._call(version_2(request, match.target.route.key, match.parameters))
        response, _ = answers.of_result("2.0", value, json.dumps(value, separators=(",", ":")).encode())
        await _send(send, request.method, response)


_TRIGGER = http("GET /hello/{name}")


def _application(kind: str, runtime: Runtime) -> tuple[Any, AbstractContextManager[Any]]:
    if kind == "pyfaas":
        return runtime.asgi, nullcontext()
    if kind == "in process":

        async def directly(event: Any) -> Any:
            return greet(event)

        return Beside(directly, runtime), nullcontext()
    pool = ProcessPoolExecutor(2)

    async def elsewhere(event: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, greet, event)

    return Beside(elsewhere, runtime), pool


@contextmanager
def _serving(app: Any, **options: Any) -> Iterator[int]:
    """Serve an application by uvicorn, in a thread, and give the port."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def serve(kind: str, seconds: str) -> dict[str, float]:
    """Count requests a second, and their 99th percentile, of 32 clients that ask one thing after the other."""
    declared = function(name="hello", trigger=http("GET /hello/{name}"))(greet)
    with Runtime([declared]) as runtime:
        app, pool = _application(kind, runtime)
        with _serving(app, lifespan="off", access_log=False, http="h11") as port, pool:
            command = [sys.executable, "-m", "benchmarks.doors_acts", "ask", str(port), seconds]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(found)  # type: ignore[no-any-return]


def ask(port: str, seconds: str) -> dict[str, float]:
    """Be the clients: in a process of their own."""
    return asyncio.run(_ask(int(port), float(seconds)))


async def _ask(port: int, seconds: float) -> dict[str, float]:
    durations: list[float] = []
    warm_until = perf_counter() + 1.0
    until = warm_until + seconds

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (began := perf_counter()) < until:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            body = await reader.readexactly(length)
            assert body == b'{"hello":"ada"}', (head, body)
            if began >= warm_until:
                durations.append(perf_counter() - began)
        writer.close()

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return {"rate": len(durations) / seconds, "p50": percentile(durations, 50), "p99": percentile(durations, 99)}


# -- files, rows and sockets -------------------------------------------------------------------------------------------


def files(count: str, settle: str) -> dict[str, float]:
    """
    Have another program make so many files at once, a few bytes each, and a function be run for each of them.

    Seconds from the first file on until all are accepted and until all were run; how many events there were, and how
    many of them of the same file.
    """
    with _directory() as directory, _memory() as memory:
        uploads = bucket("uploads", Path(memory) / "uploads", settle=float(settle))

        @function(trigger=uploads, timeout=30)
        def note(event: dict[str, Any]) -> str:
            return str(event["Records"][0]["s3"]["object"]["key"])

        with Runtime([note], store=Path(directory) / "store.db") as runtime:
            uploads.put("first", b"")
            settled(runtime)
            database = runtime._later().database
            maker = (
                f"for n in range({count}):\n    with open({uploads.directory!r} + f'/{{n}}', 'w') as f: f.write(str(n))"
            )
            began = perf_counter()
            with subprocess.Popen([sys.executable, "-S", "-c", maker]) as making:
                accepted = 0.0
                while runtime.statistics().functions["note"].invocations <= int(count):
                    sleep(0.05)
                    if not accepted and run_blocking(database.write(_known, durable=False)) > int(count):
                        accepted = perf_counter() - began
                ran = perf_counter() - began
                making.wait()
            settled(runtime)
            invocations = runtime.statistics().functions["note"].invocations - 1
    return {"accepted": accepted, "ran": ran, "twice": invocations - int(count)}


def _known(transaction: Any) -> int:
    return int(transaction._connection.execute("SELECT count(*) FROM object").fetchone()[0])


def rows(calls: str) -> list[float]:
    """Time from a commit in another connection to the handler's first line, on an idle runtime."""
    with _directory() as directory:
        told = str(Path(directory) / "told")
        stock = table("stock", Path(directory) / "shop.db")

        @function(trigger=stock, writes=[directory], timeout=30)
        def note(event: dict[str, Any]) -> None:
            now = time.monotonic()
            pipe = os.open(told, os.O_WRONLY)
            os.write(pipe, repr(now).encode())
            os.close(pipe)

        os.mkfifo(told)
        os.chmod(told, 0o666)  # a sandbox has a user of its own
        pipe = os.open(told, os.O_RDWR)
        script = "CREATE TABLE stock (id INTEGER PRIMARY KEY, name TEXT, amount INTEGER)"
        shop = stock.connect(script, isolation_level=None)
        shop.execute("PRAGMA journal_mode=WAL")
        durations = []
        with Runtime([note], store=Path(directory) / "store.db"):
            for number in range(int(calls) + 5):
                sleep(0.02)
                shop.execute("INSERT INTO stock VALUES (?, 'cup', 5)", (number,))
                committed_at = time.monotonic()
                durations.append(float(os.read(pipe, 100)) - committed_at)
        os.close(pipe)
        shop.close()
    return durations[5:]


def idle_sockets(count: str) -> dict[str, float]:
    """Tell how many bytes each of so many idle WebSockets takes, and the seconds of CPU time that they take in ten."""
    chat = websocket("chat", "/chat")

    @function(trigger=chat)
    def hear(event: dict[str, Any]) -> None:
        """Do nothing."""

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    options = {"lifespan": "on", "ws_per_message_deflate": False}
    with Runtime([hear]) as runtime, _serving(runtime.asgi, **options) as port:
        before = psutil.Process().memory_info().rss
        command = [sys.executable, "-m", "benchmarks.doors_acts", "connect", str(port), count]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as clients:
            assert clients.stdout is not None
            clients.stdout.readline()
            each = (psutil.Process().memory_info().rss - before) / int(count)
            began = time.process_time()
            sleep(10)
            taken = time.process_time() - began
            clients.communicate(b"")
    return {"bytes": each, "seconds": taken}


def connect(port: str, count: str) -> str:
    """Be the clients, until standard input ends."""

    async def main() -> None:
        kept = [await websockets.connect(f"ws://127.0.0.1:{port}/chat", compression=None) for _ in range(int(count))]
        print("connected", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for one in kept:
            one.transport.abort()

    asyncio.run(main())
    return "ended"


ACTS = {act.__name__: act for act in (serve, ask, files, rows, idle_sockets, connect)}

if __name__ == "__main__":
    print(json.dumps(ACTS[sys.argv[1]](*sys.argv[2:])))
