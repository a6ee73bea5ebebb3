"""Requests of a batch that a script predicts together, where it says that its rows are independent.

Decision: a script asks for it (`rows_independent = True`), for nobody can tell by looking. What its
`input_fn` made of each request is joined where that is numpy's arrays or torch's tensors of one
type, and what `predict_fn` gives is parted again, row for row; anything else runs one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np


def join(parts: Sequence[Any]) -> Any:  # noqa: ANN401 - arrays or tensors
    """All rows as one array or tensor; None where they don't fit together."""
    kinds = {(type(part), getattr(part, "dtype", None)) for part in parts}
    if len(kinds) > 1 or not all(_has_rows(part) for part in parts):
        return None
    if len({part.shape[1:] for part in parts}) > 1:
        return None
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts)
    return sys.modules["torch"].cat(list(parts))


def part(found: Any, parts: Sequence[Any]) -> list[Any] | None:  # noqa: ANN401 - as `join`
    """What belongs to each of `parts`; None where it is not a row for a row."""
    if not _has_rows(found) or len(found) != sum(map(len, parts)):
        return None
    pieces, start = [], 0
    for rows in parts:
        pieces.append(found[start : start + len(rows)])
        start += len(rows)
    return pieces


def _has_rows(value: object) -> bool:
    """Whether it is an array or a tensor with a dimension for rows."""
    tensor = getattr(sys.modules.get("torch"), "Tensor", None)
    kinds = (np.ndarray,) if tensor is None else (np.ndarray, tensor)
    return isinstance(value, kinds) and len(value.shape) > 0
