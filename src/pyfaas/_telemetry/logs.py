"""
AWS Lambda's log lines, tabs and all: INIT_START or RESTORE_START, START, END, REPORT around what the handler wrote.

The handler's bytes come from a sandbox that may write what it likes; they are decoded with replacement and shown as
text between lines that are the host's own. A handler can print a line that looks like a REPORT; the true one is the
last.
"""

from __future__ import annotations

import hashlib
import math
import sys

from pyfaas import limits
from pyfaas._records import Facts, Report
from pyfaas.context import REGION
from pyfaas.errors import FunctionError, PyfaasError, printable


def _runtime_version() -> tuple[str, str]:
    version = f"python:{sys.version_info.major}.{sys.version_info.minor}.v{sys.version_info.micro}"
    digest = hashlib.sha256(sys.version.encode()).hexdigest()
    return version, f"arn:aws:lambda:{REGION}::runtime:{digest}"


def start_line(phase: str) -> str:
    """Write the first line of a cold start (INIT), or of a snap start (RESTORE)."""
    version, arn = _runtime_version()
    return f"{phase}_START Runtime Version: {version}\tRuntime Version ARN: {arn}\n"


def report_line(report: Report, error: PyfaasError | None) -> str:
    """Write the bill: fields split by tabs, a tab at the end, the status only where it is not success."""
    fields = [
        f"REPORT RequestId: {report.request_id}",
        f"Duration: {report.duration_ms:.2f} ms",
        f"Billed Duration: {report.billed_ms} ms",
        f"Memory Size: {report.memory_mb} MB",
        f"Max Memory Used: {report.max_memory_mb} MB",
    ]
    if report.init_ms is not None:
        fields.append(f"Init Duration: {report.init_ms:.2f} ms")
    if report.restore_ms is not None:
        billed = math.ceil(report.restore_ms)
        fields += [f"Restore Duration: {report.restore_ms:.2f} ms", f"Billed Restore Duration: {billed} ms"]
    if report.status == "timeout":
        fields.append("Status: timeout")
    elif isinstance(error, FunctionError) and error.to_lambda().keys() == {"errorType", "errorMessage"}:
        # AWS tells the status of platform errors only; what a handler raises is its own business.
        fields += ["Status: error", f"Error Type: {error.error_type}"]
    return "\t".join(fields) + "\t\n"


def compose_log(facts: Facts, report: Report, error: PyfaasError | None) -> str:
    """Put an invocation's log together and give its last 4 KB."""
    written = facts.log.decode("utf-8", "replace")
    if written and not written.endswith("\n"):
        written += "\n"
    if facts.log_dropped:
        written += f"[pyfaas] {facts.log_dropped:,} more bytes of output were dropped\n"
    text = "".join(
        (
            "" if not facts.cold else start_line("INIT" if facts.restore is None else "RESTORE"),
            f"START RequestId: {report.request_id} Version: {report.version}\n",
            written,
            f"END RequestId: {report.request_id}\n",
            report_line(report, error),
        )
    )
    tail = text.encode()[-limits.LOG_TAIL_BYTES :]
    return tail.decode("utf-8", "ignore")


def indented(text: str) -> str:
    """Make text of a sandbox fit for a log of the host, where it can begin no line of its own."""
    return printable(text).replace("\n", "\n    ")
