"""Protobuf's wire format, as much of it as records of numbers need: messages <-> raw fields.

Decision: our own sixty lines instead of the protobuf package, whose versions TensorFlow, ONNX and
the clients pin against each other, and which would have to be in every worker. A field is a slice
of its message until somebody wants numbers; groups, which proto3 has dropped, are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED_SIZES = {FIXED64: 8, FIXED32: 4}
_VARINT_BYTES = 10

Fields = Mapping[tuple[int, int], list[memoryview]]


def read_fields(message: memoryview) -> Fields:
    """Splits a message: field number and wire type -> every raw value, in order.

    Raises:
        ValueError: it is no message, or cut short.
    """
    found: dict[tuple[int, int], list[memoryview]] = {}
    position, end = 0, len(message)
    while position < end:
        tag, start = _read_varint(message, position)
        wire_type = tag & 7
        if wire_type == BYTES:
            length, start = _read_varint(message, start)
            position = start + length
        elif wire_type == VARINT:
            _, position = _read_varint(message, start)
        elif wire_type in _FIXED_SIZES:
            position = start + _FIXED_SIZES[wire_type]
        else:
            raise ValueError(f"wire type {wire_type} is not read here")
        if position > end or tag < 8:  # noqa: PLR2004 - there is no field 0
            raise ValueError("a field is cut short or has no number")
        found.setdefault((tag >> 3, wire_type), []).append(message[start:position])
    return found


def merged(fields: Fields, number: int) -> memoryview | None:
    """A message inside a message; given in parts, its parts' bytes together are the message."""
    parts = fields.get((number, BYTES))
    if not parts:
        return None
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def repeated(fields: Fields, number: int, wire_type: int) -> bytes:
    """The raw bytes of repeated numbers, packed or one by one. Raises ValueError."""
    packed, single = fields.get((number, BYTES)), fields.get((number, wire_type))
    if packed and single:  # nobody writes both, and their order is lost here
        raise ValueError("numbers are both packed and not")
    return b"".join(packed or single or ())


def read_varints(data: bytes) -> NDArray[np.uint64]:
    """Reads numbers that stand one after the other, all at once. Raises ValueError."""
    octets = np.frombuffer(data, dtype=np.uint8)
    ends = np.flatnonzero(octets < 0x80)  # noqa: PLR2004 - the last byte of a number
    if not len(octets):
        return np.empty(0, dtype=np.uint64)
    if not len(ends) or ends[-1] != len(octets) - 1:
        raise ValueError("a number is cut short")
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > _VARINT_BYTES:
        raise ValueError("a number is too long")
    places = np.arange(len(octets)) - np.repeat(starts, lengths)
    bits = (octets & 0x7F).astype(np.uint64) << (7 * places).astype(np.uint64)
    return np.add.reduceat(bits, starts)


def _read_varint(message: memoryview, position: int) -> tuple[int, int]:
    number = 0
    for place, octet in enumerate(message[position : position + _VARINT_BYTES]):
        number |= (octet & 0x7F) << (7 * place)
        if octet < 0x80:  # noqa: PLR2004 - the last byte of a number
            return number, position + place + 1
    raise ValueError("a number is cut short or too long")


def write_field(number: int, content: bytes) -> bytes:
    """One field of bytes: a text, a message or packed numbers."""
    return _write_varint(number << 3 | BYTES) + _write_varint(len(content)) + content


def write_varints(numbers: Iterable[int]) -> bytes:
    """Numbers one after the other; a negative one as protobuf has it, in 64 bits."""
    return b"".join(_write_varint(number & 0xFFFF_FFFF_FFFF_FFFF) for number in numbers)


def _write_varint(number: int) -> bytes:
    octets = bytearray()
    while number >= 0x80:  # noqa: PLR2004 - seven bits a byte
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
