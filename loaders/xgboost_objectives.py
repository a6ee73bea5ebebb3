"""What XGBoost makes of the sums of its trees, and of a base score, for each objective.

Decision: step by step in XGBoost's own precision and with the C library's functions that it calls,
so that an answer is the same to the last bit. Where that library is not found, the last digit of an
exponential differs once in some thousand times.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

import numpy as np

from loaders.codecs import Array

_ONE = np.float32(1)
_LARGEST_EXPONENT = np.float32(88.7)  # XGBoost's own, of what exp() can give in float32


@dataclass(frozen=True, slots=True)
class Transform:
    """What makes answers of sums; it keeps nothing of what it is given."""

    many: Callable[[Array], Array]  # of a table, a row each
    lone: Callable[[float], float] | None = None  # of one sum the same, sooner

    def one(self, sums: Array) -> Array:
        """The answer to a lone row's sums."""
        if self.lone is None or sums.size > 1:
            return self.many(sums.reshape(1, -1))
        return np.array([self.lone(sums.item())], dtype=np.float32)


def _exp_of_double(number: float) -> float:
    try:
        return math.exp(number)
    except OverflowError:
        return math.inf


def _of_c_library(name: str, otherwise: Callable[[float], float]) -> Callable[[float], float]:
    """A function of a float32 that XGBoost calls, too; of a double it is at times a digit off."""
    try:
        found: Any = getattr(ctypes.CDLL("libm.so.6"), name)
    except (OSError, AttributeError):
        return otherwise
    found.argtypes, found.restype = (ctypes.c_float,), ctypes.c_float
    return cast("Callable[[float], float]", found)


_log = _of_c_library("logf", math.log)
_exp_one = _of_c_library("expf", _exp_of_double)


def _itself(margins: Array) -> Array:
    return _flat(margins.copy())


def _logistic(margins: Array) -> Array:
    return _flat(_ONE / (_exp(np.minimum(-margins, _LARGEST_EXPONENT)) + _ONE))


def _lone_logistic(margin: float) -> float:
    odds = np.float32(_exp_one(min(-margin, float(_LARGEST_EXPONENT))))
    return float(_ONE / (odds + _ONE))


def _exponential(margins: Array) -> Array:
    return _flat(_exp(margins))


def _hinge(margins: Array) -> Array:
    return _flat((margins > 0).astype(np.float32))


def _softmax(margins: Array) -> Array:
    shares = _exp(margins - margins.max(axis=1, keepdims=True))
    total: Array = shares.sum(axis=1, keepdims=True, dtype=np.float64).astype(np.float32)
    divided: Array = shares / total
    return divided


def _likeliest(margins: Array) -> Array:
    winner: Array = margins.argmax(axis=1).astype(np.float32)
    return winner


def _exp(numbers: Array) -> Array:
    """Number by number: numpy's own is another function, and at times a digit off."""
    powers = np.fromiter(map(_exp_one, numbers.ravel().tolist()), np.float32, numbers.size)
    return powers.reshape(numbers.shape)


def _flat(table: Array) -> Array:
    return table[:, 0] if table.shape[1] == 1 else table


def _same(score: float) -> float:
    return score


def _log_odds(score: float) -> float:
    return -_log(float(np.float32(1) / np.float32(score) - np.float32(1)))


_IDENTITY = _same, Transform(_itself)
_EXPONENTIAL = _log, Transform(_exponential)
_LOGISTIC = _log_odds, Transform(_logistic, _lone_logistic)
OBJECTIVES: Final[Mapping[str, tuple[Callable[[float], float], Transform]]] = MappingProxyType(
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
