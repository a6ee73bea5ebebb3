"""Pure: headers and body -> Invocation, Reply -> answer, as SageMaker's runtime API has them.

Decision: names are opaque, as S3 keys are: nothing is resolved, decoded or normalised but one
leading slash. What could mean something to a disk, a shell, a log or a URL is refused, although
digests and not names reach the disk. Clients check minimum lengths only, so every limit and pattern
of the service model is enforced here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from msgspec import Struct
from multidict import MultiMapping, istr

from mme.domain import Invocation, ModelKey, Reply
from mme.errors import InvalidRequest, PredictionFailed
from mme.tracing import TRACE_PARENT, TRACE_STATE, read_parent, read_state

REQUEST_ID = "x-amzn-RequestId"
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
MODEL_VERSION = "X-Mme-Model-Version"
INVOKED_VARIANT = "x-Amzn-Invoked-Production-Variant"
TARGET_MODEL = istr("X-Amzn-SageMaker-Target-Model")
_TARGET_MODEL_LIMIT = 1024
# A scheme with a slash is a URL of any kind; these also without, as nothing but a URL begins so.
_SCHEME = re.compile(r"(?i)(?:s3|https?|ftp|file|data|arn):|[a-z][a-z0-9+.\-]*:/")


class Answer(Struct, frozen=True, kw_only=True):
    """What goes back over HTTP, whatever the dialect."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}
    close: bool = False  # the connection is not to be used again
    pieces: AsyncGenerator[bytes, None] | None = None  # in place of a body; then it closes


@dataclass(frozen=True, slots=True)
class _Rule:
    """One parameter of InvokeEndpoint: where it travels, whose field it is, and what it may be."""

    header: str
    field: str  # of Invocation
    member: str  # its name in the SDKs
    pattern: re.Pattern[str]
    says: str


_TEXT = (re.compile(r"[\t\x20-\x7e]{0,1024}"), "at most 1024 ASCII characters")  # no controls
_NAME = r"[a-zA-Z0-9](?:-*[a-zA-Z0-9])*"
_LABEL = (
    re.compile(rf"(?=.{{1,63}}\Z){_NAME}"),
    "1 to 63 letters, digits and inner hyphens",
)
_IDENTIFIER = (
    re.compile(r"[\x21-\x7e][\x20-\x7e]{0,63}"),
    "1 to 64 printable characters, the first no blank",
)
_SESSION = (
    re.compile(rf"NEW_SESSION|(?=.{{1,256}}\Z){_NAME}"),
    "NEW_SESSION, or 1 to 256 letters, digits and inner hyphens",
)
_PREFIX = "X-Amzn-SageMaker-"
_RULES = (
    _Rule(istr("Content-Type"), "content_type", "ContentType", *_TEXT),
    _Rule(istr("Accept"), "accept", "Accept", *_TEXT),
    _Rule(istr(CUSTOM_ATTRIBUTES), "custom_attributes", "CustomAttributes", *_TEXT),
    _Rule(istr(_PREFIX + "Target-Variant"), "target_variant", "TargetVariant", *_LABEL),
    _Rule(
        istr(_PREFIX + "Target-Container-Hostname"),
        "target_container",
        "TargetContainerHostname",
        *_LABEL,
    ),
    _Rule(istr(_PREFIX + "Inference-Id"), "inference_id", "InferenceId", *_IDENTIFIER),
    _Rule(istr(_PREFIX + "Session-Id"), "session_id", "SessionId", *_SESSION),
)
# To answer as if these had not been sent would be to answer something else than was asked.
_UNSUPPORTED = {
    istr(_PREFIX + "Enable-Explanations"): "EnableExplanations",
    istr(_PREFIX + "Inference-Component"): "InferenceComponentName",
}


def format_request_id(random_bytes: bytes) -> str:
    """A version 4 UUID out of 16 random bytes; a fifth of what `uuid.uuid4` costs."""
    text = random_bytes.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


@lru_cache(maxsize=256)
def read_endpoint(name: str) -> str:
    """Checks an endpoint's name, already percent-decoded. Raises InvalidRequest."""
    pattern, says = _LABEL
    if not pattern.fullmatch(name):
        raise InvalidRequest(f"EndpointName must be {says}.")
    return name


@lru_cache(maxsize=4096)
def read_target_model(value: str) -> ModelKey:
    """The store's key for a TargetModel header, as text decoded from UTF-8 with `surrogateescape`.

    Raises:
        InvalidRequest: empty, too long, not printable, or of a shape that only attacks and mistakes
            have.
    """
    if len(value) > _TARGET_MODEL_LIMIT:
        raise InvalidRequest(f"TargetModel must be at most {_TARGET_MODEL_LIMIT} characters long.")
    # Lone surrogates, from bytes that were no UTF-8, are not printable either.
    if not value.isprintable() or "\\" in value:
        raise InvalidRequest("TargetModel must be printable UTF-8 text without backslashes.")
    if _SCHEME.match(value):
        raise InvalidRequest("TargetModel must be a path under the endpoint's models, not a URL.")
    key = value.removeprefix("/")
    if value.startswith(" ") or not {"", ".", ".."}.isdisjoint(key.split("/")):
        raise InvalidRequest(
            "TargetModel must be a relative path such as tenant/model.tar.gz, "
            "without empty, '.' or '..' segments."
        )
    return ModelKey(key)


def read_fields(headers: MultiMapping[str], endpoint: str) -> dict[str, Any]:
    """What the headers of an InvokeEndpoint request say: fields of an Invocation.

    Args:
        headers: as they came, without regard to case.
        endpoint: the checked name of the endpoint.

    Raises:
        InvalidRequest: a header is malformed, too long, given twice, or asks for what is not here.
    """
    for header, member in _UNSUPPORTED.items():
        if header in headers:
            raise InvalidRequest(f"{member} is not supported by endpoint {endpoint}.")
    given: dict[str, Any] = {"endpoint": endpoint}
    for rule in _RULES:
        if rule.header in headers:
            value = _single(headers, rule.header, rule.member)
            if not rule.pattern.fullmatch(value):
                raise InvalidRequest(f"{rule.member} must be {rule.says}.")
            given[rule.field] = value or None  # an empty text says as little as an absent one
    if TRACE_PARENT in headers:
        given["trace_parent"] = read_parent(headers[TRACE_PARENT])
        given["trace_state"] = read_state(headers.getall(TRACE_STATE, ()))
    if TARGET_MODEL in headers:
        given["target_model"] = read_target_model(_single(headers, TARGET_MODEL, "TargetModel"))
    return given


def read_invocation(
    headers: MultiMapping[str], *, request_id: str, endpoint: str, body: bytes, deadline: float
) -> Invocation:
    """Reads an InvokeEndpoint request.

    Args:
        headers: see `read_fields`.
        request_id: the id this request is answered and logged under.
        endpoint: the checked name of the endpoint.
        body: the whole payload.
        deadline: on the event loop's clock, in seconds.

    Raises:
        InvalidRequest: as `read_fields`.
    """
    given = read_fields(headers, endpoint)
    return Invocation(request_id=request_id, body=body, deadline=deadline, **given)


def reply_answer(reply: Reply, request_id: str) -> Answer:
    """The answer to a successful invocation.

    Raises:
        PredictionFailed: the model gave a content type or custom attributes no header can carry.
    """
    headers = {
        REQUEST_ID: request_id,
        "Content-Type": _outgoing("content type", reply.content_type),
        INVOKED_VARIANT: reply.variant,
        **version_header(reply.version),
    }
    if reply.custom_attributes is not None:
        headers[CUSTOM_ATTRIBUTES] = _outgoing("custom attributes", reply.custom_attributes)
    return Answer(status=200, body=reply.body, headers=headers)


@lru_cache(maxsize=1024)
def version_header(version: str | None) -> dict[str, str]:
    """Which version answered, where that is known and a header can carry it."""
    return {MODEL_VERSION: version} if version and _TEXT[0].fullmatch(version) else {}


def _single(headers: MultiMapping[str], header: str, member: str) -> str:
    values = headers.getall(header)
    # Two values would let a proxy judge by the one and us serve the other.
    if len(values) > 1:
        raise InvalidRequest(f"{member} must be given once only.")
    return values[0]


@lru_cache(maxsize=256)
def _outgoing(what: str, value: str) -> str:
    # A line break here would let a model write headers of its own.
    if not _TEXT[0].fullmatch(value):
        raise PredictionFailed(f"The model's {what} must be at most 1024 ASCII characters.")
    return value
