"""A lone row of plain numbers, read without an array: what a client sends that waits for answers.

Decisions: between two lone requests the caches go cold, so that each of numpy's dozen steps around
a row costs twice what it does in a loop, and all of them took longer than a forest. What is not one
plain row is not read here: `plain_rows.py` and each payload's own reader know what to make of it.
How a header is understood is kept with each model, for the few headers that its clients send.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from loaders.content_types import Accept, choose_accept, read_content_type
from loaders.contract import ModelFault, Payload

_LINE = msgspec.json.Decoder(list[float])
_TABLE = msgspec.json.Decoder(list[list[float]])
_KEPT = 8  # headers a model
_Way = tuple[Callable[[bytes], list[float]], Accept]


@dataclass(frozen=True, kw_only=True, slots=True)
class LoneReader:
    """Reads one row for one model.

    Args:
        readable: the formats that the model reads; numbers mean the same in all of them.
        writable: those that it writes.
        default_content: the format of a body that came without a Content-Type.
        default_accept: the format of an answer nobody chose one for.
    """

    readable: tuple[str, ...]
    writable: tuple[str, ...]
    default_content: str
    default_accept: str
    _ways: dict[tuple[str | None, str | None], _Way | None] = field(default_factory=dict)

    def read(self, payload: Payload) -> tuple[list[float], Accept] | None:
        """The row and how to answer it, or None where it is not plainly one."""
        headers = payload.content_type, payload.accept
        try:
            way = self._ways[headers]
        except KeyError:
            way = self._find(*headers)
        if way is None:
            return None
        try:
            return way[0](payload.body), way[1]
        except (ValueError, msgspec.MsgspecError):
            return None

    def _find(self, content_type: str | None, accept: str | None) -> _Way | None:
        way = None
        with suppress(ModelFault):  # which the slow way raises
            kind = read_content_type(content_type, self.readable, self.default_content)
            wanted = choose_accept(accept, self.writable, self.default_accept)
            if kind.name in _READERS and kind.charset.startswith(("utf-8", "utf8")):
                way = _READERS[kind.name], wanted
        if len(self._ways) < _KEPT:
            self._ways[content_type, accept] = way
        return way


def _read_csv(body: bytes) -> list[float]:
    line = body.strip(b" \r\n")
    if b"\n" in line:
        raise ValueError("more than a row")
    return _LINE.decode(b"[" + line + b"]")


def _read_json(body: bytes) -> list[float]:
    """Reads `[[...]]`. Raises ValueError where there are more rows, or none."""
    [row] = _TABLE.decode(body)
    return row


_READERS: Mapping[str, Callable[[bytes], list[float]]] = MappingProxyType(
    {"csv": _read_csv, "json": _read_json}
)
