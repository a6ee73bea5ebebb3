"""A payload to the named, typed arrays that a model takes: ONNX, TensorFlow and torch all do.

Decisions: JSON comes as TensorFlow Serving reads it, `{"instances": [{"x": ..., "y": ...}, ...]}`
by rows or `{"inputs": {"x": ..., "y": ...}}` by inputs; a model of one input needs no name in it,
takes one instance without its brackets, and csv, npy and the like. Values become the type that
the model declares, and never another number on the way: 1.5 is no integer, a text is no number.
"""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from loaders.codecs import Array, decode, read_json, read_jsonlines
from loaders.content_types import ContentType, read_content_type
from loaders.contract import BadPayload, Payload
from loaders.payload_faults import feature_mismatch, unreadable
from loaders.sparse import Gaps

Feed = dict[str, Array]
TEXT = np.dtype(object)
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
_EMPTY = "Unable to evaluate payload provided: it is empty."
_SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class InputSpec:
    """One input, as far as the model declares it."""

    name: str
    dtype: np.dtype[Any] | None = None  # TEXT for strings; None: not declared, numbers of any kind
    shape: tuple[int | None, ...] | None = None  # None: any; a None in it: that dimension is free
    optional: bool = False
    binary: bool = False  # a TEXT that also comes as {"b64": "..."}

    @property
    def width(self) -> int | None:
        """Features a row, where this is a table of numbers that says so."""
        table = self.plain and self.shape is not None and len(self.shape) == 2  # noqa: PLR2004
        return self.shape[1] if self.shape and table else None

    @property
    def plain(self) -> bool:
        """Takes any number, so that all row formats can be read."""
        return self.dtype is None or self.dtype.kind == "f"


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
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
        raise BadPayload(_EMPTY)
    only = specs[0] if len(specs) == 1 else None
    readable = _TYPED if only is None or only.width is None else _ROWS
    content_type = read_content_type(payload.content_type, readable, "json")
    try:
        request = _read(payload.body, content_type, specs)
    except _UNREADABLE as exc:
        raise unreadable(content_type.name, exc) from exc
    if len(specs) == 1:
        request = _as_instances(request, content_type, specs[0])
    for spec in specs:
        if spec.name in request.feed:
            _check_shape(request.feed[spec.name], spec, content_type)
    return request


def _read(body: bytes, content_type: ContentType, specs: Sequence[InputSpec]) -> Request:
    named_format = content_type.name in {"json", "jsonlines"}
    if len(specs) == 1:
        [spec] = specs
        named = named_format and (b'"inputs"' in body or json.dumps(spec.name).encode() in body)
        if content_type.name == "npy" or (spec.plain and not named):
            array = decode(body, content_type, Gaps(width=spec.width, absent=0.0))
            return Request(feed={spec.name: _typed(array, spec)})
        if content_type.name == "csv":
            text = body.decode(content_type.charset).strip("\r\n")
            rows = list(csv.reader(StringIO(text, newline="")))
            return Request(feed={spec.name: _typed(rows, spec)})
    elif not named_format:
        raise _nameless(specs)
    body = body.decode(content_type.charset).encode()
    columns, by_input = _columns(_records(body, content_type), specs)
    by_name = {spec.name: spec for spec in specs}
    feed = {name: _typed(values, by_name[name]) for name, values in columns.items()}
    return Request(feed=feed, by_input=by_input)


def _records(body: bytes, content_type: ContentType) -> Any:  # noqa: ANN401 - what the client wrote
    if content_type.name == "json":
        try:
            return read_json(body)
        except ValueError:
            if b"\n" not in body.strip():
                raise
    return read_jsonlines(body)  # also sent as JSON


def _columns(records: Any, specs: Sequence[InputSpec]) -> tuple[dict[str, Any], bool]:  # noqa: ANN401
    """The values of each input, and whether they came by input."""
    first = records[0] if isinstance(records, list) and records else None
    if not isinstance(first, dict) or set(first) == {"b64"}:
        return {_only(specs): records}, False
    if len(records) == 1 and "inputs" in first and set(first) <= {"inputs", "signature_name"}:
        values = first["inputs"]
        named = isinstance(values, dict) and "b64" not in values
        return _checked(values if named else {_only(specs): values}, specs), True
    columns = {name: [record[name] for record in records] for name in first}
    if any(len(record) != len(columns) for record in records):
        raise ValueError("the instances differ in their inputs")
    return _checked(columns, specs), False


def _only(specs: Sequence[InputSpec]) -> str:
    if len(specs) > 1:
        raise _nameless(specs)
    return specs[0].name


def _nameless(specs: Sequence[InputSpec]) -> BadPayload:
    names = ", ".join(spec.name for spec in specs[:_SHOWN])[:200]
    return BadPayload(
        f"Unable to evaluate payload provided: the model takes several inputs ({names}): send them "
        'by name as JSON, {"inputs": {...}} or {"instances": [{...}]}.'
    )


def _checked(columns: Mapping[str, Any], specs: Sequence[InputSpec]) -> dict[str, Any]:
    if len(specs) == 1 and set(columns) == {"features"}:  # SageMaker's own name for a row
        return {specs[0].name: columns["features"]}
    wanted = {spec.name for spec in specs if not spec.optional}
    if not wanted <= set(columns) <= {spec.name for spec in specs}:
        named = ", ".join(spec.name for spec in specs)[:200]
        given = ", ".join(map(str, list(columns)[:_SHOWN]))[:200]
        raise BadPayload(
            f"Unable to evaluate payload provided: the model's inputs are {named}; given: {given}."
        )
    return dict(columns)


def _typed(values: Any, spec: InputSpec) -> Array:  # noqa: ANN401 - JSON, or an array
    """Converts to the declared type; raises BadPayload where that would change a value."""
    with np.errstate(all="ignore"):  # what is too large for a float becomes infinite
        if spec.dtype is None:  # an array has its own type already
            return values if isinstance(values, np.ndarray) else np.array(values, np.float64)
        if spec.dtype == TEXT:
            return _texts(values, spec)
        array = np.array(values, dtype=spec.dtype)
        if spec.dtype.kind != "f":
            same = array.astype(np.float64) == np.array(values, dtype=np.float64)
            if not same.all():
                raise _mistyped(spec)
        return array


def _texts(values: Any, spec: InputSpec) -> Array:  # noqa: ANN401 - JSON, or an array
    array = np.array(values, dtype=object)
    cells = array.ravel()
    for position, cell in enumerate(cells):
        if spec.binary and isinstance(cell, dict) and set(cell) == {"b64"}:
            cells[position] = base64.b64decode(cell["b64"], validate=True)
        elif not isinstance(cell, str):
            raise _mistyped(spec)
    return cells.reshape(array.shape)


def _mistyped(spec: InputSpec) -> BadPayload:
    wanted = "text" if spec.dtype == TEXT else spec.dtype
    return BadPayload(
        f"Unable to evaluate payload provided: a value of input {spec.name} is no {wanted}."
    )


def _as_instances(request: Request, content_type: ContentType, spec: InputSpec) -> Request:
    """Gives one instance that came without brackets its own, and a column of csv no second ones."""
    array = request.feed[spec.name]
    if spec.shape is None or request.by_input:
        return request
    if content_type.name == "csv" and len(spec.shape) == 1 and array.shape[1] == 1:
        array = array.ravel()
    elif array.ndim == len(spec.shape) - 1:
        array = array[np.newaxis]
    return Request(feed={spec.name: array})


def _check_shape(array: Array, spec: InputSpec, content_type: ContentType) -> None:
    if not array.size:
        raise BadPayload(_EMPTY)
    if spec.shape is None:
        return
    pairs = list(zip(spec.shape, array.shape, strict=False))
    if array.ndim == len(spec.shape) and all(want in {None, got} for want, got in pairs):
        return
    if spec.width is not None and array.ndim == len(spec.shape) and spec.shape[0] is None:
        raise feature_mismatch(content_type.name, array.shape[1], spec.width)
    wanted = ", ".join("any" if size is None else str(size) for size in spec.shape)
    raise BadPayload(
        f"Unable to evaluate payload provided: input {spec.name} is of shape [{wanted}], given "
        f"{list(array.shape)}."
    )
