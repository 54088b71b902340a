"""
The options of ``@function``, validated: each error names the field, the value and what would be right.

Options whose machinery comes later are checked like the others and then refused with "is not available yet".
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Callable
from typing import Any

import attrs

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

Check = Callable[[Any, "attrs.Attribute[Any]", Any], None]


def refuse(field: str, value: object, right: str) -> ConfigurationError:
    """Make the one error of this module."""
    return ConfigurationError(f"{field}={value!r}: must be {right}")


def whole(low: int, high: int | None = None, *, optional: bool = False) -> Check:
    """Accept a whole number in a range."""
    right = f"a whole number from {low:,} to {high:,}" if high is not None else f"a whole number, at least {low:,}"
    right += " or None" if optional else ""

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if optional and value is None:
            return
        if type(value) is not int or value < low or (high is not None and value > high):
            raise refuse(attribute.name, value, right)

    return check


def seconds(low: float, high: float, *, optional: bool = False) -> Check:
    """Accept a number of seconds in a range."""
    right = f"a number of seconds from {low:g} to {high:g}" + (" or None" if optional else "")

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if optional and value is None:
            return
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise refuse(attribute.name, value, right)

    return check


def flag(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Accept True or False."""
    if type(value) is not bool:
        raise refuse(attribute.name, value, "True or False")


def one_of(*values: str) -> Check:
    """Accept one of these texts."""
    right = " or ".join(repr(value) for value in values)

    def check(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
        if value not in values:
            raise refuse(attribute.name, value, right)

    return check


def sequence(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    """Accept a list or tuple."""
    if not isinstance(value, (list, tuple)):
        raise refuse(attribute.name, value, "a list")


def _function_name(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise refuse(attribute.name, value, "1 to 64 letters, digits, hyphens and underscores")


def _description(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, str) or len(value) > limits.DESCRIPTION_CHARACTERS:
        raise refuse(attribute.name, value, f"text of at most {limits.DESCRIPTION_CHARACTERS} characters")


def _environment(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not isinstance(value, dict):
        raise refuse(attribute.name, value, "a dict of text to text")
    for name, content in value.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise refuse(attribute.name, name, "names of 2 or more letters, digits and underscores, a letter first")
        if name in RESERVED_VARIABLES:
            raise refuse(attribute.name, name, "no name that is reserved for the runtime")
        if not isinstance(content, str) or "\0" in content:
            raise refuse(f"{attribute.name}[{name!r}]", content, "text without NUL")
    size = len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass"))
    if size > limits.ENVIRONMENT_BYTES:
        raise refuse(attribute.name, f"{size:,} bytes", f"at most {limits.ENVIRONMENT_BYTES:,} bytes as JSON")


def _cpu(_: Any, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None or value == "proportional":
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value <= 64:
        raise refuse(attribute.name, value, 'a number of vCPUs above 0, "proportional" or None')


@attrs.frozen(kw_only=True)
class Options:
    """What ``@function`` was given; see ``pyfaas.function`` for each."""

    name: str = attrs.field(validator=_function_name)
    trigger: Any = None
    memory: int = attrs.field(default=128, validator=whole(*limits.MEMORY_MB))
    timeout: float = attrs.field(default=3, validator=seconds(*limits.TIMEOUT_SECONDS))
    environment: dict[str, str] = attrs.field(factory=dict, validator=_environment)
    ephemeral_storage: int = attrs.field(default=512, validator=whole(*limits.EPHEMERAL_STORAGE_MB))
    cpu: Any = attrs.field(default=None, validator=_cpu)
    cpu_seconds: float | None = attrs.field(default=None, validator=seconds(0.05, 1e6, optional=True))
    network: bool = attrs.field(default=True, validator=flag)
    reads: Any = attrs.field(factory=list, validator=sequence)
    writes: Any = attrs.field(factory=list, validator=sequence)
    allow: Any = attrs.field(factory=list, validator=sequence)
    reserved_concurrency: int | None = attrs.field(default=None, validator=whole(0, optional=True))
    provisioned_concurrency: int = attrs.field(default=0, validator=whole(0, limits.SANDBOXES))
    snap_start: bool = attrs.field(default=False, validator=flag)
    preload: Any = attrs.field(factory=list, validator=sequence)
    retries: int = attrs.field(default=2, validator=whole(0, 2))
    max_event_age: float = attrs.field(default=21_600, validator=seconds(60, 21_600))
    on_success: Any = None
    on_failure: Any = None
    dead_letter: Any = None
    idempotency: Any = None
    layers: Any = attrs.field(factory=list, validator=sequence)
    tenant_isolated: bool = attrs.field(default=False, validator=flag)
    fresh: bool = attrs.field(default=False, validator=flag)
    max_invocations: int | None = attrs.field(default=None, validator=whole(1, optional=True))
    description: str = attrs.field(default="", validator=_description)

    def __attrs_post_init__(self) -> None:
        for attribute in attrs.fields(Options):
            value = getattr(self, attribute.name)
            if attribute.name in _LATER and value != _LATER[attribute.name]:
                raise ConfigurationError(f"{attribute.name}={value!r}: is not available yet")
        reserved = self.reserved_concurrency
        if reserved is not None and self.provisioned_concurrency > reserved:
            raise refuse(
                "provisioned_concurrency", self.provisioned_concurrency, f"at most reserved_concurrency={reserved}"
            )

    def cpu_allowance(self) -> float:
        """Give the seconds of CPU time that one invocation may use."""
        if self.cpu_seconds is not None:
            return float(self.cpu_seconds)
        return float(self.timeout * (os.cpu_count() or 1) + 1)


# What later issues bring, with the value that asks for nothing.
_LATER: dict[str, Any] = {
    "trigger": None,
    "cpu": None,
    "network": True,
    "reads": [],
    "writes": [],
    "allow": [],
    "snap_start": False,
    "preload": [],
    "retries": 2,
    "max_event_age": 21_600,
    "on_success": None,
    "on_failure": None,
    "dead_letter": None,
    "idempotency": None,
    "layers": [],
    "tenant_isolated": False,
    "fresh": False,
}


def keep_alive_seconds(value: Any) -> float:
    """Accept a keep-alive: a number of seconds, or for ever."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value) or value < 0:
        raise refuse("keep_alive", value, "a number of seconds, at least 0 (policies are not available yet)")
    return float(value)
