"""A host program: ``python -m e2e.soak N`` runs N mixed invocations and compares what it holds before and after."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import threading
from collections import Counter
from typing import Any

import psutil
import trio

from e2e import handlers
from e2e.tools import assert_settled, descriptors, eventually, sandboxes_of
from pyfaas import FunctionError, Runtime

THREADS = 3


class Budget:
    """So many invocations are still to be made, by whoever comes first."""

    def __init__(self, count: int) -> None:
        self.left = count
        self._lock = threading.Lock()

    def take(self, wanted: int) -> int:
        with self._lock:
            taken = min(wanted, self.left)
            self.left -= taken
            return taken


def pick(dice: random.Random, value: int) -> dict[str, Any]:
    """Choose what an invocation does: most return, some raise, few die, very few hang."""
    number = dice.random()
    if number < 0.9:
        return {"do": "return", "value": value}
    if number < 0.992:
        return {"do": "raise", "value": value}
    return {"do": dice.choice(["exit", "kill", "fork"] * 10 + ["hang"]), "value": value}


def check(event: dict[str, Any], error: Any, value: Any) -> None:
    if event["do"] == "return":
        assert error is None, error
        assert value == event["value"]
    else:
        assert isinstance(error, FunctionError), (event, value)


def block(runtime: Runtime, budget: Budget, seed: int) -> None:
    dice = random.Random(seed)
    while budget.take(1):
        event = pick(dice, budget.left)
        if dice.random() < 0.5:
            outcome = runtime.try_invoke(handlers.mixed, event)
            assert outcome.log.endswith("\t\n")
            check(event, outcome.error, None if outcome.error else outcome.value)
            continue
        try:
            value = runtime.invoke(handlers.mixed, event)
        except FunctionError as error:
            check(event, error, None)
        else:
            check(event, None, value)


def stream(runtime: Runtime, budget: Budget, seed: int) -> None:
    dice = random.Random(seed)
    while wanted := budget.take(dice.choice([1, 10, 300])):
        events = [pick(dice, n) for n in range(wanted)]
        for event, outcome in zip(events, runtime.try_map(handlers.mixed, events), strict=True):
            check(event, outcome.error, None if outcome.error else outcome.value)
            if dice.random() < 0.001:
                break  # the rest is given up


async def turn(runtime: Runtime, budget: Budget, seed: int) -> None:
    dice = random.Random(seed)
    while budget.take(1):
        event = pick(dice, budget.left)
        outcome = await runtime.atry_invoke(handlers.mixed, event)
        check(event, outcome.error, None if outcome.error else outcome.value)
        if dice.random() < 0.01:
            number = budget.take(20)
            found = [value async for value in runtime.amap(handlers.async_echo, range(number))]
            assert found == list(range(number))


async def in_asyncio(runtime: Runtime, budget: Budget, seed: int) -> None:
    await asyncio.gather(*(turn(runtime, budget, seed + number) for number in range(3)))


async def in_trio(runtime: Runtime, budget: Budget, seed: int) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(turn, runtime, budget, seed + number)


def run(runtime: Runtime, count: int, seed: int) -> None:
    """Make so many invocations from all worlds at once."""
    budget = Budget(count)
    failed: list[BaseException] = []

    def guarded(work: Any, *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            failed.append(error)
            budget.left = 0
            raise

    works: list[tuple[Any, ...]] = [(block, runtime, budget, seed + number) for number in range(THREADS)]
    works += [
        (stream, runtime, budget, seed + 10),
        (lambda: asyncio.run(in_asyncio(runtime, budget, seed + 20)),),
        (trio.run, in_trio, runtime, budget, seed + 30),
    ]
    threads = [threading.Thread(target=guarded, args=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


def holds(runtime: Runtime) -> dict[str, float]:
    """Tell what this host holds beyond its warm sandboxes, once nothing comes or goes."""
    gc.collect()
    runtime.invoke(handlers.echo, 1)
    eventually(lambda: runtime.statistics().standby)
    assert_settled(runtime, 30.0)
    eventually(lambda: runtime._pool.watch.parked)  # a process is gone before what this host held of it is closed
    now = runtime.statistics()
    kept = sum(len(shelf.slots) for shelf in runtime._pool.ledger.shelves.values())
    warm = now.live + now.standby
    kinds = Counter(target.split("[")[0].split(" ")[0] for target in descriptors())
    zygote = psutil.Process(runtime._pool.zygote().pid)
    return {
        "descriptors": len(descriptors()) - 3 * warm,
        "logs": kinds["/memfd:pyfaas-log"] - warm,
        "threads": threading.active_count(),
        "processes": len(sandboxes_of(runtime)) - warm,
        "children": len(psutil.Process().children()),
        "zygote's descriptors": zygote.num_fds(),
        "directories": len(os.listdir(runtime._pool.supply.slots.root)) - now.live - kept,
        "memory": psutil.Process().memory_info().rss,
        "zygote's memory": zygote.memory_info().rss,
    }


def main() -> None:
    count = int(sys.argv[1])
    with Runtime() as runtime:
        runtime.invoke(handlers.async_echo, 1)  # the zygote imports asyncio for the first one
        run(runtime, max(count // 20, 600), 1)
        before = holds(runtime)
        run(runtime, count, 1000)
        after = holds(runtime)
        invocations = sum(one.invocations for one in runtime.statistics().functions.values())
    print(json.dumps({"before": before, "after": after, "invocations": invocations}))


if __name__ == "__main__":
    main()
