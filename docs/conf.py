"""
How the documentation is built

Pages are Markdown (MyST); the reference is generated from docstrings, which are plain text.
"""

import logging
from importlib.metadata import version as version_of
from typing import Any

project = "pyfaas"
author = "the pyfaas authors"
release = version_of("pyfaas")
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "examples"]

# A section of the table of contents may still be empty. (`suppress_warnings` cannot say so: this one has no type.)
logging.getLogger("sphinx.sphinx.directives.other").addFilter(
    lambda record: getattr(record, "subtype", "") != "empty_glob"
)

html_theme = "furo"
html_title = f"pyfaas {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"  # files are read top to bottom, and so is the reference
autodoc_typehints = "signature"
autodoc_default_options = {"show-inheritance": True}


def keep_drawings(_app: Any, _what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """An indented paragraph in a docstring is a drawing or a piece of code: it is shown as it stands."""
    for at in range(len(lines) - 1, -1, -1):
        opens = lines[at].startswith("    ") and (at == 0 or not lines[at - 1].strip())
        before = next((line for line in reversed(lines[:at]) if line.strip()), "")
        if opens and not before.startswith("    ") and not before.rstrip().endswith("::"):
            lines[at:at] = ["::", ""]


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", keep_drawings)
