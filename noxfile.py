"""
Every task of this project, for two readers

    python3 noxfile.py demo | test     a fresh machine with Python 3.10 or newer: does its own set-up in .venv/
    nox -s lint, tests-3.10, ...       a developer, and CI: one environment per session in .nox/

The first half needs the standard library only and ends the process; nox is imported after it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PYTHONS = ["3.10", "3.11", "3.12", "3.13"]
DEMO = "docs/examples/stdlib_census.py"
MAILROOM = "docs/examples/mailroom.py"
SHOP = "docs/examples/shop"

# Whoever set these meant another interpreter, or another place to install to.
for name in ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__", "PIP_USER", "PIP_TARGET", "PIP_PREFIX"):
    os.environ.pop(name, None)


def find_pythons() -> dict[str, Path]:
    """Where each supported version is: on PATH, or under pyenv whether it is switched on there or not."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    # pyenv's shims are passed over: one stands there for versions that would refuse to run.
    path = [Path(entry) for entry in os.get_exec_path() if Path(entry).name != "shims"]
    found = {}
    for version in PYTHONS:
        places = [*path, *sorted(pyenv.glob(f"versions/{version}.*/bin"))]
        programs = (place / f"python{version}" for place in places)
        if program := next((program for program in programs if os.access(program, os.X_OK)), None):
            found[version] = program
    return found


# ----------------------------------------------------------------------------------------------------- the plain script

SIDE_BY_SIDE = ["-n", "2"]  # half of what a test does is waiting; `-n 0` for one process, to debug in
VERBS = {
    "demo": ([], [], [DEMO]),
    "test": (["--group", "tests"], ["pytest", "xdist"], ["-m", "pytest", *SIDE_BY_SIDE]),
}
"""What pip installs besides the project, the modules that must then be there, and what is run."""


def main(arguments: list[str]) -> None:
    if arguments == ["pythons"]:
        print(*find_pythons())
        return
    if not arguments or arguments[0] not in VERBS:
        sys.exit("usage: python3 noxfile.py demo | test [arguments for pytest] | pythons")
    verb, *rest = arguments
    extras, modules, command = VERBS[verb]
    venv = ROOT / ".venv" / f"{sys.version_info[0]}.{sys.version_info[1]}"
    set_up(venv, verb, extras, ["pyfaas", *modules])
    os.environ["VIRTUAL_ENV"] = str(venv)
    os.environ["PATH"] = os.pathsep.join([str(venv / "bin"), *os.get_exec_path()])
    os.chdir(ROOT)
    sys.stdout.flush()
    # Replaces this process: the exit code, signals and the last line are the command's own.
    python = str(venv / "bin" / "python")
    os.execv(python, [python, *command, *rest])


def set_up(venv: Path, verb: str, extras: list[str], modules: list[str]) -> None:
    """A virtual environment that is ready for this verb; quick if it already is."""
    import fcntl

    venv.parent.mkdir(exist_ok=True)
    with (venv.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two terminals, one set-up
        stamp = venv / f"ready-for-{verb}"
        wanted = (sys.version, sys.base_prefix, str(ROOT), (ROOT / "pyproject.toml").read_text("utf-8"))
        key = hashlib.sha256("\0".join(wanted).encode()).hexdigest()
        alive = is_ours_and_alive(venv)
        done = stamp.exists() and stamp.read_text() == key
        if alive and done and has(venv, modules):
            return
        print(f"setting up {venv.relative_to(ROOT)} with Python {sys.version.split()[0]} (once)", flush=True)
        if not alive or done:  # done, and yet something is missing: broken
            shutil.rmtree(venv, ignore_errors=True)
            run("making a virtual environment", [sys.executable, "-m", "venv", str(venv)])
            # --group came with pip 25.1, later than the pip that any Python before 3.14 brings along.
            run("updating pip", pip(venv, "--upgrade", "pip>=25.1"))
        stamp.unlink(missing_ok=True)
        run("installing pyfaas and what it needs", pip(venv, "--editable", ".", *extras))
        stamp.write_text(key)


def is_ours_and_alive(venv: Path) -> bool:
    """Whether an earlier set-up came to its end, with this very interpreter, and it still runs."""
    if not any(venv.glob("ready-for-*")):
        return False
    probe = "import sys, pip; print(sys.version, sys.base_prefix)"
    return ask(venv, probe) == f"{sys.version} {sys.base_prefix}"


def has(venv: Path, modules: list[str]) -> bool:
    """Whether they can be found. Nothing is imported: a mistake in the code is for the tests to tell."""
    return ask(venv, f"import importlib.util as u; print(all(map(u.find_spec, {modules})))") == "True"


def ask(venv: Path, program: str) -> str | None:
    try:
        return subprocess.run(
            [str(venv / "bin" / "python"), "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def pip(venv: Path, *arguments: str) -> list[str]:
    python = str(venv / "bin" / "python")
    return [python, "-m", "pip", "install", "--no-input", "--disable-pip-version-check", *arguments]


def run(what: str, command: list[str]) -> None:
    """Silent unless it fails; then everything it said, and one line on what it was."""
    done = subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False
    )
    if done.returncode:
        said = textwrap.indent(done.stdout.rstrip(), "    ")
        sys.exit(f"{said}\nset-up failed while {what} (exit code {done.returncode}): {' '.join(command)}")


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 (whoever runs this may not know what we need)
        sys.exit(f"pyfaas needs Python 3.10 or newer; {sys.executable} is {sys.version.split()[0]}")
    main(sys.argv[1:])
    sys.exit()

# ------------------------------------------------------------------------------------------------------------- sessions

import nox  # noqa: E402

nox.options.sessions = ["lint", "types", "arrows", "tests"]
nox.options.default_venv_backend = "virtualenv"  # the same everywhere, whether there is uv or not
nox.options.error_on_missing_interpreters = False  # "tests-3.13 skipped: Python interpreter 3.13 not found."
nox.options.download_python = "never"

# nox looks on PATH only, where it would meet pyenv's shims first.
os.environ["PATH"] = os.pathsep.join([*(str(found.parent) for found in find_pythons().values()), os.environ["PATH"]])

GROUPS = nox.project.load_toml(ROOT / "pyproject.toml")


def install(session: nox.Session, *groups: str, project: bool = True) -> None:
    """By way of nox: the pip of an older Python does not know --group."""
    wanted = nox.project.dependency_groups(GROUPS, *groups)
    session.install(*wanted, *(["--editable", "."] if project else []))


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The whole suite, for every Python on this machine."""
    install(session, "tests")
    session.run("python", "-m", "pytest", *SIDE_BY_SIDE, *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """The longer proofs: soak, kill matrix, what people really run."""
    install(session, "soak")
    session.run("python", "-m", "pytest", "-m", "long", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed the host what sandboxes could send, for five minutes or as libfuzzer's options say."""
    install(session, "fuzz")
    session.run("python", "tests/sandbox/fuzzing.py", *(session.posargs or ["-max_total_time=300", "-max_len=4096"]))


@nox.session
def lint(session: nox.Session) -> None:
    install(session, "lint", project=False)
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    install(session, "types")
    session.run("mypy")
    session.run("pyright")


@nox.session
def arrows(session: nox.Session) -> None:
    install(session, "arrows")
    session.run("lint-imports")


@nox.session
def bench(session: nox.Session) -> None:
    """The promises against peers, side by side; and, in a full run, what each pool holds when something goes wrong."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "benchmarks.faults")


@nox.session
def demo(session: nox.Session) -> None:
    install(session)
    session.run("python", DEMO, *session.posargs)


@nox.session
def mailroom(session: nox.Session) -> None:
    install(session)
    session.run("python", MAILROOM, *session.posargs)


@nox.session
def shop(session: nox.Session) -> None:
    install(session, "shop", project=False)
    session.install("--editable", ".[http,files]")
    session.run("python", SHOP, *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    install(session, "docs")
    session.run("sphinx-build", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", *session.posargs)
