"""Pure: the container contract's forms: what is asked, what is answered, and how it is refused.

Decisions: errors are multi-model-server's `{"code", "type", "message"}`; a model's fault carries
the status the model gave, as the platform wraps it in a ModelError of its own. A status of 0, which
says that the model gave none, becomes 504 (not in time) or 503 (its worker ended). Status and type
are one table; what it does not know is a 500 that shows nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import msgspec
from msgspec import structs
from multidict import CIMultiDict, MultiMapping

from mme.domain import Invocation, ModelKey, Reply
from mme.errors import (
    AccessDenied,
    ArtifactUnavailable,
    InvalidRequest,
    MemoryRefused,
    MmeError,
    ModelConflict,
    ModelError,
    ModelMissing,
    PayloadTimeout,
    PayloadTooLarge,
    RequestError,
    Throttled,
    Unauthenticated,
    WorkerLost,
)
from mme.front.runtime_errors import retry_after
from mme.front.wire import (
    CUSTOM_ATTRIBUTES,
    INVOKED_VARIANT,
    REQUEST_ID,
    Answer,
    read_invocation,
    reply_answer,
)

_MESSAGE_LIMIT = 2048
_NAME_LIMIT = 1024
_FORWARDED = ("Content-Type", "Accept", CUSTOM_ATTRIBUTES)


@dataclass(frozen=True, slots=True)
class _Form:
    status: int
    type: str
    close: bool = False  # what is left of the request is not worth reading


_UNEXPECTED = _Form(500, "InternalServerException")
_FORMS: Mapping[type[BaseException], _Form] = {
    RequestError: _Form(400, "BadRequestException"),
    Unauthenticated: _Form(401, "UnauthorizedException"),
    AccessDenied: _Form(403, "AccessDeniedException"),
    ModelMissing: _Form(404, "ModelNotFoundException"),
    ArtifactUnavailable: _Form(404, "ModelNotFoundException"),
    ModelConflict: _Form(409, "ConflictStatusException"),
    PayloadTooLarge: _Form(413, "RequestEntityTooLargeException", close=True),
    PayloadTimeout: _Form(408, "RequestTimeoutException", close=True),
    Throttled: _Form(429, "ThrottlingException"),
    ModelError: _Form(500, "InternalServerException"),  # the status is the error's own
    MemoryRefused: _Form(507, "InsufficientMemoryException"),
    MmeError: _Form(503, "ServiceUnavailableException"),  # draining, queues full, not yet loaded
}


class _LoadBody(msgspec.Struct):
    model_name: str
    url: str


def read_model_name(name: str) -> ModelKey:
    """Checks a name that the platform gave a model, percent-decoded. Raises InvalidRequest."""
    if not name.isprintable() or not name.strip() or len(name) > _NAME_LIMIT or "/" in name:
        raise InvalidRequest(
            f"model_name must be 1 to {_NAME_LIMIT} printable characters without a slash."
        )
    return ModelKey(name)


def read_load(body: bytes) -> tuple[ModelKey, str]:
    """The model's name and the directory's path in a load's body. Raises InvalidRequest."""
    try:
        asked = msgspec.json.decode(body, type=_LoadBody)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest(
            'The body must be {"model_name": ..., "url": ...} in JSON, both texts.'
        ) from error
    return read_model_name(asked.model_name), asked.url


def read_payload(  # noqa: PLR0913 - what `read_invocation` takes, and the model
    headers: MultiMapping[str],
    key: ModelKey,
    *,
    request_id: str,
    endpoint: str,
    body: bytes,
    deadline: float,
) -> Invocation:
    """Reads an invocation of `key`; of its headers only those that describe the payload count.

    Raises:
        InvalidRequest: one of those is malformed, too long or given twice.
    """
    kept = CIMultiDict((name, value) for name in _FORWARDED for value in headers.getall(name, ()))
    invocation = read_invocation(
        kept, request_id=request_id, endpoint=endpoint, body=body, deadline=deadline
    )
    return structs.replace(invocation, target_model=key)


def payload_answer(reply: Reply, request_id: str) -> Answer:
    """The answer to a successful invocation. Raises PredictionFailed as `reply_answer` does."""
    answer = reply_answer(reply, request_id)
    headers = {name: text for name, text in answer.headers.items() if name != INVOKED_VARIANT}
    return structs.replace(answer, headers=headers)


def json_body(status: int, members: Mapping[str, object], request_id: str) -> Answer:
    """An answer in JSON."""
    headers = {REQUEST_ID: request_id, "Content-Type": "application/json"}
    return Answer(status=status, body=msgspec.json.encode(members), headers=headers)


def miss_answer(allowed: tuple[str, ...], message: str, request_id: str) -> Answer:
    """The answer where no route is: 404, or 405 with the methods that are `allowed` there."""
    if not allowed:
        return _refusal(_Form(404, "ResourceNotFoundException"), message, request_id)
    answer = _refusal(_Form(405, "MethodNotAllowedException"), message, request_id)
    return structs.replace(answer, headers={**answer.headers, "Allow": ", ".join(allowed)})


def refusal_answer(error: Exception, request_id: str, *, close: bool = False) -> Answer:
    """The answer to a failed request.

    Args:
        error: any exception; what is not ours becomes a 500 that tells nothing.
        request_id: the id this request is answered and logged under.
        close: the connection is not to be used again.
    """
    form = next((_FORMS[kind] for kind in type(error).__mro__ if kind in _FORMS), _UNEXPECTED)
    if isinstance(error, ModelError):
        form = _of_model(error, form)
    message = "The server failed. Its log has the cause under this request id."
    if isinstance(error, MmeError):
        message = str(error).encode("utf-8", "replace").decode()[:_MESSAGE_LIMIT]
    answer = _refusal(form, message, request_id)
    headers = dict(answer.headers)
    if _again(error):
        headers["Retry-After"] = retry_after(error, 1)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"  # as HTTP asks of a 401
    return structs.replace(answer, headers=headers, close=close or form.close)


def _of_model(error: ModelError, form: _Form) -> _Form:
    status = error.original_status
    if 400 <= status < 500:  # noqa: PLR2004 - HTTP's own classes
        return _Form(status, "BadRequestException")
    if status == 0:
        return _Form(503 if isinstance(error, WorkerLost) else 504, "ServiceUnavailableException")
    return replace(form, status=status if 500 <= status < 600 else 500)  # noqa: PLR2004


def _again(error: Exception) -> bool:
    return isinstance(error, MmeError) and error.retryable


def _refusal(form: _Form, message: str, request_id: str) -> Answer:
    members = {"code": form.status, "type": form.type, "message": message}
    return json_body(form.status, members, request_id)
