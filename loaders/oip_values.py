"""The Open Inference Protocol's values <-> flat arrays: JSON's numbers and texts, or bytes.

Decision: a text that is no UTF-8 is {"b64": ...} among texts, as TensorFlow Serving's clients send
it; on the wire of this protocol it is the bytes themselves.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import numpy as np

from loaders.codecs import Array
from loaders.contract import BadPayload
from loaders.signatures import DTYPES, datatype_of

_LENGTH_BYTES = 4
_TAKEN = {"b": "b", "i": "iu", "u": "iu", "f": "iuf"}  # the kinds of JSON's values a kind takes


def read_values(data: Any, datatype: str) -> Array:  # noqa: ANN401 - what the client wrote
    """JSON's values, flat or nested. Raises ValueError, TypeError or OverflowError."""
    if not isinstance(data, list):
        raise ValueError("data must be a list")  # noqa: TRY004 - one kind of error for the caller
    if datatype == "BYTES":
        texts = np.array(data, dtype=object).ravel()
        if not all(isinstance(text, str) for text in texts):
            raise ValueError("BYTES must be texts")
        return texts
    if datatype == "FP16":
        raise ValueError("FP16 can't be in JSON: send it as a binary tensor")
    dtype, given = _dtype(datatype), np.array(data).ravel()
    if given.size and given.dtype.kind not in _TAKEN[dtype.kind]:
        raise ValueError(f"data must be {datatype}")
    with np.errstate(all="ignore"):  # what is too large for a float becomes infinite
        array = given.astype(dtype)
    if dtype.kind in "iu" and not (array == given).all():
        raise ValueError(f"a value is no {datatype}")
    return array


def read_binary(data: memoryview, datatype: str) -> Array:
    """The bytes of one tensor. Raises ValueError."""
    if datatype == "BYTES":
        return _read_texts(data)
    dtype = _dtype(datatype)
    if dtype.kind == "b":  # any byte but zero is true
        return np.frombuffer(data, dtype=np.uint8).astype(np.bool_)
    return np.frombuffer(data, dtype=dtype.newbyteorder("<")).astype(dtype, copy=False)


def write_values(array: Array) -> list[Any]:
    """Flat values for JSON. Raises BadPayload for what JSON does not hold."""
    kind = datatype_of(array.dtype)
    if kind == "FP16":
        raise BadPayload("The output is FP16, which JSON has not: ask for binary_data.")
    if kind != "BYTES":
        values: list[Any] = array.ravel().tolist()
        return values
    try:
        return [_as_bytes(cell).decode() for cell in array.ravel()]
    except UnicodeDecodeError:
        raise BadPayload("The output is no UTF-8 text: ask for binary_data.") from None


def write_binary(array: Array) -> bytes:
    """One tensor's bytes."""
    if datatype_of(array.dtype) != "BYTES":
        return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    cells = [_as_bytes(cell) for cell in array.ravel()]
    return b"".join(len(cell).to_bytes(_LENGTH_BYTES, "little") + cell for cell in cells)


def _dtype(datatype: str) -> np.dtype[Any]:
    if datatype not in DTYPES:
        raise ValueError(f"datatype {datatype[:40]} is not one of {', '.join(DTYPES)}, BYTES")
    return np.dtype(DTYPES[datatype])


def _read_texts(data: memoryview) -> Array:
    texts: list[str | dict[str, str]] = []
    start = 0
    while start < len(data):
        begin = start + _LENGTH_BYTES
        start = begin + int.from_bytes(data[start:begin], "little")
        if begin > len(data) or start > len(data):
            raise ValueError("BYTES are cut short")
        texts.append(_as_text(bytes(data[begin:start])))
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _as_text(cell: bytes) -> str | dict[str, str]:
    try:
        return cell.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(cell).decode()}


def _as_bytes(cell: Any) -> bytes:  # noqa: ANN401 - what a model gave
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        return cell.encode()
    if isinstance(cell, dict) and set(cell) == {"b64"}:
        return base64.b64decode(cell["b64"])
    return msgspec.json.encode(
        cell, enc_hook=_plain
    )  # maps and lists: a classifier's probabilities


def _plain(value: Any) -> Any:  # noqa: ANN401 - a number of numpy's
    return value.item()
