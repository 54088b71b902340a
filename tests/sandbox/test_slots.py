"""Slots: a handler's directory is removed whatever it did to it, and nothing outside of it is touched."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyfaas._sandbox.slots import Slots
from support import output_of


@pytest.fixture
def slots() -> Iterator[Slots]:
    made = Slots(tempfile.mkdtemp(prefix="pyfaas-"))
    yield made
    made.close()
    assert not os.path.exists(made.root)


def test_a_slot_is_a_new_empty_directory_for_this_user_alone(slots: Slots) -> None:
    first, second = slots.make(), slots.make()
    assert first != second
    assert os.listdir(first) == []
    for path in (slots.root, first):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700


def fill_with_files(slot: str, outside: Path) -> None:
    for number in range(50):
        Path(slot, f"file {number}").write_text("x")
    Path(slot, "with\nnewline").touch()
    os.mkfifo(Path(slot, "pipe"))
    os.link(outside / "keep", Path(slot, "hard link"))


def fill_with_links(slot: str, outside: Path) -> None:
    os.symlink(outside, Path(slot, "to a directory"))
    os.symlink(outside / "keep", Path(slot, "to a file"))
    os.symlink("nowhere", Path(slot, "dangling"))
    os.symlink("..", Path(slot, "up"))
    os.symlink(".", Path(slot, "round"))
    os.mkdir(Path(slot, "inner"))
    os.symlink(outside, Path(slot, "inner", "deeper"))


def fill_deeply(slot: str, outside: Path) -> None:
    """Deeper than any path, and than any recursion."""
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(slot)
        for _ in range(1_500):
            os.mkdir("down")
            os.chdir("down")
        Path("bottom").write_text("x")
    finally:
        os.fchdir(before)
        os.close(before)


def fill_widely(slot: str, outside: Path) -> None:
    for number in range(30):
        for inner in range(10):
            os.makedirs(Path(slot, f"d{number}", f"e{inner}", "f"))
            Path(slot, f"d{number}", f"e{inner}", "f", "g").touch()


def fill_and_forbid(slot: str, outside: Path) -> None:
    """Directories that their owner may neither read, enter nor write."""
    for name, mode in (("a", 0o000), ("b", 0o444), ("c", 0o111), ("d", 0o222)):
        os.makedirs(Path(slot, name, "inner"))
        Path(slot, name, "file").write_text("x")
        Path(slot, name, "inner", "file").write_text("x")
        os.chmod(Path(slot, name, "inner"), mode)
        os.chmod(Path(slot, name), mode)
    os.chmod(slot, 0o000)


def fill_with_our_names(slot: str, outside: Path) -> None:
    """Names that the removal itself uses."""
    for number in range(3):
        os.makedirs(Path(slot, f".pyfaas-moved-{number}", "a", "b"))
        Path(slot, f".pyfaas-moved-{number}", "full").touch()
    os.makedirs(Path(slot, "x", ".pyfaas-moved-0", "y"))


def fill_with_a_file_in_its_place(slot: str, outside: Path) -> None:
    os.rmdir(slot)
    Path(slot).write_text("a file now")


def fill_with_a_link_in_its_place(slot: str, outside: Path) -> None:
    os.rmdir(slot)
    os.symlink(outside, slot)


FILLS = [
    fill_with_files,
    fill_with_links,
    fill_deeply,
    fill_widely,
    fill_and_forbid,
    fill_with_our_names,
]


@pytest.mark.parametrize("fill", FILLS)
def test_a_slot_is_removed_whatever_is_in_it(slots: Slots, tmp_path: Path, fill: Callable[[str, Path], None]) -> None:
    (tmp_path / "keep").write_text("keep me")
    (tmp_path / "inner").mkdir()
    slot, neighbour = slots.make(), slots.make()
    Path(neighbour, "mine").touch()
    fill(slot, tmp_path)
    slots.remove(slot)
    assert not os.path.lexists(slot)
    assert (tmp_path / "keep").read_text() == "keep me"
    assert sorted(os.listdir(tmp_path)) == ["inner", "keep"]
    assert os.listdir(neighbour) == ["mine"]


@pytest.mark.parametrize("fill", [*FILLS, fill_with_a_file_in_its_place, fill_with_a_link_in_its_place])
def test_closing_removes_all_of_it(tmp_path: Path, fill: Callable[[str, Path], None]) -> None:
    (tmp_path / "keep").write_text("keep me")
    slots = Slots(tempfile.mkdtemp(prefix="pyfaas-"))
    fill(slots.make(), tmp_path)
    slots.make()
    slots.close()
    assert not os.path.exists(slots.root)
    assert (tmp_path / "keep").read_text() == "keep me"


def test_no_descriptor_is_left(slots: Slots, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    slot = slots.make()
    fill_widely(slot, tmp_path)
    slots.remove(slot)
    slots.remove(slot)
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_ordinary_user_removes_what_was_forbidden_to_it() -> None:
    """Root may read anything; without that, the bits must be put back first."""
    program = """
        import os, shutil, tempfile
        from pyfaas._sandbox.slots import Slots
        if os.geteuid() == 0:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
        slots = Slots(tempfile.mkdtemp(prefix="pyfaas-"))
        slot = slots.make()
        for name, mode in (("a", 0o000), ("b", 0o444), ("c", 0o111), ("d", 0o222)):
            os.makedirs(f"{slot}/{name}/inner/deeper")
            open(f"{slot}/{name}/inner/file", "w").close()
            os.chmod(f"{slot}/{name}/inner/deeper", mode)
            os.chmod(f"{slot}/{name}/inner", mode)
            os.chmod(f"{slot}/{name}", mode)
        os.chmod(slot, 0)
        slots.remove(slot)
        print(os.path.lexists(slot))
        slots.close()
        print(os.path.lexists(slots.root))
    """
    assert output_of(program).split() == ["False", "False"]
