"""
What the store knows of a bucket's files: what each was like when its last event was made.

    is_known, baseline ──► a bucket that is new here begins with the files that it has: they have no events
    page               ──► all of them, to be held against the directory
    note               ──► one that has changed: noted once, whoever of several hosts saw it, with a number in order
"""

from __future__ import annotations

import os
from collections.abc import Iterable

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
    for key, stamp in files:
        _set(transaction, bucket, key, stamp, 0)


def page(transaction: Transaction, bucket: str, after: bytes) -> list[tuple[str, Stamp]]:
    """List some files by their keys, those after this one."""
    found = transaction.run("objects_after", bucket=bucket, key=after, count=PAGE)
    return [(os.fsdecode(key), Stamp(*stamp)) for key, *stamp in found]


def known(transaction: Transaction, bucket: str, keys: Iterable[str]) -> dict[str, Stamp | None]:
    """Tell what is noted of each of these."""
    return {key: stamp for key in keys for stamp, _ in [_get(transaction, bucket, key)]}


def note(transaction: Transaction, bucket: str, key: str, stamp: Stamp | None) -> int | None:
    """Note that a file has changed, or with None that it is gone; give its number in order, None if that is known."""
    there, _ = _get(transaction, bucket, key)
    if there == stamp:
        return None
    sequencer = int(transaction.one("fact", name=_SEQUENCER) or 0) + 1
    transaction.run("set_fact", name=_SEQUENCER, value=sequencer)
    if stamp is None:
        transaction.count("forget_object", bucket=bucket, key=os.fsencode(key))
    else:
        _set(transaction, bucket, key, stamp, sequencer)
    return sequencer


def _get(transaction: Transaction, bucket: str, key: str) -> tuple[Stamp | None, int]:
    for *stamp, sequencer in transaction.run("object", bucket=bucket, key=os.fsencode(key)):
        return Stamp(*stamp), sequencer
    return None, 0


def _set(transaction: Transaction, bucket: str, key: str, stamp: Stamp, sequencer: int) -> None:
    values = stamp._asdict()
    transaction.count("set_object", bucket=bucket, key=os.fsencode(key), sequencer=sequencer, **values)
