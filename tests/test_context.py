"""The context object: AWS Lambda's, attribute for attribute, in a unit test and in a sandbox."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import handlers
from pyfaas import Context, Runtime
from pyfaas.context import request_id_text

if TYPE_CHECKING:
    import pytest

ATTRIBUTES = {
    "aws_request_id",
    "client_context",
    "function_name",
    "function_version",
    "identity",
    "invoked_function_arn",
    "log_group_name",
    "log_stream_name",
    "memory_limit_in_mb",
    "tenant_id",
}


def test_it_has_awss_attributes_and_methods_and_no_others() -> None:
    public = {name for name in dir(Context()) if not name.startswith("_")}
    assert public == ATTRIBUTES | {"get_remaining_time_in_millis", "log"}


def test_a_unit_test_makes_one() -> None:
    context = Context("thumbnail", remaining=2.0)
    assert context.function_name == "thumbnail"
    assert context.function_version == "$LATEST"
    assert context.memory_limit_in_mb == "128"
    assert context.aws_request_id == "00000000-0000-0000-0000-000000000000"
    assert context.invoked_function_arn == "arn:aws:lambda:us-east-1:000000000000:function:thumbnail"
    assert context.log_group_name == "/aws/lambda/thumbnail"
    assert context.client_context is None
    assert context.tenant_id is None
    assert 1_000 < context.get_remaining_time_in_millis() <= 2_000
    assert repr(context) == (
        "Context(aws_request_id='00000000-0000-0000-0000-000000000000', function_name='thumbnail', "
        "memory_limit_in_mb='128')"
    )


def test_the_remaining_time_never_falls_below_nothing() -> None:
    assert Context(remaining=-5).get_remaining_time_in_millis() == 0


def test_identity_is_an_empty_object_as_for_every_caller_but_cognito() -> None:
    identity = Context().identity
    assert (identity.cognito_identity_id, identity.cognito_identity_pool_id) == (None, None)


def test_log_writes_without_a_newline(capsys: pytest.CaptureFixture[str]) -> None:
    Context().log("a")
    Context().log(1)
    assert capsys.readouterr().out == "a1"


def test_a_request_id_is_written_as_a_uuid() -> None:
    assert request_id_text(bytes(range(16))) == "00010203-0405-0607-0809-0a0b0c0d0e0f"


def test_a_handler_in_a_sandbox_is_handed_the_same(session_runtime: Runtime) -> None:
    outcome = session_runtime.try_invoke(handlers.show, None)
    shown = outcome.value
    assert set(shown) == ATTRIBUTES | {"remaining"}
    assert shown["aws_request_id"] == outcome.request_id
    assert re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", outcome.request_id)
    assert shown["memory_limit_in_mb"] == "200"
    assert shown["function_name"] == "show"
    assert shown["function_version"] == "$LATEST"
    assert shown["log_group_name"] == "/aws/lambda/show"
    assert re.fullmatch(r"\[\$LATEST\][0-9a-f]{32}", shown["log_stream_name"].rpartition("/")[2])
    assert shown["identity"] == [None, None]
    assert shown["client_context"] is None
    assert 2_000 < shown["remaining"] <= 3_000


def test_each_invocation_has_an_id_of_its_own(session_runtime: Runtime) -> None:
    ids = {session_runtime.invoke(handlers.show, None)["aws_request_id"] for _ in range(20)}
    assert len(ids) == 20
