"""
A payment server that fails at times, as they do

POST /charges with an Idempotency-Key moves money once for each key, and tells the same charge to whoever asks again. Of
a hundred requests four are refused (503, nothing has happened), two lose their answer after the money has moved, and
one takes its time; and when a good half of all orders has been charged, it is closed for three seconds. GET /charges
tells what was charged, and how often each key was asked for.

    python bank.py PORT ORDERS
"""

import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import Any

import uvicorn

CLOSED_SECONDS = 3.0


class Bank:
    """An ASGI application that keeps its books in memory."""

    def __init__(self, orders: int) -> None:
        self.charges: dict[str, dict[str, Any]] = {}
        self.moved: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.closes_at, self.opens_at = orders * 6 // 10, 0.0
        self.chance = random.Random(1)

    async def __call__(self, scope: dict, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        if scope["method"] == "GET":
            answer = 200, {"charges": self.charges, "moved": self.moved, "asked": self.asked}
        else:
            key = dict(scope["headers"])[b"idempotency-key"].decode()
            answer = await self.charge(key, json.loads(body)["amount"])
        if answer is None:
            raise ConnectionResetError  # uvicorn closes the connection, or says 500: either way nobody knows
        status, told = answer
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(told).encode()})

    async def charge(self, key: str, amount: int) -> tuple[int, dict[str, Any]] | None:
        self.asked[key] += 1
        if len(self.charges) >= self.closes_at:
            self.opens_at = self.opens_at or time.monotonic() + CLOSED_SECONDS
        luck = self.chance.random()
        if luck < 0.04 or time.monotonic() < self.opens_at:
            return 503, {"message": "try again later"}
        if luck < 0.05:
            await asyncio.sleep(0.3)
        if key not in self.charges:
            self.moved[key] += 1
            self.charges[key] = {"charge": f"ch-{len(self.charges) + 1}", "amount": amount}
        if luck > 0.98:
            return None
        return 200, self.charges[key]


if __name__ == "__main__":
    uvicorn.run(Bank(int(sys.argv[2])), port=int(sys.argv[1]), log_level="critical", access_log=False)
