"""A payload to the named, typed arrays that a model takes: ONNX, TensorFlow and torch all do.

Decisions: JSON comes as TensorFlow Serving reads it, `{"instances": [{"x": ..., "y": ...}, ...]}`
by rows or `{"inputs": {"x": ..., "y": ...}}` by inputs; a model of one input needs no name in it,
takes one instance without its brackets, and csv, npy and the like.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

import msgspec
import numpy as np

from loaders.codecs import Array, decode, read_json, read_jsonlines
from loaders.content_types import ContentType, read_content_type
from loaders.contract import BadPayload, Payload
from loaders.input_specs import EMPTY, Feed, InputSpec, check_shape, typed
from loaders.payload_faults import unreadable
from loaders.sparse import Gaps

_TYPED = ("json", "csv", "jsonlines", "npy")
_ROWS = (*_TYPED, "libsvm", "recordio-protobuf")
_UNREADABLE = (
    ArithmeticError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    csv.Error,
)
_SHOWN = 5


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a payload held."""

    feed: Feed
    by_input: bool = False  # it came as {"inputs": ...}


def read_inputs(payload: Payload, specs: Sequence[InputSpec]) -> Request:
    """Reads a payload for a model of these inputs.

    Raises:
        UnsupportedContentType: no type that is read here, or the body is not what its type says.
        BadPayload: empty, or not the inputs, types or shapes that the model takes.
    """
    if not payload.body or payload.body.isspace():
        raise BadPayload(EMPTY)
    main = main_input(specs)
    readable = _TYPED if main is None or main.width is None else _ROWS
    content_type = read_content_type(payload.content_type, readable, "json")
    try:
        request = _read(payload.body, content_type, specs, main)
    except _UNREADABLE as exc:
        raise unreadable(content_type.name, exc) from exc
    if main is not None and not request.by_input and len(request.feed) == 1:
        request = _as_instances(request.feed[main.name], content_type, main)
    for spec in specs:
        if spec.name in request.feed:
            check_shape(request.feed[spec.name], spec, content_type)
    return request


def main_input(specs: Sequence[InputSpec]) -> InputSpec | None:
    """The input that values without a name are for: the only one that must be given."""
    required = [spec for spec in specs if not spec.optional] or list(specs)
    return required[0] if len(required) == 1 else None


def _read(
    body: bytes, content_type: ContentType, specs: Sequence[InputSpec], main: InputSpec | None
) -> Request:
    if content_type.name in {"json", "jsonlines"} and (main is None or _names(body, specs, main)):
        body = body.decode(content_type.charset).encode()
        columns, by_input = _columns(_records(body, content_type), specs, main)
        by_name = {spec.name: spec for spec in specs}
        feed = {name: typed(values, by_name[name]) for name, values in columns.items()}
        return Request(feed=feed, by_input=by_input)
    if main is None:
        raise _nameless(specs)
    if content_type.name == "csv" and not main.plain:
        text = body.decode(content_type.charset).strip("\r\n")
        return Request(feed={main.name: typed(list(csv.reader(StringIO(text))), main)})
    array = decode(body, content_type, Gaps(width=main.width, absent=0.0))
    return Request(feed={main.name: typed(array, main)})


def _names(body: bytes, specs: Sequence[InputSpec], main: InputSpec) -> bool:
    """Whether JSON may hold more than rows of numbers, which have a faster way."""
    names = ("inputs", *(spec.name for spec in specs))
    return not main.plain or any(json.dumps(name).encode() in body for name in names)


def _records(body: bytes, content_type: ContentType) -> Any:  # noqa: ANN401 - what the client wrote
    if content_type.name == "json":
        try:
            return read_json(body)
        except ValueError:
            if b"\n" not in body.strip():
                raise
    return read_jsonlines(body)  # also sent as JSON


def _columns(
    records: Any,  # noqa: ANN401 - what the client wrote
    specs: Sequence[InputSpec],
    main: InputSpec | None,
) -> tuple[dict[str, Any], bool]:
    """The values of each input, and whether they came by input."""
    first = records[0] if isinstance(records, list) and records else None
    if not isinstance(first, dict) or set(first) == {"b64"}:
        return {_only(main, specs): records}, False
    if len(records) == 1 and "inputs" in first and set(first) <= {"inputs", "signature_name"}:
        values = first["inputs"]
        named = isinstance(values, dict) and "b64" not in values
        return _checked(values if named else {_only(main, specs): values}, specs, main), True
    columns = {name: [record[name] for record in records] for name in first}
    if any(len(record) != len(columns) for record in records):
        raise ValueError("the instances differ in their inputs")
    return _checked(columns, specs, main), False


def _only(main: InputSpec | None, specs: Sequence[InputSpec]) -> str:
    if main is None:
        raise _nameless(specs)
    return main.name


def _nameless(specs: Sequence[InputSpec]) -> BadPayload:
    names = ", ".join(spec.name for spec in specs[:_SHOWN])[:200]
    return BadPayload(
        f"Unable to evaluate payload provided: the model takes several inputs ({names}): send them "
        'by name as JSON, {"inputs": {...}} or {"instances": [{...}]}.'
    )


def _checked(
    columns: Mapping[str, Any], specs: Sequence[InputSpec], main: InputSpec | None
) -> dict[str, Any]:
    if main is not None and set(columns) == {"features"}:  # SageMaker's own name for a row
        return {main.name: columns["features"]}
    wanted = {spec.name for spec in specs if not spec.optional}
    if not wanted <= set(columns) <= {spec.name for spec in specs}:
        named = ", ".join(spec.name for spec in specs)[:200]
        given = ", ".join(map(str, list(columns)[:_SHOWN]))[:200]
        raise BadPayload(
            f"Unable to evaluate payload provided: the model's inputs are {named}; given: {given}."
        )
    return dict(columns)


def _as_instances(array: Array, content_type: ContentType, spec: InputSpec) -> Request:
    """Gives one instance that came without brackets its own, and a column of csv no second ones."""
    if spec.shape is not None:
        if content_type.name == "csv" and len(spec.shape) == 1 and array.shape[1] == 1:
            array = array.ravel()
        elif array.ndim == len(spec.shape) - 1:
            array = array[np.newaxis]
    return Request(feed={spec.name: array})
