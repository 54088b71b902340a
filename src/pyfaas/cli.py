"""
The command line: ``pyfaas doctor`` tells what this host can hold.

Also ``python -m pyfaas doctor``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from pyfaas._confine.plan import Holding, missing
from pyfaas.errors import HostError
from pyfaas.runtime import Runtime


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and give the status to exit with."""
    parser = argparse.ArgumentParser(prog="pyfaas", description="AWS Lambda as a library.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    doctor = commands.add_parser("doctor", help="tell, guarantee by guarantee, how this host holds it")
    doctor.add_argument("--strict", action="store_true", help="exit with status 1 if something is not held")
    given = parser.parse_args(arguments)
    return _doctor(strict=given.strict)


def _doctor(*, strict: bool) -> int:
    try:
        with Runtime() as runtime:
            holdings = runtime.confinement()
    except HostError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(table(holdings)))
    not_held = missing(holdings)
    print()
    if not_held:
        listed = ", ".join(one.guarantee for one in not_held)
        print(f'not held here: {listed}. Runtime(confinement="strict") would refuse to run.')
    else:
        print('Everything is held here, by the kernel or by the watch: Runtime(confinement="strict") runs.')
    return int(strict and bool(not_held))


def table(holdings: Sequence[Holding]) -> list[str]:
    """Set out the guarantees in columns: what, how, by what and why no better."""
    what = max(len(one.guarantee) for one in holdings)
    how = max(len(one.held) for one in holdings)
    return [
        f"{one.guarantee:{what}}  {one.held:{how}}  {one.by}{f' ({one.why})' if one.why else ''}" for one in holdings
    ]
