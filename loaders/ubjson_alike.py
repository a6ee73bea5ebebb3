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
from dataclasses import dataclass
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
_MARKED = {  # numbers behind their marks, without gaps
    mark: np.dtype([("mark", np.uint8), ("number", dtype)]) for mark, (_, dtype) in NUMBERS.items()
}
_LONG = struct.Struct(">q")
_NONE = _LONG.pack(0)
_read_long = _LONG.unpack_from
_NUMBER_MARKS = frozenset(bytes((mark,)) for mark in NUMBERS)
_PATTERNS_KEPT, _LAYOUTS_KEPT, _LAYOUTS_A_LENGTH = 8, 512, 4
_FIELDS_LIMIT, _COMMON_BYTES_LIMIT = 32, 1024  # of a pattern: XGBoost's trees have 15, and 530
_known: dict[Hashable, Pattern] = {}


class Differs(Exception):
    """An object is not like the pattern."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Alike:
    """The members of all objects, by their path: a key, behind those of the objects it is in."""

    lengths: list[int]  # of an object's arrays
    columns: dict[str, NDArray[Any]]  # an array's, the objects' end to end; of none within
    values: dict[tuple[str, ...], list[Any]]  # a number or a text an object
    passed: frozenset[tuple[str, ...]]  # the other arrays, none of them empty


class _Field(NamedTuple):
    """A value of its own in each object; what they have in common stands between the fields."""

    path: tuple[str, ...]
    before: bytes  # what is between it and what was before it
    dtype: np.dtype[Any] | None  # of an array; None: a number or a text
    is_text: bool


class _Layout(NamedTuple):
    """Where the fields of an object are, whose arrays are of one length: read in one call."""

    form: struct.Struct  # what stands before a field, and the field, by turns; what is behind
    before: tuple[bytes, ...]


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
        self._fields: list[_Field] = []
        self._length: int | None = None  # of the first array, and so of all that are not empty
        self._before = b"{"
        self._common_bytes = 0
        self._add(like, ())
        if self._length is None or self._fields[0].dtype is None:
            raise Differs
        # By the arrays' length. Values are mostly as long as those of an earlier object like that.
        self._layouts: dict[int, list[_Layout]] = {}
        self._laid_out: int = 0  # since there was none

    @property
    def head(self) -> bytes:
        """What objects begin with."""
        return self._fields[0].before

    @property
    def signature(self) -> Hashable:
        """All that there is to a pattern."""
        return (*self._fields, self._before)

    def read(self, data: bytes, at: int, count: int) -> tuple[Alike, int]:
        """Reads `count` objects, the first one's mark at `at`: them, and where they end.

        Raises:
            Differs: one of them is not like the pattern, or cut short.
        """
        first, layouts = len(self.head), self._layouts
        lengths: list[int] = []
        found: list[tuple[bytes, ...]] = []
        try:
            for _ in range(count):
                length = _read_long(data, at + first)[0]
                for form, before in layouts.get(length, ()):
                    pieces = form.unpack_from(data, at)
                    if pieces[::2] == before:
                        break
                else:
                    form = self._lay_out(data, at, length).form
                    pieces = form.unpack_from(data, at)
                lengths.append(length)
                found.append(pieces[1::2])
                at += form.size
        except struct.error as exc:
            raise Differs from exc
        return self._join(lengths, found), at

    def _lay_out(self, data: bytes, at: int, length: int) -> _Layout:
        """Of the object at `at`, which is compared with the pattern. Raises Differs."""
        if length < 0:
            raise Differs
        if self._laid_out == _LAYOUTS_KEPT:
            self._layouts.clear()
            self._laid_out = 0
        counted, form, pieces = _LONG.pack(length), "", []
        for path, before, dtype, is_text in self._fields:
            expected = before if dtype is None else before + counted
            at = _passed(data, at, expected)
            pieces.append(expected)
            size = _size(data, at, is_text=is_text) if dtype is None else length * dtype.itemsize
            is_read = dtype is None or self._is_wanted(path)
            form += f"{len(expected)}s" + (f"{size}s" if is_read else f"0s{size}x")
            at += size
        _passed(data, at, self._before)
        pieces.append(self._before)
        layout = _Layout(struct.Struct(f"{form}{len(self._before)}s"), tuple(pieces))
        self._laid_out += 1
        kept = self._layouts.setdefault(length, [])
        kept.insert(0, layout)
        del kept[_LAYOUTS_A_LENGTH:]
        return layout

    def _join(self, lengths: list[int], found: list[tuple[bytes, ...]]) -> Alike:
        columns: dict[str, NDArray[Any]] = {}
        values: dict[tuple[str, ...], list[Any]] = {}
        passed: set[tuple[str, ...]] = set()
        for (path, _, dtype, is_text), column in zip(
            self._fields, zip(*found, strict=True), strict=True
        ):
            if dtype is None:
                values[path] = (_texts if is_text else _numbers)(column)
            elif self._is_wanted(path):
                joined = np.frombuffer(b"".join(column), dtype)
                columns[path[0]] = joined.astype(dtype.newbyteorder("="))
            else:
                passed.add(path)
        return Alike(lengths=lengths, columns=columns, values=values, passed=frozenset(passed))

    def _is_wanted(self, path: tuple[str, ...]) -> bool:
        return len(path) == 1 and path[0] in self.wanted

    def _add(self, members: Mapping[str, Any], within: tuple[str, ...]) -> None:
        """Adds members, those of an object within where it stands, and the end."""
        for key, value in members.items():
            if key in self._keys:  # two values for one name: which of them counts?
                raise Differs
            self._keys.add(key)
            path = (*within, key)
            name = key.encode()
            self._before += b"L" + _LONG.pack(len(name)) + name
            if isinstance(value, dict):
                self._before += b"{"
                self._add(value, path)
            elif isinstance(value, np.ndarray):
                self._add_array(path, value)
            elif type(value) in {int, float, str}:
                is_text = type(value) is str
                self._before += b"S" if is_text else b""
                self._put(path, None, is_text=is_text)
            else:
                raise Differs
            common_bytes = self._common_bytes + len(self._before)
            if len(self._fields) > _FIELDS_LIMIT or common_bytes > _COMMON_BYTES_LIMIT:
                raise Differs  # so that little is kept, whatever the document
        self._before += b"}"

    def _add_array(self, path: tuple[str, ...], value: NDArray[Any]) -> None:
        self._before += b"[$%c#L" % _MARKS[value.dtype]
        if self._length is None:
            self._length = len(value)
        if len(value) == 0 != self._length and not self._is_wanted(path):
            self._before += _NONE
            return
        if len(value) != self._length:
            raise Differs
        self._put(path, value.dtype)

    def _put(
        self, path: tuple[str, ...], dtype: np.dtype[Any] | None, *, is_text: bool = False
    ) -> None:
        self._fields.append(_Field(path, self._before, dtype, is_text))
        self._common_bytes += len(self._before)
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


def _passed(data: bytes, at: int, expected: bytes) -> int:
    if not data.startswith(expected, at):
        raise Differs
    return at + len(expected)


def _size(data: bytes, at: int, *, is_text: bool) -> int:
    """How many bytes a value takes, with its mark or its length. Raises Differs, struct.error."""
    if is_text:
        size: int = 1 + _LONG.size + _read_long(data, at + 1)[0]
    else:
        size = 1 + NUMBERS[data[at]][0].size if data[at : at + 1] in _NUMBER_MARKS else 0
    if not 0 < size <= len(data) - at:
        raise Differs
    return size


def _texts(column: tuple[bytes, ...]) -> list[Any]:
    read = {field: _text(field) for field in set(column)}
    return [read[field] for field in column]


def _text(field: bytes) -> str:
    if field[:1] != b"L" or _read_long(field, 1)[0] != len(field) - 1 - _LONG.size:
        raise Differs
    return field[1 + _LONG.size :].decode()


def _numbers(column: tuple[bytes, ...]) -> list[Any]:
    if len(set(map(len, column))) == 1:
        joined = b"".join(column)
        found = counted_numbers(joined, 0, len(column))
        if found is not None and found[1] == len(joined):
            return found[0]
    return list(map(_number, column))


def counted_numbers(data: bytes, at: int, count: int) -> tuple[list[Any], int] | None:
    """So many numbers of one type, each behind its mark, without gaps; and where they end.

    None where they are something else, or cut short.
    """
    mark = data[at]
    if mark not in _MARKED:
        return None
    size = _MARKED[mark].itemsize
    stop = at + count * size
    if stop > len(data) or data[at:stop:size] != count * bytes((mark,)):
        return None
    return np.frombuffer(data, _MARKED[mark], count, at)["number"].tolist(), stop


def _number(field: bytes) -> Any:  # noqa: ANN401 - int or float
    layout, _ = NUMBERS.get(field[0], (None, None))
    if layout is None or layout.size != len(field) - 1:
        raise Differs
    return layout.unpack_from(field, 1)[0]
