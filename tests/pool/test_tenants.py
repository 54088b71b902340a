"""Tenants that never meet, and sandboxes for one invocation: who may find what somebody else left."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyfaas import ConfigurationError, Context, Function, Runtime, SandboxDied, Throttled, function
from support import wait_until

DIE = "die"


def standby_slot(supply: Any) -> set[str]:
    return {os.path.basename(supply.standby.slot)} if supply.standby is not None else set()


def keeper(**options: Any) -> Function[Any, Any]:
    """Notes what it is told, in memory and in ``/tmp``, and gives all that it finds."""

    @function(name="keeper", **options)
    def keep(event: str, context: Context) -> dict[str, Any]:
        import os
        import sys

        if event == "die":
            os._exit(3)
        seen = sys.__dict__.setdefault("seen", [])
        seen.append(event)
        with open("notes", "a") as file:
            file.write(event)
        with open("notes") as file:
            return {"seen": seen, "notes": file.read(), "tenant": context.tenant_id, "pid": id(seen)}

    return keep


def test_a_sandbox_serves_one_tenant_only(runtime: Runtime) -> None:
    keep = keeper(tenant_isolated=True)
    assert keep.invoke("1", tenant="a")["notes"] == "1"
    second = keep.invoke("2", tenant="b")
    assert (second["seen"], second["notes"], second["tenant"]) == (["2"], "2", "b")
    third = keep.invoke("3", tenant="a")
    assert (third["seen"], third["notes"], third["tenant"]) == (["1", "3"], "13", "a")
    told = keep.statistics()
    assert (told.invocations, told.cold_starts, told.live, told.idle) == (3, 2, 2, 2)


def test_a_crash_of_one_tenant_leaves_its_files_to_itself_alone(runtime: Runtime) -> None:
    keep = keeper(tenant_isolated=True)
    keep.invoke("1", tenant="a")
    with pytest.raises(SandboxDied):
        keep.invoke(DIE, tenant="a")
    assert keep.invoke("2", tenant="b")["notes"] == "2"
    assert keep.invoke("3", tenant="a")["seen"] == ["3"]
    assert keep.invoke("", tenant="a")["notes"] == "13"


@pytest.mark.parametrize("tenant", [None, "", "a" * 257, "a;b", "ä", "a\n", 7, b"a", ["a"]])
def test_an_isolated_function_refuses_a_call_that_says_no_tenant(runtime: Runtime, tenant: Any) -> None:
    keep = keeper(tenant_isolated=True)
    with pytest.raises(ConfigurationError) as caught:
        keep.invoke("1", tenant=tenant)
    right = "1 to 256 letters, digits, spaces and any of . _ : / = + - @"
    assert str(caught.value) == f"tenant={tenant!r}: must be {right}: 'keeper' keeps its tenants apart"
    keep.invoke("1", tenant="a")
    with pytest.raises(ConfigurationError):  # also once there are some
        keep.invoke("1", tenant=tenant)


@pytest.mark.parametrize("tenant", ["a", "a" * 256, "user@example.com", "arn:aws:x/y=z+1 2-3_4.5"])
def test_a_tenant_may_be_called_whatever_aws_lets_it(runtime: Runtime, tenant: str) -> None:
    assert keeper(tenant_isolated=True).invoke("1", tenant=tenant)["tenant"] == tenant


def test_streams_are_for_one_tenant_too(runtime: Runtime) -> None:
    keep = keeper(tenant_isolated=True)
    first = list(keep.map("abcdef", tenant="a"))
    assert {one["tenant"] for one in first} == {"a"}
    second = [outcome.value for outcome in keep.try_map("ghi", tenant="b")]
    assert all(set(one["notes"]) <= set("ghi") for one in second)
    with pytest.raises(ConfigurationError, match="tenant=None"):
        keep.map("abc")


@pytest.mark.anyio
async def test_async_callers_say_the_tenant_likewise() -> None:
    keep = keeper(tenant_isolated=True)
    async with Runtime() as runtime:
        assert (await runtime.ainvoke(keep, "1", tenant="a"))["tenant"] == "a"
        assert (await runtime.atry_invoke(keep, "2", tenant="b")).value["seen"] == ["2"]
        assert [one["tenant"] async for one in keep.amap("12", tenant="b")] == ["b", "b"]
        assert [one.value["tenant"] async for one in keep.atry_map("12", tenant="c")] == ["c", "c"]


def test_tenants_share_the_permits_of_their_function(runtime: Runtime) -> None:
    keep = keeper(tenant_isolated=True, reserved_concurrency=0)
    with pytest.raises(Throttled, match="takes no calls"):
        keep.invoke("1", tenant="a")
    assert keep.statistics().throttles == 1
    keep = keeper(tenant_isolated=True, reserved_concurrency=2)
    for tenant in "abcde":
        keep.invoke("1", tenant=tenant)
    assert keep.statistics().live == 5, "permits are for work; sandboxes at rest need none"


def test_what_is_held_of_a_tenant_ends_with_its_last_sandbox() -> None:
    """There may be a million of them over time."""
    keep = keeper(tenant_isolated=True)
    with Runtime(keep_alive=0) as runtime:
        for number in range(5):
            runtime.invoke(keep, "1", tenant=f"tenant {number}")
        wait_until(lambda: runtime.statistics().live == 0)
        wait_until(lambda: len(runtime._pool.ledger.shelves) == 1)
        assert runtime.function_statistics(keep).invocations == 5, "what was counted stays"
        assert runtime.invoke(keep, "2", tenant="tenant 1")["seen"] == ["2"]


def test_a_redeclared_function_lets_go_of_all_its_tenants(runtime: Runtime) -> None:
    """As a notebook cell that runs again does."""
    text = "from pyfaas import function\n@function(tenant_isolated=True)\ndef cell(event):\n    return {}\n"
    space: dict[str, Any] = {"__name__": "notebook_cell"}
    for value in (1, 2):
        exec(text.format(value), space)
        assert [runtime.invoke(space["cell"], None, tenant=tenant) for tenant in "ab"] == [value, value]
    wait_until(lambda: runtime.statistics().live == 2)


def test_every_invocation_of_a_fresh_function_gets_a_sandbox_of_its_own(runtime: Runtime) -> None:
    keep = keeper(fresh=True)
    for _ in range(3):
        found = keep.invoke("1")
        assert (found["seen"], found["notes"]) == (["1"], "1")
    with pytest.raises(SandboxDied):
        keep.invoke(DIE)
    assert keep.invoke("2")["notes"] == "2", "nor does it find what a crash left"
    assert [(one["seen"], one["notes"]) for one in keep.map("abc")] == [(["a"], "a"), (["b"], "b"), (["c"], "c")]
    told = keep.statistics()
    assert (told.invocations, told.cold_starts) == (8, 8)
    wait_until(lambda: keep.statistics().live == 0)
    supply = runtime._pool.supply
    wait_until(lambda: {name for name in os.listdir(supply.slots.root) if "slot-" in name} <= standby_slot(supply))


def test_a_fresh_function_may_be_loaded_ahead() -> None:
    keep = keeper(fresh=True, provisioned_concurrency=1)
    with Runtime([keep]) as runtime:
        for _ in range(3):
            assert runtime.invoke(keep, "1")["seen"] == ["1"]
            wait_until(lambda: runtime.function_statistics(keep).idle == 1)
        assert runtime.function_statistics(keep).cold_starts == 0


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="provisioned_concurrency=1: must be 0 where tenant_isolated=True"):
        keeper(tenant_isolated=True, provisioned_concurrency=1)
    with pytest.raises(ConfigurationError, match="max_invocations=2: must be None where fresh=True"):
        keeper(fresh=True, max_invocations=2)
