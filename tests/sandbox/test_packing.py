"""How a handler travels: by reference where a sandbox finds it, else by value, else not at all, with the reason."""

from __future__ import annotations

import importlib
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import handlers
from pyfaas import ConfigurationError, Function, Runtime, function
from pyfaas._sandbox.packing import pack_handler, travels_by_name
from support import run_python

MODULE = """
from pyfaas import function

LEVEL = 7

@function
def handler(event):
    return [event, LEVEL, __name__]

class House:
    @function
    @staticmethod
    def inner(event):
        return "inner"

def make():
    @function
    def local(event):
        return LEVEL + event
    return local
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is searched for modules while the test runs."""
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(
            getattr(sys.modules[name], "__file__", None) or getattr(sys.modules[name], "__path__", "")
        ):
            del sys.modules[name]


def load_from(file: Path, name: str) -> ModuleType:
    """Import a file as pytest's importlib mode does: under a name that nothing would find."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


# -- by reference ------------------------------------------------------------------------------------------------------


def test_what_stands_at_the_top_of_an_importable_module_goes_by_reference() -> None:
    assert pack_handler(handlers.echo) == ("reference", "handlers", "echo")


def test_so_does_what_stands_in_a_class(folder: Path, session_runtime: Runtime) -> None:
    (folder / "one_module.py").write_text(MODULE)
    module = importlib.import_module("one_module")
    assert pack_handler(module.House.inner) == ("reference", "one_module", "House.inner")
    assert session_runtime.invoke(module.House.inner, 1) == "inner"


@pytest.mark.parametrize("with_init", [True, False])
def test_a_package_with_or_without_an_init_file(folder: Path, session_runtime: Runtime, with_init: bool) -> None:
    package = folder / f"package_{with_init}".lower()
    (package / "sub").mkdir(parents=True)
    if with_init:
        (package / "__init__.py").touch()
        (package / "sub" / "__init__.py").touch()
    (package / "sub" / "deep.py").write_text(MODULE)
    name = f"{package.name}.sub.deep"
    module = importlib.import_module(name)
    assert pack_handler(module.handler) == ("reference", name, "handler")
    assert session_runtime.invoke(module.handler, 1) == [1, 7, name]


def test_relative_imports_work_in_a_sandbox(folder: Path, session_runtime: Runtime) -> None:
    package = folder / "relative_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "constants.py").write_text("VALUE = 3\n")
    (package / "use.py").write_text(
        "from pyfaas import function\nfrom .constants import VALUE\n@function\ndef handler(event):\n    return VALUE\n"
    )
    module = importlib.import_module("relative_package.use")
    assert session_runtime.invoke(module.handler, None) == 3


def test_a_name_that_now_means_another_function_is_no_reference(folder: Path) -> None:
    (folder / "twice.py").write_text(MODULE)
    module: Any = importlib.import_module("twice")
    old = module.handler
    module.handler = function(old.handler)
    assert travels_by_name(module.handler)
    assert not travels_by_name(old)


# -- by value ----------------------------------------------------------------------------------------------------------


def by_value(declared: Function[Any, Any]) -> bool:
    return pack_handler(declared)[0] == "value"


def test_a_local_function_goes_by_value_with_what_it_closes_over(session_runtime: Runtime) -> None:
    factor = 3

    @function
    def scale(event: int) -> int:
        return event * factor

    assert by_value(scale)
    assert session_runtime.invoke(scale, 2) == 6


def test_a_local_function_of_a_module_takes_its_globals_along(folder: Path, session_runtime: Runtime) -> None:
    (folder / "with_locals.py").write_text(MODULE)
    local = importlib.import_module("with_locals").make()
    assert by_value(local)
    assert session_runtime.invoke(local, 1) == 8


def test_a_module_under_a_name_that_nothing_finds_goes_by_value(tmp_path: Path, session_runtime: Runtime) -> None:
    """pytest's importlib mode, and every loader of plug-ins: the name in ``sys.modules`` is a made-up one."""
    file = tmp_path / "plugin.py"
    file.write_text(
        "from pyfaas import function\n"
        "LEVEL = 5\n"
        "def helper(event):\n    return LEVEL + event\n"
        "class Shape:\n    sides = 4\n"
        "@function\ndef handler(event):\n    return [helper(event), Shape().sides]\n"
    )
    name = "made.up.plugin"
    module = load_from(file, name)
    try:
        assert by_value(module.handler)
        assert session_runtime.invoke(module.handler, 1) == [6, 4]
    finally:
        del sys.modules[name]


def test_a_module_that_hides_another_of_its_name_goes_by_value(folder: Path, session_runtime: Runtime) -> None:
    """By its name a sandbox would find the other file."""
    (folder / "hidden.py").write_text(
        "from pyfaas import function\n@function\ndef handler(event):\n    return 'other'\n"
    )
    other = folder / "elsewhere"
    other.mkdir()
    (other / "hidden.py").write_text(MODULE)
    module = load_from(other / "hidden.py", "hidden")
    assert by_value(module.handler)
    assert session_runtime.invoke(module.handler, 1)[:2] == [1, 7]


def test_a_function_that_calls_itself_by_its_name_travels(session_runtime: Runtime) -> None:
    """The pickle holds the function, which holds the handler, which holds the function."""

    @function
    def factorial(event: int) -> int:
        return 1 if event < 2 else event * factorial(event - 1)

    assert by_value(factorial)
    assert session_runtime.invoke(factorial, 5) == 120


def test_two_functions_that_call_each_other_travel(session_runtime: Runtime) -> None:
    @function
    def even(event: int) -> bool:
        return True if event == 0 else odd(event - 1)

    @function
    def odd(event: int) -> bool:
        return False if event == 0 else even(event - 1)

    assert session_runtime.invoke(even, 6) is True
    assert session_runtime.invoke(odd, 6) is False


def test_a_handler_that_uses_a_function_of_an_importable_module_takes_only_its_name(session_runtime: Runtime) -> None:
    @function
    def twice(event: int) -> int:
        return int(handlers.add_one(handlers.add_one(event)))

    packed = pack_handler(twice)[1]
    assert b"handlers" in (packed if isinstance(packed, bytes) else packed.encode())
    assert session_runtime.invoke(twice, 1) == 3


def test_a_script_is_its_own_module_and_goes_by_value() -> None:
    program = """
        from pyfaas import function
        LEVEL = 4
        class Shape:
            def __init__(self, sides): self.sides = sides
        def helper(event): return Shape(event + LEVEL)
        @function
        def handler(event): return helper(event).sides
        if __name__ == "__main__":
            print(handler.invoke(1))
    """
    done = run_python(program)
    assert (done.stdout.strip(), done.stderr, done.returncode) == ("5", "", 0)


def test_threads_may_pack_at_once(session_runtime: Runtime) -> None:
    """cloudpickle notes what goes by value in a place that all threads share."""

    def make(number: int) -> Function[Any, Any]:
        return function(lambda event: [event, number])

    made = [make(number) for number in range(20)]
    answers: dict[int, Any] = {}

    def call(number: int) -> None:
        answers[number] = session_runtime.invoke(made[number], 0)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {number: [0, number] for number in range(20)}


# -- not at all --------------------------------------------------------------------------------------------------------


def uses_lock() -> Callable[[Any], Any]:
    held = threading.Lock()
    return lambda event: held.locked()


def uses_socket() -> Callable[[Any], Any]:
    held = socket.socket()
    held.close()
    return lambda event: held.fileno()


def uses_file() -> Callable[[Any], Any]:
    held = open(os.devnull)  # noqa: SIM115
    held.close()
    return lambda event: held.name


def uses_generator() -> Callable[[Any], Any]:
    held = (number for number in range(3))
    return lambda event: next(held)


@pytest.mark.parametrize(
    ("make", "kind"),
    [(uses_lock, "lock"), (uses_socket, "socket"), (uses_generator, "generator"), (uses_file, "TextIOWrapper")],
)
def test_a_handler_that_cannot_travel_is_refused_with_the_culprit(
    session_runtime: Runtime, make: Callable[[], Callable[[Any], Any]], kind: str
) -> None:
    declared = function(name="stays")(make())
    before = session_runtime.statistics().spawned
    with pytest.raises(ConfigurationError) as caught:
        session_runtime.invoke(declared, 1)
    told = str(caught.value)
    assert told.startswith("the handler of 'stays' cannot travel to a sandbox: ")
    assert f"(the closed-over variable 'held' holds a {kind})" in told
    assert "create what does not pickle inside the handler" in told
    assert session_runtime.statistics().spawned == before


def test_a_global_that_cannot_travel_is_named_too(session_runtime: Runtime) -> None:
    space: dict[str, Any] = {"guard": threading.Lock(), "__name__": "no_module_of_this_name"}
    exec("def handler(event):\n    return guard.locked()", space)
    with pytest.raises(ConfigurationError, match="the global variable 'guard' holds a lock"):
        session_runtime.invoke(function(space["handler"]), 1)


def test_what_needs_a_module_that_the_sandbox_lacks_says_so(folder: Path) -> None:
    (folder / "only_here.py").write_text("VALUE = 1\ndef get():\n    return VALUE\n")
    module = importlib.import_module("only_here")
    declared: Function[Any, Any] = function(lambda event: module.get())
    with Runtime() as runtime:
        assert runtime.invoke(declared, None) == 1
        os.unlink(folder / "only_here.py")
        error = runtime.try_invoke(function(lambda event: module.get()), None).error
        assert type(error).__name__ == "InitFailed"
        assert getattr(error, "message", "") == "Unable to import module 'only_here': No module named 'only_here'"
