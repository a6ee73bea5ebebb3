"""Judges a CatBoost model saved as JSON before CatBoost reads it: is it whole, do its trees hold.

Decision: CatBoost takes half a document for a whole one, divides by a stride of zero, and looks for
leaves, conditions and counts that are not there, outside its memory. What else may be wrong in a
document it finds by itself.
"""

from __future__ import annotations

from typing import Any

import msgspec

_DEEPEST = 16


class _Split(msgspec.Struct):
    split_index: int


class _Tree(msgspec.Struct):
    leaf_values: list[float]
    splits: list[_Split]


class _Node(msgspec.Struct):
    """Of a tree that is not symmetric: a split and two nodes, or a value."""

    left: _Node | None = None
    right: _Node | None = None
    split: _Split | None = None
    value: float | list[float] | None = None


class _Counts(msgspec.Struct):
    """What is counted of a category: a hash and the counts, in turn."""

    hash_stride: int
    hash_map: list[Any]


class _Feature(msgspec.Struct):
    feature_index: int
    flat_feature_index: int
    borders: list[float] | None = None
    values: list[int] | None = None


class _Ctr(msgspec.Struct):
    """A feature made of what is counted of a category."""

    identifier: str
    borders: list[float]


class _Features(msgspec.Struct):
    float_features: list[_Feature] = []
    categorical_features: list[_Feature] = []
    ctrs: list[_Ctr] = []


class _Document(msgspec.Struct):
    features_info: _Features
    scale_and_bias: tuple[float, list[float] | float] = (1, 0)
    oblivious_trees: list[_Tree] | None = None
    trees: list[_Node] | None = None
    ctr_data: dict[str, _Counts] = {}


def check_json(data: bytes) -> None:
    """Reads everything that CatBoost uses as an index.

    Raises:
        ValueError: cut short, malformed, or trees that lead nowhere.
    """
    try:
        document = msgspec.json.decode(data.decode(), type=_Document)
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc
    bias = document.scale_and_bias[1]
    dimension = len(bias) if isinstance(bias, list) else 1
    conditions = _conditions(document.features_info)
    _check_counts(document)
    if document.oblivious_trees is None and document.trees is None:
        raise ValueError("it holds no trees")
    for tree in document.oblivious_trees or []:
        _check_tree(tree, dimension, conditions)
    for root in document.trees or []:
        _check_nodes(root, dimension, conditions)


def _conditions(features: _Features) -> int:
    """How many there are for splits to choose from."""
    floats, categories = features.float_features, features.categorical_features
    for kind in (floats, categories):
        if sorted(feature.feature_index for feature in kind) != list(range(len(kind))):
            raise ValueError("the features of a kind are not numbered")
    each = [*floats, *categories]
    if sorted(feature.flat_feature_index for feature in each) != list(range(len(each))):
        raise ValueError("the features are not numbered")
    own = sum(len(feature.borders or feature.values or []) for feature in each)
    return own + sum(len(ctr.borders) for ctr in features.ctrs)


def _check_counts(document: _Document) -> None:
    for counts in document.ctr_data.values():
        if counts.hash_stride <= 1 or len(counts.hash_map) % counts.hash_stride:
            raise ValueError("a category's counts are not whole")
    if not {ctr.identifier for ctr in document.features_info.ctrs} <= document.ctr_data.keys():
        raise ValueError("a category's counts are not there")


def _check_tree(tree: _Tree, dimension: int, conditions: int) -> None:
    depth = len(tree.splits)
    if depth > _DEEPEST or len(tree.leaf_values) != dimension << depth:
        raise ValueError("a tree's leaves are not as many as its splits make")
    for split in tree.splits:
        _check_split(split, conditions)


def _check_nodes(root: _Node, dimension: int, conditions: int) -> None:
    waiting = [root]
    while waiting:
        node = waiting.pop()
        if node.split is None:
            size = len(node.value) if isinstance(node.value, list) else int(node.value is not None)
            if size != dimension:
                raise ValueError("a leaf does not have the model's dimension")
            continue
        _check_split(node.split, conditions)
        if node.left is None or node.right is None:
            raise ValueError("a split has one side only")
        waiting += [node.left, node.right]


def _check_split(split: _Split, conditions: int) -> None:
    if not 0 <= split.split_index < conditions:
        raise ValueError("a split is on a condition that the model does not have")
