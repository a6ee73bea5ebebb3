"""Tables that hold texts beside numbers: what models with categories and texts are asked with.

Decisions: a table without a single text is one of numbers. In one with texts everything stays as
the client wrote it, so that the text "1" is no number; only null, which is no text, becomes NaN.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from loaders.codecs import (
    DECODERS,
    Array,
    Decoder,
    decode_json,
    decode_jsonlines,
    read_json,
    read_jsonlines,
)
from loaders.sparse import MISSING, Gaps

_CELL = (str, int, float, type(None))


def json_cells(body: bytes, gaps: Gaps = MISSING) -> Array:
    """Reads what `decode_json` does, and tables or lists with texts in them."""
    cells = _table(read_json(body))
    return decode_json(body, gaps) if cells is None else cells


def jsonlines_cells(body: bytes, gaps: Gaps = MISSING) -> Array:
    """Reads what `decode_jsonlines` does, and records with texts in them."""
    cells = _table(read_jsonlines(body))
    return decode_jsonlines(body, gaps) if cells is None else cells


def csv_cells(body: bytes, gaps: Gaps = MISSING) -> Array:
    """Reads every cell as the text it is; quotes as spreadsheets write them.

    Raises:
        ValueError: rows of different lengths.
    """
    rows = list(csv.reader(body.decode().strip("\r\n").splitlines(), strict=True))
    if len({len(row) for row in rows}) > 1:
        raise ValueError("the rows differ in length")
    return np.array(rows, dtype=object)


def _table(records: Any) -> Array | None:  # noqa: ANN401 - whatever the client wrote
    """The cells, or None where none of them is a text."""
    if isinstance(records, list) and records and isinstance(records[0], dict):
        if not all(isinstance(record, dict) and "features" in record for record in records):
            return None
        records = [record["features"] for record in records]
    cells = np.array(records, dtype=object)
    if not any(isinstance(cell, str) for cell in cells.flat):
        return None
    if not all(isinstance(cell, _CELL) for cell in cells.flat):
        raise ValueError("rows of different lengths, or something else than texts and numbers")
    cells[cells == None] = np.nan  # noqa: E711 - a comparison of every cell
    return cells


NUMBERS_OR_TEXTS: Mapping[str, Decoder] = MappingProxyType(
    {**DECODERS, "json": json_cells, "jsonlines": jsonlines_cells}
)
ALL_CELLS: Mapping[str, Decoder] = MappingProxyType({**NUMBERS_OR_TEXTS, "csv": csv_cells})
