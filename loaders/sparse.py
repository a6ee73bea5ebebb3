"""Rows that name only some of their features, as a table: libsvm, JSON and recordio have them.

Decision: models get dense tables. What a row does not mention is what the model's framework takes
it for: missing to XGBoost, zero to most others. A table is refused before it is made where it would
be far larger than the payload; a width that only the payload claims is believed less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from loaders.contract import BadPayload

_TABLE_LIMIT_BYTES = 512 * 1024 * 1024
_CLAIMED_LIMIT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Gaps:
    """How rows with gaps become a table."""

    width: int | None = None  # features the model was trained on, where that is known
    absent: float = np.nan  # what a feature is that its row does not mention


MISSING = Gaps()


@dataclass(frozen=True, kw_only=True, slots=True)
class SparseRow:
    """One row: `values` at `keys`, or all of them in order where `keys` is None."""

    values: NDArray[Any]
    keys: NDArray[np.uint64] | None = None
    width: int | None = None  # as far as the payload says


def as_table(rows: Sequence[SparseRow], gaps: Gaps) -> NDArray[Any]:
    """Joins rows of one width.

    Raises:
        ValueError: rows that contradict each other or themselves.
        BadPayload: the table would be too large.
    """
    widths = {len(row.values) if row.keys is None else row.width for row in rows} - {None}
    if len(widths) > 1:
        raise ValueError(f"the records differ in width: {sorted(map(str, widths))[:5]}")
    if all(row.keys is None for row in rows):
        return np.stack([row.values for row in rows])
    width = widths.pop() if widths else gaps.width
    if width is None:
        raise ValueError("a sparse record needs its shape")
    kind = np.result_type(np.float32, *{row.values.dtype for row in rows})
    table = open_table(len(rows), width, gaps, kind)
    for line, row in zip(table, rows, strict=True):
        _fill(line, row)
    return table


def open_table(rows: int, width: int, gaps: Gaps, kind: DTypeLike) -> NDArray[Any]:
    """A table in which nothing is mentioned yet. Raises BadPayload where it would be too large."""
    limit_bytes = _TABLE_LIMIT_BYTES if width == gaps.width else _CLAIMED_LIMIT_BYTES
    if rows * width * np.dtype(kind).itemsize > limit_bytes:
        raise BadPayload(f"{rows} rows of {width} features are too many: split the payload.")
    return np.full((rows, width), gaps.absent, dtype=kind)


def _fill(line: NDArray[Any], row: SparseRow) -> None:
    if row.keys is None:
        line[:] = row.values
        return
    if len(row.keys) != len(row.values):
        raise ValueError(f"a record has {len(row.keys)} keys for {len(row.values)} values")
    if len(row.keys) and row.keys.max() >= len(line):
        raise ValueError(f"a record's key {row.keys.max()} lies beyond its {len(line)} features")
    line[row.keys] = row.values
