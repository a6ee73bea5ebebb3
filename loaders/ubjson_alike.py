"""UBJSON objects that look like the first of their list: read as columns by what is known of it.

Decision: a forest is a hundred objects of the same members, whose typed arrays are as long as their
first one or empty. To read each as if nothing were known of it took most of a model's load. A
pattern only says what to expect: every byte but the values is compared with it, and where one
differs the list is read the ordinary way.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

NUMBERS: Final = {
    ord(mark): (struct.Struct(layout), np.dtype(dtype))
    for mark, layout, dtype in (
        ("i", ">b", ">i1"),
        ("U", ">B", ">u1"),
        ("I", ">h", ">i2"),
        ("l", ">i", ">i4"),
        ("L", ">q", ">i8"),
        ("d", ">f", ">f4"),
        ("D", ">d", ">f8"),
    )
}
_MARKS = {dtype: mark for mark, (_, dtype) in NUMBERS.items()}
_LONG = struct.Struct(">q")
_NONE = _LONG.pack(0)
_read_long = _LONG.unpack_from


class Differs(Exception):
    """An object is not like the pattern."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alike:
    """The members of all objects, by key; those of objects in them are their own."""

    lengths: list[int]  # of an object's arrays
    columns: dict[str, NDArray[Any]]  # an array's, the objects' end to end
    values: dict[str, list[Any]]  # a number or a text an object


class _Array(NamedTuple):
    key: str
    before: bytes  # its mark, and what is between it and what was before it
    at_bytes: int  # where that begins in its stretch, but for what the arrays before it hold
    at_values: int  # and the bytes before it that they hold for each of an array's values
    value_bytes: int


class _Value(NamedTuple):
    """A number or a text, of a size that nobody knows before."""

    key: str
    before: bytes
    is_text: bool


@dataclass(slots=True)
class _Stretch:
    """Arrays one behind another, and the values behind them."""

    arrays: list[_Array] = field(default_factory=list)
    values: list[_Value] = field(default_factory=list)
    after: bytes = b""  # the last value; or the arrays, without one

    @property
    def end(self) -> tuple[int, int]:
        """Where the arrays end, as an array says where it begins."""
        if not self.arrays:
            return 0, 0
        last = self.arrays[-1]
        size_bytes = len(last.before) + _LONG.size
        return last.at_bytes + size_bytes, last.at_values + last.value_bytes

    def lay_out(self, length: int, wanted: Collection[str]) -> _Layout:
        """What stands where if the arrays are of `length`."""
        counted = _LONG.pack(length)
        pieces, parts = [], []
        for key, before, at_bytes, at_values, value_bytes in self.arrays:
            at = at_bytes + length * at_values
            pieces.append((at, before + counted))
            if key in wanted:
                start = at + len(before) + len(counted)
                parts.append((key, start, start + length * value_bytes))
        at_bytes, at_values = self.end
        return _Layout(pieces, parts, at_bytes + length * at_values, self)


@dataclass(slots=True)
class _Layout:
    pieces: list[tuple[int, bytes]]  # what has to stand where
    wanted: list[tuple[str, int, int]]
    size: int
    stretch: _Stretch
    behind: tuple[bytes, list[Any]] | None = None  # and the values, of the last object like that


class Pattern:
    """What objects like one have before, between and behind their values.

    Args:
        like: that object, as it was read.
        wanted: its arrays that are asked for; others are passed over.

    Raises:
        Differs: there is none that XGBoost would write like that.
    """

    def __init__(self, like: Mapping[str, Any], wanted: Collection[str]) -> None:
        self._wanted = wanted
        self._dtypes: dict[str, np.dtype[Any]] = {}  # of the arrays
        self._keys: set[str] = set()
        self._stretches = [_Stretch()]
        self._length: int | None = None  # of the first array, and so of all that are not empty
        self._before = b"{"
        self._add(like)
        self._stretches[-1].after = self._before
        if not self._stretches[0].arrays:
            raise Differs
        self._layouts: dict[int, list[_Layout]] = {}

    def read(self, data: bytes, at: int, count: int) -> tuple[Alike, int]:
        """Reads `count` objects, the first one's mark at `at`: them, and where they end.

        Raises:
            Differs: one of them is not like the pattern, or cut short.
        """
        first = len(self._stretches[0].arrays[0].before)
        parts: dict[str, list[bytes]] = {key: [] for key in self._wanted if key in self._dtypes}
        names = [value.key for stretch in self._stretches for value in stretch.values]
        lengths, rows = [], []
        try:
            for _ in range(count):
                length = _read_long(data, at + first)[0]
                row: list[Any] = []
                at = self._read_one(data, at, length, parts, row)
                lengths.append(length)
                rows.append(row)
        except struct.error as exc:
            raise Differs from exc
        columns = {
            key: np.frombuffer(b"".join(found), self._dtypes[key]) for key, found in parts.items()
        }
        values = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        return Alike(lengths=lengths, columns=columns, values=values), at

    def _read_one(
        self, data: bytes, at: int, length: int, parts: Mapping[str, list[bytes]], row: list[Any]
    ) -> int:
        starts_with = data.startswith
        layouts = self._layouts.get(length)
        if layouts is None:
            if length < 0:
                raise Differs
            layouts = [stretch.lay_out(length, self._wanted) for stretch in self._stretches]
            self._layouts[length] = layouts
        for layout in layouts:
            for place, piece in layout.pieces:
                if not starts_with(piece, at + place):
                    raise Differs
            for name, start, stop in layout.wanted:
                parts[name].append(data[at + start : at + stop])
            at += layout.size
            if layout.behind is not None and starts_with(layout.behind[0], at):
                row += layout.behind[1]
                at += len(layout.behind[0])
            else:
                start = at
                values, at = _read_values(data, at, layout.stretch)
                layout.behind = data[start:at], values
                row += values
        return at

    def _add(self, members: Mapping[str, Any]) -> None:
        """Adds members, those of an object within as if they were its owner's, and the end."""
        for key, value in members.items():
            if key in self._keys:  # two values for one name: which of them counts?
                raise Differs
            self._keys.add(key)
            name = key.encode()
            self._before += b"L" + _LONG.pack(len(name)) + name
            if isinstance(value, dict):
                self._before += b"{"
                self._add(value)
            elif isinstance(value, np.ndarray):
                self._add_array(key, value)
            elif type(value) in {int, float, str}:
                self._add_value(key, is_text=type(value) is str)
            else:
                raise Differs
        self._before += b"}"

    def _add_array(self, key: str, value: NDArray[Any]) -> None:
        self._before += b"[$%c#L" % _MARKS[value.dtype]
        if self._length is None:
            self._length = len(value)
        if len(value) == 0 != self._length and key not in self._wanted:
            self._before += _NONE
            return
        if len(value) != self._length:
            raise Differs
        if self._stretches[-1].values:
            self._stretches.append(_Stretch())
        stretch = self._stretches[-1]
        stretch.arrays.append(_Array(key, self._before, *stretch.end, value.dtype.itemsize))
        self._dtypes[key] = value.dtype
        self._before = b""

    def _add_value(self, key: str, *, is_text: bool) -> None:
        before = self._before + (b"S" if is_text else b"")
        self._stretches[-1].values.append(_Value(key, before, is_text))
        self._before = b""


def _read_values(data: bytes, at: int, stretch: _Stretch) -> tuple[list[Any], int]:
    """The values behind a stretch's arrays, and where the stretch ends."""
    found = []
    for _, before, is_text in stretch.values:
        if not data.startswith(before, at):
            raise Differs
        value, at = (_text if is_text else _number)(data, at + len(before))
        found.append(value)
    if not data.startswith(stretch.after, at):
        raise Differs
    return found, at + len(stretch.after)


def _text(data: bytes, at: int) -> tuple[str, int]:
    if data[at : at + 1] != b"L" or len(data) - at <= _LONG.size:
        raise Differs
    start = at + 1 + _LONG.size
    stop = start + _read_long(data, at + 1)[0]
    if not start <= stop <= len(data):
        raise Differs
    return data[start:stop].decode(), stop


def _number(data: bytes, at: int) -> tuple[Any, int]:
    layout, _ = NUMBERS.get(data[at], (None, None)) if at < len(data) else (None, None)
    if layout is None or (stop := at + 1 + layout.size) > len(data):
        raise Differs
    return layout.unpack_from(data, at + 1)[0], stop
