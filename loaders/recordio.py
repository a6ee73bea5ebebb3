"""SageMaker's recordio-protobuf: a body is records, a record is a row of features or an answer.

Decisions: of a record in, the features called "values" are read and its labels are not. A record
out has a label for every part of the answer, and holds this row only: SageMaker's XGBoost image
repeats all rows before it in every record, of which readers of repeated fields see the sum. Long
records cut into parts, which MXNet writes and SageMaker's own reader does not join, are refused.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.protobuf_wire import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    Fields,
    merged,
    read_fields,
    read_varints,
    repeated,
    write_field,
    write_varints,
)
from loaders.sparse import MISSING, Gaps, SparseRow, as_table

_HEAD = struct.Struct("<II")
_MAGIC = 0xCED7230A
_LENGTH_LIMIT_BYTES = 1 << 29  # the bits above say which part of a long record this is
_FLOAT32, _FLOAT64, _INT32, _TEXT = 2, 3, 7, 9  # fields of Value, one of which it has
_FEATURES, _LABEL = 1, 2  # fields of Record, maps
_INT32_RANGE = np.iinfo(np.int32)


def decode_recordio(body: bytes, gaps: Gaps = MISSING) -> NDArray[Any]:
    """Reads a row a record; numbers keep their type where no row has gaps.

    Raises:
        ValueError: it is no recordio, or its records make no table.
        BadPayload: as a table it would be too large.
    """
    rows = [_read_row(record) for record in _split(memoryview(body))]
    if not rows:
        raise ValueError("no record in it")
    return as_table(rows, gaps)


def _split(body: memoryview) -> Iterator[memoryview]:
    position = 0
    while position < len(body):
        if len(body) - position < _HEAD.size:
            raise ValueError("a record's head is cut short")
        magic, length = _HEAD.unpack_from(body, position)
        if magic != _MAGIC:
            raise ValueError(f"no record at byte {position}")
        if length >= _LENGTH_LIMIT_BYTES:
            raise ValueError("a record in parts is not read here")
        start = position + _HEAD.size
        if start + length > len(body):
            raise ValueError("a record is cut short")
        yield body[start : start + length]
        position = start + length + -length % 4  # the last one's padding may be left out


def _read_row(record: memoryview) -> SparseRow:
    value = None
    for entry in read_fields(record).get((_FEATURES, BYTES), ()):
        fields = read_fields(entry)
        if bytes(merged(fields, 1) or b"") == b"values":
            value = merged(fields, 2)  # of two entries of one name, the later counts
    kinds = read_fields(value) if value is not None else {}
    found = [kind for kind in (_FLOAT32, _FLOAT64, _INT32) if (kind, BYTES) in kinds]
    if len(found) != 1:
        raise ValueError('a record needs features called "values", all of one type of number')
    tensor = read_fields(merged(kinds, found[0]) or memoryview(b""))
    return _as_row(_read_values(tensor, found[0]), tensor)


def _read_values(tensor: Fields, kind: int) -> NDArray[Any]:
    if kind == _INT32:
        wide = read_varints(repeated(tensor, 1, VARINT))
        return wide.astype(np.uint32).view(np.int32)
    wire_type, form = (FIXED32, "<f4") if kind == _FLOAT32 else (FIXED64, "<f8")
    return np.frombuffer(repeated(tensor, 1, wire_type), dtype=form)


def _as_row(values: NDArray[Any], tensor: Fields) -> SparseRow:
    keys = read_varints(repeated(tensor, 2, VARINT))
    shape = read_varints(repeated(tensor, 3, VARINT))
    if not len(keys) and (len(values) or not len(shape)):
        return SparseRow(values=values)
    return SparseRow(values=values, keys=keys, width=int(shape[-1]) if len(shape) else None)


def encode_recordio(array: NDArray[Any]) -> bytes:
    """Writes a record a row, which holds the row's numbers as the label "score"."""
    return write_records({"score": row} for row in np.atleast_1d(array))


def write_records(rows: Iterator[Mapping[str, NDArray[Any]]]) -> bytes:
    """Writes a record a row; each holds what the row's names stand for as labels."""
    return b"".join(map(_write_record, rows))


def _write_record(labels: Mapping[str, NDArray[Any]]) -> bytes:
    record = b"".join(
        write_field(_LABEL, write_field(1, name.encode()) + write_field(2, _write_value(values)))
        for name, values in labels.items()
    )
    return _HEAD.pack(_MAGIC, len(record)) + record + bytes(-len(record) % 4)


def _write_value(values: NDArray[Any]) -> bytes:
    flat = np.asarray(values).ravel()
    if flat.dtype.kind in "USO":
        return write_field(_TEXT, b"".join(write_field(1, str(text).encode()) for text in flat))
    if flat.dtype.kind in "biu" and _fits_int32(flat):
        return write_field(_INT32, write_field(1, write_varints(flat.tolist())))
    if flat.dtype == np.float64 or flat.dtype.kind in "iu":
        return write_field(_FLOAT64, write_field(1, flat.astype("<f8").tobytes()))
    return write_field(_FLOAT32, write_field(1, flat.astype("<f4").tobytes()))


def _fits_int32(flat: NDArray[Any]) -> bool:
    return not flat.size or bool(_INT32_RANGE.min <= flat.min() <= flat.max() <= _INT32_RANGE.max)
