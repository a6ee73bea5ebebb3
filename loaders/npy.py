"""Reads .npy trusting nothing: numpy's own reader evaluates the header and allocates at its word.

Decisions: heads are read and written once for all arrays of a kind. In come only plain
numbers (booleans, integers, floats); objects, strings, records and complex numbers are refused, and
so is a body that holds more or less than its header says.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from io import BytesIO
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

_MAGIC = b"\x93NUMPY"
_HEADER_BYTES = 10_000
_DTYPE = re.compile(rb"""['"]descr['"]\s*:\s*['"]([<>|=]?[biuf]\d{1,2})['"]""")
_FORTRAN = re.compile(rb"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(rb"""['"]shape['"]\s*:\s*\(([\d\s,]*)\)""")


def decode_npy(body: bytes) -> NDArray[Any]:
    """Reads one array, in the machine's byte order; the result is read-only.

    Raises:
        ValueError: no such file, not of numbers, or not of the length it promises.
    """
    header, start = _header(body)
    kind, sizes, order = _layout(header)
    content_bytes = len(body) - start
    if math.prod(sizes) * kind.itemsize != content_bytes:
        raise ValueError(f"{content_bytes} bytes do not make an array of shape {sizes}")
    array = np.frombuffer(body[start:], dtype=kind).reshape(sizes, order=order)
    return np.ascontiguousarray(array, dtype=kind.newbyteorder("=")).reshape(sizes)


@lru_cache(maxsize=256)  # a model's clients send the same few
def _layout(header: bytes) -> tuple[np.dtype[Any], tuple[int, ...], Literal["C", "F"]]:
    dtype, fortran, shape = (pattern.search(header) for pattern in (_DTYPE, _FORTRAN, _SHAPE))
    if dtype is None or fortran is None or shape is None:
        raise ValueError("not a plain array of numbers")
    kind = np.dtype(dtype[1].decode())  # TypeError where there is no such type, e.g. f3
    sizes = tuple(int(size) for size in shape[1].split(b",") if size.strip())
    return kind, sizes, "F" if fortran[1] == b"True" else "C"


@lru_cache(maxsize=256)
def npy_head(kind: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What stands before the bytes of an array of plain numbers, row by row."""
    head = BytesIO()
    described = {"descr": kind.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(head, described)
    return head.getvalue()


def _header(body: bytes) -> tuple[bytes, int]:
    if not body.startswith(_MAGIC) or len(body) < len(_MAGIC) + 4:
        raise ValueError("not an npy file")
    size_bytes = {1: 2, 2: 4}.get(body[6])
    if size_bytes is None:
        raise ValueError(f"npy version {body[6]} is not read here")
    start = 8 + size_bytes
    length = int.from_bytes(body[8:start], "little")
    if length > _HEADER_BYTES or len(body) < start + length:
        raise ValueError("npy header is cut short or too long")
    return body[start : start + length], start + length
