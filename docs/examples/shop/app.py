"""
The shop: ten functions, and what they are connected by

    POST /orders ──► place ──► orders ──► charge ──► inventory ─┬─► sales ──► confirm ──► mails
      (customer)                 └► unpaid                      │                └──► sold ─┬─► parcels ──► ship
                                                                │                           └─► figures ──► analyse
                                                                └─► stock ──► reorder ──► purchases
    pictures ──► thumbnail ──► thumbnails       at night ──► report ──► reports
                     └► spoiled                 charge fails ──► page ──► pager

Everything that arrives may arrive twice, so each function notes what it has done under the order's number. Its customer
chose that, and sends the same again where no answer came.
"""

import contextlib
import hashlib
import hmac
import http.client
import io
import json
import logging
import os
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from urllib.parse import unquote_plus

from pyfaas import Authorizer, Runtime, alarm, bucket, function, queue, schedule, table, topic
from pyfaas import http as route

PLACE = Path(os.environ["SHOP"])
BANK = os.environ["SHOP_BANK"]  # host:port
NIGHT = os.environ.get("SHOP_NIGHT", "cron(0 3 * * ? *)")
SECRET = os.environ["SHOP_SECRET"]

BOOKS = {name: PLACE / name for name in ("inventory", "shipping", "figures")}
for directory in BOOKS.values():
    directory.mkdir(parents=True, exist_ok=True)
STOCKED = 2_000  # pieces of each
INVENTORY = BOOKS["inventory"] / "inventory.db"

PRICES = {
    f"{colour} {thing}": 5 + 3 * at
    for at, thing in enumerate(("cup", "lamp", "chair", "rug"))
    for colour in ("red", "blue", "grey", "black", "white")
}
ORDER = {
    "type": "object",
    "required": ["item", "count"],
    "properties": {"item": {"enum": [*PRICES]}, "count": {"type": "integer", "minimum": 1, "maximum": 5}},
    "additionalProperties": False,
}

unpaid = queue("unpaid")
orders = queue("orders", visibility=6, max_receives=20, dead_letter=unpaid)
sales = table("sales", INVENTORY)
stock = table("stock", INVENTORY)
sold = topic("sold")
parcels = queue("parcels")
figures = queue("figures")
sold.subscribe(parcels, raw=True)
sold.subscribe(figures, raw=True)
mails, purchases, reports, pager, pictures, thumbnails, spoiled = (
    bucket(name, PLACE / name)
    for name in ("mails", "purchases", "reports", "pager", "pictures", "thumbnails", "spoiled")
)


@contextlib.contextmanager
def transaction(database: Path) -> Iterator[sqlite3.Connection]:
    """Write to a database in one transaction, on the disk before it ends."""
    connection = sqlite3.connect(database, timeout=5, isolation_level=None)
    try:
        with connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
    finally:
        connection.close()


# ------------------------------------------------------------------------------------------------------ taking an order


@function(network=False)
def customer(event: dict) -> dict:
    """Tell whose token it is: a name, and a seal of it that only the shop can make."""
    name, _, seal = event["identitySource"][0].partition(":")
    right = hmac.new(SECRET.encode(), name.encode(), hashlib.sha256).hexdigest()
    return {"isAuthorized": hmac.compare_digest(seal, right), "context": {"customer": name}}


@function(
    trigger=route("POST /orders", authorizer=Authorizer(customer, ttl=300), schema=ORDER),
    network=False,
    allow=[orders.send],
)
def place(event: dict) -> dict:
    """Accept an order: whoever reads the 202 may rely on it."""
    wanted = json.loads(event["body"])
    key = event["headers"].get("idempotency-key", "")
    if not re.fullmatch(r"[\w-]{1,64}", key):
        return {"statusCode": 400, "body": '{"message": "say which order it is, by Idempotency-Key"}'}
    who = event["requestContext"]["authorizer"]["lambda"]["customer"]
    number = f"{who}-{key}"  # each customer has numbers of their own
    orders.send({"order": number, "customer": who, **wanted, "amount": PRICES[wanted["item"]] * wanted["count"]})
    return {"statusCode": 202, "body": json.dumps({"order": number})}


# ------------------------------------------------------------------------------------------------------------- charging


class BankIsClosedError(Exception):
    """Not one of a whole batch could be charged."""


bank = http.client.HTTPConnection(BANK, timeout=1)  # it connects when it is used, and stays while a sandbox is warm


def pay(order: dict) -> str | None:
    """Charge one order and give the charge's number; None if that is not certain, and must be tried again."""
    for _ in range(2):
        try:
            headers = {"idempotency-key": order["order"], "content-type": "application/json"}
            bank.request("POST", "/charges", json.dumps({"amount": order["amount"]}), headers)
            answer = bank.getresponse()
            body = answer.read()
            if answer.status == 200:
                return json.loads(body)["charge"]
        except (OSError, http.client.HTTPException):
            bank.close()  # it connects again by itself
    return None


@function(
    trigger=orders.batches(size=10, report_failures=True, max_concurrency=4),
    timeout=6,
    writes=[BOOKS["inventory"]],
)
def charge(event: dict) -> dict:
    """Charge a batch, and book what was paid in one transaction; the others come again."""
    given = [(record["messageId"], json.loads(record["body"])) for record in event["Records"]]
    charges = {message: pay(order) for message, order in given}
    if not any(charges.values()):
        raise BankIsClosedError(f"none of {len(charges)} orders could be charged")
    with transaction(INVENTORY) as books:
        for message, order in given:
            if charges[message]:
                row = {**order, "charge": charges[message], "at": time.time()}
                sale = "INSERT INTO sales VALUES (:order, :customer, :item, :count, :amount, :charge, :at)"
                if books.execute(f"{sale} ON CONFLICT DO NOTHING", row).rowcount:
                    books.execute("UPDATE stock SET left = left - :count WHERE item = :item", row)
    return {"batchItemFailures": [{"itemIdentifier": message} for message, paid in charges.items() if not paid]}


@function(
    trigger=alarm("charging fails", "Errors", charge, threshold=3, period=10),
    network=False,
    allow=[pager.put],
)
def page(event: dict) -> None:
    """Wake somebody."""
    told = event["alarmData"]
    pager.put(f"{event['time'].replace(':', '-')}.txt", f"{told['alarmName']}: {told['state']['reason']}")


# -------------------------------------------------------------------------------------------------------- what was sold


def image_of(record: dict) -> dict:
    """Read a row as it is now; numbers of a stream are texts."""
    values = (next(iter(value.items())) for value in record["dynamodb"]["NewImage"].values())
    return {
        name: float(value) if kind == "N" else value
        for name, (kind, value) in zip(record["dynamodb"]["NewImage"], values, strict=True)
    }


@function(
    trigger=sales.records(size=50, parallelization=8, filters=[{"eventName": ["INSERT"]}]),
    timeout=10,
    network=False,
    allow=[mails.put, sold.publish],
)
def confirm(event: dict) -> None:
    """Write to the customer, and tell whoever is interested."""
    for record in event["Records"]:
        sale = image_of(record)
        mail = EmailMessage()
        mail["To"], mail["Subject"] = f"{sale['customer']}@example.org", f"Your order {sale['order']}"
        mail.set_content(f"{sale['count']:.0f} x {sale['item']}: {sale['amount']:.0f}, paid ({sale['charge']}).\n")
        mails.put(f"{sale['order']}.eml", bytes(mail))
        sold.publish(sale)


@function(
    trigger=stock.records(size=100, filters=[{"eventName": ["MODIFY"]}]),
    network=False,
    allow=[purchases.put],
)
def reorder(event: dict) -> None:
    """Order what runs short; one order a thing is open at a time."""
    short = {row["item"]: row for row in map(image_of, event["Records"]) if row["left"] < row["enough"]}
    for item, row in short.items():
        purchases.put(f"{item}.txt", f"{item}: {row['left']:.0f} left, {row['enough']:.0f} would be enough")


@function(trigger=parcels.batches(size=50, window=1), network=False, timeout=10, writes=[BOOKS["shipping"]])
def ship(event: dict) -> None:
    """Write a label for each parcel."""
    with transaction(BOOKS["shipping"] / "shipping.db") as books:
        books.execute("CREATE TABLE IF NOT EXISTS parcel (number TEXT PRIMARY KEY, address, content) WITHOUT ROWID")
        for record in event["Records"]:
            sale = json.loads(record["body"])
            label = (sale["order"], f"{sale['customer']}, Example Street 1", f"{sale['count']:.0f} x {sale['item']}")
            books.execute("INSERT OR IGNORE INTO parcel VALUES (?, ?, ?)", label)


@function(trigger=figures.batches(size=100, window=1), network=False, timeout=10, writes=[BOOKS["figures"]])
def analyse(event: dict) -> None:
    """Add to the figures of each minute."""
    with transaction(BOOKS["figures"] / "figures.db") as books:
        books.execute("CREATE TABLE IF NOT EXISTS seen (number TEXT PRIMARY KEY) WITHOUT ROWID")
        books.execute("CREATE TABLE IF NOT EXISTS minute (at INTEGER PRIMARY KEY, orders, amount)")
        for record in event["Records"]:
            sale = json.loads(record["body"])
            if books.execute("INSERT OR IGNORE INTO seen VALUES (?)", [sale["order"]]).rowcount:
                change = "ON CONFLICT DO UPDATE SET orders = orders + 1, amount = amount + excluded.amount"
                minute = int(sale["at"] // 60 * 60)
                books.execute(f"INSERT INTO minute VALUES (?, 1, ?) {change}", [minute, int(sale["amount"])])  # noqa: S608 - a constant


@function(trigger=schedule(NIGHT), network=False, timeout=30, writes=[*BOOKS.values()], allow=[reports.put])
def report(event: dict) -> None:
    """Say what was sold so far, thing by thing."""
    with transaction(INVENTORY) as books:
        rows = books.execute("SELECT item, sum(count), sum(amount) FROM sales GROUP BY item ORDER BY 3 DESC").fetchall()
    lines = [f"{count:>7,} x {item:<12} {amount:>9,}" for item, count, amount in rows]
    lines.append(f"{sum(row[1] for row in rows):>7,}   {'in all':<12} {sum(row[2] for row in rows):>9,}")
    reports.put(f"{event['time'].replace(':', '-')}.txt", "\n".join(lines))


@function(
    trigger=pictures.objects(suffix=".png"),
    network=False,
    timeout=5,
    retries=0,
    reads=[pictures.directory],
    allow=[thumbnails.put],
    on_failure=spoiled,
)
def thumbnail(event: dict) -> None:
    """Make a picture small. What was uploaded may be anything: what is none, or is too large, is put aside."""
    from PIL import Image

    for record in event["Records"]:
        key = unquote_plus(record["s3"]["object"]["key"])
        with Image.open(Path(pictures.directory) / key) as picture:
            picture.thumbnail((128, 128))
            small = io.BytesIO()
            picture.convert("RGB").save(small, "JPEG")
        thumbnails.put(f"{Path(key).stem}.jpg", small.getvalue())


WEB = [customer, place]
WORK = [charge, page, confirm, reorder, ship, analyse, report, thumbnail]


def prepare() -> None:
    """Make the tables, fill the shelves."""
    script = """
        PRAGMA journal_mode=WAL;
        CREATE TABLE IF NOT EXISTS sales ("order" TEXT PRIMARY KEY, customer, item, count, amount, charge, at);
        CREATE TABLE IF NOT EXISTS stock (item TEXT PRIMARY KEY, left, enough);
    """
    with contextlib.closing(stock.connect(script)) as shelves, shelves:
        new = [[item, STOCKED, STOCKED / 2] for item in PRICES]
        shelves.executemany("INSERT OR IGNORE INTO stock VALUES (?, ?, ?)", new)


if __name__ == "__main__":
    # What each invocation says, and its bill; failures too, which would go to the screen else.
    logging.basicConfig(filename=PLACE / f"{sys.argv[1]}.log", level=logging.INFO, format="%(message)s")
    store = PLACE / "shop.db"
    if sys.argv[1] == "web":
        # A burst waits in line for a few warm sandboxes; a sandbox for each request would take longer to begin.
        web = Runtime(WEB, store=store, keep_alive=60, concurrency=8, when_full="wait")
        web.serve(port=int(os.environ["SHOP_PORT"]), log_level="warning", access_log=False)
    else:
        os.nice(19)  # taking orders comes first
        prepare()
        signal.signal(signal.SIGTERM, lambda *_: sys.exit())
        with Runtime(WORK, store=store, keep_alive=60):
            (PLACE / "working").touch()
            signal.pause()
