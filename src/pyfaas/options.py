"""
The options of ``@function``, validated: each error names the field, the value and what would be right.

Options whose machinery comes later are checked like the others and then refused with "is not available yet".
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

from pyfaas import limits
from pyfaas.errors import ConfigurationError

_NAME = re.compile(r"[a-zA-Z0-9-_]{1,64}")
_VARIABLE = re.compile(r"[a-zA-Z]([a-zA-Z0-9_])+")

# AWS's list (configuration-envvars), and what this library sets itself.
RESERVED_VARIABLES = frozenset(
    {
        "_HANDLER",
        "_X_AMZN_TRACE_ID",
        "AWS_DEFAULT_REGION",
        "AWS_REGION",
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION",
        "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_ACCESS_KEY",
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "AWS_LAMBDA_RUNTIME_API",
        "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR",
        "AWS_LAMBDA_MAX_CONCURRENCY",
        "AWS_LAMBDA_METADATA_API",
        "AWS_LAMBDA_METADATA_TOKEN",
    }
)

Check = Callable[[str, Any], None]


def refuse(field: str, value: object, right: str) -> ConfigurationError:
    """Make the one error of this module."""
    return ConfigurationError(f"{field}={value!r}: must be {right}")


def check_each(checks: Mapping[str, Check], given: Mapping[str, Any]) -> None:
    """Look at each value by the check of its field. Raises ConfigurationError."""
    for field, value in given.items():
        checks[field](field, value)


def whole(low: int, high: int | None = None, *, optional: bool = False) -> Check:
    """Accept a whole number in a range."""
    right = f"a whole number from {low:,} to {high:,}" if high is not None else f"a whole number, at least {low:,}"
    right += " or None" if optional else ""

    def check(field: str, value: Any) -> None:
        if optional and value is None:
            return
        if type(value) is not int or value < low or (high is not None and value > high):
            raise refuse(field, value, right)

    return check


def seconds(low: float, high: float, *, optional: bool = False) -> Check:
    """Accept a number of seconds in a range."""
    right = f"a number of seconds from {low:g} to {high:g}" + (" or None" if optional else "")

    def check(field: str, value: Any) -> None:
        if optional and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise refuse(field, value, right)

    return check


def flag(field: str, value: Any) -> None:
    """Accept True or False."""
    if type(value) is not bool:
        raise refuse(field, value, "True or False")


def one_of(*values: str) -> Check:
    """Accept one of these texts."""
    right = " or ".join(repr(value) for value in values)

    def check(field: str, value: Any) -> None:
        if value not in values:
            raise refuse(field, value, right)

    return check


def sequence(field: str, value: Any) -> None:
    """Accept a list or tuple."""
    if not isinstance(value, (list, tuple)):
        raise refuse(field, value, "a list")


def places(field: str, value: Any) -> None:
    """Accept a list of absolute paths."""
    sequence(field, value)
    for path in value:
        if not isinstance(path, (str, os.PathLike)) or not os.path.isabs(os.fspath(path)):
            raise refuse(field, value, "a list of absolute paths")
        if os.path.normpath(path) in ("/", "/proc", "/dev", "/tmp"):
            raise refuse(field, value, "a list of paths; /, /dev, /proc and /tmp are the sandbox's own")


def anything(field: str, value: Any) -> None:
    """Accept what its own room will look at, once that is there."""


def _function_name(field: str, value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise refuse(field, value, f"1 to {limits.NAME_CHARACTERS} letters, digits, hyphens and underscores")


def _description(field: str, value: Any) -> None:
    if not isinstance(value, str) or len(value) > limits.DESCRIPTION_CHARACTERS:
        raise refuse(field, value, f"text of at most {limits.DESCRIPTION_CHARACTERS} characters")


def _environment(field: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise refuse(field, value, "a dict of text to text")
    for name, content in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise refuse(field, name, "names of 2 or more letters, digits and underscores, a letter first")
        if name in RESERVED_VARIABLES:
            raise refuse(field, name, "no name that is reserved for the runtime")
        if not isinstance(content, str) or "\0" in content:
            raise refuse(f"{field}[{name!r}]", content, "text without NUL")
    size = len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > limits.ENVIRONMENT_BYTES:
        raise refuse(field, f"{size:,} bytes", f"at most {limits.ENVIRONMENT_BYTES:,} bytes as JSON")


def _modules(field: str, value: Any) -> None:
    sequence(field, value)
    for name in value:
        if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")):
            raise refuse(field, value, "a list of names of modules")


def _cpu(field: str, value: Any) -> None:
    if value is None or value == "proportional":
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 64:
        raise refuse(field, value, 'a number of vCPUs above 0, "proportional" or None')


class Options:
    """
    What ``@function`` was given; see ``pyfaas.function`` for each.

    Only what was given is looked at and stored, the rest are the class's defaults: a sandbox makes these anew for every
    function of the module that it loads.
    """

    name: str
    trigger: Any = ()
    memory: int = 128
    timeout: float = 3
    environment: Mapping[str, str] = MappingProxyType({})
    ephemeral_storage: int = 512
    cpu: Any = None
    cpu_seconds: float | None = None
    network: bool = True
    reads: Any = ()
    writes: Any = ()
    allow: Any = ()
    reserved_concurrency: int | None = None
    provisioned_concurrency: int = 0
    snap_start: bool = False
    preload: Any = ()
    retries: int = 2
    max_event_age: float = 21_600
    on_success: Any = None
    on_failure: Any = None
    dead_letter: Any = None
    idempotency: Any = None
    layers: Any = ()
    tenant_isolated: bool = False
    fresh: bool = False
    max_invocations: int | None = None
    description: str = ""

    CHECKS: ClassVar[dict[str, Check]] = {
        "name": _function_name,
        "trigger": anything,
        "memory": whole(*limits.MEMORY_MB),
        "timeout": seconds(*limits.TIMEOUT_SECONDS),
        "environment": _environment,
        "ephemeral_storage": whole(*limits.EPHEMERAL_STORAGE_MB),
        "cpu": _cpu,
        "cpu_seconds": seconds(0.05, 1e6, optional=True),
        "network": flag,
        "reads": places,
        "writes": places,
        "allow": sequence,
        "reserved_concurrency": whole(0, optional=True),
        "provisioned_concurrency": whole(0, limits.SANDBOXES),
        "snap_start": flag,
        "preload": _modules,
        "retries": whole(*limits.RETRIES),
        "max_event_age": seconds(*limits.EVENT_AGE_SECONDS),
        "on_success": anything,
        "on_failure": anything,
        "dead_letter": anything,
        "idempotency": anything,
        "layers": sequence,
        "tenant_isolated": flag,
        "fresh": flag,
        "max_invocations": whole(1, optional=True),
        "description": _description,
    }
    # What is checked like the others and has no machinery yet.
    LATER: ClassVar[frozenset[str]] = frozenset(
        {
            "layers",
        }
    )

    def __init__(self, **given: Any) -> None:
        for name, value in given.items():
            check = self.CHECKS.get(name)
            if check is None:
                raise ConfigurationError(f"@function has no option {name!r}")
            check(name, value)
            if name in self.LATER and not _asks_for_nothing(value, getattr(Options, name)):
                raise ConfigurationError(f"{name}={value!r}: is not available yet")
        if "environment" in given:
            given["environment"] = MappingProxyType(dict(given["environment"]))
        for name in ("reads", "writes"):
            if name in given:
                given[name] = tuple(os.path.normpath(path) for path in given[name])
        if "preload" in given:
            given["preload"] = tuple(sorted(set(given["preload"])))
        self.__dict__.update(given)
        self._check_together()

    def _check_together(self) -> None:
        reserved = self.reserved_concurrency
        if reserved is not None and self.provisioned_concurrency > reserved:
            raise refuse(
                "provisioned_concurrency", self.provisioned_concurrency, f"at most reserved_concurrency={reserved}"
            )
        if self.tenant_isolated and self.provisioned_concurrency:  # as in AWS: nobody knows whose they would be
            raise refuse("provisioned_concurrency", self.provisioned_concurrency, "0 where tenant_isolated=True")
        for name in ("provisioned_concurrency", "tenant_isolated"):  # as in AWS
            if self.snap_start and getattr(self, name):
                raise refuse(name, getattr(self, name), f"{getattr(Options, name)!r} where snap_start=True")
        if self.fresh and self.max_invocations is not None:
            raise refuse("max_invocations", self.max_invocations, "None where fresh=True")

    def without(self, *names: str) -> Options:
        """Give the same, but for these."""
        return Options(**{name: value for name, value in self._given().items() if name not in names})

    def _given(self) -> dict[str, Any]:
        return {**self.__dict__, "environment": dict(self.environment)}

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{name!r} cannot be set: options are frozen")

    def __reduce__(self) -> tuple[Any, ...]:
        return _remake, (self._given(),)

    def __repr__(self) -> str:
        return f"Options({', '.join(f'{name}={value!r}' for name, value in self.__dict__.items())})"

    def processors(self) -> float | None:
        """Give how many processors it may keep busy, None for all; "proportional" is one for 1,769 MB, as in AWS."""
        if self.cpu == "proportional":
            return self.memory / limits.MB_PER_VCPU
        return None if self.cpu is None else float(self.cpu)

    def cpu_allowance(self) -> float:
        """Give the seconds of CPU time that one invocation may use."""
        if self.cpu_seconds is not None:
            return float(self.cpu_seconds)
        cores = os.cpu_count() or 1
        return float(self.timeout * min(self.processors() or cores, cores) + 1)


def _asks_for_nothing(value: Any, default: Any) -> bool:
    return list(value) == [] if default == () else bool(value == default)


def _remake(given: dict[str, Any]) -> Options:
    return Options(**given)


_TENANT = re.compile(r"[a-zA-Z0-9._:/=+@ -]{1,256}")


def check_tenant(options: Options, tenant: Any) -> None:
    """Accept AWS's tenant ids for a function that keeps tenants apart, and None for any other."""
    if not options.tenant_isolated:
        if tenant is not None:
            raise refuse("tenant", tenant, f"None: {options.name!r} was not declared with tenant_isolated=True")
    elif not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
        right = "1 to 256 letters, digits, spaces and any of . _ : / = + - @"
        raise refuse("tenant", tenant, f"{right}: {options.name!r} keeps its tenants apart")


_KEY = re.compile(rf"[\x20-\x7e]{{1,{limits.KEY_CHARACTERS}}}")


_delay = seconds(0, limits.DELAY_SECONDS)


def check_submission(delay: Any, idempotency_key: Any) -> None:
    """Accept what ``submit`` may be given."""
    _delay("delay", delay)
    if idempotency_key is not None and not (isinstance(idempotency_key, str) and _KEY.fullmatch(idempotency_key)):
        right = f"1 to {limits.KEY_CHARACTERS} printable ASCII characters, or None"
        raise refuse("idempotency_key", idempotency_key, right)


def a_path(field: str, value: Any, right: str) -> str:
    """Accept a path, and give it so that it means the same from another directory. Raises ConfigurationError."""
    path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
    if not isinstance(path, str) or not path or "\0" in path or path.startswith((":", "file:")):
        raise refuse(field, value, right)
    return os.path.abspath(path)


def store_path(store: Any) -> str | None:
    """Accept the path of a store; None is in memory. Raises ConfigurationError."""
    return None if store is None else a_path("store", store, "the path of a file, or None for a store in memory")


def a_clock(field: str, value: Any) -> None:
    """Accept what tells the time as ``_clock.Clock`` says, and None for this machine's."""
    parts = ("boot", "wall", "steady", "when_moved")
    if value is not None and (isinstance(value, type) or not all(hasattr(value, part) for part in parts)):
        raise refuse(field, value, "a clock such as pyfaas.testing.ManualClock(), or None")
