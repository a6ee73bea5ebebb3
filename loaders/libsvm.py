"""libsvm text to rows: `[label] index:value ...`, one row a line; what is not mentioned is absent.

Decisions: as in the current XGBoost image, indices count from one where the smallest in the payload
is at least one, else from zero; labels are ignored. A payload without a single pair is refused: it
is most likely csv sent without a Content-Type, and would get the prediction of an empty row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loaders.payload_faults import feature_mismatch
from loaders.sparse import Gaps, open_table


def decode_libsvm(body: bytes, gaps: Gaps) -> NDArray[np.float64]:
    """Reads rows of as many features as the model has; of as many as mentioned, if that is unknown.

    Raises:
        ValueError: it is no libsvm.
        BadPayload: an index beyond the model's features, or more rows than a table may have.
    """
    rows = [line.split() for line in body.splitlines() if line.strip()]
    where, indices, values = _pairs(rows)
    if not indices:
        raise ValueError("no index:value pair in it")
    base = 1 if min(indices) >= 1 else 0
    mentioned = max(indices) - base + 1
    width = gaps.width or mentioned
    if mentioned > width:
        raise feature_mismatch("libsvm", mentioned, width)
    table = open_table(len(rows), width, gaps, np.float64)
    table[where, np.array(indices) - base] = values
    return table


def _pairs(rows: list[list[bytes]]) -> tuple[list[int], list[int], list[float]]:
    where: list[int] = []
    indices: list[int] = []
    values: list[float] = []
    for number, tokens in enumerate(rows):
        for position, token in enumerate(tokens):
            index, colon, value = token.partition(b":")
            if not colon:
                _check_label(token, position)
            elif index != b"qid":  # a ranking group, of use in training only
                where.append(number)
                indices.append(_index(index))
                values.append(float(value))
    return where, indices, values


def _check_label(token: bytes, position: int) -> None:
    if position:
        raise ValueError(f"{token[:40]!r} is no index:value pair")
    float(token)


def _index(text: bytes) -> int:
    if not text.isdigit():  # int() reads -1 and 1_0
        raise ValueError(f"{text[:40]!r} is no feature index")
    return int(text)
