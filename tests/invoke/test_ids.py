"""Request ids: UUIDs, and those of what is kept in the order of their milliseconds."""

from __future__ import annotations

import time
import uuid

from pyfaas._invoke.ids import new_id, new_id_in_order


def test_ids_of_what_is_kept_are_in_the_order_of_their_milliseconds() -> None:
    made = []
    for _ in range(3):
        made.append(new_id_in_order())
        time.sleep(0.002)
    assert made == sorted(made)
    assert {uuid.UUID(bytes=one).version for one in made} == {7}
    assert {uuid.UUID(bytes=one).variant for one in made} == {uuid.RFC_4122}
    assert uuid.UUID(bytes=new_id()).version == 4
