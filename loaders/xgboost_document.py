"""Reads a saved XGBoost model before XGBoost does: is it whole, do its trees hold together.

Decision: XGBoost's own reader ends the process on a file cut short, and walks a tree wherever its
children point: outside the memory, or for ever. A worker is shared by many tenants, so one broken
file must not take it down. What would change our mind: XGBoost checking this itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from loaders import ubjson
from loaders.ubjson_alike import Alike
from loaders.xgboost_indices import (
    check_categories,
    check_groups,
    check_vector_leaves,
    check_weights,
    has_categories,
    read_sizes,
    whole_numbers,
)

_VERSION = re.compile(
    rb'"version"\s*:\s*\[\s*(\d+),\s*(\d+),\s*(\d+)\s*\]'
    rb"|version\[#L\0{7}\x03i(.)i(.)i(.)",
    re.DOTALL,
)
_ROOT, _WEIGHTS = 0, "weight_drop"
_REFUSED = (LookupError, TypeError, AttributeError, OverflowError, ValueError, RecursionError)
_INDICES = ("left_children", "right_children", "split_indices", "parents")
_OTHERS = ("split_conditions", "default_left", "split_type")


@dataclass(frozen=True, kw_only=True, slots=True)
class Trees:
    """The trees of a model, end to end: a node each entry of a column."""

    lengths: list[int]  # nodes a tree
    columns: Mapping[str, NDArray[Any]]
    leaf_values: list[int]  # that a leaf's vector has, a tree; 0 and 1 are the same


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A saved model whose trees hold together."""

    learner: Mapping[str, Any]
    kind: str  # of booster, e.g. gbtree
    trees: Trees | None  # of gbtree and dart
    is_weighted: bool = False  # trees count for something else than one


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


def read_document(data: bytes) -> Document:
    """Reads a model saved as JSON or UBJSON and checks its trees.

    Raises:
        ValueError: cut short, malformed, or trees that lead nowhere.
    """
    try:
        if is_json(data):
            return _checked(msgspec.json.decode(data))
        with suppress(*_REFUSED):
            return _checked(ubjson.decode(data, _INDICES + _OTHERS))
        return _checked(ubjson.decode(data))  # if it refuses, too, then in words of its own
    except (LookupError, TypeError, AttributeError, OverflowError) as exc:
        raise ValueError(f"not a saved XGBoost model: {exc!r:.100}") from exc
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def _checked(whole: Any) -> Document:  # noqa: ANN401 - a document is what it is
    learner = whole["learner"]
    features, classes, targets = read_sizes(learner["learner_model_param"])
    groups = max(1, classes, targets)
    booster = learner["gradient_booster"]
    kind, trees, weights = booster["name"], None, booster.get(_WEIGHTS, ())
    if kind == "gblinear":
        check_weights(booster["model"]["weights"], features, groups)
    if kind == "dart":
        booster = booster["gbtree"]
    if booster["name"] == "gbtree":
        trees = _read_trees(booster["model"], features, groups, targets)
        weights = booster["model"].get(_WEIGHTS, weights)
        if len(weights):  # since XGBoost 3.3 it calls itself gbtree
            kind = "dart"
            if len(weights) != len(trees.lengths):
                raise ValueError("the trees and their weights differ in number")
    is_weighted = any(weight != 1 for weight in weights)
    return Document(learner=learner, kind=kind, trees=trees, is_weighted=is_weighted)


def _read_trees(model: Mapping[str, Any], features: int, groups: int, targets: int) -> Trees:
    """Everything XGBoost uses as an index points into what it indexes."""
    found = model["trees"]
    count = len(found.lengths) if isinstance(found, Alike) else len(found)
    if sorted(_values(found, "id")) != list(range(count)):
        raise ValueError("the trees are not numbered")
    check_groups(list(model["tree_info"]), groups, count)
    rounds = list(model.get("iteration_indptr", [0, count]))
    if rounds != sorted(rounds) or rounds[0] != 0 or rounds[-1] != count:
        raise ValueError("the trees do not belong to the model's rounds")
    leaf_values = list(map(int, _values(found, "size_leaf_vector")))
    if not set(leaf_values) <= {0, 1, targets}:
        raise ValueError("a tree's leaves do not have the model's targets")
    trees = _join(found, leaf_values)
    if count:
        _check_trees(trees, list(map(int, _values(found, "num_nodes"))), features)
    _check_beside(found, trees, targets)
    return trees


def _check_beside(found: Alike | Sequence[Mapping[str, Any]], trees: Trees, targets: int) -> None:
    """What only some trees have; where all of them are alike, it is none that XGBoost writes."""
    several = [place for place, values in enumerate(trees.leaf_values) if values > 1]
    if isinstance(found, Alike):
        if several or has_categories(found.passed):
            raise ValueError("the trees have categories or leaves that belong to no node")
        return
    check_categories(found, trees.lengths)
    for place in several:
        check_vector_leaves(found[place], targets)


def _join(found: Alike | Sequence[Mapping[str, Any]], leaf_values: list[int]) -> Trees:
    if isinstance(found, Alike):
        return Trees(lengths=found.lengths, columns=found.columns, leaf_values=leaf_values)
    if not found:
        return Trees(lengths=[], columns={}, leaf_values=leaf_values)
    parts = {name: [np.asarray(tree[name]) for tree in found] for name in _INDICES}
    lengths = [len(part) for part in parts["left_children"]]
    for name in _OTHERS:  # which only a forest of ours needs
        others = [np.asarray(tree.get(name, ())) for tree in found]
        if [len(part) for part in others] == lengths:
            parts[name] = others
    if any([len(part) for part in column] != lengths for column in parts.values()):
        raise ValueError("a tree's parts differ in length")
    columns = {name: np.concatenate(column) for name, column in parts.items()}
    return Trees(lengths=lengths, columns=columns, leaf_values=leaf_values)


def _check_trees(trees: Trees, nodes: list[int], features: int) -> None:
    """Every node but a root has one parent at most, so that no walk from a root comes back.

    All trees at once, end to end: one by one they took a quarter of a load.
    """
    left, right, splits, parents = (whole_numbers(trees.columns[name]) for name in _INDICES)
    if 0 in nodes or nodes != trees.lengths:
        raise ValueError("a tree's parts differ in length")
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


def _values(found: Alike | Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    """A number or a text a tree."""
    if isinstance(found, Alike):
        outside, within = (name,), ("tree_param", name)
        return found.values[outside if outside in found.values else within]
    return [tree[name] if name in tree else tree["tree_param"][name] for tree in found]
