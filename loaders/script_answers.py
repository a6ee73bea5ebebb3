"""What a script sees of a request, and what becomes of what it returns.

Decisions: text/csv and application/json bodies reach a script as text whatever parameters their
type has, and their type without them; SageMaker's toolkit compares whole headers, so that
`text/csv; charset=utf-8` fails there. Every other body stays bytes, and its type as received. Of
an Accept list a script gets the first. The context has all headers whole.
"""

from __future__ import annotations

import os
from typing import Any

from loaders.contract import (
    Answer,
    Payload,
    PredictionRaised,
    ScriptFault,
    UnsupportedContentType,
)
from loaders.script_context import CUSTOM_ATTRIBUTES, Context
from loaders.script_defaults import default_output

ERRORS = range(400, 600)
_TEXT_TYPES = frozenset({"text/csv", "application/json"})
_DEFAULT_TYPE = "application/json"
_OPERATORS_CHOICE = "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT"


def body_for_script(payload: Payload) -> tuple[bytes | str, str]:
    """The body and its type as a script gets them. Raises UnsupportedContentType: not text."""
    header = payload.content_type or _DEFAULT_TYPE
    media_type, *parameters = header.split(";")
    if media_type.strip().lower() not in _TEXT_TYPES:
        return payload.body, header
    pairs = (parameter.partition("=") for parameter in parameters)
    charset = next((v.strip(' "') for k, _, v in pairs if k.strip().lower() == "charset"), "utf-8")
    try:
        return payload.body.decode(charset), media_type.strip().lower()
    except (UnicodeDecodeError, LookupError) as exc:
        raise UnsupportedContentType(f"The body is not text in {charset[:40]}: {exc}") from exc


def asked_accept(payload: Payload) -> str:
    """The first type of the list, without parameters; the operator's choice for a wildcard."""
    for header in (payload.accept, os.environ.get(_OPERATORS_CHOICE)):
        media_type = (header or "").split(",")[0].split(";")[0].strip()
        if media_type and not media_type.endswith("/*"):
            return media_type
    return _DEFAULT_TYPE


def as_answer(output: object, accept: str, context: Context) -> Answer:
    """What a script returned, as the answer to its client.

    Raises:
        ScriptFault: the script has set a status that is an error.
        ModelFault: what it returned can't be written.
    """
    answer = _written(output, context.get_response_content_type() or accept)
    if context.status in ERRORS:
        raise ScriptFault(answer.body.decode(errors="replace"), context.status)
    attributes = context.get_response_header(CUSTOM_ATTRIBUTES)
    for header in (answer.content_type, attributes or ""):
        if not (header.isascii() and header.isprintable()):
            raise PredictionRaised(f"The script set a header that can't be sent: {header[:80]!a}")
    return Answer(answer.body, answer.content_type, attributes)


def _written(output: Any, content_type: str) -> Answer:  # noqa: ANN401 - whatever a script returns
    if isinstance(output, Answer):
        return output
    if hasattr(output, "get_data") and hasattr(output, "mimetype"):  # Flask's Response
        return Answer(output.get_data(), output.mimetype)
    if isinstance(output, tuple) and len(output) == 2 and isinstance(output[1], str):  # noqa: PLR2004 - (body, type)
        return _written(*output)
    if isinstance(output, str):
        return Answer(output.encode(), content_type)
    if isinstance(output, (bytes, bytearray, memoryview)):
        return Answer(bytes(output), content_type)
    if output is None:
        raise PredictionRaised("The script answered with None: does its function return?")
    return default_output(output, content_type)
