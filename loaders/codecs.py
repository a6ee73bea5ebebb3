"""Bodies to arrays and back: csv, json, jsonlines and npy (libsvm needs a width: `libsvm.py`).

Decisions: text becomes float32, which is what the frameworks compute in; npy keeps its own type.
An empty csv cell and a JSON null are NaN, i.e. missing; a number in quotes is a number. A csv of
plain numbers is read by the JSON parser, four times as fast as float() a cell; what is not quite
JSON takes the slow way. NaN is written as null in JSON, which has no NaN.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from loaders.content_types import ContentType
from loaders.contract import BadPayload, UnsupportedContentType
from loaders.npy import decode_npy

Array = NDArray[Any]
Decoder = Callable[[bytes], Array]
Encoder = Callable[[Array], bytes]

_NUMBERS = msgspec.json.Decoder(list[float])
_ANYTHING = msgspec.json.Decoder()
_UNREADABLE = (ValueError, TypeError, LookupError, OverflowError, RecursionError, MemoryError)
_REASON_CHARACTERS = 200


def decode(body: bytes, content_type: ContentType) -> Array:
    """Reads a body as the array it holds, of any dimension.

    Raises:
        UnsupportedContentType: it can't be read as what it says it is.
    """
    try:
        return DECODERS[content_type.name](as_utf8(body, content_type))
    except _UNREADABLE as exc:
        raise unreadable(content_type.name, exc) from exc


def as_utf8(body: bytes, content_type: ContentType) -> bytes:
    """Re-codes a text that came in another charset."""
    if content_type.charset.startswith("utf") and content_type.charset != "utf-16":
        return body
    return body.decode(content_type.charset).encode()


def unreadable(name: str, reason: object) -> UnsupportedContentType:
    """The fault for a body that is not what its type says, in the XGBoost image's words."""
    shown = str(reason)[:_REASON_CHARACTERS] or type(reason).__name__
    return UnsupportedContentType(
        f"Loading {name} data failed with Exception, "
        f"please ensure data is in {name} format: {shown}"
    )


def feature_mismatch(name: str, given: int, trained: int) -> BadPayload:
    """The fault for a wrong number of features, in the XGBoost image's words."""
    return BadPayload(
        f"Unable to evaluate payload provided: Feature size of {name} inference data {given} "
        f"is not consistent with feature size of trained model {trained}."
    )


def as_float32(array: Array) -> Array:
    """Converts to float32; what is too large becomes infinite, without a warning."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def decode_csv(body: bytes) -> Array:
    """Reads rows of numbers; one line is one row. No header, no quotes."""
    body = body.strip(b" \r\n")
    lines = body.split(b"\n")
    delimiter = _delimiter(lines[0])
    commas = lines[0].count(delimiter)
    for number, line in enumerate(lines, 1):
        if line.count(delimiter) != commas:
            cells_found = line.count(delimiter) + 1
            raise ValueError(f"line {number} has {cells_found} cells, the first has {commas + 1}")
    cells = body.replace(b"\n", b",")
    if delimiter != b",":
        cells = cells.replace(delimiter, b",")
    try:
        numbers = _NUMBERS.decode(b"[" + cells + b"]")
    except msgspec.MsgspecError:
        numbers = [_number(cell) for cell in cells.decode().split(",")]
    return _array(numbers).reshape(len(lines), commas + 1)


def _delimiter(line: bytes) -> bytes:
    if b"," in line:
        return b","
    line = line.strip()
    return next((sign for sign in (b";", b"\t", b"|", b" ") if sign in line), b",")


def _number(cell: str) -> float:
    if "_" in cell:  # float() reads 1_000 as a thousand
        raise ValueError(f"could not convert string to float: {cell[:40]!r}")
    return float(cell) if cell.strip() else np.nan


def decode_json(body: bytes) -> Array:
    """Reads `[...]`, `[[...]]`, `[{"features": [...]}]`, or these as `{"instances": ...}`."""
    try:
        document = _ANYTHING.decode(body)
    except msgspec.MsgspecError:
        document = json.loads(body)  # knows NaN and Infinity, which Python's own clients write
    if isinstance(document, dict):
        document = document.get("instances", [document])
    return _array(_features(document))


def decode_jsonlines(body: bytes) -> Array:
    """Reads one record a line: `[...]` or `{"features": [...]}`."""
    try:
        records = _ANYTHING.decode_lines(body)
    except msgspec.MsgspecError:
        records = [json.loads(line) for line in body.splitlines() if line.strip()]
    return _array(_features(records))


def _features(records: object) -> object:
    if isinstance(records, list) and records and isinstance(records[0], dict):
        if not all(isinstance(record, dict) and "features" in record for record in records):
            raise ValueError('an object must be {"instances": [...]} or {"features": [...]}')
        return [record["features"] for record in records]
    return records


def _array(numbers: object) -> Array:
    with np.errstate(over="ignore"):
        return np.array(numbers, dtype=np.float32)  # named, or one long text would size every cell


DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {"csv": decode_csv, "json": decode_json, "jsonlines": decode_jsonlines, "npy": decode_npy}
)


def encode_csv(array: Array) -> bytes:
    """Writes a row a line, however many dimensions a row has; every line ends."""
    rows = np.atleast_1d(array)
    lines = (",".join(map(str, row.ravel().tolist())) for row in rows.reshape(len(rows), -1))
    return "".join(f"{line}\n" for line in lines).encode()


def encode_json(array: Array) -> bytes:
    """Writes the nested list, bare."""
    return msgspec.json.encode(array.tolist())


def encode_jsonlines(array: Array) -> bytes:
    """Writes a row a line: a number or a list."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in np.atleast_1d(array).tolist())


def encode_npy(array: Array) -> bytes:
    """Writes numpy's own format."""
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


ENCODERS: Mapping[str, Encoder] = MappingProxyType(
    {"json": encode_json, "csv": encode_csv, "jsonlines": encode_jsonlines, "npy": encode_npy}
)
