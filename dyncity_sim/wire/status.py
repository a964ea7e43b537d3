"""The error tree as gRPC statuses and back.

==========================  ===================  ===========================================
Error                       Code                 Details (google.rpc)
==========================  ===================  ===========================================
InvalidInputError           INVALID_ARGUMENT     BadRequest, ErrorInfo (got, expected, mend)
UnsupportedConditionError   FAILED_PRECONDITION
BusyError                   RESOURCE_EXHAUSTED   RetryInfo
DeadlineError               DEADLINE_EXCEEDED
UnavailableError            UNAVAILABLE
anything else               INTERNAL             the message is an incident id, nothing more
==========================  ===================  ===========================================

Trouble with the server's own configuration, weights or maps (subclasses of InvalidInputError) is
nothing that a client can mend, and so INTERNAL.
"""

from typing import TypeVar

from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import code_pb2, error_details_pb2, status_pb2

from dyncity_sim.errors import (
    BusyError,
    DeadlineError,
    DyncityError,
    InvalidInputError,
    RemoteError,
    UnavailableError,
    UnsupportedConditionError,
)
from dyncity_sim.wire.limits import MAX_MESSAGE_BYTES

Detail = TypeVar("Detail", bound=Message)

ERROR_DOMAIN = "dyncity.v1"
"""Domain of ErrorInfo details."""

MAX_TEXT = 300
"""Longest text in a status; gRPC drops statuses that exceed its 8 KiB of metadata."""


def status_from_error(error: DyncityError) -> status_pb2.Status | None:
    """The status a client is to see, or None for what it must not see (INTERNAL)."""
    if type(error) is InvalidInputError:
        return _status(code_pb2.INVALID_ARGUMENT, error, _bad_request(error), _error_info(error))
    if isinstance(error, BusyError):
        delay = Duration()
        delay.FromNanoseconds(round(error.retry_after_s * 1e9))
        return _status(code_pb2.RESOURCE_EXHAUSTED, error, error_details_pb2.RetryInfo(retry_delay=delay))
    for kind, code in (
        (UnsupportedConditionError, code_pb2.FAILED_PRECONDITION),
        (DeadlineError, code_pb2.DEADLINE_EXCEEDED),
        (UnavailableError, code_pb2.UNAVAILABLE),
    ):
        if isinstance(error, kind):
            return _status(code, error)
    return None


def internal_status(incident_id: str) -> status_pb2.Status:
    """The status of a failure that only the server's log explains."""
    return status_pb2.Status(
        code=code_pb2.INTERNAL, message=f"The server failed; its log explains incident {incident_id}."
    )


def error_from_status(status: status_pb2.Status) -> DyncityError:
    """The error that a status stands for; RemoteError when it stands for none."""
    message = status.message
    if status.code == code_pb2.INVALID_ARGUMENT:
        info = _detail(status, error_details_pb2.ErrorInfo())
        violations = _detail(status, error_details_pb2.BadRequest()).field_violations
        if info.domain == ERROR_DOMAIN and violations:
            said = info.metadata
            return InvalidInputError(violations[0].field, said["got"], said["expected"], said["mend"])
        return InvalidInputError("request", repr(message), "a request that the server accepts")
    if status.code == code_pb2.RESOURCE_EXHAUSTED:
        retry = error_details_pb2.RetryInfo()
        if not any(detail.Unpack(retry) for detail in status.details):
            return InvalidInputError("message", message, f"at most {MAX_MESSAGE_BYTES} bytes")
        retry_after_s = retry.retry_delay.ToNanoseconds() / 1e9
        return BusyError(message.removesuffix(f" Try again in {retry_after_s:.1f} s."), retry_after_s)
    if status.code == code_pb2.FAILED_PRECONDITION:
        return UnsupportedConditionError(message)
    if status.code == code_pb2.DEADLINE_EXCEEDED:
        return DeadlineError(message)
    if status.code in (code_pb2.UNAVAILABLE, code_pb2.CANCELLED):
        return UnavailableError(message)
    return RemoteError(message)


def _status(code: int, error: DyncityError, *details: Message) -> status_pb2.Status:
    packed = []
    for detail in details:
        wrapper = Any()
        wrapper.Pack(detail)
        packed.append(wrapper)
    return status_pb2.Status(code=code, message=_short(error), details=packed)


def _bad_request(error: InvalidInputError) -> error_details_pb2.BadRequest:
    violation = error_details_pb2.BadRequest.FieldViolation(field=_short(error.field), description=_short(error))
    return error_details_pb2.BadRequest(field_violations=[violation])


def _error_info(error: InvalidInputError) -> error_details_pb2.ErrorInfo:
    said = {"got": _short(error.got), "expected": _short(error.expected), "mend": _short(error.mend)}
    return error_details_pb2.ErrorInfo(reason="INVALID_INPUT", domain=ERROR_DOMAIN, metadata=said)


def _short(text: object) -> str:
    whole = str(text)
    return whole if len(whole) <= MAX_TEXT else whole[: MAX_TEXT - 1] + "…"


def _detail(status: status_pb2.Status, detail: Detail) -> Detail:
    for packed in status.details:
        if packed.Unpack(detail):
            break
    return detail
