"""A booster's prediction without the Python around it: XGBoost's own C call, prepared once.

Decisions: `inplace_predict` spends most of a lone row's time in Python and in making a new proxy
matrix, which reads the cgroup's files. Here the settings are written once a model and the proxy is
made once a thread; a lone row is written where it was the last time, so that not even its address
is told anew. The C interface is no promise to us: the first model of each kind of answer is
predicted both ways, and where a bit differs all of them keep to `inplace_predict`. What would
change our mind: a fast path of XGBoost's own.
"""

from __future__ import annotations

import ctypes
import json
import math
import struct
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import xgboost

from loaders.codecs import Array

_FLOAT_BYTES = 4
_TRIED_ROWS = 5
_library: Any = getattr(xgboost.core, "_LIB", None)  # not ours, so that it may go
_here = threading.local()
_verdicts: dict[int, bool] = {}  # dimensions of an answer -> whether both ways gave the same


class DirectCall:
    """Predicts with one gbtree booster, in one thread at a time.

    Args:
        booster: its features are numbers.
        rounds: the first of its rounds and the one after the last; (0, 0): all of them.
        missing: the value that stands for a missing one.
    """

    def __init__(self, booster: xgboost.Booster, rounds: tuple[int, int], missing: float) -> None:
        self._booster = booster
        self._settings = json.dumps(
            {
                "type": 0,
                "training": False,
                "iteration_begin": rounds[0],
                "iteration_end": rounds[1],
                "missing": missing,
                "strict_shape": False,
                "cache_id": 0,
            }
        ).encode()
        self._shape = ctypes.POINTER(ctypes.c_uint64)()
        self._dimensions = ctypes.c_uint64()
        self._values = ctypes.c_void_p()
        self._found = tuple(map(ctypes.byref, (self._shape, self._dimensions, self._values)))
        width = booster.num_features()
        self._row = (ctypes.c_float * width)()
        self._row_told = _told(ctypes.addressof(self._row), 1, width)
        self._write_row = struct.Struct(f"<{width}f").pack_into  # not "f", which lets infinity be

    def __call__(self, rows: Array) -> Array:
        """Gives what `inplace_predict` gives. Raises XGBoostError."""
        # A tensor out of a request may lie anywhere; XGBoost wants it aligned.
        rows = np.require(rows, np.float32, ("C", "A"))
        return self._ask(_told(rows.__array_interface__["data"][0], *rows.shape))

    def one(self, numbers: Sequence[float]) -> Array:
        """Gives what a call with this row alone gives, for a row of as many features.

        Raises:
            OverflowError: a number is too large.
            XGBoostError: as XGBoost raises it.
        """
        self._write_row(self._row, 0, *numbers)
        return self._ask(self._row_told)

    def _ask(self, told: bytes) -> Array:
        _check(
            _library.XGBoosterPredictFromDense(
                self._booster.handle, told, self._settings, _proxy(), *self._found
            )
        )
        shape = self._shape[: self._dimensions.value]
        size_bytes = _FLOAT_BYTES * math.prod(shape)
        values = ctypes.string_at(self._values.value or 0, size_bytes)  # a copy: it is XGBoost's
        return np.frombuffer(values, dtype=np.float32).reshape(shape)


def _told(address: int, rows: int, width: int) -> bytes:
    """What the array interface says of float32 rows without gaps."""
    shape = b'{"data":[%d,true],"shape":[%d,%d],"typestr":"<f4","version":3}'
    return shape % (address, rows, width)


def direct_call(
    booster: xgboost.Booster, rounds: tuple[int, int], missing: float, dimensions: int
) -> DirectCall | None:
    """The fast way to ask a gbtree booster, or None where this XGBoost does not have it.

    Args:
        booster: as DirectCall takes it.
        rounds: as DirectCall takes them.
        missing: as DirectCall takes it.
        dimensions: of an answer.
    """
    call = DirectCall(booster, rounds, missing)
    if dimensions not in _verdicts:
        _verdicts[dimensions] = _agrees(call, booster, rounds, missing)
    return call if _verdicts[dimensions] else None


def _agrees(
    call: DirectCall, booster: xgboost.Booster, rounds: tuple[int, int], missing: float
) -> bool:
    tried = np.random.default_rng(0).normal(size=(_TRIED_ROWS, booster.num_features()))
    tried[0], tried[1] = 0.0, np.nan
    rows = tried.astype(np.float32)
    known = booster.inplace_predict(
        rows, iteration_range=rounds, missing=missing, validate_features=False
    )
    try:
        return all(
            np.array_equal(found, wanted) and found.dtype == wanted.dtype
            for found, wanted in (
                (call(rows), known),
                (call(rows[-1:]), known[-1:]),
                (call.one(rows[-1].tolist()), known[-1:]),
            )
        )
    except (AttributeError, ValueError, ctypes.ArgumentError):  # XGBoostError is a ValueError
        return False


def _proxy() -> ctypes.c_void_p:
    """This thread's proxy matrix: what stands for the rows on the other side."""
    found: ctypes.c_void_p | None = getattr(_here, "proxy", None)
    if found is None:
        found = ctypes.c_void_p()
        _check(_library.XGProxyDMatrixCreate(ctypes.byref(found)))
        _here.proxy = found  # threads are few and live as long as the worker
    return found


def _check(status: int) -> None:
    if status:
        raise xgboost.core.XGBoostError(_library.XGBGetLastError().decode())
