"""A boosted forest as an ONNX graph of one node, TreeEnsemble: what ONNX Runtime scores fast.

Decisions: version 5 of the operator, which keeps half of what the one before it keeps in memory.
Each output begins with a tree of one leaf, its base score, so that ONNX Runtime adds up the same
numbers in the same order as XGBoost, in float32 both: the sums are equal to the last bit. Written
by hand, for `onnx` would have to be in every worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loaders.protobuf_wire import VARINT, write_field, write_varints

ROWS, MARGINS = "rows", "margins"
_NO_CHILD = -1
_LESS_THAN = b"\x01"  # NODE_MODE: true where the feature is less than the split
_FLOAT, _UINT8 = 1, 2  # TensorProto.DataType
_ATTRIBUTE_INT, _ATTRIBUTE_TENSOR, _ATTRIBUTE_INTS = 2, 4, 7  # AttributeProto.AttributeType
_IR_VERSION, _OPSET, _TREES_OPSET = 10, 21, 5
_SUM, _NO_TRANSFORM = 1, 0
_TREES_DOMAIN = b"ai.onnx.ml"


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """One tree, a column a property; node 0 is its root."""

    left: NDArray[np.int64]  # whose feature is less than the split, or missing; -1: a leaf
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    value: NDArray[np.float32]  # the split, or what a leaf adds
    missing_left: NDArray[np.int64]  # whether a missing feature leads left: 0 or 1
    output: int  # to which it adds


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """Trees, and what each output begins with."""

    width: int  # features
    base: tuple[float, ...]  # an output each
    trees: Sequence[Tree]

    @property
    def nodes(self) -> int:
        """Of all trees."""
        return sum(len(tree.left) for tree in self.trees)


@dataclass(slots=True)
class _Columns:
    """What TreeEnsemble wants of all inner nodes, and of all leaves, end to end."""

    roots: list[int] = field(default_factory=list)
    features: list[NDArray[np.int64]] = field(default_factory=list)
    splits: list[NDArray[np.float32]] = field(default_factory=list)
    missing: list[NDArray[np.int64]] = field(default_factory=list)
    children: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = field(
        default_factory=lambda: ([], [])
    )
    lead_to_leaves: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = field(
        default_factory=lambda: ([], [])
    )
    outputs: list[NDArray[np.int64]] = field(default_factory=list)
    weights: list[NDArray[np.float32]] = field(default_factory=list)
    inner_count: int = 0
    leaf_count: int = 0

    def add_leaf(self, weight: float, output: int) -> None:
        """A tree that is one leaf: a node whose two ways lead to it."""
        self.roots.append(self.inner_count)
        zero, one = np.zeros(1, np.int64), np.ones(1, np.int64)
        self.features.append(zero)
        self.splits.append(np.zeros(1, np.float32))
        self.missing.append(zero)
        for children, leads in zip(self.children, self.lead_to_leaves, strict=True):
            children.append(zero + self.leaf_count)
            leads.append(one)
        self._add_leaves(np.array([weight], np.float32), output)
        self.inner_count += 1

    def add_tree(self, tree: Tree) -> None:
        inner, leaf = np.flatnonzero(tree.left != _NO_CHILD), tree.left == _NO_CHILD
        if not len(inner):
            self.add_leaf(tree.value[0], tree.output)
            return
        leaves, others = self.leaf_count + np.cumsum(leaf), self.inner_count + np.cumsum(~leaf)
        places = np.where(leaf, leaves, others) - 1
        self.roots.append(self.inner_count)
        self.features.append(tree.feature[inner])
        self.splits.append(tree.value[inner])
        self.missing.append(tree.missing_left[inner])
        sides = (tree.left[inner], tree.right[inner])
        for side, children, leads in zip(sides, self.children, self.lead_to_leaves, strict=True):
            children.append(places[side])
            leads.append(leaf[side].astype(np.int64))
        self._add_leaves(tree.value[leaf], tree.output)
        self.inner_count += len(inner)

    def _add_leaves(self, weights: NDArray[np.float32], output: int) -> None:
        self.weights.append(weights)
        self.outputs.append(np.full(len(weights), output))
        self.leaf_count += len(weights)


def write_graph(forest: Forest) -> bytes:
    """An ONNX model of `forest`: rows -> what each output adds up to, before any transform."""
    columns = _Columns()
    for output, base in enumerate(forest.base):
        columns.add_leaf(base, output)
    for tree in forest.trees:
        columns.add_tree(tree)
    outputs = len(forest.base)
    graph = (
        write_field(1, _node(columns, outputs))
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


def _node(columns: _Columns, outputs: int) -> bytes:
    (if_true, if_false), (true_leaf, false_leaf) = columns.children, columns.lead_to_leaves
    integers = {
        "tree_roots": [np.array(columns.roots)],
        "nodes_featureids": columns.features,
        "nodes_truenodeids": if_true,
        "nodes_falsenodeids": if_false,
        "nodes_trueleafs": true_leaf,
        "nodes_falseleafs": false_leaf,
        "nodes_missing_value_tracks_true": columns.missing,
        "leaf_targetids": columns.outputs,
    }
    modes = _LESS_THAN * columns.inner_count
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
                _attribute(name, _ATTRIBUTE_INTS, write_field(8, _packed(np.concatenate(parts))))
                for name, parts in integers.items()
            ),
            _tensor("nodes_modes", _UINT8, columns.inner_count, modes),
            _tensor("nodes_splits", _FLOAT, columns.inner_count, _floats(columns.splits)),
            _tensor("leaf_weights", _FLOAT, columns.leaf_count, _floats(columns.weights)),
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


def _floats(parts: list[NDArray[np.float32]]) -> bytes:
    return np.concatenate(parts).astype("<f4").tobytes()
