"""Bodies of nothing but rows of numbers, read at once into one table: what most batches are.

Decisions: a batch is read here whole or not at all; what is not plain, each payload's own reader
reads, or refuses in its own words. Lines of csv are parsed as one text, since the cells of each
were counted before: no body can reach into its neighbour's. JSON has brackets, with which one
could, so that each is parsed by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
import numpy as np

from loaders.codecs import UNREADABLE, Array, decode_csv
from loaders.content_types import Accept, choose_accept, read_content_type
from loaders.contract import ModelFault, Payload
from loaders.npy import decode_npy

_TABLE_DIMENSIONS = 2
_LINE = msgspec.json.Decoder(list[float])
_TABLE = msgspec.json.Decoder(list[list[float]])


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainRows:
    """The rows of a batch's payloads, and how each wants its own answered."""

    table: Array
    ends: list[int]  # where in the table each payload's rows end
    accepts: list[Accept]
    format: str

    def parts(self) -> Iterator[slice]:
        """Each payload's part of the table, in order."""
        return map(slice, (0, *self.ends), self.ends)


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainReader:
    """Reads batches for one model.

    Args:
        readable: the formats that the model reads.
        writable: those that it writes.
        default_content: the format of a body that came without a Content-Type.
        default_accept: the format of an answer nobody chose one for.
    """

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    default_content: str
    default_accept: str

    def read(self, payloads: Sequence[Payload]) -> PlainRows | None:
        """The rows of all, at least one each, or None where they are not plain."""
        header = payloads[0].content_type
        for payload in payloads:
            if payload.content_type != header or not payload.body or payload.body.isspace():
                return None
        try:
            kind = read_content_type(header, self.readable, self.default_content)
            if kind.name not in _READERS or not kind.charset.startswith(("utf-8", "utf8")):
                return None
            accepts = {
                wanted: choose_accept(wanted, self.writable, self.default_accept)
                for wanted in {payload.accept for payload in payloads}
            }
            table, ends = _READERS[kind.name]([payload.body for payload in payloads])
        except (ModelFault, *UNREADABLE):
            return None
        if table.ndim != _TABLE_DIMENSIONS or not table.size:
            return None
        return PlainRows(
            table=table,
            ends=ends,
            accepts=[accepts[payload.accept] for payload in payloads],
            format=kind.name,
        )


def _read_csv(bodies: list[bytes]) -> tuple[Array, list[int]]:
    lines = [body.strip(b" \r\n") for body in bodies]
    commas = lines[0].count(b",")
    if all(line.count(b",") == commas and b"\n" not in line for line in lines):
        with suppress(msgspec.MsgspecError):  # an empty cell, say
            numbers = np.array(_LINE.decode(b"[" + b",".join(lines) + b"]"))
            return numbers.reshape(len(lines), commas + 1), list(range(1, len(lines) + 1))
    return _joined([decode_csv(body) for body in bodies])


def _read_json(bodies: list[bytes]) -> tuple[Array, list[int]]:
    rows: list[list[float]] = []
    ends = []
    for body in bodies:
        found = _TABLE.decode(body)
        if not found:
            raise ValueError("no row")
        rows += found
        ends.append(len(rows))
    return np.array(rows), ends


def _read_npy(bodies: list[bytes]) -> tuple[Array, list[int]]:
    return _joined([decode_npy(body) for body in bodies])


def _joined(tables: list[Array]) -> tuple[Array, list[int]]:
    """Raises ValueError where they are no tables of one width and type."""
    if len({table.dtype for table in tables}) > 1 or not all(map(len, tables)):
        raise ValueError("the payloads differ in type, or have no row")
    return np.concatenate(tables), np.cumsum([len(table) for table in tables]).tolist()


_READERS: Mapping[str, Callable[[list[bytes]], tuple[Array, list[int]]]] = MappingProxyType(
    {"csv": _read_csv, "json": _read_json, "npy": _read_npy}
)
