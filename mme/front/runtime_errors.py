"""Pure: an error -> status, headers and body, as SageMaker's runtime API gives it.

Decision: the sentence in `Message` is kept to the byte, frame and tail, because clients read it
with regular expressions; where it would pass the model's 2048 characters, what it quotes is cut and
not the frame. A status of 0 quotes AWS's sentence for that case; `OriginalMessage` says what
happened here. Status and name are one table; what it does not know is a 500 that shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

import msgspec

from mme.config import ServerConfig
from mme.errors import (
    AccessDenied,
    DiskUnavailable,
    Draining,
    InvalidRequest,
    InvocationTimeout,
    ModelError,
    ModelNotReady,
    Overloaded,
    PayloadTimeout,
    PayloadTooLarge,
    RequestError,
    SiblingFailed,
    StoreUnavailable,
    Throttled,
    Unauthenticated,
    UsageUnreadable,
    WorkerLost,
)
from mme.front.wire import REQUEST_ID, Answer

ERROR_TYPE = "x-amzn-ErrorType"
MESSAGE_LIMIT = 2048
_ONLY = "primary"  # what the only container is called
_TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container {container}. Review the "
    "latency metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
)
_NO_RESPONSE = (
    "Amazon SageMaker could not get a response from the {endpoint} endpoint. This can occur when "
    "CPU or memory utilization is high. To check your utilization, see Amazon CloudWatch. To fix "
    "this problem, use an instance type with more CPU capacity or memory."
)


@dataclass(frozen=True, slots=True)
class _Form:
    status: int
    error_type: str | None = None  # None: AWS sends no type, and clients see the status as the code
    retry_after_seconds: int | None = None
    close: bool = False  # what is left of the request is not worth reading


_ERROR_CODES = {"client": "CLIENT_ERROR_FROM_MODEL", "server": "INTERNAL_FAILURE_FROM_MODEL"}
_UNAVAILABLE = _Form(503, "ServiceUnavailable", retry_after_seconds=1)
_UNEXPECTED = _Form(500, "InternalFailure")
_FORMS: Mapping[type[BaseException], _Form] = {
    RequestError: _Form(400, "ValidationError"),
    AccessDenied: _Form(403, "AccessDeniedException"),
    PayloadTooLarge: _Form(413, close=True),
    PayloadTimeout: _Form(408, close=True),
    ModelError: _Form(424, "ModelError"),
    ModelNotReady: _Form(429, "ModelNotReadyException"),
    DiskUnavailable: _UNAVAILABLE,
    Overloaded: _UNAVAILABLE,
    Throttled: _Form(429, "ThrottlingException", retry_after_seconds=1),
    Draining: _UNAVAILABLE,
    UsageUnreadable: _UNAVAILABLE,
    StoreUnavailable: _Form(530, "InternalDependencyException"),
}


def error_answer(
    error: Exception, *, request_id: str, endpoint: str, server: ServerConfig, close: bool = False
) -> Answer:
    """The answer to a failed request.

    Args:
        error: any exception; what is not in the table, or not ours, becomes InternalFailure.
        request_id: the id this request is answered and logged under.
        endpoint: the name of the endpoint that was asked; appears in texts.
        server: gives the region and account that appear in texts.
        close: the connection is not to be used again.
    """
    form = _form(error)
    headers = {}
    if form.error_type is not None:
        headers[ERROR_TYPE] = form.error_type
    if form.retry_after_seconds is not None:
        headers["Retry-After"] = retry_after(error, form.retry_after_seconds)
    members: dict[str, object]
    if isinstance(error, ModelError):
        members = _model_members(error, endpoint, server)
    elif form is _UNEXPECTED:
        members = {"Message": "The server failed. Its log has the cause under this request id."}
    else:
        members = {"Message": clean(str(error))[:MESSAGE_LIMIT]}
        if isinstance(error, InvalidRequest) and error.code is not None:
            members["ErrorCode"] = error.code
    return json_answer(
        form.status, members, request_id=request_id, headers=headers, close=close or form.close
    )


def _form(error: Exception) -> _Form:
    if isinstance(error, Unauthenticated):
        return _Form(400 if error.code == "IncompleteSignature" else 403, error.code)
    return next((_FORMS[kind] for kind in type(error).__mro__ if kind in _FORMS), _UNEXPECTED)


def retry_after(error: Exception, otherwise_seconds: int) -> str:
    """When to come again, in whole seconds: as the error says, or else."""
    said_seconds = error.retry_after_seconds if isinstance(error, Overloaded) else 0
    return str(max(ceil(said_seconds), otherwise_seconds))


def json_answer(
    status: int,
    members: Mapping[str, object],
    *,
    request_id: str,
    headers: Mapping[str, str] | None = None,
    close: bool = False,
) -> Answer:
    """An answer whose body is a JSON object; any other JSON would crash boto3."""
    return Answer(
        status=status,
        body=msgspec.json.encode(members),
        headers={REQUEST_ID: request_id, "Content-Type": "application/json", **(headers or {})},
        close=close,
    )


def clean(text: str) -> str:
    """Text that can be encoded: bytes that were no UTF-8 are shown as question marks."""
    return text.encode("utf-8", "replace").decode()


def _model_members(error: ModelError, endpoint: str, server: ServerConfig) -> dict[str, object]:
    status, cause = error.original_status, clean(str(error))
    side = "client" if 400 <= status < 500 else "server"  # noqa: PLR2004 - HTTP's own classes
    group = f"/aws/sagemaker/Endpoints/{endpoint}"
    container = error.container or _ONLY
    head = f'Received {side} error ({status}) from {container} with message "'
    tail = (
        f'". See https://{server.region}.console.aws.amazon.com/cloudwatch/home?region={server.region}'
        f"#logEventViewer:group={group} in account {server.account_id} for more information."
    )
    quoted = _quoted(error, cause, endpoint)[: MESSAGE_LIMIT - len(head) - len(tail)]
    return {
        "ErrorCode": _ERROR_CODES[side],
        "LogStreamArn": f"arn:aws:logs:{server.region}:{server.account_id}:log-group:{group}",
        "Message": head + quoted + tail,
        "OriginalMessage": cause[:MESSAGE_LIMIT],
        "OriginalStatusCode": status,
    }


def _quoted(error: ModelError, cause: str, endpoint: str) -> str:
    if error.original_status == 0 and isinstance(error, InvocationTimeout):
        return _TIMED_OUT.format(container=error.container or _ONLY)
    if error.original_status == 0 and isinstance(error, WorkerLost | SiblingFailed):
        return _NO_RESPONSE.format(endpoint=endpoint)
    return cause
