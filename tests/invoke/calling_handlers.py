"""Functions that call the host while they run. Imported by sandboxes: without pytest."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from pyfaas import bus, function, queue, topic

orders, receipts, shop = queue("called-orders"), topic("called-receipts"), bus("called-shop")
steps = queue("called-steps", fifo=True)
secret = queue("called-secret")


@function(timeout=10)
def twice(event: int) -> int:
    return event * 2


@function(timeout=10)
def fail_inside(event: Any) -> None:
    raise ValueError(event)


@function(timeout=10, allow=[orders.send, receipts.publish, shop.put_event, steps.send])
def tell_all(event: dict[str, Any]) -> list[Any]:
    return [
        orders.send(event, attributes={"kind": "new", "raw": b"\x00"}),
        *orders.send_many(["1", "2"]),
        steps.send("first", group="g", duplicate_id="d"),
        receipts.publish(event, subject="s", attributes={"n": 5}),
        shop.put_event(event, source="till", detail_type="Sold"),
    ]


@function(timeout=10, allow=[twice.invoke, twice.submit, fail_inside.invoke])
def ask(event: Any) -> Any:
    if event == "fail":
        try:
            fail_inside.invoke("inside")
        except Exception as error:
            return [type(error).__name__, getattr(error, "message", ""), getattr(error, "error_type", "")]
    if event == "submit":
        return twice.submit(21)
    return twice.invoke(event)


@function(timeout=10)
def may_not(event: Any) -> Any:
    return orders.send(event)


@function(timeout=10, allow=[orders.send])
def try_others(event: str) -> Any:
    if event == "map":
        return list(twice.map([1]))
    if event == "purge":
        return orders.purge()
    return secret.send("x")


@function(timeout=10, allow=["function:walk:submit"])
def walk(event: int) -> int:
    walk.submit(event + 1)
    return event


@function(timeout=10, allow=["function:dive:invoke"])
def dive(event: int) -> int:
    return int(dive.invoke(event + 1)) if event < 100 else event


@function(timeout=10, allow=[twice.invoke, orders.send])
async def ask_async(event: list[int]) -> list[int]:
    await orders.asend("from async")
    return list(await asyncio.gather(*(twice.ainvoke(one) for one in event)))


@function(timeout=10, allow=[orders.send])
def from_threads(event: int) -> int:
    ids: list[str] = []
    threads = [threading.Thread(target=lambda: ids.append(orders.send("t"))) for _ in range(event)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(set(ids))


late: list[Any] = []


@function(timeout=10, allow=[orders.send])
def leave_a_thread(event: str) -> list[str]:
    if event == "begin":
        gate = threading.Event()
        late.append(gate)

        def after() -> None:
            gate.wait()
            try:
                late.append(orders.send("late"))
            except Exception as error:
                late.append(f"{type(error).__name__}: {error}")

        thread = threading.Thread(target=after, daemon=True)
        thread.start()
        late.append(thread)
        return []
    late[0].set()
    late[1].join()
    return [str(one) for one in late[2:]]


@function(timeout=10, allow=[orders.send])
def from_a_child(event: Any) -> str:
    import os

    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            orders.send("child")
            told = "sent"
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(write, told.encode())
        os._exit(0)
    os.waitpid(pid, 0)
    orders.send("parent")
    return os.read(read, 500).decode()


@function(timeout=1, allow=["function:sleep_for:invoke"])
def impatient(event: Any) -> Any:
    return sleep_for.invoke(event)


@function(timeout=30)
def sleep_for(event: float) -> float:
    import time

    time.sleep(event)
    return event


@function(timeout=10, allow=[twice.invoke])
def interrupted(event: int) -> int:
    """Break a call off in the middle, and go on."""
    import signal

    armed = False

    def strike(*_: object) -> None:
        if armed:
            raise TimeoutError

    signal.signal(signal.SIGALRM, strike)
    broken = 0
    for _ in range(event):
        try:
            armed = True
            signal.setitimer(signal.ITIMER_REAL, 0.0002)
            twice.invoke(1)
            armed = False
        except TimeoutError:
            broken += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert twice.invoke(4) == 8
    return broken


@function(timeout=10, allow=[orders.send])
def send_large(event: int) -> Any:
    return orders.send("x" * event)
