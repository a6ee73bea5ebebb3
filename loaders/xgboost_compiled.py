"""Compiles one booster, and believes it only where both give the same answers.

Compared are the last rows that it was really asked, the same with features that lie exactly on
splits and just beside them, and with features missing. Answers may differ by a millionth (absolute
below 1, relative above); a class or a vote must be the same, and so must what it is chosen from.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Array
from loaders.compiled_call import CompiledCall
from loaders.contract import NotCompilable
from loaders.tree_graph import Forest
from loaders.xgboost_forest import read_forest

if TYPE_CHECKING:
    from loaders.xgboost_loader import Member

_TOLERANCE = 1e-6
_CHOOSING = frozenset({"multi:softmax", "binary:hinge"})
_SPLIT_ROWS = 128  # of each kind
_MISSING_SHARE = 0.3
_LONE_EVERY = 8  # of these rows is also asked alone


def compile_member(member: Member, asked: Array) -> CompiledCall:
    """Compiles a gbtree booster.

    Args:
        member: the booster and how it is asked; in use by another thread, perhaps.
        asked: rows that it was asked.

    Raises:
        NotCompilable: it is of a kind that is not compiled, or it did not answer the same.
    """
    if member.direct is None or not np.isnan(member.missing):
        raise NotCompilable("it is no gbtree, or another value than NaN stands for a missing one")
    if "c" in (member.booster.feature_types or ()):
        raise NotCompilable("it has categories")
    forest, transform = read_forest(member.booster, member.rounds)
    compiled = CompiledCall(forest, transform)
    rows = rows_to_compare(forest, asked)
    if not agree(replace(member, direct=None), compiled, rows):
        raise NotCompilable("it did not answer the same")
    return compiled


def rows_to_compare(forest: Forest, asked: Array) -> Array:
    """Rows as they were asked, on splits, beside splits, and with features missing."""
    if not len(asked):
        asked = np.zeros((1, forest.width), np.float32)
    chance = np.random.default_rng(0)
    on_splits = asked[np.arange(_SPLIT_ROWS) % len(asked)]
    for feature, splits in _splits(forest).items():
        on_splits[:, feature] = chance.permutation(np.resize(splits, _SPLIT_ROWS))
    beside = [np.nextafter(on_splits, np.float32(side)) for side in (-np.inf, np.inf)]
    present = np.concatenate([asked, on_splits, *beside])
    present = present[np.isfinite(present).all(axis=1) | np.isnan(present).any(axis=1)]
    missing = np.where(chance.random(present.shape) < _MISSING_SHARE, np.nan, present)
    nothing = np.full((1, forest.width), np.nan)
    return np.concatenate([present, missing, nothing]).astype(np.float32)


def _splits(forest: Forest) -> dict[int, NDArray[np.float32]]:
    """Every feature's splits, each once."""
    inner = np.concatenate([tree.left != -1 for tree in forest.trees])
    features = np.concatenate([tree.feature for tree in forest.trees])[inner]
    splits = np.concatenate([tree.value for tree in forest.trees])[inner]
    return {int(feature): np.unique(splits[features == feature]) for feature in np.unique(features)}


def agree(member: Member, compiled: CompiledCall, rows: Array) -> bool:
    """Whether both answer the same, rows asked together and alone."""
    wanted, found = member.predict(rows), compiled(rows)
    if wanted.shape != found.shape or wanted.dtype != found.dtype:
        return False
    if not np.allclose(found, wanted, rtol=_TOLERANCE, atol=_TOLERANCE, equal_nan=True):
        return False
    if member.objective in _CHOOSING and not _sums_are_equal(member, compiled, rows):
        return False
    some = slice(None, None, _LONE_EVERY)
    lone = [compiled.one(row.tolist()) for row in rows[some]]
    return np.array_equal(np.concatenate(lone), found[some], equal_nan=True)


def _sums_are_equal(member: Member, compiled: CompiledCall, rows: Array) -> bool:
    wanted = member.booster.inplace_predict(
        rows, iteration_range=member.rounds, predict_type="margin", validate_features=False
    )
    return np.array_equal(wanted.reshape(len(rows), -1), compiled.margins(rows))
