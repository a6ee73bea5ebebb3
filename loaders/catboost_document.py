"""Judges a CatBoost .cbm file before CatBoost reads it: do its trees hold together.

Decision: CatBoost checks the file's outer form and believes what is in it, so that a changed number
makes it read outside its memory and ends the process (1 in 20 changed files did). A worker is
shared by many tenants, so one broken file must not take it down. The dictionaries of texts and
embeddings are not judged: few models have them.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.catboost_counts import check_counts
from loaders.flatbuffers import Table

_MAGIC = b"CBM1"
_HEAD_BYTES = 8
_TREES = 1  # the field of the core that holds them
_DEEPEST = 16
_BUCKET = 254  # conditions on one feature that CatBoost keeps in one byte
_NODE = np.dtype([("left", "<u2"), ("right", "<u2")])
_CONDITION = np.dtype([("feature", "<u2"), ("mask", "u1"), ("split", "u1")])

Array = NDArray[Any]


class _Trees(IntEnum):
    """The fields that are followed."""

    DIMENSION = 0
    SPLITS = 1
    SIZES = 2
    STARTS = 3
    CATEGORICAL = 4
    FLOAT = 5
    ONE_HOT = 6
    CTR = 7
    LEAF_VALUES = 8
    LEAF_WEIGHTS = 9
    NODES = 10
    NODE_LEAVES = 11
    TEXT = 12
    ESTIMATED = 13
    BIAS = 16
    CONDITIONS = 17
    EMBEDDING = 18


def check_document(data: bytes) -> None:
    """Reads everything that CatBoost uses as an index.

    Raises:
        ValueError: cut short, or trees that lead nowhere.
    """
    size = int.from_bytes(data[4:_HEAD_BYTES], "little")
    if not data.startswith(_MAGIC) or len(data) < _HEAD_BYTES + size:
        raise ValueError("it is cut short")
    core = Table.root(data[_HEAD_BYTES : _HEAD_BYTES + size])
    trees = core.table(_TREES)
    kinds = (_Trees.FLOAT, _Trees.CATEGORICAL, _Trees.TEXT, _Trees.EMBEDDING)
    _check_features([trees.tables(kind) for kind in kinds])
    _check_conditions(trees)
    _check_trees(trees)
    if ctrs := trees.tables(_Trees.CTR):
        check_counts(data[_HEAD_BYTES + size :], [ctr.table(0) for ctr in ctrs])


def _check_trees(trees: Table) -> None:
    """Every walk through a tree ends at a leaf that there is."""
    sizes = trees.array(_Trees.SIZES, "<i4")
    starts = np.concatenate([[0], np.cumsum(sizes)])
    if (sizes < 0).any() or starts[-1] != len(trees.array(_Trees.SPLITS, "<i4")):
        raise ValueError("the trees' sizes do not add up")
    if not np.array_equal(trees.array(_Trees.STARTS, "<i4"), starts[:-1]):
        raise ValueError("a tree is not where it should be")
    values, dimension = _leaf_values(trees)
    nodes = trees.array(_Trees.NODES, _NODE)
    leaves = trees.array(_Trees.NODE_LEAVES, "<u4")
    if len(nodes) or len(leaves):
        _check_nodes(nodes, leaves, starts, values - dimension)
    elif (sizes > _DEEPEST).any() or values != dimension * np.exp2(sizes).sum():
        raise ValueError("the leaves are not as many as the trees have")


def _leaf_values(trees: Table) -> tuple[int, int]:
    """How many numbers the leaves hold in all, and how many of them one leaf holds."""
    values = len(trees.array(_Trees.LEAF_VALUES, "<f8"))
    dimension = trees.integer(_Trees.DIMENSION, 0)
    if dimension < 1 or values % dimension:
        raise ValueError("the leaves do not have the model's dimension")
    if len(trees.array(_Trees.BIAS, "<f8")) not in {0, dimension}:
        raise ValueError("the bias does not have the model's dimension")
    if len(trees.array(_Trees.LEAF_WEIGHTS, "<f8")) not in {0, values // dimension}:
        raise ValueError("the leaves' weights are not as many as the leaves")
    return values, dimension


def _check_conditions(trees: Table) -> None:
    """Every split is a condition that there is, on a feature that there is."""
    floats, one_hots, ctrs, estimated = (
        trees.tables(field)
        for field in (_Trees.FLOAT, _Trees.ONE_HOT, _Trees.CTR, _Trees.ESTIMATED)
    )
    counts = [len(feature.array(3, "<f4")) for feature in (*floats, *estimated)]
    counts += [len(feature.array(1, "<i4")) for feature in (*one_hots, *ctrs)]
    splits = trees.array(_Trees.SPLITS, "<i4")
    if len(splits) and not 0 <= splits.min() <= splits.max() < sum(counts):
        raise ValueError("a split is on a condition that the model does not have")
    conditions = trees.array(_Trees.CONDITIONS, _CONDITION)
    buckets = sum(-(-count // _BUCKET) for count in counts)
    if len(conditions) and len(conditions) != len(splits):
        raise ValueError("the splits' conditions are not as many as the splits")
    if len(conditions) and conditions["feature"].max() >= buckets:
        raise ValueError("a condition is on a feature that the model does not have")
    known = {feature.integer(0, -1) for feature in trees.tables(_Trees.CATEGORICAL)}
    if not {feature.integer(0, -1) for feature in one_hots} <= known:
        raise ValueError("a condition is on a feature that the model does not have")


def _check_features(kinds: list[list[Table]]) -> None:
    """Features are numbered among their kind and among all."""
    flat: list[int] = []
    for number, kind in enumerate(kinds):
        first = int(number == 0)  # the fields of a float feature start with another one
        flat += [feature.integer(first + 1, -1) for feature in kind]
        if sorted(feature.integer(first, -1) for feature in kind) != list(range(len(kind))):
            raise ValueError("the features of a kind are not numbered")
    if sorted(flat) != list(range(len(flat))):
        raise ValueError("the features are not numbered")


def _check_nodes(nodes: Array, leaves: Array, starts: Array, last: int) -> None:
    """Every walk stays in its tree and ends at a leaf; it can't come back, as steps go forward."""
    if len(nodes) != starts[-1] or len(leaves) != len(nodes):
        raise ValueError("the trees' nodes do not add up")
    ends = np.repeat(starts[1:], np.diff(starts))
    here = np.arange(len(nodes))
    if (here + nodes["left"] >= ends).any() or (here + nodes["right"] >= ends).any():
        raise ValueError("a node's step leads out of its tree")
    final = leaves[(nodes["left"] == 0) | (nodes["right"] == 0)]
    if final.max() > last:
        raise ValueError("a node has a leaf that the model does not have")
