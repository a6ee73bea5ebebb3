"""Pure: the Open Inference Protocol's REST forms: what is asked, what is answered, what refused.

Decisions: the tensors are the worker's to read; here only the framing is. Within the server, a
request always has SageMaker's form of that, which says in the content type how long the JSON is. A
model's fault in the payload is 400 whatever status SageMaker would give it, as Triton has no other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import unquote

import msgspec
from msgspec.structs import replace
from multidict import MultiMapping

from mme.domain import Invocation, ModelKey, Reply
from mme.errors import (
    AccessDenied,
    ArtifactUnavailable,
    InvalidRequest,
    InvocationTimeout,
    MemoryRefused,
    MmeError,
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
from mme.front.wire import REQUEST_ID, Answer, read_target_model, version_header

OIP_TYPE = "application/vnd.sagemaker-triton.binary+json"
HEADER_LENGTH = "Inference-Header-Content-Length"
MODELS = "/v2/models/"
VERSION = "1"
_MESSAGE_LIMIT = 2048
_LENGTH = re.compile(r"[0-9]{1,10}")
_VERSIONED = re.compile(r"(.+)/versions/([^/]+)")
_HEADER_SIZE = re.compile(r";json-header-size=([0-9]+)\Z")
_STATUSES: Mapping[type[BaseException], int] = {
    RequestError: 400,
    Unauthenticated: 401,
    AccessDenied: 403,
    ModelMissing: 404,
    ArtifactUnavailable: 404,
    PayloadTooLarge: 413,
    PayloadTimeout: 408,
    Throttled: 429,
    ModelError: 500,  # unless the model found the request wrong
    MemoryRefused: 503,
    WorkerLost: 503,
    InvocationTimeout: 504,
    MmeError: 503,  # draining, queues full, not yet loaded, the store down
}


def read_model(path: str, suffix: str = "") -> ModelKey:
    """The model that a path names, as it came, percent-encoded.

    Args:
        path: e.g. /v2/models/a%2Fm.tar.gz/versions/1/infer; slashes may stand as they are.
        suffix: of the operation, e.g. /infer.

    Raises:
        ModelMissing: it asks for another version than the one there is.
        InvalidRequest: no model can have that name.
    """
    name = path.removeprefix(MODELS).removesuffix(suffix)
    versioned = _VERSIONED.fullmatch(name)
    if versioned is None:
        return read_target_model(unquote(name, errors="surrogateescape"))
    key = read_target_model(unquote(versioned[1], errors="surrogateescape"))
    check_version(key, unquote(versioned[2]))
    return key


def check_version(key: ModelKey, version: str) -> None:
    """Raises ModelMissing for another version than the one there is; "" is any."""
    if version not in {"", VERSION}:
        raise ModelMissing(f"Model {key} has no version {version[:40]!r}, only {VERSION!r}.")


def read_infer(  # noqa: PLR0913 - all that an invocation is made of
    headers: MultiMapping[str],
    key: ModelKey,
    *,
    request_id: str,
    endpoint: str,
    body: bytes,
    deadline: float,
) -> Invocation:
    """Reads an inference request. Raises InvalidRequest where the framing is not right."""
    lengths = headers.getall(HEADER_LENGTH, ())
    given = headers.get("Content-Type", "")
    if lengths:
        if len(set(lengths)) > 1 or not _LENGTH.fullmatch(lengths[0]):
            raise InvalidRequest(f"{HEADER_LENGTH} must be one number of bytes.")
        if int(lengths[0]) > len(body):
            raise InvalidRequest(f"{HEADER_LENGTH} is more than the {len(body)} bytes of the body.")
        content_type = f"{OIP_TYPE};json-header-size={int(lengths[0])}"
    elif given.startswith(OIP_TYPE):
        content_type = given
    elif body:
        content_type = f"{OIP_TYPE};json-header-size={len(body)}"
    else:
        raise InvalidRequest("The request has no body.")
    return Invocation(
        request_id=request_id,
        endpoint=endpoint,
        body=body,
        deadline=deadline,
        content_type=content_type,
        target_model=key,
    )


def infer_answer(reply: Reply, asked_type: str, request_id: str) -> Answer:
    """The answer to an inference: framed by a header, or by the type if `asked_type` was."""
    headers = {REQUEST_ID: request_id, "Content-Type": reply.content_type}
    framed = _HEADER_SIZE.search(reply.content_type)
    if framed and not asked_type.startswith(OIP_TYPE):
        headers |= {"Content-Type": "application/octet-stream", HEADER_LENGTH: framed[1]}
    return Answer(status=200, body=reply.body, headers=headers | version_header(reply.version))


def metadata(key: ModelKey, told: Mapping[str, object]) -> dict[str, object]:
    """A model's metadata out of what an operator may see of it."""
    signature = told.get("signature")
    tensors = signature if isinstance(signature, dict) else {"inputs": (), "outputs": ()}
    return {"name": key, "versions": [VERSION], "platform": told["framework"], **tensors}


def index_entry(name: str) -> dict[str, object]:
    """A model in memory, in the repository's index."""
    return {"name": name, "version": VERSION, "state": "READY", "reason": ""}


def read_options(body: bytes) -> dict[str, object]:
    """The body of a repository request: an object, or nothing. Raises InvalidRequest."""
    try:
        return msgspec.json.decode(body, type=dict[str, object]) if body.strip() else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest("The body must be a JSON object, or empty.") from error


def check_load(parameters: object) -> None:
    """Raises InvalidRequest where a load brings what the store is to bring."""
    if parameters:
        raise InvalidRequest("A load takes no parameters: models come from the store as they are.")


def json_reply(status: int, document: object, request_id: str) -> Answer:
    """An answer in JSON."""
    headers = {REQUEST_ID: request_id, "Content-Type": "application/json"}
    return Answer(status=status, body=msgspec.json.encode(document), headers=headers)


def status_of(error: Exception) -> int:
    """The status of a failed request; what is not ours is a 500."""
    # A model's 4xx says that the request is wrong; of 0 it gave none.
    if isinstance(error, ModelError) and 400 <= error.original_status < 500:  # noqa: PLR2004
        return 400
    return next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)


def message_of(error: Exception) -> str:
    """What a client is told."""
    if not isinstance(error, MmeError):
        return "The server failed. Its log has the cause under this request id."
    return str(error).encode("utf-8", "replace").decode()[:_MESSAGE_LIMIT]


def error_reply(error: Exception, request_id: str) -> Answer:
    """The answer to a failed request."""
    answer = json_reply(status_of(error), {"error": message_of(error)}, request_id)
    if isinstance(error, MmeError) and error.retryable:
        answer = replace(answer, headers={**answer.headers, "Retry-After": retry_after(error, 1)})
    if isinstance(error, Unauthenticated):  # HTTP asks a 401 to say how
        answer = replace(answer, headers={**answer.headers, "WWW-Authenticate": "Bearer"})
    return replace(answer, close=isinstance(error, PayloadTooLarge | PayloadTimeout))
