"""A boosted forest as an ONNX graph of one node, TreeEnsemble: what ONNX Runtime scores fast.

Decisions: version 5 of the operator, which keeps half of what the one before it keeps in memory.
Each output begins with a tree of one leaf, its base score, so that ONNX Runtime adds up the same
numbers in the same order as XGBoost, in float32 both: the sums are equal to the last bit. Written
by hand, for `onnx` would have to be in every worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders.forest import Forest
from loaders.protobuf_wire import VARINT, write_field, write_varints

ROWS, MARGINS = "rows", "margins"
_LESS_THAN = b"\x01"  # NODE_MODE: true where the feature is less than the split
_FLOAT, _UINT8 = 1, 2  # TensorProto.DataType
_ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_INTS = 2, 4, 7  # AttributeProto.AttributeType
_IR_VERSION, _OPSET, _TREES_OPSET = 10, 21, 5
_SUM, _NO_TRANSFORM = 1, 0
_TREES_DOMAIN = b"ai.onnx.ml"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Columns:
    """What TreeEnsemble wants of all inner nodes, and of all leaves."""

    roots: NDArray[np.int64]
    features: NDArray[np.int64]
    splits: NDArray[np.float32]
    missing_left: NDArray[np.int64]
    children: Sequence[NDArray[np.int64]]  # left, right
    lead_to_leaves: Sequence[NDArray[np.int64]]
    outputs: NDArray[np.int64]
    weights: NDArray[np.float32]


def write_graph(forest: Forest) -> bytes:
    """An ONNX model of `forest`: rows -> what each output adds up to, before any transform."""
    outputs = len(forest.base)
    graph = (
        write_field(1, _node(_columns(forest), outputs))
        + write_field(2, b"trees")
        + write_field(11, _table(ROWS, forest.width))
        + write_field(12, _table(MARGINS, outputs))
    )
    return (
        _number(1, _IR_VERSION)
        + write_field(7, graph)
        + write_field(8, _number(2, _OPSET))
        + write_field(8, write_field(1, _TREES_DOMAIN) + _number(2, _TREES_OPSET))
    )


def _columns(forest: Forest) -> _Columns:
    """Trees that are one leaf, base scores among them, become a node whose two ways lead to it."""
    outputs, all_nodes = len(forest.base), np.arange(forest.nodes)
    is_leaf = forest.left == all_nodes
    inner, leaves = np.flatnonzero(~is_leaf), np.flatnonzero(is_leaf)
    lone = np.flatnonzero(is_leaf[: forest.roots])
    stubs = outputs + len(lone)
    places = np.where(is_leaf, outputs + np.cumsum(is_leaf), stubs + np.cumsum(~is_leaf)) - 1
    roots = places[: forest.roots].copy()
    roots[lone] = outputs + np.arange(len(lone))
    none = np.zeros(stubs, np.int64)
    stub_leaves = np.concatenate([np.arange(outputs), places[lone]])
    lefts = forest.left[inner].astype(np.int64)
    sides = lefts, lefts + 1
    owners = _owners(forest) // (forest.roots // outputs)
    return _Columns(
        roots=np.concatenate([np.arange(outputs), roots]),
        features=np.concatenate([none, forest.side[inner] % forest.width]),
        splits=np.concatenate([none.astype(np.float32), forest.value[inner]]),
        missing_left=np.concatenate([none, forest.side[inner] < forest.width]),
        children=[np.concatenate([stub_leaves, places[side]]) for side in sides],
        lead_to_leaves=[np.concatenate([none + 1, is_leaf[side]]) for side in sides],
        outputs=np.concatenate([np.arange(outputs), owners[leaves]]),
        weights=np.concatenate([np.array(forest.base, np.float32), forest.value[leaves]]),
    )


def _owners(forest: Forest) -> NDArray[np.int64]:
    """The tree of each node."""
    owners = np.zeros(forest.nodes, np.int64)
    level = np.arange(forest.roots)
    owners[level] = level
    while len(level):
        level = level[forest.left[level] != level]
        children = forest.left[level].astype(np.int64)
        owners[children] = owners[children + 1] = owners[level]
        level = np.concatenate([children, children + 1])
    return owners


def _node(columns: _Columns, outputs: int) -> bytes:
    (if_true, if_false), (true_leaf, false_leaf) = columns.children, columns.lead_to_leaves
    inner_count, leaf_count = len(columns.splits), len(columns.weights)
    integers = {
        "tree_roots": columns.roots,
        "nodes_featureids": columns.features,
        "nodes_truenodeids": if_true,
        "nodes_falsenodeids": if_false,
        "nodes_trueleafs": true_leaf,
        "nodes_falseleafs": false_leaf,
        "nodes_missing_value_tracks_true": columns.missing_left,
        "leaf_targetids": columns.outputs,
    }
    modes = _LESS_THAN * inner_count
    return b"".join(
        [
            write_field(1, ROWS.encode()),
            write_field(2, MARGINS.encode()),
            write_field(4, b"TreeEnsemble"),
            write_field(7, _TREES_DOMAIN),
            *(
                _attribute(name, _ATTRIBUTE_INT, _number(3, value))
                for name, value in (
                    ("n_targets", outputs),
                    ("aggregate_function", _SUM),
                    ("post_transform", _NO_TRANSFORM),
                )
            ),
            *(
                _attribute(name, _ATTRIBUTE_INTS, write_field(8, _packed(numbers)))
                for name, numbers in integers.items()
            ),
            _tensor("nodes_modes", _UINT8, inner_count, modes),
            _tensor("nodes_splits", _FLOAT, inner_count, _floats(columns.splits)),
            _tensor("leaf_weights", _FLOAT, leaf_count, _floats(columns.weights)),
        ]
    )


def _attribute(name: str, kind: int, content: bytes) -> bytes:
    return write_field(5, write_field(1, name.encode()) + content + _number(20, kind))


def _tensor(name: str, kind: int, length: int, raw: bytes) -> bytes:
    content = _number(1, length) + _number(2, kind) + write_field(9, raw)
    return _attribute(name, _ATTRIBUTE_TENSOR, write_field(5, content))


def _table(name: str, width: int) -> bytes:
    """A table of float32: any number of rows, `width` columns."""
    shape = write_field(1, write_field(2, b"n")) + write_field(1, _number(1, width))
    kind = write_field(1, _number(1, _FLOAT) + write_field(2, shape))
    return write_field(1, name.encode()) + write_field(2, kind)


def _number(place: int, value: int) -> bytes:
    return write_varints([place << 3 | VARINT, value])


def _packed(numbers: NDArray[np.int64]) -> bytes:
    """As `write_varints`, of numbers that are many and small: each written once."""
    written = [write_varints([number]) for number in range(int(numbers.max()) + 1)]
    return b"".join(map(written.__getitem__, numbers.tolist()))


def _floats(numbers: NDArray[np.float32]) -> bytes:
    return numbers.astype("<f4").tobytes()
