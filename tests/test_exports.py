"""The public names, each exported once; and what an import costs: nothing that was not asked for."""

from __future__ import annotations

import importlib
import inspect
import json
import os

import pytest

import pyfaas
from support import SOURCE, output_of

NAMES = {
    "AccessDenied", "BadResponse", "Bus", "CannotConfine", "ConfigurationError", "Context", "EngineUnavailable",
    "AlreadyInProgress", "Archive", "Authorizer", "Cors", "EventSourceMapping", "Idempotency",
    "PayloadMismatch", "Queue", "Stream", "Topic", "auth", "bus", "http", "queue", "schedule", "stream",
    "table", "topic", "Bucket", "bucket", "NoSuchKey", "alarm", "ConnectionGone", "WebSocket", "websocket", "edge",
    "EventExpired", "FixedTime", "Function", "FunctionError", "FunctionNotFound", "FunctionStatistics",
    "GreedyDual", "HandlerFailed", "Holding", "HostError", "HybridHistogram", "InitFailed", "InternalError",
    "InvalidEvent", "InvokeError", "OutOfMemory", "Outcome", "PayloadTooLarge", "PyfaasError", "Replay", "Report",
    "Runtime", "RuntimeStatistics", "SandboxDied", "StoreUnavailable", "Submission", "Table", "Throttled", "TimedOut",
    "__version__", "function",
}  # fmt: skip


def test_these_names_are_public_and_no_others() -> None:
    assert set(pyfaas.__all__) == NAMES
    assert len(pyfaas.__all__) == len(NAMES)
    assert set(dir(pyfaas)) >= NAMES


def test_every_public_name_is_what_its_home_defines() -> None:
    for home, names in pyfaas._HOMES.items():
        module = importlib.import_module(home)
        for name in names:
            value = getattr(pyfaas, name)
            assert value is getattr(module, name)
            assert value.__module__ == home, f"{name} is defined elsewhere"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'pyfaas' has no attribute 'nothing'"):
        pyfaas.nothing  # noqa: B018


def test_type_checkers_see_the_same_names() -> None:
    """The block under TYPE_CHECKING and the table that serves the names agree."""
    source = inspect.getsource(pyfaas)
    block = source[source.index("if TYPE_CHECKING:") : source.index("__version__ =")]
    for name in NAMES - {"__version__"}:
        assert f" {name},\n" in block or f" {name}\n" in block or f" {name}," in block, name


def loaded_by(program: str) -> set[str]:
    """Run it in a fresh interpreter without site, and tell which modules it added."""
    return set(
        json.loads(
            output_of(
                f"""
                import json, sys
                sys.path.insert(0, {str(SOURCE)!r})
                before = set(sys.modules)
                {program}
                print(json.dumps(sorted(set(sys.modules) - before)))
                """
            )
        )
    )


def roots(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_the_package_loads_next_to_nothing() -> None:
    assert loaded_by("import pyfaas") <= {"pyfaas", "__future__"}


def test_declaring_loads_no_pool_no_process_and_no_event_loop() -> None:
    loaded = loaded_by("from pyfaas import function")
    assert not roots(loaded) & {"anyio", "asyncio", "trio", "psutil", "cloudpickle", "subprocess", "hypothesis"}
    rooms = {name for name in loaded if name.startswith("pyfaas._")}
    assert not any(room.startswith(("pyfaas._pool", "pyfaas._sandbox", "pyfaas._invoke")) for room in rooms)
    assert "pyfaas.runtime" not in loaded


def test_what_starts_inside_a_sandbox_loads_the_standard_library_only() -> None:
    program = "import pyfaas._sandbox.zygote, pyfaas._sandbox.worker, pyfaas._sandbox.loader"
    loaded = loaded_by(program)
    import sys

    foreign = {root for root in roots(loaded) if root not in sys.stdlib_module_names}
    assert foreign == {"pyfaas"}
    assert not {name for name in loaded if name.startswith(("pyfaas._pool", "pyfaas._invoke", "pyfaas.runtime"))}
    assert "asyncio" not in loaded


def test_the_version_is_that_of_the_project_file() -> None:
    text = (SOURCE.parent / "pyproject.toml").read_text()
    assert f'version = "{pyfaas.__version__}"' in text


def test_the_package_says_that_it_is_typed() -> None:
    assert os.path.exists(SOURCE / "pyfaas" / "py.typed")
