"""
What a handler is handed as its second argument: AWS Lambda's context object, attribute for attribute.

Made anew by the worker for each invocation; a unit test makes one with ``Context()``.
"""

from __future__ import annotations

import sys
import time
from typing import Any


class CognitoIdentity:
    """Who called through Amazon Cognito: here always nobody, as in AWS for every other caller."""

    __slots__ = ("cognito_identity_id", "cognito_identity_pool_id")

    def __init__(self) -> None:
        self.cognito_identity_id: str | None = None
        self.cognito_identity_pool_id: str | None = None


def request_id_text(raw: bytes) -> str:
    """Write the 16 bytes of a request id in the form of a UUID."""
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


class Context:
    """
    AWS Lambda's Python context object (``LambdaContext``).

    ``memory_limit_in_mb`` is a string, as in AWS; ``client_context`` is None and ``identity`` an empty object where no
    mobile client called. ``tenant_id`` is whom the call was for, where the function keeps tenants apart, else None.
    """

    __slots__ = (
        "_due_at",
        "_raw_id",
        "_request_id",
        "client_context",
        "function_name",
        "function_version",
        "identity",
        "invoked_function_arn",
        "log_group_name",
        "log_stream_name",
        "memory_limit_in_mb",
        "tenant_id",
    )

    def __init__(
        self,
        function_name: str = "function",
        *,
        request_id: bytes = bytes(16),
        remaining: float = 3.0,
        memory_limit_in_mb: str = "128",
        invoked_function_arn: str = "",
        log_stream_name: str = "",
        tenant_id: str | None = None,
    ) -> None:
        self._raw_id = request_id
        self._request_id: str | None = None
        self._due_at = time.monotonic() + remaining
        self.function_name = function_name
        self.function_version = "$LATEST"
        self.invoked_function_arn = invoked_function_arn or function_arn(function_name)
        self.memory_limit_in_mb = memory_limit_in_mb
        self.log_group_name = f"/aws/lambda/{function_name}"
        self.log_stream_name = log_stream_name
        self.tenant_id = tenant_id
        self.client_context: Any = None
        self.identity = CognitoIdentity()

    @property
    def aws_request_id(self) -> str:
        """The id of this invocation, a UUID as text."""
        if self._request_id is None:
            self._request_id = request_id_text(self._raw_id)
        return self._request_id

    def get_remaining_time_in_millis(self) -> int:
        """Tell how many milliseconds are left until the time-out, never below 0."""
        return max(int((self._due_at - time.monotonic()) * 1000), 0)

    def log(self, message: object) -> None:
        """Write to the log as it is, without a newline."""
        sys.stdout.write(str(message))

    def __repr__(self) -> str:
        return (
            f"Context(aws_request_id={self.aws_request_id!r}, function_name={self.function_name!r}, "
            f"memory_limit_in_mb={self.memory_limit_in_mb!r})"
        )

    def _for_call(self, raw_id: bytes, due_at: float) -> Context:
        """Make the context of one more call of the same function, without building the constant parts again."""
        call = object.__new__(Context)
        call._raw_id = raw_id
        call._request_id = None
        call._due_at = due_at
        call.function_name = self.function_name
        call.function_version = self.function_version
        call.invoked_function_arn = self.invoked_function_arn
        call.memory_limit_in_mb = self.memory_limit_in_mb
        call.log_group_name = self.log_group_name
        call.log_stream_name = self.log_stream_name
        call.tenant_id = self.tenant_id
        call.client_context = None
        call.identity = self.identity
        return call


# The worker's way in; on the object itself a handler finds only the names that AWS's has.
context_for_call = Context._for_call

REGION = "us-east-1"
ACCOUNT = "000000000000"


def function_arn(name: str) -> str:
    """Name a local function as AWS would."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
