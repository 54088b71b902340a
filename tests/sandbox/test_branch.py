"""Branches of the zygote: modules that are imported once and are there when a sandbox starts."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pyfaas import ConfigurationError, Function, InitFailed, Runtime, SandboxDied, function
from support import is_alive, kill, wait_until


def teller(**options: Any) -> Function[Any, Any]:
    """Tells which of these modules its sandbox has, without importing any."""

    @function(name="teller", **options)
    def tell(event: list[str]) -> list[str]:
        import sys

        return [name for name in event if name in sys.modules]

    return tell


ODD = ["colorsys", "sndhdr", "wave", "cgitb", "this"]  # that nobody else imports


def test_named_modules_are_there_and_those_of_other_functions_are_not(runtime: Runtime) -> None:
    first, second, plain = teller(preload=["colorsys"]), teller(preload=["wave", "colorsys"]), teller()
    assert first.invoke(ODD) == ["colorsys"]
    assert second.invoke(ODD) == ["colorsys", "wave"]
    assert plain.invoke(ODD) == []
    assert list(second.map([ODD] * 5)) == [["colorsys", "wave"]] * 5


def test_functions_that_name_the_same_modules_share_one_branch(runtime: Runtime) -> None:
    names = [["wave", "colorsys"], ["colorsys", "wave", "wave"], ("colorsys", "wave")]
    for given in names:
        assert teller(preload=given).invoke(ODD) == ["colorsys", "wave"]
    assert list(runtime._pool.supply.branches) == [("colorsys", "wave")]


def test_a_module_that_is_not_there_fails_the_init_and_says_which(runtime: Runtime) -> None:
    tell = teller(preload=["colorsys", "is_not_there"])
    for _ in range(2):
        with pytest.raises(InitFailed) as caught:
            tell.invoke([])
        assert caught.value.error_type == "Runtime.ImportModuleError"
        told = "'is_not_there': ModuleNotFoundError: No module named 'is_not_there'"
        assert caught.value.message == f"preload=['colorsys', 'is_not_there']: {told}"


def test_a_module_that_starts_a_thread_is_refused(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "import threading, time\nthreading.Thread(target=time.sleep, args=(1000,), daemon=True).start()\n"
    (tmp_path / "starts_a_thread.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InitFailed, match="importing them starts threads, which no fork takes along"):
        teller(preload=["starts_a_thread"]).invoke([])


def test_a_module_that_ends_its_process_costs_those_who_name_it_and_nobody_else(
    runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ends_it_all.py").write_text("import os\nos._exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    plain = teller()
    assert plain.invoke(ODD) == []
    with pytest.raises(Exception, match=r"died|die before they say hello"):
        teller(preload=["ends_it_all"]).invoke([])
    assert plain.invoke(ODD) == []
    assert plain.statistics().cold_starts == 1


def test_the_death_of_a_branch_takes_its_sandboxes_and_no_others(runtime: Runtime) -> None:
    branched, plain = teller(preload=["colorsys"]), teller()
    branched.invoke(ODD)
    plain.invoke(ODD)
    branch = runtime._pool.supply.branches["colorsys",]
    process = psutil.Process(branch.pid)
    wait_until(lambda: len(process.children()) == 2)  # the one that worked, and one that stands by
    sandboxes = [child.pid for child in process.children()]
    kill(branch.pid)
    wait_until(lambda: not any(map(is_alive, sandboxes)))
    outcome = branched.try_invoke(ODD)
    if not outcome.ok:  # its idle sandbox may have been dying when it was taken
        assert isinstance(outcome.error, SandboxDied)
    assert branched.invoke(ODD) == ["colorsys"]
    assert plain.invoke(ODD) == []
    assert plain.statistics().cold_starts == 1


def test_the_death_of_the_zygote_takes_its_branches_too(runtime: Runtime) -> None:
    branched = teller(preload=["colorsys"])
    branched.invoke(ODD)
    branch = runtime._pool.supply.branches["colorsys",].pid
    kill(runtime._pool.zygote().pid)
    wait_until(lambda: not is_alive(branch))
    branched.try_invoke(ODD)
    assert branched.invoke(ODD) == ["colorsys"]


def test_closing_ends_branches() -> None:
    with Runtime() as runtime:
        runtime.invoke(teller(preload=["colorsys"]), ODD)
        branch = runtime._pool.supply.branches["colorsys",].pid
        assert is_alive(branch)
        before = len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0
    assert not is_alive(branch)
    assert sys.platform != "linux" or len(os.listdir("/proc/self/fd")) < before


@pytest.mark.parametrize("value", ["numpy", [1], ["not a name"], ["a..b"], [""], None])
def test_names_that_are_none_are_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"preload=.*: must be a list"):
        teller(preload=value)
