"""What a sandbox is shown: code, and nothing that merely lies beside it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pyfaas._confine import view


def test_a_directory_of_code_is_shown_whole(tmp_path: Path) -> None:
    (tmp_path / "data.bin").touch()
    assert list(view.code_of(str(tmp_path), home="/home/somebody")) == [str(tmp_path)]


@pytest.mark.parametrize("below", ["", "inner/deeper"])
def test_of_somebodys_home_only_code_is_shown(tmp_path: Path, below: str) -> None:
    for name in ("script.py", "fast.so", "notes.txt", ".secret.py.swp"):
        (tmp_path / name).touch()
    for name, file in (
        ("package", "__init__.py"),
        (".aws", "credentials"),
        ("pictures", "a.png"),
        (".hidden", "__init__.py"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    home = str(tmp_path / below)
    shown = [os.path.basename(path) for path in view.code_of(str(tmp_path), home=home)]
    assert shown == ["fast.so", "package", "script.py"]


@pytest.mark.parametrize("place", ["/", "/tmp", "/home", "/home/me", "/root", "/etc", "/var"])
def test_places_where_anybody_puts_things_are_nobodys_code(place: str) -> None:
    assert place not in view.code_of(place, home="/somewhere/else")


def test_a_link_to_a_home_is_that_home(tmp_path: Path) -> None:
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    (tmp_path / "link").symlink_to("home")
    assert list(view.code_of(str(tmp_path / "link"), home=str(tmp_path / "home"))) == []


def test_what_lies_below_something_that_is_shown_needs_no_place_of_its_own(tmp_path: Path) -> None:
    for name in ("a/b", "ab"):
        (tmp_path / name).mkdir(parents=True)
    given = [str(tmp_path / name) for name in ("a/b", "a", "ab", "a/../a", "not there")]
    assert view.without_nested(given) == [str(tmp_path / "a"), str(tmp_path / "ab")]


def test_the_interpreter_and_its_libraries_are_shown() -> None:
    shown = view.shown([], home="/nobody")
    for needed in (sys.prefix, sys.base_prefix, os.path.dirname(os.__file__)):
        assert any(view.is_below(needed, path) for path in shown), needed


def test_certificates_are_shown_and_private_keys_are_not() -> None:
    shown = view.shown([], home="/nobody")
    assert not any(view.is_below(key, path) for key in ("/etc/ssl/private", "/etc/pki/tls/private") for path in shown)


def test_strangers_read_what_all_may_read(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert view.readable_by_others([str(tmp_path), "/not there"])
    tmp_path.chmod(0o750)
    assert not view.readable_by_others([str(tmp_path)])
