"""
A shop in a flash sale: killed in the middle, and no order lost or charged twice

    python docs/examples/shop            500 orders a second for 20 seconds; less: python docs/examples/shop 100 5

Starts a payment server that fails at times (bank.py), and the shop (app.py): one host takes orders on uvicorn, one
works. Lets customers order (customers.py), uploads pictures (pictures.py), kills both hosts with SIGKILL when half of
the orders are accepted, starts them again, and waits until all is done; what the dead were working on comes back when
their leases end, after 30 seconds at most. Then the ledger (books.py) shows where each order is. It needs
pyfaas[http,files] and Pillow.
"""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import datetime, timedelta, timezone
from pathlib import Path

HERE = Path(__file__).parent
RATE, SECONDS = (float(one) for one in (sys.argv[1:3] if len(sys.argv) > 2 else (500, 20)))
ORDERS = int(RATE * SECONDS)
KILLED = os.environ.get("SHOP_KILLED", "yes") == "yes"
PATIENCE = 80.0


def settle_where() -> Path:
    """Say in the environment where everything is: for the shop, the customers and the ledger."""
    os.environ.setdefault("SHOP", tempfile.mkdtemp(prefix="shop-"))
    os.environ["SHOP_SECRET"] = secrets.token_hex()
    os.environ["SHOP_PORT"] = str(free_port())
    os.environ["SHOP_BANK"] = f"127.0.0.1:{free_port()}"
    night = datetime.now(timezone.utc) + timedelta(seconds=10 + SECONDS)
    os.environ["SHOP_NIGHT"] = f"at({night:%Y-%m-%dT%H:%M:%S})"  # it falls early today
    return Path(os.environ["SHOP"])


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def start(program: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, str(HERE / program), *map(str, arguments)])


def wait_for(address: str, process: subprocess.Popen) -> None:
    """Wait until somebody listens there."""
    host, _, port = address.rpartition(":")
    while True:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((host, int(port))):
            return
        assert process.poll() is None, f"{process.args} ended by itself"
        time.sleep(0.02)


class Shop:
    """Two hosts that have one store: one takes orders, one works."""

    def __init__(self) -> None:
        self.hosts: list[subprocess.Popen] = []

    def open(self) -> None:
        self.hosts = [start("app.py", "web"), start("app.py", "work")]
        wait_for(f"127.0.0.1:{os.environ['SHOP_PORT']}", self.hosts[0])
        while not (Path(os.environ["SHOP"]) / "working").exists():  # pictures that came before have no events
            self.check()
            time.sleep(0.02)

    def check(self) -> None:
        assert all(host.poll() is None for host in self.hosts), "the shop ended by itself"

    def kill(self) -> None:
        for host in self.hosts:
            host.send_signal(signal.SIGKILL)
        for host in self.hosts:
            host.wait()

    def close(self) -> None:
        for host in self.hosts:
            host.terminate()
        assert all(host.wait(30) in (0, -signal.SIGTERM) for host in self.hosts)


def say(what: str) -> None:
    print(f"  {time.monotonic() - BEGAN:5.1f} s  {what}", flush=True)


def read_numbers(file: Path) -> set[str]:
    return set(file.read_text().split()) if file.exists() else set()


def hold_sale(shop: Shop, place: Path) -> set[str]:
    """Let everybody order, kill the shop in the middle, and give the numbers of the orders that were accepted."""
    accepted = place / "accepted"
    customers = start("customers.py", os.environ["SHOP_PORT"], RATE, SECONDS, accepted)
    try:
        while KILLED and len(read_numbers(accepted)) < ORDERS // 2:
            assert customers.poll() is None, "the customers ended by themselves"
            shop.check()
            time.sleep(0.05)
        if KILLED:
            shop.kill()
            say(f"{len(read_numbers(accepted)):,} orders are accepted: kill -9")
            shop.open()
            say("the shop is open again")
        assert customers.wait() == 0, "not every order was answered as it must be"
    finally:
        customers.kill()
        customers.wait()
    say("the sale is over")
    return read_numbers(accepted)


def main() -> int:
    place = settle_where()
    from books import Ledger
    from pictures import BROKEN, draw, upload

    print(f"a flash sale of {RATE:.0f} orders a second for {SECONDS:.0f} s, in {place}", flush=True)
    draw(place / "drawn")
    with contextlib.ExitStack() as stack:
        bank = start("bank.py", os.environ["SHOP_BANK"].rpartition(":")[2], ORDERS)
        stack.callback(bank.wait)
        stack.callback(bank.kill)
        wait_for(os.environ["SHOP_BANK"], bank)
        shop = Shop()
        stack.callback(shop.kill)
        shop.open()
        say("the shop is open")
        uploading = threading.Thread(target=upload, args=(place / "drawn", place / "pictures", SECONDS), daemon=True)
        uploading.start()
        ledger = Ledger(hold_sale(shop, place), len(BROKEN))
        uploading.join()
        until = time.monotonic() + PATIENCE
        while (missing := ledger.missing()) and time.monotonic() < until:
            shop.check()
            time.sleep(0.5)
            ledger.look()
        say(f"still missing: {', '.join(missing)}" if missing else "all is done")
        shop.close()
        with urllib.request.urlopen(f"http://{os.environ['SHOP_BANK']}/charges") as answer:
            charges = json.load(answer)
    ledger.look()
    good = ledger.close(charges)
    ledger.print_bill()
    print("every order is accounted for" if good else "THE BOOKS DO NOT BALANCE")
    return 0 if good else 1


BEGAN = time.monotonic()
if __name__ == "__main__":
    sys.exit(main())
