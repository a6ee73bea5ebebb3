"""A saved model's trees as a flat forest, and what makes answers of sums; or a refusal.

Decisions: objectives stand in a table, with what their base score means and what they make of a
sum, in XGBoost's own precision step by step; one that isn't there is refused, and so are
categories, leaves with several outputs, dart and gblinear: XGBoost itself answers for those.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loaders.contract import NotCompilable
from loaders.forest import Forest
from loaders.xgboost_document import Document, Trees
from loaders.xgboost_objectives import OBJECTIVES, Transform

_PARTS = frozenset({"cats", "gbtree_model_param", "iteration_indptr", "tree_info", "trees"})
_NO_CHILD, _NOWHERE = -1, -1
_WIDEST = 16_384  # features: a row is written twice, and kept ready


def read_forest(document: Document) -> tuple[Forest, Transform]:
    """The trees that answer, up to the best round where there is one, and what makes answers.

    Raises:
        NotCompilable: there is something about it that is not surely the same compiled.
    """
    learner, trees = document.learner, document.trees
    if document.kind != "gbtree" or trees is None:
        raise NotCompilable(f"it is a {document.kind}")
    if unknown := learner["gradient_booster"]["model"].keys() - _PARTS:
        raise NotCompilable(f"its model has more than trees ({min(unknown)!r:.80})")
    try:
        link, transform = OBJECTIVES[learner["objective"]["name"]]
        parameters, model = learner["learner_model_param"], learner["gradient_booster"]["model"]
        base = _base(parameters, link)
        outputs = list(model["tree_info"])[: _count(learner, model)]
        width = int(parameters["num_feature"])
        if width > _WIDEST:
            raise NotCompilable(f"it has {width} features, and {_WIDEST} are the most")
        forest = _flatten(trees, outputs, base, width)
    except (LookupError, TypeError, ValueError, OverflowError) as exc:
        raise NotCompilable(f"its trees or objective are of another kind ({exc!r:.80})") from exc
    return forest, transform


def best_round(learner: Mapping[str, Any]) -> int | None:
    """The last round that answers, from 0; None: all of them do."""
    best = learner.get("attributes", {}).get("best_iteration")
    return int(best) if isinstance(best, str) and best.isdecimal() else None


def _count(learner: Mapping[str, Any], model: Mapping[str, Any]) -> int:
    """Of trees that answer."""
    best = best_round(learner)
    if best is None:
        return len(model["tree_info"])
    rounds = list(model["iteration_indptr"])
    return int(rounds[min(best + 1, len(rounds) - 1)])


def _base(parameters: Mapping[str, str], link: Callable[[float], float]) -> tuple[float, ...]:
    outputs = max(1, int(parameters["num_class"]), int(parameters.get("num_target", "1")))
    scores = np.float32(json.loads(parameters["base_score"])).reshape(-1).tolist()
    scores = scores * outputs if len(scores) == 1 else scores
    if len(scores) != outputs:
        raise ValueError("base scores and outputs differ in number")
    return tuple(map(link, scores))


def _flatten(trees: Trees, outputs: list[int], base: tuple[float, ...], width: int) -> Forest:
    """The first trees, one for each of `outputs`, without what pruning has left lying about.

    Raises ValueError, LookupError where they are not plain trees.
    """
    count, lengths = len(outputs), trees.lengths[: len(outputs)]
    columns = {name: column[: sum(lengths)] for name, column in trees.columns.items()}
    if not count or set(trees.leaf_values[:count]) > {0, 1} or columns["split_type"].any():
        raise ValueError("no trees, categories, or leaves with several outputs")
    if len(set(np.bincount(outputs, minlength=len(base)))) > 1:
        raise ValueError("outputs differ in trees")
    inner = np.flatnonzero(columns["left_children"] != _NO_CHILD)
    places = _place(columns, inner, lengths, outputs)
    parents, used = places[inner], np.flatnonzero(places != _NOWHERE)
    if (parents == _NOWHERE).any():
        raise ValueError("a node that nothing leads to has children")
    size = count + 2 * len(inner)
    goes_right = columns["default_left"][inner] == 0
    side = np.full(size, 2 * width, np.min_scalar_type(2 * width))
    side[parents] = columns["split_indices"][inner] + width * goes_right
    value = np.empty(size, np.float32)
    value[places[used]] = columns["split_conditions"][used]
    if not np.isfinite(value).all():
        raise ValueError("a split or a leaf that is no number")
    left = np.arange(size, dtype=np.min_scalar_type(size))
    left[parents] = np.arange(count, size, 2)
    depth = _depth(left, count)
    return Forest(
        width=width, base=base, roots=count, depth=depth, side=side, value=value, left=left
    )


def _place(
    columns: Mapping[str, NDArray[Any]],
    inner: NDArray[np.int64],
    lengths: list[int],
    outputs: list[int],
) -> NDArray[np.int64]:
    """Where each node comes to lie: roots, output by output, then the pairs of children."""
    firsts, count = np.cumsum([0, *lengths[:-1]]), len(lengths)
    offsets, pairs = np.repeat(firsts, lengths)[inner], count + 2 * np.arange(len(inner))
    places = np.full(sum(lengths), _NOWHERE)
    places[firsts[np.argsort(outputs, kind="stable")]] = np.arange(count)
    places[columns["left_children"][inner] + offsets] = pairs
    places[columns["right_children"][inner] + offsets] = pairs + 1
    return places


def _depth(left: NDArray[np.unsignedinteger], roots: int) -> int:
    """Steps from a root to the furthest leaf; from all roots at once, a level a turn."""
    level, depth = np.arange(roots), 0
    while True:
        children = left[level]
        children = children[children != level].astype(np.int64)
        if not len(children):
            return depth
        level = np.concatenate([children, children + 1])
        depth += 1
