"""
What hosts had leased that died: due at once, for whoever opens the store next.

    register ──► a row ──(the host closes the store)──► gone
                  └─(it dies)──► the next one finds its lock free ──► what bears its number is due

Without this a lease would run out by itself, some time: that is what holds where no host opens the store anew.
"""

from __future__ import annotations

from pyfaas._stores import hosts, queue
from pyfaas._stores.database import Database, Transaction


def register(database: Database) -> None:
    """Note that this host has the store open, and take over from those that are dead."""
    if database.host != hosts.NOBODY:
        database.put(lambda one: _take_over(one, database), durable=False)


def _take_over(transaction: Transaction, database: Database) -> None:
    for (number,) in transaction.run("hosts"):
        if number == database.host or not database.is_alive(number):
            queue.release(transaction, number)
            transaction.count("release_cursors", host=number, now=transaction.now)
            transaction.count("forget_host", number=number)
    transaction.count("add_host", number=database.host)


def leave(database: Database) -> None:
    """Note that this host closes the store, having given back what it had."""
    if database.host != hosts.NOBODY:
        database.put(lambda one: one.count("forget_host", number=database.host), durable=False)
