"""Judges a saved XGBoost model before XGBoost reads it: is it whole, do its trees hold together.

Decision: XGBoost's own reader ends the process on a file cut short, and walks a tree wherever its
children point: outside the memory, or for ever. A worker is shared by many tenants, so one broken
file must not take it down. What would change our mind: XGBoost checking this itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from loaders import ubjson

_VERSION = re.compile(
    rb'"version"\s*:\s*\[\s*(\d+),\s*(\d+),\s*(\d+)\s*\]'
    rb"|version\[#L\0{7}\x03i(.)i(.)i(.)",
    re.DOTALL,
)
_ROOT = 0
_INDICES = ("left_children", "right_children", "split_indices", "parents")


def is_json(data: bytes) -> bool:
    """Says whether these are the first bytes of a JSON object (and not of UBJSON)."""
    return data[:1] == b"{" and data[1:2] != b"L"


def saved_by(data: bytes) -> str | None:
    """The XGBoost version that wrote these bytes, where they say so."""
    found = _VERSION.search(data[:200]) or _VERSION.search(data[-200:])
    if found is None:
        return None
    if found[1]:
        return b".".join(found.group(1, 2, 3)).decode()
    return ".".join(str(part[0]) for part in found.group(4, 5, 6))


def check_document(data: bytes) -> None:
    """Reads a model saved as JSON or UBJSON and checks its trees.

    Raises:
        ValueError: cut short, malformed, or trees that lead nowhere.
    """
    try:
        document = msgspec.json.decode(data) if is_json(data) else ubjson.decode(data, _INDICES)
        learner = document["learner"]
        sizes = {name: int(text) for name, text in _counts(learner["learner_model_param"])}
        booster = learner["gradient_booster"]
        if booster["name"] == "dart":
            booster = booster["gbtree"]
        if booster["name"] == "gbtree":
            _check_forest(booster["model"], sizes)
    except (LookupError, TypeError, OverflowError) as exc:
        raise ValueError(f"not a saved XGBoost model: {exc!r:.100}") from exc
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def _counts(parameters: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name in ("num_feature", "num_class", "num_target"):
        yield name, parameters.get(name, "1")


def _check_forest(model: dict[str, Any], sizes: dict[str, int]) -> None:
    """Everything XGBoost uses as an index points into what it indexes."""
    trees = model["trees"]
    if sorted(tree["id"] for tree in trees) != list(range(len(trees))):
        raise ValueError("the trees are not numbered")
    groups = max(1, sizes["num_class"], sizes["num_target"])
    groups_of_trees = list(model["tree_info"])
    if len(groups_of_trees) != len(trees) or not set(groups_of_trees) <= set(range(groups)):
        raise ValueError("the trees do not belong to the model's classes")
    rounds = list(model.get("iteration_indptr", [0, len(trees)]))
    if rounds != sorted(rounds) or rounds[0] != 0 or rounds[-1] != len(trees):
        raise ValueError("the trees do not belong to the model's rounds")
    for tree in trees:
        if _parameter(tree, "size_leaf_vector") not in {0, 1, sizes["num_target"]}:
            raise ValueError("a tree's leaves do not have the model's targets")
    if trees:
        _check_trees(trees, sizes["num_feature"])


def _check_trees(trees: list[dict[str, Any]], features: int) -> None:
    """Every node but a root has one parent at most, so that no walk from a root comes back.

    All trees at once, end to end: one by one they took a quarter of a load.
    """
    columns = [[_indices(tree[name]) for tree in trees] for name in _INDICES]
    nodes = [_parameter(tree, "num_nodes") for tree in trees]
    if 0 in nodes or any([len(part) for part in column] != nodes for column in columns):
        raise ValueError("a tree's parts differ in length")
    left, right, splits, parents = map(np.concatenate, columns)
    firsts = np.repeat(np.cumsum([0, *nodes[:-1]]), nodes)  # where each node's tree begins
    inner = np.flatnonzero(left != -1)  # a leaf may hold anything else
    if not len(inner):
        return
    owners = np.concatenate([inner, inner])
    children = np.concatenate([left[inner], right[inner]])
    if not ((children > _ROOT) & (children < np.repeat(nodes, nodes)[owners])).all():
        raise ValueError("a tree's child lies outside of it")
    children = children + firsts[owners]
    if np.bincount(children).max() > 1:
        raise ValueError("a tree's node has two parents")
    if not np.array_equal(parents[children], owners - firsts[owners]):
        raise ValueError("a tree's child belongs to another parent")
    used = splits[inner]
    if not 0 <= used.min() <= used.max() < features:
        raise ValueError("a tree splits on a feature that the model does not have")


def _parameter(tree: dict[str, Any], name: str) -> int:
    return int(tree.get("tree_param", tree)[name])


def _indices(found: Any) -> NDArray[Any]:  # noqa: ANN401 - whatever the document holds
    array = np.asarray(found)
    if array.size and (array.ndim != 1 or array.dtype.kind not in "iu"):
        raise TypeError("a tree's part is no list of whole numbers")
    return array
