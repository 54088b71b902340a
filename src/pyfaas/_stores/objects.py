"""
What the store knows of a bucket's files: what each was like when its last event was made.

    is_known, baseline ──► a bucket that is new here begins with the files that it has: they have no events
    page               ──► all of them, to be held against the directory
    note               ──► those that have changed: noted once, whoever of several hosts saw it, with numbers in order
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from pyfaas._files import Stamp
from pyfaas._stores.database import Transaction

PAGE = 5_000
_SEQUENCER = "sequencer"


def is_known(transaction: Transaction, bucket: str, directory: str) -> bool:
    """Tell whether a bucket's files were ever noted, for the directory that it is now."""
    return bool(transaction.one("fact", name=f"{bucket}/directory") == directory)


def forget(transaction: Transaction, bucket: str) -> None:
    """Forget the files of the directory that it was, if it was another one."""
    transaction.count("forget_objects", bucket=bucket)


def begin(transaction: Transaction, bucket: str, directory: str) -> None:
    """Say that all files are noted as they were: from now on each change is one."""
    transaction.run("set_fact", name=f"{bucket}/directory", value=directory)


def baseline(transaction: Transaction, bucket: str, files: Iterable[tuple[str, Stamp]]) -> None:
    """Note files as they are, without an event."""
    transaction.insert_rows("set_object_rows", [(bucket, os.fsencode(key), *stamp, 0) for key, stamp in files])


def page(transaction: Transaction, bucket: str, after: bytes) -> list[tuple[str, Stamp]]:
    """List some files by their keys, those after this one."""
    found = transaction.run("objects_after", bucket=bucket, key=after, count=PAGE)
    return [(os.fsdecode(key), Stamp(*stamp)) for key, *stamp in found]


def known(transaction: Transaction, bucket: str, keys: Iterable[str]) -> dict[str, Stamp | None]:
    """Tell what is noted of each of these; None of what is not."""
    rows = [(bucket, os.fsencode(key)) for key in keys]
    found = {key: Stamp(*stamp) for key, *stamp in transaction.run_rows("object_rows", rows)}
    return {os.fsdecode(key): found.get(key) for _, key in rows}


def note(transaction: Transaction, bucket: str, changed: Mapping[str, Stamp | None]) -> dict[str, int]:
    """Note that files have changed, or with None are gone; give the numbers in order of those of which it is new."""
    before = known(transaction, bucket, changed)
    new = {key: stamp for key, stamp in changed.items() if before[key] != stamp}
    last = int(transaction.one("fact", name=_SEQUENCER) or 0)
    numbers = {key: last + place for place, key in enumerate(new, 1)}
    if new:
        transaction.run("set_fact", name=_SEQUENCER, value=last + len(new))
    there = [(bucket, os.fsencode(key), *stamp, numbers[key]) for key, stamp in new.items() if stamp is not None]
    transaction.insert_rows("set_object_rows", there)
    for key, stamp in new.items():
        if stamp is None:
            transaction.count("forget_object", bucket=bucket, key=os.fsencode(key))
    return numbers
