"""
Every Python block of the README and of the docs runs, as a reader would run it.

The blocks of a page, from the first to the last, are one script; each stands on the line that it has in the page, so
that a traceback leads there. A ``text`` block right below a block is what it prints, ``...`` in it is what differs from
run to run.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from sybil import Example, Sybil
from sybil.parsers.myst import CodeBlockParser

from support import SOURCE

ROOT = Path(__file__).parents[2]
END = "\x1eend of the block\x1e"
FAILED = re.compile(r"^'.*' failed, request .*\n(?:    .*\n)*", re.MULTILINE)  # what functions do on purpose

read = Sybil(parsers=[CodeBlockParser(language, evaluator=lambda _: None) for language in ("python", "text")]).parse


def pages() -> list[str]:
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [
        str(page.relative_to(ROOT)) for page in found if "_build" not in page.parts and "```python" in page.read_text()
    ]


def language_of(example: Example) -> str:
    return str(example.region.lexemes["arguments"])


def script_of(blocks: list[Example]) -> str:
    lines: list[str] = []
    for block in blocks:
        lines += [""] * (block.line - len(lines))  # up to the line of the opening fence
        lines += [*block.parsed.splitlines(), f"print({END!r})"]  # and where the closing fence is
    return "\n".join(lines) + "\n"


def promises_of(examples: list[Example], text: str) -> list[str]:
    """What each block says that it prints; ``...`` where it does not say."""
    promises = []
    for at, example in enumerate(examples):
        if language_of(example) == "python":
            promises.append("...")
        elif promises and not text[examples[at - 1].end : example.start].strip():
            promises[-1] = str(example.parsed)
    return promises


@pytest.mark.parametrize("page", pages())
def test_a_page_runs_and_prints_what_it_says(page: str, tmp_path: Path) -> None:
    document = read(ROOT / page)
    examples = list(document.examples())
    blocks = [example for example in examples if language_of(example) == "python"]
    script = tmp_path / (Path(page).stem + ".py")
    script.write_text(script_of(blocks))

    ran = subprocess.run(
        # Short examples leave a file to the garbage collector.
        [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning", str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert ran.returncode == 0, f"{page}, by its line numbers:\n{ran.stderr}"
    assert FAILED.sub("", ran.stderr) == ""
    *printed, rest = [part.removeprefix("\n") for part in ran.stdout.split(END)]
    assert not rest
    for block, promised, got in zip(blocks, promises_of(examples, document.text), printed, strict=True):
        matches = doctest.OutputChecker().check_output(promised, got, doctest.ELLIPSIS)
        assert matches, f"{page}:{block.line} says\n{promised}but prints\n{got}"
