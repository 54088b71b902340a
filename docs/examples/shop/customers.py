"""
The customers of a flash sale: they order by HTTP at a steady rate, whatever comes back

An order is one number, chosen here. Who gets no answer, or is told to come later, sends the same order again until it
is accepted: that is what Idempotency-Key is for. One of a hundred comes with a forged token, one wants what is not
sold; these must be refused.

    python customers.py PORT RATE SECONDS FILE      writes into the file the number of each order that is accepted
"""

import hashlib
import hmac
import http.client
import json
import random
import statistics
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from app import PRICES, SECRET

CUSTOMERS = [f"customer-{number}" for number in range(50)]
PATIENCE = 60.0


class Sale:
    """All orders of it, and how they went."""

    def __init__(self, port: int, rate: float, count: int, accepted: Path) -> None:
        self.port, self.rate, self.count = port, rate, count
        self.accepted = accepted.open("a", buffering=1)
        self.answers: Counter[str] = Counter()
        self.waits: list[float] = []

    def run(self) -> None:
        self.began = time.perf_counter()
        with ThreadPoolExecutor(len(CUSTOMERS)) as customers:
            list(customers.map(self.shop, range(len(CUSTOMERS))))
        self.lasted = time.perf_counter() - self.began

    def shop(self, customer: int) -> None:
        """Order when it is time to, over one connection; when an answer is late the next order is, too."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        name = CUSTOMERS[customer]
        seal = hmac.new(SECRET.encode(), name.encode(), hashlib.sha256).hexdigest()
        for number in range(customer, self.count, len(CUSTOMERS)):
            due_at = self.began + number / self.rate
            time.sleep(max(due_at - time.perf_counter(), 0))
            self.order(connection, number, f"{name}:{seal}")
            self.waits.append(time.perf_counter() - due_at)
        connection.close()

    def order(self, connection: http.client.HTTPConnection, number: int, token: str) -> None:
        """Order one thing, until the answer is what it must be."""
        chance = random.Random(number)
        item, expected = chance.choice([*PRICES]), 202
        if number % 100 == 50:
            token, expected = f"{CUSTOMERS[0]}:forged", 403
        elif number % 100 == 99:
            item, expected = "golden cup", 400
        body = json.dumps({"item": item, "count": chance.randint(1, 3)})
        key = f"order-{number:06d}"
        headers = {"authorization": token, "idempotency-key": key, "content-type": "application/json"}
        until = time.perf_counter() + PATIENCE
        while (status := self.ask(connection, body, headers)) != expected:
            if status not in (0, 429, 500, 503) or time.perf_counter() > until:
                raise AssertionError(f"{key}: {status} instead of {expected}")
            time.sleep(0.2)

    def ask(self, connection: http.client.HTTPConnection, body: str, headers: dict[str, str]) -> int:
        """Send one request and give the status of its answer; 0 if there was none. Notes what was accepted."""
        status = 0
        try:
            connection.request("POST", "/orders", body, headers)
            answer = connection.getresponse()
            told, status = answer.read(), answer.status
            if status == 202:
                self.accepted.write(json.loads(told)["order"] + "\n")
        except (OSError, http.client.HTTPException):
            connection.close()  # it connects again by itself
        self.answers[str(status or "none")] += 1
        return status


def main(port: str, rate: str, seconds: str, accepted: str) -> None:
    sale = Sale(int(port), float(rate), int(float(rate) * float(seconds)), Path(accepted))
    sale.run()
    answers = ", ".join(f"{count:,} x {status}" for status, count in sorted(sale.answers.items()))
    cuts = statistics.quantiles(sale.waits, n=100)
    print(f"  {sale.count:,} orders in {sale.lasted:.1f} s; answers: {answers}")
    print(f"  from order to answer: p50 {cuts[49]:.3f} s, p99 {cuts[98]:.3f} s, most {max(sale.waits):.1f} s")


if __name__ == "__main__":
    main(*sys.argv[1:])
