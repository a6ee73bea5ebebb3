"""Pure: headers and body -> Invocation, Reply -> answer, as SageMaker's runtime API has them.

Decision: names are opaque, as S3 keys are: nothing is resolved, decoded or normalised but one
leading slash. What could mean something to a disk, a shell, a log or a URL is refused, although
digests and not names reach the disk. Clients check minimum lengths only, so every limit and pattern
of the service model is enforced here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from multidict import MultiMapping

from mme.domain import Invocation, ModelKey, Reply
from mme.errors import InvalidRequest, PredictionFailed

REQUEST_ID = "x-amzn-RequestId"
CUSTOM_ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
INVOKED_VARIANT = "x-Amzn-Invoked-Production-Variant"
TARGET_MODEL = "X-Amzn-SageMaker-Target-Model"
_TARGET_MODEL_LIMIT = 1024
# A scheme with a slash is a URL of any kind; these also without, as nothing but a URL begins so.
_SCHEME = re.compile(r"(?i)(?:s3|https?|ftp|file|data|arn):|[a-z][a-z0-9+.\-]*:/")
_NAME = r"[a-zA-Z0-9](?:-*[a-zA-Z0-9])*"
_HEADER_VALUE = re.compile(r"[\t\x20-\x7e]{0,1024}")  # ASCII, less the controls no header may hold


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What goes back over HTTP, whatever the dialect."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False  # the connection is not to be used again


@dataclass(frozen=True, slots=True)
class _Rule:
    """One parameter of InvokeEndpoint: where it travels and what it may be."""

    header: str
    member: str  # its name in the SDKs
    pattern: re.Pattern[str]
    says: str


_TEXT_RULE = "at most 1024 ASCII characters"
_NAME_RULE = "1 to 63 letters, digits and inner hyphens"
_ENDPOINT = re.compile(rf"(?=.{{1,63}}\Z){_NAME}")
_CONTENT_TYPE = _Rule("Content-Type", "ContentType", _HEADER_VALUE, _TEXT_RULE)
_ACCEPT = _Rule("Accept", "Accept", _HEADER_VALUE, _TEXT_RULE)
_ATTRIBUTES = _Rule(CUSTOM_ATTRIBUTES, "CustomAttributes", _HEADER_VALUE, _TEXT_RULE)
_VARIANT = _Rule("X-Amzn-SageMaker-Target-Variant", "TargetVariant", _ENDPOINT, _NAME_RULE)
_CONTAINER = _Rule(
    "X-Amzn-SageMaker-Target-Container-Hostname", "TargetContainerHostname", _ENDPOINT, _NAME_RULE
)
_INFERENCE_ID = _Rule(
    "X-Amzn-SageMaker-Inference-Id",
    "InferenceId",
    re.compile(r"[\x21-\x7e][\x20-\x7e]{0,63}"),
    "1 to 64 printable characters, the first no blank",
)
_SESSION = _Rule(
    "X-Amzn-SageMaker-Session-Id",
    "SessionId",
    re.compile(rf"NEW_SESSION|(?=.{{1,256}}\Z){_NAME}"),
    "NEW_SESSION, or 1 to 256 letters, digits and inner hyphens",
)
# To answer as if these had not been sent would be to answer something else than was asked.
_UNSUPPORTED = {
    "X-Amzn-SageMaker-Enable-Explanations": "EnableExplanations",
    "X-Amzn-SageMaker-Inference-Component": "InferenceComponentName",
}


def format_request_id(random_bytes: bytes) -> str:
    """A version 4 UUID out of 16 random bytes; a fifth of what `uuid.uuid4` costs."""
    text = random_bytes.hex()
    return f"{text[:8]}-{text[8:12]}-4{text[13:16]}-a{text[17:20]}-{text[20:]}"


def read_endpoint(name: str) -> str:
    """Checks an endpoint's name, already percent-decoded. Raises InvalidRequest."""
    if not _ENDPOINT.fullmatch(name):
        raise InvalidRequest(f"EndpointName must be {_NAME_RULE}.")
    return name


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


def read_invocation(
    headers: MultiMapping[str], *, request_id: str, endpoint: str, body: bytes, deadline: float
) -> Invocation:
    """Reads an InvokeEndpoint request.

    Args:
        headers: as they came, without regard to case.
        request_id: the id this request is answered and logged under.
        endpoint: the checked name of the endpoint.
        body: the whole payload.
        deadline: on the event loop's clock, in seconds.

    Raises:
        InvalidRequest: a header is malformed, too long, given twice, or asks for what is not here.
    """
    for header, member in _UNSUPPORTED.items():
        if header in headers:
            raise InvalidRequest(f"{member} is not supported by endpoint {endpoint}.")
    target_model = _single(headers, TARGET_MODEL, "TargetModel")
    return Invocation(
        request_id=request_id,
        endpoint=endpoint,
        body=body,
        deadline=deadline,
        # An empty type says as little as an absent one.
        content_type=_read(headers, _CONTENT_TYPE) or None,
        accept=_read(headers, _ACCEPT) or None,
        custom_attributes=_read(headers, _ATTRIBUTES),
        target_model=None if target_model is None else read_target_model(target_model),
        target_variant=_read(headers, _VARIANT),
        target_container=_read(headers, _CONTAINER),
        inference_id=_read(headers, _INFERENCE_ID),
        session_id=_read(headers, _SESSION),
    )


def reply_answer(reply: Reply, request_id: str) -> Answer:
    """The answer to a successful invocation.

    Raises:
        PredictionFailed: the model gave a content type or custom attributes no header can carry.
    """
    headers = {
        REQUEST_ID: request_id,
        "Content-Type": _outgoing("content type", reply.content_type),
        INVOKED_VARIANT: reply.variant,
    }
    if reply.custom_attributes is not None:
        headers[CUSTOM_ATTRIBUTES] = _outgoing("custom attributes", reply.custom_attributes)
    return Answer(status=200, body=reply.body, headers=headers)


def _read(headers: MultiMapping[str], rule: _Rule) -> str | None:
    value = _single(headers, rule.header, rule.member)
    if value is not None and not rule.pattern.fullmatch(value):
        raise InvalidRequest(f"{rule.member} must be {rule.says}.")
    return value


def _single(headers: MultiMapping[str], header: str, member: str) -> str | None:
    value = headers.get(header)
    # Two values would let a proxy judge by the one and us serve the other.
    if value is not None and len(headers.getall(header)) > 1:
        raise InvalidRequest(f"{member} must be given once only.")
    return value


def _outgoing(what: str, value: str) -> str:
    # A line break here would let a model write headers of its own.
    if not _HEADER_VALUE.fullmatch(value):
        raise PredictionFailed(f"The model's {what} must be at most 1024 ASCII characters.")
    return value
