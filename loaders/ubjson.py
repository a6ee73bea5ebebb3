"""Universal Binary JSON, read as far as XGBoost writes it; typed arrays become views on the bytes.

Decision: our own, because the reader inside XGBoost runs past the end of a file that was cut short
and takes the process with it.
"""

from __future__ import annotations

import struct
from collections.abc import Collection
from contextlib import suppress
from typing import Any

import numpy as np

from loaders.ubjson_alike import NUMBERS, Differs, counted_numbers, pattern_of, read_known

_CONSTANTS = {ord("Z"): None, ord("T"): True, ord("F"): False}
_OBJECT, _OBJECT_END, _ARRAY, _ARRAY_END, _TEXT, _TYPE, _COUNT = b"{}[]S$#"
_LONG = ord("L")
_read_long = NUMBERS[_LONG][0].unpack_from
_DEPTH_LIMIT = 32


def decode(data: bytes, alike: Collection[str] = ()) -> Any:  # noqa: ANN401 - a document is what it is
    """Reads one document that fills all of `data`.

    Args:
        data: the document.
        alike: where the objects of a list look like its first one, the arrays that are asked for;
            such a list is read as `Alike`. Elsewhere it changes nothing.

    Raises:
        ValueError: cut short, longer than one document, or nothing XGBoost would write.
    """
    reader = _Reader(data, alike)
    try:
        document = reader.value(reader.mark(), 0)
    except (IndexError, struct.error) as exc:
        raise ValueError(f"cut short at byte {len(data)}") from exc
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes follow the end of the document")
    return document


class _Reader:
    """A position in the bytes; every method moves it on. Past the end: IndexError, struct.error."""

    def __init__(self, data: bytes, alike: Collection[str]) -> None:
        self.data = data
        self.alike = alike
        self.at = 0

    def mark(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def value(self, mark: int, depth: int) -> Any:  # noqa: ANN401 - any type of document
        if depth > _DEPTH_LIMIT:
            raise ValueError("nested too deep")
        if mark == _OBJECT:
            return self._object(depth)
        if mark == _ARRAY:
            return self._array(depth)
        if mark == _TEXT:
            return self._text()
        if mark in NUMBERS:
            return self._number(mark)
        if mark in _CONSTANTS:
            return _CONSTANTS[mark]
        raise ValueError(f"unknown mark {mark} at byte {self.at - 1}")

    def _number(self, mark: int) -> Any:  # noqa: ANN401 - int or float
        number, _ = NUMBERS[mark]
        start = self.at
        self.at += number.size
        return number.unpack_from(self.data, start)[0]

    def _size(self) -> int:
        start = self.at
        if self.data[start] == _LONG:  # as XGBoost writes all of them
            self.at = start + 9
            size: Any = _read_long(self.data, start + 1)[0]
        else:
            size = self._number(self.mark()) if self.data[start] in NUMBERS else None
        if type(size) is not int or not 0 <= size <= len(self.data) - self.at:
            raise ValueError(f"no possible length at byte {self.at}")
        return size

    def _text(self) -> str:
        size = self._size()
        start = self.at
        self.at = start + size
        return self.data[start : self.at].decode()

    def _object(self, depth: int) -> dict[str, Any]:
        """A member a turn, without `value`'s calls: a document is made of these."""
        found: dict[str, Any] = {}
        data, end = self.data, len(self.data)
        while (mark := data[self.at]) != _OBJECT_END:
            start = self.at + 9
            size = _read_long(data, self.at + 1)[0] if mark == _LONG else -1
            if 0 <= size < end - start:
                stop = start + size
                key = data[start:stop].decode()
            else:
                key, stop = self._text(), self.at
            self.at = stop + 1
            mark = data[stop]
            if mark == _TEXT:
                found[key] = self._text()
            elif mark == _ARRAY and data[self.at] == _TYPE:
                self.at += 1
                found[key] = self._typed_array()
            else:
                found[key] = self.value(mark, depth + 1)
        self.at += 1
        return found

    def _array(self, depth: int) -> Any:  # noqa: ANN401 - a list, or numpy's array where typed
        mark = self.mark()
        if mark == _TYPE:
            return self._typed_array()
        if mark == _COUNT:
            return self._counted(self._size(), depth + 1)
        found: list[Any] = []
        while mark != _ARRAY_END:
            found.append(self.value(mark, depth + 1))
            mark = self.mark()
        return found

    def _counted(self, count: int, depth: int) -> Any:  # noqa: ANN401 - a list, or Alike
        found: list[Any] = []
        if count and (counted := counted_numbers(self.data, self.at, count)) is not None:
            numbers, self.at = counted
            return numbers
        if count and (known := read_known(self.data, self.at, count, self.alike)) is not None:
            columns, self.at = known
            return columns
        for place in range(count):
            start, mark = self.at, self.mark()
            found.append(self.value(mark, depth))
            if place == 0 and self.alike and mark == _OBJECT:
                with suppress(Differs):
                    pattern = pattern_of(found[0], self.alike)
                    columns, self.at = pattern.read(self.data, start, count)
                    return columns
        return found

    def _typed_array(self) -> Any:  # noqa: ANN401 - numpy's array of any number type
        mark = self.data[self.at]
        if mark not in NUMBERS or self.data[self.at + 1] != _COUNT:
            raise ValueError(f"no typed array at byte {self.at}")
        self.at += 2
        _, dtype = NUMBERS[mark]
        size, start = self._size(), self.at
        self.at = start + size * dtype.itemsize
        return np.frombuffer(self.data, dtype, size, start)  # ValueError past the end
