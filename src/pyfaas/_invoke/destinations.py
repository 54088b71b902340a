"""
Who is told what came of an asynchronous invocation, in the transaction that notes it: nobody is told twice, or not.

    done     ──► on_success
    given up ──► on_failure, and dead_letter
"""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any, NamedTuple

from pyfaas import _shapes, limits
from pyfaas._invoke.cause import Cause
from pyfaas._invoke.outbox import Outbox, accept_for
from pyfaas._payload import encode_event
from pyfaas._stores.database import Job, Transaction
from pyfaas._stores.queue import Message
from pyfaas.context import function_arn, request_id_text
from pyfaas.errors import ConfigurationError, FunctionError, HostError, InvokeError, PyfaasError
from pyfaas.functions import Function
from pyfaas.resources import Bucket, Bus, Publication, Put, Queue, Sending

SUCCESS = "Success"
_DETAIL_TYPE = "Lambda Function Invocation Result - {}"
_ERROR_MESSAGE_CHARACTERS = 1_024
_UNTOLD = "what came of an event of %r could not be told: %s"
_log = logging.getLogger("pyfaas")


class End(NamedTuple):
    """How it ended: ``condition`` in AWS's words, and the result's JSON or the error of the last attempt."""

    condition: str
    value: bytes | None = None
    error: PyfaasError | None = None


def telling(outbox: Outbox, function: Function[Any, Any], message: Message, end: End) -> Job[None] | None:
    """Give the part of a transaction that tells whoever is to be told; None without anybody."""
    options = function.options
    destination = options.on_success if end.condition == SUCCESS else options.on_failure
    dead_letter = None if end.condition == SUCCESS else options.dead_letter
    if destination is None and dead_letter is None:
        return None
    cause = Cause(message.attributes.get("hops", 0) + 1, bytes.fromhex(message.attributes["id"]))
    jobs: list[Job[Any]] = []
    if destination is not None:
        try:
            jobs.append(_record_for(outbox, function, message, end, destination, cause))
        except InvokeError as error:  # what a sandbox wrote may be JSON that no event may be
            _log.warning(_UNTOLD, function.name, error)
    if dead_letter is not None:
        what = _dead_letter(message, end.error)
        publication = Publication(what.bodies[0], None, what.attributes or {})
        jobs.append(_sent(outbox, dead_letter, what if isinstance(dead_letter, Queue) else publication, cause))

    def job(transaction: Transaction) -> None:
        for one in jobs:
            try:
                one(transaction)
            except (ConfigurationError, InvokeError) as error:  # a queue of the other kind, or too large
                _log.warning(_UNTOLD, function.name, error)

    return job


def request_id_of(message: Message) -> str:
    """Give the request id of a submitted event, the same for all of its attempts."""
    return request_id_text(bytes.fromhex(message.attributes["id"]))


def _record_for(
    outbox: Outbox, function: Function[Any, Any], message: Message, end: End, to: Any, cause: Cause
) -> Job[Any]:
    record = _record(function, message, end, outbox.wall())
    if isinstance(to, Function):
        return accept_for(to.name, record, cause) if cause.hops <= limits.HOPS else _nobody
    if isinstance(to, Queue):
        return outbox.job(to, Sending([record.decode()]), cause)
    if isinstance(to, Bucket):
        return _filed(to, function, message, outbox.wall(), record)
    if isinstance(to, Bus):
        outcome = "Success" if end.condition == SUCCESS else "Failure"
        arns = [_shapes.arn("events", f"event-bus/{to.name}"), f"{function_arn(function.name)}:$LATEST"]
        what: Any = [Put("lambda", _DETAIL_TYPE.format(outcome), json.loads(record), arns, None)]
        return _sent(outbox, to, what, cause)
    return _sent(outbox, to, Publication(record.decode(), None, {}), cause)


def _sent(outbox: Outbox, to: Any, what: Any, cause: Cause) -> Job[Any]:
    """Send it on; what goes round in a circle ends in a queue, or here."""
    return outbox.job(to, what, cause) if cause.hops <= limits.HOPS or isinstance(to, Queue) else _nobody


def _filed(to: Bucket, function: Function[Any, Any], message: Message, at: float, record: bytes) -> Job[Any]:
    """Write it into a bucket, under the key that AWS would give it: before the commit, so it is there at least once."""
    moment = datetime.fromtimestamp(at, timezone.utc)
    key = f"aws/lambda/async/{function.name}/{moment:%Y/%m/%d/%Y-%m-%dT%H.%M.%S}-{request_id_of(message)}"

    def job(_: Transaction) -> None:
        try:
            to.put(key, record)
        except HostError as error:
            raise InvokeError(str(error)) from error  # of the bucket, and not of the store

    return job


def _nobody(_: Transaction) -> None: ...


def _record(function: Function[Any, Any], message: Message, end: End, at: float) -> bytes:
    """
    Write what a destination gets.

    A result with which it would be over 1 MB is left out: AWS would drop all of it.
    """
    response: dict[str, Any] | None = None
    if end.value is not None:
        response = {"responsePayload": json.loads(end.value)}
    elif isinstance(end.error, FunctionError):
        response = {"responsePayload": end.error.to_lambda(), "functionError": "Unhandled"}
    while True:
        record = encode_event(
            _shapes.destination_record(
                function=function.name,
                request_id=request_id_of(message),
                condition=end.condition,
                attempts=message.attributes.get("attempts", 0),
                event=json.loads(message.body),
                at=at,
                response=response,
            )
        )
        if len(record) <= limits.MESSAGE_BYTES or response is None or response["responsePayload"] is None:
            return record
        response["responsePayload"] = None


def _dead_letter(message: Message, error: PyfaasError | None) -> Sending:
    """Make what a dead letter queue gets: the event, and in the attributes why."""
    code = 200 if isinstance(error, FunctionError) else 429 if isinstance(error, InvokeError) else 500
    attributes: dict[str, Any] = {
        "RequestID": request_id_of(message),
        "ErrorCode": code,
        "ErrorMessage": (getattr(error, "message", "") or str(error))[:_ERROR_MESSAGE_CHARACTERS],
    }
    return Sending([message.body.decode()], attributes=attributes)
