"""UBJSON objects that look like the one before them: read by what is known of that one.

Decision: a forest is a hundred objects of the same members, whose typed arrays are as long as their
first one or empty. To read each as if nothing were known of it took most of the check that a model
passes. A pattern only says what to expect: every byte but the values is compared with it, and an
object that differs is read the ordinary way.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping
from typing import Any, Final

import numpy as np

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
_TEXT, _NUMBER = "text", "number"
_Step = tuple[
    bytes, str, Any
]  # what is before a value; its key; the array's dtype, or one of these


class Differs(Exception):
    """An object is not like the pattern."""


class Pattern:
    """What objects like one have before, between and behind their values.

    Args:
        like: that object, as it was read.
        wanted: its arrays that are asked for; others are passed over.

    Raises:
        Differs: there is none that XGBoost would write like that.
    """

    def __init__(self, like: Mapping[str, Any], wanted: Collection[str]) -> None:
        self._steps: list[_Step] = []
        self._keys: set[str] = set()
        self._wanted = wanted
        self._length: int | None = None  # of the first array, and so of all that are not empty
        self._before = b""
        self._add(like)
        if self._length is None:
            raise Differs

    def read(self, data: bytes, at: int) -> tuple[dict[str, Any], int]:  # noqa: C901 - the inner loop
        """Reads the object whose mark is before `at`: it, and where it ends. Raises Differs."""
        found: dict[str, Any] = {}
        starts_with = data.startswith
        count, counted = -1, b""
        for before, key, kind in self._steps:
            if not starts_with(before, at):
                raise Differs
            at += len(before)
            if kind is _NUMBER:
                found[key], at = _number(data, at)
            elif kind is _TEXT:
                found[key], at = _text(data, at)
            else:
                if count < 0:
                    count, counted = _count(data, at)
                if not starts_with(counted, at):
                    raise Differs
                start = at + _LONG.size
                at = start + count * kind.itemsize
                if key in self._wanted and at <= len(data):
                    found[key] = np.frombuffer(data, kind, count, start)
        if not starts_with(self._before, at):
            raise Differs
        return found, at + len(self._before)

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
            elif type(value) in {int, float}:
                self._step(b"", key, _NUMBER)
            elif type(value) is str:
                self._step(b"S", key, _TEXT)
            else:
                raise Differs
        self._before += b"}"

    def _add_array(self, key: str, value: np.ndarray[Any, Any]) -> None:
        self._before += b"[$%c#L" % _MARKS[value.dtype]
        if self._length is None:
            self._length = len(value)
        if len(value) == self._length:
            self._step(b"", key, value.dtype)
        elif len(value) == 0 and key not in self._wanted:
            self._before += _NONE
        else:
            raise Differs

    def _step(self, mark: bytes, key: str, kind: Any) -> None:  # noqa: ANN401 - see _Step
        self._steps.append((self._before + mark, key, kind))
        self._before = b""


def _count(data: bytes, at: int) -> tuple[int, bytes]:
    counted = data[at : at + _LONG.size]
    if len(counted) < _LONG.size or (count := _read_long(counted)[0]) < 0:
        raise Differs
    return count, counted


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
