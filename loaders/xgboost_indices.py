"""What XGBoost takes for an index or a size beside a tree's nodes: does it lie within its document?

Decision: each number that XGBoost goes to, or makes room for, is held against what the document
really has, or against a limit where it has nothing of the sort, before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xgboost
from numpy.typing import NDArray

_SIZES = ("num_feature", "num_class", "num_target")
_MOST_FEATURES = 1 << 24  # XGBoost keeps 64 rows ready to predict
_MOST_UNSEEN = 1_000  # classes or targets that no tree of the model is for
_MOST_WEIGHTS_UNSEEN = 1 << 24
_CATEGORIES = ("categories_nodes", "categories_segments", "categories_sizes", "categories")
_LARGEST_CATEGORY = 1 << 24  # as XGBoost has it: a float32 counts no further
_CATEGORY_BITS = 1 << 30  # that a model's splits have in all: one for each up to the largest
_VECTORS_COLUMNS = ("split_conditions", "default_left", "loss_changes", "sum_hessian")
_LEAVES_APART = tuple(map(int, xgboost.__version__.split(".")[:2])) >= (3, 2)


def read_sizes(parameters: Mapping[str, str]) -> tuple[int, int, int]:
    """Features, classes and targets. Raises ValueError."""
    texts = [parameters.get(name, "1") for name in _SIZES]
    if not all(type(text) is str and text.isascii() and text.isdecimal() for text in texts):
        raise ValueError("its features, classes or targets are no number")
    features, classes, targets = map(int, texts)
    if features > _MOST_FEATURES:
        raise ValueError(f"it has {features} features, and {_MOST_FEATURES} are the most")
    return features, classes, targets


def check_weights(weights: Sequence[float], features: int, groups: int) -> None:
    """Of a linear model, one a feature and group, and the biases. Raises ValueError.

    Before the first round there is none yet: XGBoost makes room for them when it is asked.
    """
    expected = (features + 1) * groups
    if len(weights) != expected and (len(weights) or expected > _MOST_WEIGHTS_UNSEEN):
        raise ValueError("the weights do not belong to the model's features and classes")


def check_groups(groups_of_trees: Sequence[int], groups: int, count: int) -> None:
    """Of classes or targets, whose numbers the trees bear. Raises ValueError."""
    is_possible = groups <= max(count, _MOST_UNSEEN) and len(groups_of_trees) == count
    if not is_possible or not set(groups_of_trees) <= set(range(groups)):
        raise ValueError("the trees do not belong to the model's classes")


def has_categories(arrays: frozenset[tuple[str, ...]]) -> bool:
    """Whether a tree's categories are among these arrays of its."""
    return any((name,) in arrays for name in _CATEGORIES)


def check_categories(trees: Sequence[Mapping[str, Any]], lengths: Sequence[int]) -> None:
    """The categories that nodes split on lie end to end, node by node. Raises ValueError."""
    found = [
        (length, [tree.get(name, ()) for name in _CATEGORIES])
        for tree, length in zip(trees, lengths, strict=True)
        if any(len(tree.get(name, ())) for name in _CATEGORIES)
    ]
    if not found:
        return
    counts = np.array([[length, *map(len, parts)] for length, parts in found])
    if any(not 0 < n == s == z < length or not c for length, n, s, z, c in counts.tolist()):
        raise ValueError("a tree's categories belong to no node")
    columns = zip(*(parts for _, parts in found), strict=True)
    nodes, starts, sizes, categories = (whole_numbers(_joined(column)) for column in columns)
    owners = np.repeat(np.arange(len(found)), counts[:, 1])
    follows = (np.diff(owners) > 0) | (nodes[1:] > nodes[:-1])
    if not (follows.all() and nodes.min() >= 0 and (nodes < counts[owners, 0]).all()):
        raise ValueError("a tree's categories belong to no node")
    if not 1 <= sizes.min() <= sizes.max() <= len(categories):
        raise ValueError("a tree's categories do not lie end to end")
    ends, ends_of_trees = np.cumsum(sizes, dtype=np.int64), np.cumsum(counts[:, 4])
    begins, begins_of_trees = ends - sizes, ends_of_trees - counts[:, 4]
    is_last = np.cumsum(counts[:, 1]) - 1
    if not np.array_equal(starts, begins - begins_of_trees[owners]) or not np.array_equal(
        ends[is_last], ends_of_trees
    ):
        raise ValueError("a tree's categories do not lie end to end")
    if not 0 <= categories.min() <= categories.max() <= _LARGEST_CATEGORY:
        raise ValueError("a tree has a category that is too large, or less than 0")
    if np.maximum.reduceat(categories, begins).sum(dtype=np.int64) > _CATEGORY_BITS:
        raise ValueError("its categories are too many, or too large")


def _joined(parts: Sequence[Any]) -> NDArray[Any]:
    return np.concatenate([np.asarray(part) for part in parts])


def check_vector_leaves(tree: Mapping[str, Any], targets: int) -> None:
    """Leaves of several outputs; since XGBoost 3.2 a leaf's right child is its vector's place.

    Raises:
        ValueError: they are saved in the form that the installed XGBoost does not read, or broken.
    """
    if ("leaf_weights" in tree) != _LEAVES_APART:
        raise ValueError(
            "its leaves have several outputs, which XGBoost saves in another form since 3.2: serve "
            "it with the version that saved it, or train and save it anew with the installed one"
        )
    left, right = whole_numbers(tree["left_children"]), whole_numbers(tree["right_children"])
    columns = _VECTORS_COLUMNS if _LEAVES_APART else _VECTORS_COLUMNS[:2]
    if any(len(tree[name]) != len(left) for name in columns) or (
        len(tree["base_weights"]) != len(left) * targets
    ):
        raise ValueError("a tree's parts differ in length")
    places = np.sort(right[left == -1])
    if _LEAVES_APART and not (
        len(tree["leaf_weights"]) == len(places) * targets
        and np.array_equal(places, np.arange(len(places)))
    ):
        raise ValueError("a tree's leaves do not have the model's targets")


def whole_numbers(found: Sequence[int] | NDArray[Any]) -> NDArray[Any]:
    """As numpy's array. Raises TypeError."""
    array = np.asarray(found)
    if array.size and (array.ndim != 1 or array.dtype.kind not in "iu"):
        raise TypeError("a tree's part is no list of whole numbers")
    return array
