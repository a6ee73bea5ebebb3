"""Bodies to arrays and back, by format; what is more than a few lines has a file of its own.

Decisions: text becomes float64 and each model takes what it computes in; npy keeps its own type.
An empty csv cell and a JSON null are NaN, i.e. missing; a number in quotes is a number. A csv of
plain numbers is read by the JSON parser, four times as fast as float() a cell; what is not quite
JSON takes the slow way. NaN is written as null in JSON, which has no NaN.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from io import BytesIO
from types import MappingProxyType
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import DTypeLike, NDArray

from loaders.content_types import ContentType
from loaders.libsvm import decode_libsvm
from loaders.npy import decode_npy, npy_head
from loaders.payload_faults import unreadable
from loaders.recordio import decode_recordio, encode_recordio
from loaders.sparse import MISSING, Gaps, SparseRow, as_table

Array = NDArray[Any]
Decoder = Callable[[bytes, Gaps], Array]
Encoder = Callable[[Array], bytes]

_NUMBERS = msgspec.json.Decoder(list[float])
_ANYTHING = msgspec.json.Decoder()
_TO_JSON = msgspec.json.Encoder()
_Key = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]
UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    RecursionError,
    MemoryError,
    msgspec.MsgspecError,
)
_BINARY = frozenset({"npy", "recordio-protobuf"})


def decode(
    body: bytes,
    content_type: ContentType,
    gaps: Gaps = MISSING,
    decoders: Mapping[str, Decoder] | None = None,
) -> Array:
    """Reads a body as the array it holds, of any dimension.

    Args:
        body: at most as many bytes as the server lets in.
        content_type: what it was sent as.
        gaps: what to make of rows that name only some of their features.
        decoders: other ways to read some formats than those of DECODERS.

    Raises:
        UnsupportedContentType: it can't be read as what it says it is.
        BadPayload: as a table it would be too large, or (libsvm) wider than the model.
    """
    try:
        return (decoders or DECODERS)[content_type.name](_as_utf8(body, content_type), gaps)
    except UNREADABLE as exc:
        raise unreadable(content_type.name, exc) from exc


def _as_utf8(body: bytes, content_type: ContentType) -> bytes:
    """Re-codes a text that came in another charset."""
    if content_type.name in _BINARY:
        return body
    if content_type.charset.startswith("utf") and content_type.charset != "utf-16":
        return body
    return body.decode(content_type.charset).encode()


def as_floats(array: Array, kind: DTypeLike) -> Array:
    """Converts numbers to `kind`; what is too large becomes infinite, without a warning."""
    with np.errstate(over="ignore"):
        return array.astype(kind, copy=False)


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


def decode_json(body: bytes, gaps: Gaps = MISSING) -> Array:
    """Reads `[...]`, `[[...]]`, records as `_row` has them, or these as `{"instances": ...}`."""
    return _features(read_json(body), gaps)


def decode_jsonlines(body: bytes, gaps: Gaps = MISSING) -> Array:
    """Reads one record a line: `[...]`, or as `_row` has them."""
    return _features(read_jsonlines(body), gaps)


def read_json(body: bytes) -> Any:  # noqa: ANN401 - whatever the client wrote
    """Reads a document, without `{"instances": ...}` around it."""
    try:
        document = _ANYTHING.decode(body)
    except msgspec.MsgspecError:
        document = json.loads(body)  # knows NaN and Infinity, which Python's own clients write
    if isinstance(document, dict):
        document = document.get("instances", [document])
    return document


def read_jsonlines(body: bytes) -> list[Any]:
    """Reads a document a line."""
    try:
        return _ANYTHING.decode_lines(body)
    except msgspec.MsgspecError:
        return [json.loads(line) for line in body.splitlines() if line.strip()]


def _features(records: object, gaps: Gaps) -> Array:
    if not (isinstance(records, list) and records and isinstance(records[0], dict)):
        return _array(records)
    rows = [_row(record) for record in records]
    if all(isinstance(row, list) for row in rows):
        return _array(rows)
    return as_table([_sparse(row) for row in rows], gaps)


def _row(record: object) -> object:
    """Takes the row out of `{"features": ROW}` or `{"data": {"features": ROW}}`."""
    if isinstance(record, dict) and isinstance(record.get("data"), dict):
        record = record["data"]
    if not isinstance(record, dict) or "features" not in record:
        raise ValueError('an object must be {"instances": [...]} or {"features": [...]}')
    return record["features"]


def _sparse(row: object) -> SparseRow:
    """Reads `[...]`, `{"values": [...]}` or `{"values": [...], "keys": [...], "shape": [...]}`."""
    if not isinstance(row, dict):
        return SparseRow(values=_array(row).ravel())
    values = _array(row["values"]).ravel()
    if "keys" not in row:
        return SparseRow(values=values)
    keys = np.array(msgspec.convert(row["keys"], list[_Key]), dtype=np.uint64)
    shape = msgspec.convert(row.get("shape", []), list[_Key])
    return SparseRow(values=values, keys=keys, width=shape[-1] if shape else None)


def _array(numbers: object) -> Array:
    return np.array(numbers, dtype=np.float64)  # named, or one long text would size every cell


DECODERS: Mapping[str, Decoder] = MappingProxyType(
    {
        "csv": lambda body, _: decode_csv(body),
        "json": decode_json,
        "jsonlines": decode_jsonlines,
        "libsvm": decode_libsvm,
        "npy": lambda body, _: decode_npy(body),
        "recordio-protobuf": decode_recordio,
    }
)


def encode_csv(array: Array) -> bytes:
    """Writes a row a line, however many dimensions a row has; every line ends."""
    if array.ndim and len(array) == 1:
        return csv_line(array) + b"\n"
    rows = np.atleast_1d(array)
    return b"".join(csv_line(row) + b"\n" for row in rows.reshape(len(rows), -1))


def csv_line(array: Array) -> bytes:
    """Writes every cell as Python would, in order, between commas."""
    cells = array.ravel().tolist()
    if array.dtype.kind in "fiu":  # the JSON writer is eight times as fast
        line = _TO_JSON.encode(cells)[1:-1]
        if not (b"e" in line or b"n" in line or b"0.0000" in line):
            return line  # without 1e-7, null and 0.00001, which are 1e-07, nan and 1e-05 to Python
    return ",".join(map(str, cells)).encode()


def encode_json(array: Array) -> bytes:
    """Writes the nested list, bare."""
    return _TO_JSON.encode(array.tolist())


def encode_jsonlines(array: Array) -> bytes:
    """Writes a row a line: a number or a list."""
    return b"".join(msgspec.json.encode(row) + b"\n" for row in np.atleast_1d(array).tolist())


def encode_npy(array: Array) -> bytes:
    """Writes numpy's own format, without pickles: texts as texts."""
    if array.dtype.kind in "biuf" and array.flags.c_contiguous:
        return npy_head(array.dtype, array.shape) + array.tobytes()
    if array.dtype == object:
        array = np.array(array.tolist())
    buffer = BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


ENCODERS: Mapping[str, Encoder] = MappingProxyType(
    {
        "json": encode_json,
        "csv": encode_csv,
        "jsonlines": encode_jsonlines,
        "npy": encode_npy,
        "recordio-protobuf": encode_recordio,
    }
)
