"""Believes a scorer only where it gives the same answers as another.

Compared are rows as they may be asked, the same with features that lie exactly on splits and just
beside them, and with features missing. Sums may not differ by a bit, nor a class or a vote; other
answers may differ by a millionth (absolute below 1, relative above).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Array
from loaders.forest import Forest
from loaders.xgboost_scorers import Scorer

_TOLERANCE = 1e-6
_CHOOSING = frozenset({"multi:softmax", "binary:hinge"})
_MISSING_SHARE = 0.3
_LONE_EVERY = 8  # of these rows is also asked alone


def rows_to_compare(forest: Forest, asked: Array, count: int = 128) -> Array:
    """Rows as they were asked, on splits, beside splits, and with features missing.

    Args:
        forest: whose splits.
        asked: a row each; may be none.
        count: of rows on splits, and of rows beside them on either side.
    """
    if not len(asked):
        asked = np.zeros((1, forest.width), np.float32)
    chance = np.random.default_rng(0)
    on_splits = asked[np.arange(count) % len(asked)]
    for feature, splits in _splits(forest).items():
        on_splits[:, feature] = chance.permutation(np.resize(splits, count))
    beside = [np.nextafter(on_splits, np.float32(side)) for side in (-np.inf, np.inf)]
    present = np.concatenate([asked, on_splits, *beside])
    present = present[np.isfinite(present).all(axis=1) | np.isnan(present).any(axis=1)]
    missing = np.where(chance.random(present.shape) < _MISSING_SHARE, np.nan, present)
    nothing = np.full((1, forest.width), np.nan)
    return np.concatenate([present, missing, nothing]).astype(np.float32)


def _splits(forest: Forest) -> dict[int, NDArray[np.float32]]:
    """Every feature's splits, each once."""
    inner = forest.side != forest.leaf_side
    features, splits = forest.side[inner] % forest.width, forest.value[inner]
    return {int(feature): np.unique(splits[features == feature]) for feature in np.unique(features)}


def agree(known: Scorer, other: Scorer, rows: Array, objective: str) -> bool:
    """Whether both answer the same, rows asked together and alone."""
    wanted, found = known.predict(rows), other.predict(rows)
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return False
    if not np.array_equal(known.margins(rows), other.margins(rows)):
        return False
    tolerance = 0 if objective in _CHOOSING else _TOLERANCE
    if not np.allclose(found, wanted, rtol=tolerance, atol=tolerance, equal_nan=True):
        return False
    some = slice(None, None, _LONE_EVERY)
    alone = [(other.one(row.tolist()), row) for row in rows[some]]
    lone = [other.predict(row[None]) if answer is None else answer for answer, row in alone]
    return np.array_equal(np.concatenate(lone), found[some], equal_nan=True)
