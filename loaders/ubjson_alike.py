"""UBJSON objects that look like the first of their list: read as columns by what is known of it.

Decision: a forest is a hundred objects of the same members, whose typed arrays are as long as their
first one or empty. To read each as if nothing were known of it took most of a model's load. A
pattern only says what to expect: every byte but the values is compared with it, and where one
differs the list is read the ordinary way.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Hashable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

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
_PATTERNS_KEPT, _LAYOUTS_KEPT = 8, 512
_known: dict[Hashable, Pattern] = {}


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
    dtype: np.dtype[Any]


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
    # What was last behind arrays of a length, and its values: mostly the same the next time.
    behind: dict[int, tuple[bytes, list[Any]]] = field(default_factory=dict)


class _Layout(NamedTuple):
    """Where the arrays of a stretch are if they are of one length: read in one call."""

    form: struct.Struct  # what stands before an array, and the array, by turns; what is behind
    before: tuple[bytes, ...]
    is_number: bool  # that one value is behind it, and nothing more


# The arrays and the values of a stretch, an object each.
_Read: TypeAlias = "tuple[_Stretch, list[tuple[bytes, ...]], list[list[Any]]]"


class Pattern:
    """What objects like one have before, between and behind their values.

    Args:
        like: that object, as it was read.
        wanted: its arrays that are asked for; others are passed over.

    Raises:
        Differs: there is none that XGBoost would write like that.
    """

    def __init__(self, like: Mapping[str, Any], wanted: Collection[str]) -> None:
        self.wanted = wanted
        self._keys: set[str] = set()
        self._stretches = [_Stretch()]
        self._length: int | None = None  # of the first array, and so of all that are not empty
        self._before = b"{"
        self._add(like)
        self._stretches[-1].after = self._before
        if not self._stretches[0].arrays:
            raise Differs
        self._layouts: dict[int, list[_Layout]] = {}

    @property
    def head(self) -> bytes:
        """What objects begin with."""
        return self._stretches[0].arrays[0].before

    @property
    def signature(self) -> Hashable:
        """All that there is to a pattern."""
        return tuple(
            (tuple(stretch.arrays), tuple(stretch.values), stretch.after)
            for stretch in self._stretches
        )

    def read(self, data: bytes, at: int, count: int) -> tuple[Alike, int]:
        """Reads `count` objects, the first one's mark at `at`: them, and where they end.

        Raises:
            Differs: one of them is not like the pattern, or cut short.
        """
        first = len(self.head)
        lengths: list[int] = []
        reads: list[_Read] = [(stretch, [], []) for stretch in self._stretches]
        try:
            for _ in range(count):
                length = _read_long(data, at + first)[0]
                layouts = self._layouts.get(length) or self._lay_out(length)
                lengths.append(length)
                for (stretch, arrays, values), (form, before, is_number) in zip(
                    reads, layouts, strict=True
                ):
                    found = form.unpack_from(data, at)
                    if found[::2] != before:
                        raise Differs
                    arrays.append(found[1::2])
                    at += form.size
                    if is_number:  # another one each object
                        value, at = _number(data, at)
                        values.append([value])
                        continue
                    known = stretch.behind.get(length)
                    if known is None or not data.startswith(known[0], at):
                        known = stretch.behind[length] = _read_behind(data, at, stretch)
                    at += len(known[0])
                    values.append(known[1])
        except struct.error as exc:
            raise Differs from exc
        return self._join(lengths, reads), at

    def _lay_out(self, length: int) -> list[_Layout]:
        if length < 0:
            raise Differs
        if len(self._layouts) > _LAYOUTS_KEPT:
            self._layouts.clear()
            for stretch in self._stretches:
                stretch.behind.clear()
        counted, layouts = _LONG.pack(length), []
        for stretch in self._stretches:
            values = stretch.values
            end = values[0].before if values else stretch.after
            is_number = len(values) == 1 and not values[0].is_text and not stretch.after
            form = "".join(
                f"{len(before) + len(counted)}s"
                + (
                    f"{length * dtype.itemsize}s"
                    if key in self.wanted
                    else f"0s{length * dtype.itemsize}x"
                )
                for key, before, dtype in stretch.arrays
            )
            pieces = *(before + counted for _, before, _ in stretch.arrays), end
            layouts.append(_Layout(struct.Struct(f"{form}{len(end)}s"), pieces, is_number))
        self._layouts[length] = layouts
        return layouts

    def _join(self, lengths: list[int], reads: list[_Read]) -> Alike:
        columns: dict[str, NDArray[Any]] = {}
        values: dict[str, list[Any]] = {}
        for stretch, parts, rows in reads:
            for (key, _, dtype), column in zip(
                stretch.arrays, zip(*parts, strict=True), strict=True
            ):
                if key in self.wanted:
                    found = np.frombuffer(b"".join(column), dtype)
                    columns[key] = found.astype(dtype.newbyteorder("="))
            names = (value.key for value in stretch.values)
            values.update(zip(names, map(list, zip(*rows, strict=True)), strict=True))
        return Alike(lengths=lengths, columns=columns, values=values)

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
        if len(value) == 0 != self._length and key not in self.wanted:
            self._before += _NONE
            return
        if len(value) != self._length:
            raise Differs
        if self._stretches[-1].values:
            self._stretches.append(_Stretch())
        self._stretches[-1].arrays.append(_Array(key, self._before, value.dtype))
        self._before = b""

    def _add_value(self, key: str, *, is_text: bool) -> None:
        before = self._before + (b"S" if is_text else b"")
        self._stretches[-1].values.append(_Value(key, before, is_text))
        self._before = b""


def pattern_of(like: Mapping[str, Any], wanted: Collection[str]) -> Pattern:
    """A pattern, or the same one as before with what it has found out. Raises Differs."""
    made = Pattern(like, wanted)
    if len(_known) > _PATTERNS_KEPT:
        _known.clear()
    return _known.setdefault((made.signature, tuple(wanted)), made)


def read_known(
    data: bytes, at: int, count: int, wanted: Collection[str]
) -> tuple[Alike, int] | None:
    """As a pattern's `read`, where objects are like those of an earlier list."""
    for pattern in tuple(_known.values()):
        if pattern.wanted == wanted and data.startswith(pattern.head, at):
            with suppress(Differs):
                return pattern.read(data, at, count)
    return None


def _read_behind(data: bytes, at: int, stretch: _Stretch) -> tuple[bytes, list[Any]]:
    """The values of a stretch; `at` is behind what stands before the first one."""
    start, values = at, []
    for place, (_, before, is_text) in enumerate(stretch.values):
        if place:
            at = _passed(data, at, before)
        value, at = (_text if is_text else _number)(data, at)
        values.append(value)
    if stretch.values:
        at = _passed(data, at, stretch.after)
    return data[start:at], values


def _passed(data: bytes, at: int, expected: bytes) -> int:
    if not data.startswith(expected, at):
        raise Differs
    return at + len(expected)


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
