"""
What INIT says: the handler as reference or as value, the limits, the environment, the directory. (host side)

A handler travels by reference where the sandbox's ``sys.path`` finds the same file and the name yields this very
``Function``; else by value, pickled at first use with the globals that it has then.
"""

from __future__ import annotations

import inspect
import io
import os
import pickle
import sys
import threading
from typing import Any, NamedTuple

from pyfaas._confine.plan import Host, Limits, birth, niceness, plan, restore
from pyfaas._confine.view import code_of, is_below, readable_by_others
from pyfaas._sandbox.parent import Zygote, home_directory, search_path
from pyfaas._sandbox.sandbox import Sandbox
from pyfaas.errors import ConfigurationError
from pyfaas.functions import Function

_pickling = threading.Lock()


SNAP_START = "snap-start"


class Job(NamedTuple):
    """What a sandbox is made for: a function, how it travels, AWS's initialization type, the tenant if it has any."""

    function: Function[Any, Any]
    handler: tuple[Any, ...]
    kind: str
    tenant: str | None = None

    @property
    def template(self) -> bool:
        """Whether it is one to fork sandboxes from."""
        return self.kind == SNAP_START


def pack_handler(function: Function[Any, Any]) -> tuple[str, ...] | tuple[str, bytes]:
    """
    Say how the worker gets the handler.

    Raises ConfigurationError naming what in the handler cannot travel.
    """
    if travels_by_name(function):
        return ("reference", function.module, function.qualname)
    return ("value", _pickle_handler(function))


def travels_by_name(function: Function[Any, Any]) -> bool:
    """Tell whether a fresh interpreter with our ``sys.path`` finds this very function by its name."""
    module = sys.modules.get(function.module)
    if module is None or function.module in ("__main__", "__mp_main__") or "<" in function.qualname:
        return False
    found: Any = module
    for part in function.qualname.split("."):
        found = getattr(found, part, None)
    file = getattr(module, "__file__", None)
    return found is function and file is not None and _finds(function.module, file)


def _finds(name: str, file: str) -> bool:
    parent, _, _ = name.rpartition(".")
    path = None
    if parent:
        package = sys.modules.get(parent)
        path = getattr(package, "__path__", None)
        if path is None or not _finds_package(parent):
            return False
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path)
        except Exception:  # noqa: BLE001, S112 - a finder of somebody's own
            continue
        if spec is not None:
            return spec.origin is not None and _same_file(spec.origin, file)
    return False


def _finds_package(name: str) -> bool:
    """Tell whether a package, with or without an ``__init__.py``, is found where it was found here."""
    package = sys.modules.get(name)
    file = getattr(package, "__file__", None)
    if file is not None:
        return _finds(name, file)
    return any(os.path.isdir(os.path.join(entry, *name.split("."))) for entry in search_path())


def _same_file(first: str, second: str) -> bool:
    try:
        return os.path.samefile(first, second)
    except OSError:
        return False


def _pickle_handler(function: Function[Any, Any]) -> bytes:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Takes functions declared where the sandbox cannot import them along by value."""

        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Function) and not travels_by_name(obj):
                return obj.reduce_by_value()
            return super().reducer_override(obj)

    module = sys.modules.get(function.module)
    by_value = module is not None and function.module != "__main__" and not _module_travels(module)
    buffer = io.BytesIO()
    with _pickling:  # what is to go by value is noted in cloudpickle's own module, for all threads
        registered = by_value and function.module not in cloudpickle.list_registry_pickle_by_value()
        if registered:
            cloudpickle.register_pickle_by_value(module)
        try:
            Pickler(buffer).dump(function.handler)
        except (pickle.PicklingError, TypeError, AttributeError, ValueError, RecursionError) as error:
            raise ConfigurationError(
                f"the handler of {function.name!r} cannot travel to a sandbox: {error}{_culprit(function)}; define it "
                "at the top of a module that can be imported, or create what does not pickle inside the handler"
            ) from error
        finally:
            if registered:
                cloudpickle.unregister_pickle_by_value(module)
    return buffer.getvalue()


def _module_travels(module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and _finds(module.__name__, file)


def _culprit(function: Function[Any, Any]) -> str:
    """Name the global or closed-over variable that does not pickle."""
    import cloudpickle

    try:
        variables = inspect.getclosurevars(inspect.unwrap(function.handler))
    except (TypeError, ValueError):
        return ""
    for kind, names in (("global", variables.globals), ("closed-over", variables.nonlocals)):
        for name, value in names.items():
            try:
                cloudpickle.dumps(value)
            except Exception:  # noqa: BLE001 - whatever it raises, it is the culprit
                return f" (the {kind} variable {name!r} holds a {type(value).__name__})"
    return ""


def extra_reads(function: Function[Any, Any], zygote: Zygote) -> tuple[str, ...]:
    """
    List what this function is shown and others are not: what it was granted, and code of its own.

    Raises ConfigurationError for what is granted and does not exist.
    """
    return (*_granted(function), *_code_beside(function, search_path(), zygote.search_path))


def pack_birth(slot: str, uid: int, host: Host) -> bytes:
    """Give the payload of a BIRTH frame."""
    return pickle.dumps(birth(slot, uid, host), pickle.HIGHEST_PROTOCOL)


def user_of(function: Function[Any, Any], reads: tuple[str, ...], own: int) -> int:
    """Say whom a sandbox is to become, a user of its ``own`` or, -1, who the host is, without its capabilities."""
    return -1 if function.options.writes or not readable_by_others(reads) else own  # a stranger to those files


def pack_init(job: Job, sandbox: Sandbox, reads: tuple[str, ...], *, weighed: bool = True) -> bytes:
    """Give the payload of an INIT frame: ``reads`` is ``extra_reads``, ``weighed``: no cgroup will hold ``cpu=``."""
    function, slot, zygote = job.function, sandbox.slot, sandbox.zygote
    options = function.options
    host = zygote.host
    directory = "/tmp" if host.view else slot
    log_stream = f"[$LATEST]{zygote.mark}{sandbox.number:016x}"
    may_use = Limits(
        memory_mb=options.memory,
        file_mb=options.ephemeral_storage,
        cpu_seconds=options.cpu_allowance(),
        network=options.network,
        reads=reads,
        writes=tuple(options.writes),
        slot=slot,
        uid=sandbox.uid,
        born=sandbox.born,
        template=job.template,
        nice=niceness(options.processors(), os.cpu_count() or 1) if weighed else 0,
    )
    wanted = {
        "handler": job.handler,
        "tenant": job.tenant,
        "preload": list(options.preload),
        "function": function.name,
        "takes_context": function.takes_context,
        "is_async": function.is_async,
        "memory_mb": options.memory,
        "network": options.network,
        "cpu_seconds": options.cpu_allowance(),
        "directory": directory,
        "sys_path": search_path(),
        "environment": environment(function, directory, log_stream, job.kind),
        "log_stream": log_stream,
        "granted_calls": [grant.name for grant in options.allow],
        "steps": plan(may_use, host),
        "template": job.template,
        "granted": (reads, may_use.writes),
    }
    return pickle.dumps(wanted, pickle.HIGHEST_PROTOCOL)


def pack_restore(job: Job, sandbox: Sandbox) -> bytes:
    """Give the payload of the INIT frame of a sandbox that is forked from a template."""
    zygote = sandbox.zygote
    wanted = {
        "log_stream": f"[$LATEST]{zygote.mark}{sandbox.number:016x}",
        "steps": restore(zygote.host, network=job.function.options.network),
    }
    return pickle.dumps(wanted, pickle.HIGHEST_PROTOCOL)


def _granted(function: Function[Any, Any]) -> tuple[str, ...]:
    options = function.options
    for field, paths in (("reads", options.reads), ("writes", options.writes)):
        for path in paths:
            if not os.path.exists(path):
                raise ConfigurationError(f"{field}={list(paths)!r} of {function.name!r}: {path!r} does not exist")
    return tuple(options.reads)


def _code_beside(function: Function[Any, Any], path: list[str], shown: list[str]) -> list[str]:
    """Find code that is not where the root of all sandboxes was built of: ``sys.path`` has grown, or a finder's own."""
    new = [entry for entry in path if entry not in shown]
    beside = [found for entry in new for found in code_of(entry, home_directory())]
    module = sys.modules.get(function.module)
    file = getattr(module, "__file__", None)
    if file is not None and not any(is_below(file, entry) for entry in path):
        for _ in range(function.module.count(".")):
            file = os.path.dirname(file)
        beside.append(os.path.dirname(file) if os.path.basename(file) == "__init__.py" else file)
    return beside


def environment(function: Function[Any, Any], directory: str, log_stream: str, kind: str) -> dict[str, str]:
    """Build a function's part of the environment: what AWS Lambda sets, its directory, what was declared."""
    logs = {
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{function.name}",
        "AWS_LAMBDA_LOG_STREAM_NAME": log_stream,
    }
    return {
        "HOME": directory,
        "PWD": directory,
        "TMPDIR": directory,
        "_HANDLER": f"{function.module}.{function.qualname}",
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.options.memory),
        "AWS_LAMBDA_INITIALIZATION_TYPE": kind,
        **({} if kind == SNAP_START else logs),  # as in AWS: a snapshot serves many streams
        "LAMBDA_TASK_ROOT": directory,
        **function.options.environment,
    }
