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

    def byte(self, field: int) -> int:
        """A field of one byte; 0 where it is not there, as everywhere in this format."""
        place = self._place(field)
        return 0 if place is None else _number(self.data, place, "<B")

    def table(self, field: int) -> Table:
        """A table in a field that has to be there."""
        return Table(self.data, _reach(self.data, self._needed(field)))

    def tables(self, field: int) -> list[Table]:
        """A list of tables."""
        start, offsets = self._list(field, np.dtype("<u4"))
        places = (start + _OFFSET_BYTES * number for number in range(len(offsets)))
        return [Table(self.data, _reach(self.data, place)) for place in places]

    def array(self, field: int, kind: DTypeLike) -> NDArray[Any]:
        """A list of numbers or structs."""
        return self._list(field, np.dtype(kind))[1]

    def needed_array(self, field: int, kind: DTypeLike) -> NDArray[Any]:
        """A list that has to be there, be it empty."""
        self._needed(field)
        return self.array(field, kind)

    def _list(self, field: int, kind: np.dtype[Any]) -> tuple[int, NDArray[Any]]:
        place = self._place(field)
        if place is None:
            return 0, np.array([], dtype=kind)
        start = _reach(self.data, place)
        length = _number(self.data, start, "<I")
        start += _OFFSET_BYTES
        return start, np.frombuffer(self.data, kind, length, start)  # ValueError past the end

    def _needed(self, field: int) -> int:
        place = self._place(field)
        if place is None:
            raise ValueError("a field is missing")
        return place

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
