"""After many invocations of every kind, the host holds what it held before."""

from __future__ import annotations

import json

import pytest

from e2e.tools import Host

MB = 1_048_576


@pytest.mark.parametrize("count", [3_000, pytest.param(200_000, marks=pytest.mark.long)])
def test_after_mixed_invocations_nothing_has_grown(host: Host, count: int) -> None:
    told = json.loads(host.run("python", "-W", "error", "-m", "e2e.soak", str(count), seconds=60 + count / 100))
    before, after = told["before"], told["after"]
    assert told["invocations"] > count
    memory = {name: after.pop(name) - before.pop(name) for name in ("memory", "zygote's memory")}
    assert after == before
    assert memory["memory"] < 6 * MB
    assert memory["zygote's memory"] < 3 * MB
    host.assert_nothing_is_left()
