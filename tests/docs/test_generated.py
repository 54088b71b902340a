"""The tables that docs/generate.py writes are those of today's code."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import pyfaas
import pyfaas.errors

SCRIPT = Path(__file__).parents[2] / "docs" / "generate.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_docs", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = load()


@pytest.mark.parametrize("name", generate.TABLES)
def test_a_table_is_current(name: str) -> None:
    page, text = generate.page_with(name)
    assert page.read_text("utf-8") == text, f"{page} is out of date: run python docs/generate.py"


def test_every_public_name_is_in_the_reference() -> None:
    page = (SCRIPT.parent / "reference" / "api.md").read_text("utf-8")
    errors = {name for name in vars(pyfaas.errors) if name in pyfaas.__all__}
    for name in {*pyfaas.__all__} - errors - {"__version__"}:
        assert f"pyfaas.{name}\n" in page, name
    assert "automodule:: pyfaas.errors" in page


def test_the_readme_shows_the_faults_as_they_were_last_seen() -> None:
    begin, end = "<!-- faults: made by python -m benchmarks.faults -->", "<!-- end of faults -->"
    root = SCRIPT.parents[1]
    tables = [
        (root / name).read_text("utf-8").partition(begin)[2].partition(end)[0].strip()
        for name in ("README.md", "docs/reference/faults.md")
    ]
    assert tables[0] == tables[1]
    assert "| pyfaas | yes | yes | yes | yes | yes | yes | yes | yes |" in tables[0]
