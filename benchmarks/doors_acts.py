"""
What is measured of doors, each in a fresh process: ``python -m benchmarks.doors_acts http pyfaas 2``.

Prints what it found as one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from time import perf_counter, sleep
from typing import Any

import uvicorn

from benchmarks.measure import percentile
from pyfaas import Runtime, function, http
from pyfaas._sources.http import answers
from pyfaas._sources.http.application import _body, _request_of, _send, router_of
from pyfaas._sources.http.events import version_2

CLIENTS = 32
REQUEST = b"GET /hello/ada?x=1 HTTP/1.1\r\nhost: localhost\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"


def greet(event: dict[str, Any]) -> dict[str, Any]:
    """Say hello."""
    return {"hello": event["pathParameters"]["name"]}


class Beside:
    """The same application, with the handler called in another way."""

    def __init__(self, call: Callable[[Any], Awaitable[Any]], runtime: Runtime) -> None:
        self._call = call
        self._later = runtime._later()
        self._router = router_of([(function(name="greet", trigger=http("GET /hello/{name}"))(greet), _TRIGGER, True)])

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


def serve(kind: str, seconds: str) -> dict[str, float]:
    """Count requests a second, and their 99th percentile, of 32 clients that ask one thing after the other."""
    declared = function(name="hello", trigger=http("GET /hello/{name}"))(greet)
    with Runtime([declared]) as runtime:
        app, pool = _application(kind, runtime)
        config = uvicorn.Config(app, port=0, log_level="error", lifespan="off", access_log=False, http="h11")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with pool:
            command = [sys.executable, "-m", "benchmarks.doors_acts", "ask", str(port), seconds]
            found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        server.should_exit = True
        thread.join()
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


ACTS = {act.__name__: act for act in (serve, ask)}

if __name__ == "__main__":
    print(json.dumps(ACTS[sys.argv[1]](*sys.argv[2:])))
