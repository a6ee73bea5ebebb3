"""Scores a compiled forest with ONNX Runtime: rows in, answers out, as XGBoost gives them.

Decision: a lone row is written where it was the last time, and its sums are read from where they
always lie: bound once, a call takes two thirds of the time. One thread, and no arena, as for all
models of ONNX.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np

from loaders.codecs import Array
from loaders.contract import LoadRefused
from loaders.forest import Forest
from loaders.tree_graph import MARGINS, ROWS, write_graph
from loaders.xgboost_objectives import Transform

_FATAL = 4  # the only messages that it may write to the log by itself
_NODE_BYTES = 64  # at least, of a node that is scored
_ONE_LEAF = Forest(
    width=1,
    base=(0.0,),
    roots=1,
    depth=0,
    side=np.full(1, 2, np.uint8),
    value=np.zeros(1, np.float32),
    left=np.zeros(1, np.uint8),
)


class CompiledCall:
    """Predicts with one forest, in one thread at a time.

    Args:
        forest: the trees.
        transform: sums -> answers.
    """

    def __init__(self, forest: Forest, transform: Transform) -> None:
        self._transform = transform
        self._session = _open_session(write_graph(forest))
        self._row = np.zeros((1, forest.width), np.float32)
        self._sums = np.zeros((1, len(forest.base)), np.float32)
        self._bound = self._session.io_binding()
        for bind, name, table in (
            (self._bound.bind_input, ROWS, self._row),
            (self._bound.bind_output, MARGINS, self._sums),
        ):
            bind(name, "cpu", 0, np.float32, table.shape, table.ctypes.data)
        self._write_row = struct.Struct(f"<{forest.width}f").pack_into
        self.nbytes = _NODE_BYTES * forest.nodes

    def predict(self, rows: Array) -> Array:
        """The answers to rows of as many features."""
        return self._transform.many(self.margins(rows))

    def margins(self, rows: Array) -> Array:
        """What the trees add up to, before any transform."""
        rows = np.require(rows, np.float32, ("C", "A"))
        [sums] = self._session.run([MARGINS], {ROWS: rows})
        found: Array = sums
        return found

    def one(self, numbers: Sequence[float]) -> Array:
        """As `predict` of this row alone. Raises OverflowError where a number is too large."""
        self._write_row(self._row.data, 0, *numbers)
        self._session.run_with_iobinding(self._bound)
        return self._transform.one(self._sums)


def prepare() -> None:
    """Imports ONNX Runtime, and has it set up what it needs for a first model.

    Raises:
        LoadRefused: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else 1.29 and later report home
    try:
        import onnxruntime  # noqa: F401, PLC0415 - on demand
    except ImportError as exc:
        raise LoadRefused("onnxruntime is not installed: pip install 'mme[onnx]'.") from exc
    CompiledCall(_ONE_LEAF, Transform(np.copy)).one([0.0])


def _open_session(graph: bytes) -> Any:  # noqa: ANN401 - untyped
    import onnxruntime  # noqa: PLC0415 - on demand

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    options.log_severity_level = _FATAL
    providers = ["CPUExecutionProvider"]
    return onnxruntime.InferenceSession(graph, options, providers, enable_fallback=0)
