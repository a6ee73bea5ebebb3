"""A booster's trees and objective as what can be compiled, or a refusal where that is not sure.

Decisions: the trees are read from what XGBoost itself saves now, whichever version the file was of.
Objectives stand in a table, with what their base score means and what they make of a sum; one that
isn't there is not compiled, nor are categories, leaves with several outputs, dart and gblinear.
"""

from __future__ import annotations

import ctypes
import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from loaders import ubjson
from loaders.codecs import Array
from loaders.compiled_call import Transform
from loaders.contract import NotCompilable
from loaders.tree_graph import Forest, Tree

if TYPE_CHECKING:
    import xgboost

_NODES_LIMIT = 65_536  # ONNX Runtime holds up predictions while it takes them in: 50 ms
_LARGEST_EXPONENT = 88.7  # XGBoost's own, of what exp() can give in float32
_NO_CHILD = -1


def _itself(margins: Array) -> Array:
    return _flat(margins.copy())


def _logistic(margins: Array) -> Array:
    odds = np.exp(np.minimum(-margins.astype(np.float64), _LARGEST_EXPONENT))
    return _flat((1 / (1 + odds)).astype(np.float32))


def _lone_logistic(margin: float) -> float:
    return 1 / (1 + math.exp(min(-margin, _LARGEST_EXPONENT)))


def _exponential(margins: Array) -> Array:
    with np.errstate(over="ignore"):  # infinity, as XGBoost has it
        return _flat(np.exp(margins.astype(np.float64)).astype(np.float32))


def _hinge(margins: Array) -> Array:
    return _flat((margins > 0).astype(np.float32))


def _softmax(margins: Array) -> Array:
    shares = np.exp(margins - margins.max(axis=1, keepdims=True))
    total: Array = shares.sum(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    divided: Array = shares / total
    return divided


def _likeliest(margins: Array) -> Array:
    winner: Array = margins.argmax(axis=1).astype(np.float32)
    return winner


def _flat(table: Array) -> Array:
    return table[:, 0] if table.shape[1] == 1 else table


def _same(score: float) -> float:
    return score


def _find_log() -> Callable[[float], float]:
    """The C library's logarithm of a float32, which XGBoost calls: at times a digit from ours."""
    try:
        found: Any = ctypes.CDLL("libm.so.6").logf
    except (OSError, AttributeError):
        return math.log
    found.argtypes, found.restype = (ctypes.c_float,), ctypes.c_float
    return cast("Callable[[float], float]", found)


_log = _find_log()


def _log_odds(score: float) -> float:
    return -_log(float(np.float32(1) / np.float32(score) - np.float32(1)))


_IDENTITY = _same, Transform(_itself)
_EXPONENTIAL = _log, Transform(_exponential)
_LOGISTIC = _log_odds, Transform(_logistic, _lone_logistic)
_OBJECTIVES: Mapping[str, tuple[Callable[[float], float], Transform]] = MappingProxyType(
    {
        "reg:squarederror": _IDENTITY,
        "reg:squaredlogerror": _IDENTITY,
        "reg:pseudohubererror": _IDENTITY,
        "reg:absoluteerror": _IDENTITY,
        "reg:quantileerror": _IDENTITY,
        "rank:pairwise": _IDENTITY,
        "rank:ndcg": _IDENTITY,
        "rank:map": _IDENTITY,
        "reg:logistic": _LOGISTIC,
        "binary:logistic": _LOGISTIC,
        "binary:logitraw": _IDENTITY,
        "binary:hinge": (_same, Transform(_hinge)),
        "count:poisson": _EXPONENTIAL,
        "reg:gamma": _EXPONENTIAL,
        "reg:tweedie": _EXPONENTIAL,
        "multi:softprob": (_same, Transform(_softmax)),
        "multi:softmax": (_same, Transform(_likeliest)),
    }
)


def read_forest(booster: xgboost.Booster, rounds: tuple[int, int]) -> tuple[Forest, Transform]:
    """The trees of `rounds` ((0, 0): all), and what makes answers of their sums.

    Raises:
        NotCompilable: there is something about it that is not surely the same compiled.
    """
    try:
        learner = ubjson.decode(bytes(booster.save_raw("ubj")))["learner"]
        link, transform = _OBJECTIVES[learner["objective"]["name"]]
        parameters, model = learner["learner_model_param"], learner["gradient_booster"]["model"]
        last = model["iteration_indptr"][rounds[1]] if rounds[1] else len(model["trees"])
        forest = Forest(
            width=int(parameters["num_feature"]),
            base=_base(parameters, link),
            trees=[
                _tree(tree, int(output))
                for tree, output in zip(
                    model["trees"][:last], model["tree_info"][:last], strict=True
                )
            ],
        )
    except (LookupError, TypeError, ValueError) as exc:
        raise NotCompilable(f"its trees or objective are of another kind ({exc!r:.80})") from exc
    if forest.nodes > _NODES_LIMIT:
        raise NotCompilable(f"its trees have {forest.nodes} nodes, and {_NODES_LIMIT} are the most")
    return forest, transform


def _base(parameters: Mapping[str, str], link: Callable[[float], float]) -> tuple[float, ...]:
    outputs = max(1, int(parameters["num_class"]), int(parameters.get("num_target", "1")))
    scores = np.float32(json.loads(parameters["base_score"])).reshape(-1).tolist()
    scores = scores * outputs if len(scores) == 1 else scores
    if len(scores) != outputs:
        raise ValueError("base scores and outputs differ in number")
    return tuple(map(link, scores))


def _tree(saved: Mapping[str, Any], output: int) -> Tree:
    """One tree, without what pruning has left lying about. Raises ValueError."""
    left, right = _integers(saved["left_children"]), _integers(saved["right_children"])
    if int(saved["tree_param"]["size_leaf_vector"]) > 1 or np.any(saved["split_type"]):
        raise ValueError("categories, or leaves with several outputs")
    inner = left != _NO_CHILD
    used = np.zeros(len(left), dtype=bool)
    used[0], used[left[inner]], used[right[inner]] = True, True, True
    if (inner & ~used).any():
        raise ValueError("a node that nothing leads to has children")
    places = np.append(np.cumsum(used) - 1, _NO_CHILD)  # the last one for those without children
    return Tree(
        left=places[left[used]],
        right=places[right[used]],
        feature=_integers(saved["split_indices"])[used],
        value=np.asarray(saved["split_conditions"], dtype=np.float32)[used],
        missing_left=_integers(saved["default_left"])[used],
        output=output,
    )


def _integers(numbers: Any) -> NDArray[np.int64]:  # noqa: ANN401 - a typed array, or a list
    return np.asarray(numbers, dtype=np.int64)
