"""
The ledger and the bill

What the customers were told is held against what the bank, the tables, the queues and the directories have: by the
number of each order. The bill is for a month of such orders, by what the functions took here.
"""

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import Any

import app
from app import BOOKS, INVENTORY, PLACE, PRICES, STOCKED

# In dollars: AWS Lambda (us-east-1, x86), and a server with two processors and 4 GB (EC2 t3.medium, on demand).
REQUEST, FREE_REQUESTS = 0.20 / 1_000_000, 1_000_000
GIGABYTE_SECOND, FREE_GIGABYTE_SECONDS = 0.0000166667, 400_000
SERVER_HOUR, HOURS = 0.0416, 730
NIGHT, PEAK = 10, 500  # orders a minute
APART = ("report", "page", "thumbnail")  # of these there are as many as there are nights, faults, pictures


def ask(database: Path, question: str) -> list[Any]:
    """Ask a database as anybody would; nothing, where it is not there yet."""
    with (
        contextlib.suppress(sqlite3.OperationalError),
        contextlib.closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as books,
    ):
        return books.execute(question).fetchall()
    return []


def stems(where: Any) -> set[str]:
    return {Path(one.key).stem for one in where.list()}


class Ledger:
    """Where each order is, by its number."""

    def __init__(self, accepted: set[str], spoiled: int) -> None:
        self.accepted, self.to_spoil = accepted, spoiled
        self.look()

    def look(self) -> None:
        rows = ask(INVENTORY, 'SELECT "order", item, count, amount FROM sales')
        self.sales = {number: (item, count, amount) for number, item, count, amount in rows}
        self.mails, self.purchases = stems(app.mails), stems(app.purchases)
        self.parcels = {one for (one,) in ask(BOOKS["shipping"] / "shipping.db", "SELECT number FROM parcel")}
        self.figures = {one for (one,) in ask(BOOKS["figures"] / "figures.db", "SELECT number FROM seen")}
        self.thumbnails, self.spoiled = stems(app.thumbnails), len(app.spoiled.list())
        self.reports, self.pages = len(app.reports.list()), len(app.pager.list())

    def missing(self) -> list[str]:
        """Name what has not come yet."""
        wanted = {
            "sales": self.accepted <= self.sales.keys(),
            "mails": self.accepted <= self.mails,
            "parcels": self.accepted <= self.parcels,
            "figures": self.accepted <= self.figures,
            "thumbnails": PRICES.keys() <= self.thumbnails,
            "what no thumbnail can be made of": self.spoiled >= self.to_spoil,
            "the report": self.reports,
            "a page": self.pages,
        }
        return [name for name, has_come in wanted.items() if not has_come]

    def close(self, bank: dict[str, Any]) -> bool:
        """Print it, and tell whether it balances."""
        charges, moved = bank["charges"], bank["moved"]
        once = {number for number, times in moved.items() if times == 1}
        asked_again = sum(times - 1 for times in bank["asked"].values())
        turnover = sum(amount for _, _, amount in self.sales.values())
        stock = ask(INVENTORY, "SELECT item, left, enough FROM stock")
        left, short = sum(row[1] for row in stock), {item for item, has, enough in stock if has < enough}
        counted = sum(amount for (amount,) in ask(BOOKS["figures"] / "figures.db", "SELECT amount FROM minute"))
        unpaid = ask(
            PLACE / "shop.db", "SELECT body FROM message JOIN queue ON queue.id = queue WHERE name = 'queue/unpaid'"
        )
        sound = [ask(file, "PRAGMA integrity_check") for file in (PLACE / "shop.db", INVENTORY)]
        checks = [
            ("accepted", len(self.accepted), "", True),
            ("charged once", len(once), f"{asked_again:,} asked again by its key", once == self.accepted),
            ("charged twice", len(moved) - len(once), "", once == moved.keys()),
            ("booked as sold", len(self.sales), f"{turnover:,}, as at the bank", self._are_booked(charges)),
            ("out of stock", STOCKED * len(PRICES) - left, "pieces, as sold", self._is_taken_from(left)),
            ("reordered", len(self.purchases), "things", self.purchases == short),
            ("mails", len(self.mails), "", self.mails == self.accepted),
            ("parcels", len(self.parcels), "", self.parcels == self.accepted),
            (
                "in the figures",
                len(self.figures),
                f"{counted:,}",
                self.figures == self.accepted and counted == turnover,
            ),
            ("given up", len(unpaid), "", not unpaid),
            ("thumbnails", len(self.thumbnails), f"and {self.spoiled} put aside", self._are_drawn()),
            ("nightly reports", self.reports, "", self.reports == 1),
            ("pages", self.pages, "charging failed", self.pages >= 1),
            ("files are sound", len(sound), "", all(one == [("ok",)] for one in sound)),
        ]
        for name, number, note, holds in checks:
            print(f"  {name:<16}{number:>8,}   {note if holds else f'{note} DOES NOT HOLD'}".rstrip())
        return all(holds for *_, holds in checks)

    def _are_booked(self, charges: dict[str, Any]) -> bool:
        booked = {number: amount for number, (_, _, amount) in self.sales.items()}
        return booked == {number: charge["amount"] for number, charge in charges.items()}

    def _is_taken_from(self, left: int) -> bool:
        return STOCKED * len(PRICES) - left == sum(count for _, count, _ in self.sales.values())

    def _are_drawn(self) -> bool:
        return self.thumbnails == PRICES.keys() and self.spoiled == self.to_spoil

    def print_bill(self) -> None:
        """Print what a month would cost: orders as a wave between night and peak, each as dear as here."""
        orders = (NIGHT + PEAK) / 2 * 60 * HOURS
        print(f"a month of {NIGHT} orders a minute at night, {PEAK} at peak: {orders / 1e6:.1f} million orders")
        requests = alone = seconds = 0.0
        for name, bills in sorted(read_bills().items()):
            billed = sum(milliseconds for milliseconds, _ in bills)
            memory = bills[0][1]
            print(f"  {name:<11}{len(bills):>7,} times, {billed / len(bills):>6.1f} ms, {memory} MB")
            if name not in APART:
                requests += len(bills) * orders / len(self.accepted)
                alone += orders
                seconds += billed / 1000 * memory / 1024 * orders / len(self.accepted)
        duration = max(seconds - FREE_GIGABYTE_SECONDS, 0) * GIGABYTE_SECOND
        least, most = (duration + max(count - FREE_REQUESTS, 0) * REQUEST for count in (requests, alone))
        print(f"  on Lambda, {seconds / 1e6:.2f} million GB-s: ${least:.2f} with batches as full as here,")
        print(f"    ${most:.2f} if each event came alone; API Gateway, queues, topic, tables and files on top")
        print(f"  on a server that is always on, with pyfaas: ${SERVER_HOUR * HOURS:.2f}")


def read_bills() -> dict[str, list[tuple[int, int]]]:
    """Read the REPORT lines of the logs: by function, what was billed in milliseconds, and its memory."""
    bills: dict[str, list[tuple[int, int]]] = {}
    name = ""
    for file in PLACE.glob("*.log"):
        for line in file.read_text().splitlines():
            if ran := re.match(r"'(\w+)' ran:", line):
                name = ran[1]
            if billed := re.search(r"REPORT .*Billed Duration: (\d+) ms\tMemory Size: (\d+) MB", line):
                bills.setdefault(name, []).append((int(billed[1]), int(billed[2])))
    return bills
