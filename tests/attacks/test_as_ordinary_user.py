"""
All attacks once more as an ordinary user, and as a root that a container keeps short, where this run is root's.

Another uid may not read root's interpreter, project and packages, so what the run needs is copied to where it may.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import pyfaas

NOBODY = 65534
SECONDS = 300
NEEDED = ("pytest", "anyio", "attrs", "cloudpickle", "psutil", "trio")
LEFT_OUT = ("test", "site-packages", "idlelib", "tkinter", "turtledemo", "lib2to3", "ensurepip", "config-*")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="this run is an ordinary user's already")


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that anybody may enter."""
    place = Path(tempfile.mkdtemp(prefix="pyfaas-nobody-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


def _run(
    command: list[str], place: Path, environment: dict[str, str], uid: int = NOBODY
) -> subprocess.CompletedProcess[str]:
    """Run a program as nobody, or as somebody else, with an environment from nothing."""
    return subprocess.run(
        command,
        user=uid,
        group=uid,
        extra_groups=[],
        cwd=place,
        env={"PATH": os.defpath, "HOME": str(place / "home"), "TMPDIR": str(place / "home"), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def _interpreter(place: Path) -> tuple[str, dict[str, str]]:
    """Find an interpreter of this version that nobody may run: this one, or a copy of it."""
    probe = f"import ctypes, hashlib, socket, sys; sys.exit(sys.version_info != {tuple(sys.version_info)})"
    own = os.path.realpath(sys.executable)
    if _works([own, "-I", "-c", probe], place, {}):
        return own, {}
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for name in ("bin", "lib"):
        (place / "python" / name).mkdir(parents=True)
    copied = place / "python" / "bin" / version
    shutil.copy(own, copied)
    library = Path(sysconfig.get_path("stdlib"))
    shutil.copytree(library, place / "python" / "lib" / version, ignore=shutil.ignore_patterns(*LEFT_OUT))
    environment = {}
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        for shared in Path(sysconfig.get_config_var("LIBDIR")).glob("libpython*.so*"):
            shutil.copy(shared, place / "python" / "lib")
        environment["LD_LIBRARY_PATH"] = str(place / "python" / "lib")
    if not _works([str(copied), "-I", "-c", probe], place, environment):
        pytest.skip(f"no interpreter that uid {NOBODY} may run: neither {own} nor a copy of it works")
    return str(copied), environment


def _works(command: list[str], place: Path, environment: dict[str, str]) -> bool:
    try:
        return _run(command, place, environment).returncode == 0
    except OSError:
        return False


def _copy_packages(target: Path) -> None:
    """Copy what the run imports, with what that needs in its turn."""
    waiting, seen = list(NEEDED), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # needed on other machines only
        waiting += [re.split(r"[^\w.-]", need)[0] for need in distribution.requires or () if "extra ==" not in need]
        for file in distribution.files or ():
            source = Path(str(distribution.locate_file(file)))
            if ".." not in file.parts and source.is_file():
                (target / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target / file)


def _attack(place: Path, *prefix: str, uid: int = NOBODY, skipped: int = 0, left_out: tuple[str, ...] = ()) -> None:
    (place / "home").mkdir()
    os.chown(place / "home", uid, uid)
    python, environment = _interpreter(place)
    tests = Path(__file__).parent.parent
    shutil.copytree(Path(pyfaas.__file__).parent, place / "src" / "pyfaas")
    shutil.copytree(Path(__file__).parent, place / "tests" / "attacks")
    for name in ("tests/conftest.py", "tests/support.py", "pyproject.toml"):
        shutil.copy(tests.parent / name, place / name)
    _copy_packages(place / "packages")
    environment["PYTHONPATH"] = os.pathsep.join(map(str, (place / "src", place / "packages")))
    # What the runtime says of this host once, it says; it is no mistake.
    environment.setdefault("PYTHONWARNINGS", "ignore:this host does not hold:RuntimeWarning")
    ignored = [f"--ignore=tests/attacks/{name}" for name in (Path(__file__).name, *left_out)]
    pytest_ = [python, "-m", "pytest", "-p", "no:cacheprovider", *ignored]
    done = _run([*prefix, *pytest_, "tests/attacks"], place, environment, uid)
    assert done.returncode == 0, done.stdout[-20_000:]
    passed = re.search(r"= (\d+) passed(?:, (\d+) skipped)?(?:, \d+ deselected)? in", done.stdout)
    assert passed is not None, done.stdout[-2_000:]
    assert int(passed[1]) > (50 if left_out else 150)
    assert int(passed[2] or 0) == skipped, "each is named here that a kind of host cannot hold"


# What the host makes of bytes, and of time, is the same whoever runs it; what an ordinary user's host leaves behind
# when it is killed, tests/e2e/test_ordinary_user.py looks at.
OF_THE_WIRE = ("test_channel.py", "test_small_stacks.py", "test_time.py", "test_life_and_death.py")


def test_attacks_on_the_surroundings_end_as_they_must_for_an_ordinary_user(place: Path) -> None:
    _attack(place, left_out=OF_THE_WIRE)


@pytest.mark.long
def test_all_attacks_end_as_they_must_for_an_ordinary_user(place: Path) -> None:
    _attack(place)


NO_NAMESPACES = (
    'echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all "$0" "$@"'
)


@pytest.mark.long
def test_all_attacks_end_as_they_must_where_there_are_no_namespaces(place: Path) -> None:
    """In a user namespace that allows no other, without capabilities: nothing but a sweep ends a tree here."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("needs unshare and setpriv")
    _attack(place, "unshare", "--user", "--map-root-user", "sh", "-c", NO_NAMESPACES, skipped=1)  # space in /tmp


@pytest.mark.long
def test_all_attacks_end_as_they_must_for_a_root_without_the_capabilities_for_it(place: Path) -> None:
    """As in a container that was given no more than is usual."""
    if not shutil.which("setpriv"):
        pytest.skip("needs setpriv")
    less = "-sys_admin,-sys_resource,-sys_ptrace"
    _attack(place, "setpriv", f"--bounding-set={less}", f"--inh-caps={less}", uid=0)
