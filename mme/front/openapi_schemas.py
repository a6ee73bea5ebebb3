"""The schemas of the OpenAPI document: what all dialects' clients read and send."""

from __future__ import annotations

from typing import Any, Final

ANYTHING: Final = "*"
_TEXT: dict[str, Any] = {"type": "string"}
_SHORT = {"type": "string", "maxLength": 1024}


def _object(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"type": "object", "required": list(required), "properties": properties}


_TENSOR = _object(
    ("name", "datatype", "shape"),
    name=_TEXT,
    datatype=_TEXT,
    shape={"type": "array", "items": {"type": "integer"}},
    data={"type": "array"},
    parameters={"type": "object"},
)
SCHEMAS: Final[dict[str, Any]] = {
    "Object": {"type": "object"},
    "List": {"type": "array", "items": {"type": "object"}},
    "Error": _object(
        ("Message",),
        Message=_TEXT,
        ErrorCode=_TEXT,
        OriginalStatusCode={"type": "integer"},
        OriginalMessage=_TEXT,
        LogStreamArn=_TEXT,
    ),
    "ContainerError": _object(
        ("code", "type", "message"), code={"type": "integer"}, type=_TEXT, message=_TEXT
    ),
    "OipError": _object(("error",), error=_TEXT),
    "ModelList": _object(
        ("models",), models={"type": "array", "items": {"type": "object"}}, nextPageToken=_TEXT
    ),
    "Names": _object(("models",), models={"type": "array", "items": _TEXT}),
    "OipRequest": _object(
        ("inputs",),
        id=_TEXT,
        parameters={"type": "object"},
        inputs={"type": "array", "items": _TENSOR},
        outputs={"type": "array", "items": {"type": "object"}},
    ),
    "OipAnswer": _object(
        ("model_name", "outputs"),
        model_name=_TEXT,
        id=_TEXT,
        outputs={"type": "array", "items": _TENSOR},
    ),
}
HEADERS: Final[dict[str, Any]] = {
    "X-Amzn-SageMaker-Target-Model": _SHORT,
    "X-Amzn-SageMaker-Target-Container-Hostname": {"type": "string", "maxLength": 63},
    "X-Amzn-SageMaker-Target-Variant": {"type": "string", "maxLength": 63},
    "X-Amzn-SageMaker-Custom-Attributes": _SHORT,
    "X-Amzn-SageMaker-Inference-Id": {"type": "string", "maxLength": 64},
    "X-Amzn-SageMaker-Session-Id": {"type": "string", "maxLength": 256},
}
