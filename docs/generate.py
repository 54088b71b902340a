"""
Writes the tables of the docs that are made from the code, each between its two markers in the page where it stands

    python docs/generate.py
"""

import re
from collections.abc import Callable
from pathlib import Path

from pyfaas._confine.plan import Holding, Host, hold
from pyfaas.limits import QUOTAS

DOCS = Path(__file__).parent

REFUSED = "no PID namespace"
ROOT = Host(
    "linux",
    root=True,
    pid_namespace=True,
    pid_max=True,
    view=True,
    own_uids=True,
    empty_network=True,
    landlock=7,
    seccomp=True,
)
GROUPS = ("memory", "cpu", "pids")  # of cgroups; a user has them where they were delegated
HOSTS = {
    "Linux, root": ROOT,
    "Linux, ordinary user": ROOT._replace(root=False, user_namespace=True, own_uids=False),
    "Linux without namespaces": Host("linux", False, refused=REFUSED, landlock=7, seccomp=True),
    "macOS (untested)": Host("darwin", False, refused=REFUSED),
}


def table(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


def quotas() -> str:
    head = ["what", "here", "AWS Lambda", "unit", "held by", "why"]
    return table(head, [list(quota) for quota in QUOTAS])


def matrix() -> str:
    """Show all guarantees on all kinds of hosts at a glance."""
    rows = [[row[0].guarantee, *(one.held.removeprefix("held by the ") for one in row)] for row in _held()]
    return table(["guarantee", *HOSTS], rows)


def _held() -> list[tuple[Holding, ...]]:
    """Give each guarantee as each host holds it."""
    return list(zip(*(hold(host, GROUPS if host is ROOT else ()) for host in HOSTS.values()), strict=True))


def _differ() -> tuple[list[list[str]], list[list[str]]]:
    """Give a row for each guarantee, how each host holds it: those that differ between hosts, and the others."""
    rows = [[row[0].guarantee, *map(_told, row)] for row in _held()]
    return [row for row in rows if len({*row[1:]}) > 1], [row for row in rows if len({*row[1:]}) == 1]


def _told(holding: Holding) -> str:
    held = holding.held if holding.by == "nothing" else f"{holding.held}: {holding.by}"
    return held if holding.why in ("", REFUSED) else f"{held} ({holding.why})"


def differing() -> str:
    return table(["guarantee", *HOSTS], _differ()[0])


def common() -> str:
    return table(["guarantee", "everywhere"], [row[:2] for row in _differ()[1]])


TABLES: dict[str, tuple[str, Callable[[], str]]] = {
    "quotas": ("reference/limits.md", quotas),
    "what differs": ("howto/platforms.md", differing),
    "guarantees": ("explanation/security.md", matrix),
    "what does not": ("howto/platforms.md", common),
}


def page_with(name: str) -> tuple[Path, str]:
    """Give the page and what should be in it."""
    where, make = TABLES[name]
    page = DOCS / where
    begin, end = f"<!-- {name}: made by docs/generate.py -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*{re.escape(end)}", re.DOTALL)
    text, found = pattern.subn(lambda _: f"{begin}\n\n{make()}\n\n{end}", page.read_text("utf-8"))
    if found != 1:
        raise ValueError(f"{page}: must have {begin} and {end}, once")
    return page, text


if __name__ == "__main__":
    for name in TABLES:
        page, text = page_with(name)
        page.write_text(text, "utf-8")
