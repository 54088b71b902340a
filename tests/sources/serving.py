"""A server with real sockets, in a thread of the test."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from pyfaas import Runtime
from support import wait_until


@contextlib.contextmanager
def serving(runtime: Runtime, **options: Any) -> Iterator[int]:
    """Serve a runtime by uvicorn, and give the port."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(runtime.asgi, port=0, log_level="warning", **options))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()
