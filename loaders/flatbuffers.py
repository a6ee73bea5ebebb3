"""Reads tables of a FlatBuffers document without its schema, trusting no offset in it.

Decision: fields go by number, as in the format; a field that is not there is None or empty.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

_OFFSET_BYTES = 4


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a document. Its methods raise ValueError where they would leave the document."""

    data: bytes
    at: int

    @classmethod
    def root(cls, data: bytes) -> Table:
        """The table that everything else hangs from."""
        return cls(data, _reach(data, 0))

    def integer(self, field: int, default: int) -> int:
        """A field of four bytes."""
        place = self._place(field)
        return default if place is None else _number(self.data, place, "<i")

    def table(self, field: int) -> Table | None:
        """A table in a field."""
        place = self._place(field)
        return None if place is None else Table(self.data, _reach(self.data, place))

    def tables(self, field: int) -> list[Table]:
        """A list of tables."""
        start, offsets = self._list(field, np.dtype("<u4"))
        places = (start + _OFFSET_BYTES * number for number in range(len(offsets)))
        return [Table(self.data, _reach(self.data, place)) for place in places]

    def array(self, field: int, kind: DTypeLike) -> NDArray[Any]:
        """A list of numbers or structs."""
        return self._list(field, np.dtype(kind))[1]

    def _list(self, field: int, kind: np.dtype[Any]) -> tuple[int, NDArray[Any]]:
        place = self._place(field)
        if place is None:
            return 0, np.array([], dtype=kind)
        start = _reach(self.data, place)
        length = _number(self.data, start, "<I")
        start += _OFFSET_BYTES
        return start, np.frombuffer(self.data, kind, length, start)  # ValueError past the end

    def _place(self, field: int) -> int | None:
        fields = self.at - _number(self.data, self.at, "<i")
        offset = 4 + 2 * field
        if offset + 2 > _number(self.data, fields, "<H"):
            return None
        distance = _number(self.data, fields + offset, "<H")
        return self.at + distance if distance else None


def _reach(data: bytes, place: int) -> int:
    return place + _number(data, place, "<I")


def _number(data: bytes, place: int, form: str) -> int:
    if place < 0:
        raise ValueError("an offset leads out of the file")
    try:
        found: int = struct.unpack_from(form, data, place)[0]
    except struct.error as exc:
        raise ValueError("an offset leads out of the file") from exc
    return found
