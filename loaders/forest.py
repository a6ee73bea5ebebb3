"""A boosted forest as a few flat arrays, scored by walking all of its trees at once.

Decisions: numpy takes one step down every tree of every row in four calls, so that a row costs as
many rounds as the deepest tree has levels, whatever the number of trees: a lone row of a hundred
trees of depth six takes half of what XGBoost takes, ten rows as long, a thousand three times. The
arrays hold a node in seven to ten bytes, XGBoost's own in forty, and are a few allocations.

A node is one entry of each array. Siblings lie side by side, so that the step is an addition of the
comparison; a leaf leads to itself, for it compares with a feature that is less than everything. A
row is written twice, missing features once less and once greater than everything: which of the two
a node looks at is where its missing ones go. Sums are added up tree by tree in float32 from the
base score on, as XGBoost does: the same to the last bit.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Array

_PLACES = 32_768  # rows times trees a step: what the processor's second caches hold
_LESS, _GREATER = np.float32(-np.inf), np.float32(np.inf)  # than any feature: they are finite


@dataclass(frozen=True, kw_only=True, slots=True)
class Forest:
    """Trees of equal number for each output, a column a property; the first nodes are the roots.

    The roots stand output by output, within an output in the order in which they are added up.
    """

    width: int  # features
    base: tuple[float, ...]  # what each output begins with
    roots: int
    depth: int  # steps to the furthest leaf
    side: NDArray[np.unsignedinteger]  # of a row written twice, or `leaf_side`
    value: NDArray[np.float32]  # the split, or what a leaf adds
    left: NDArray[np.unsignedinteger]  # whose feature is less than the split; of a leaf: itself

    @property
    def leaf_side(self) -> int:
        """The side that all leaves look at."""
        return 2 * self.width

    @property
    def nodes(self) -> int:
        """Of all trees."""
        return len(self.value)

    @property
    def nbytes(self) -> int:
        """What the arrays hold."""
        return self.side.nbytes + self.value.nbytes + self.left.nbytes


class ForestCall:
    """Scores with one forest, in one thread at a time.

    Args:
        forest: the trees.
    """

    def __init__(self, forest: Forest) -> None:
        self.forest = forest
        roots = slice(forest.roots)
        self._sides = forest.side[roots].astype(np.intp)
        self._values = forest.value[roots]
        self._lefts = forest.left[roots].astype(np.intp)
        self._base = np.array(forest.base, np.float32)
        self._row = np.full(forest.leaf_side + 1, _LESS)
        self._write_row = struct.Struct(f"<{forest.width}f").pack_into
        self._summands = np.empty(
            (len(self._base), forest.roots // len(self._base) + 1), np.float32
        )
        self._summands[:, 0] = self._base

    def one(self, numbers: Sequence[float]) -> NDArray[np.float32] | None:
        """The sums of one row of as many numbers as there are features, an output each.

        None where one of them is infinite or none. Raises OverflowError where one is too large.
        """
        if not math.isfinite(sum(numbers)):
            return None
        forest, row, width = self.forest, self._row, self.forest.width
        self._write_row(row.data, 0, *numbers)
        row[width:-1] = row[:width]
        side, value, left = forest.side, forest.value, forest.left
        places = self._lefts + (row.take(self._sides) >= self._values)
        for _ in range(forest.depth - 1):
            higher = row.take(side.take(places)) >= value.take(places)
            places = np.add(left.take(places), higher, dtype=np.intp)
        summands = self._summands
        summands[:, 1:] = value.take(places).reshape(len(summands), -1)
        sums: NDArray[np.float32] = np.add.accumulate(summands, axis=1)[:, -1]
        return sums

    def __call__(self, rows: Array) -> NDArray[np.float32]:
        """The sums of each row, an output each; a feature that is missing is NaN, none infinite."""
        table, outputs = self._table(rows), len(self._base)
        summands = np.empty((outputs, self.forest.roots // outputs + 1, len(rows)), np.float32)
        summands[:, 0] = self._base[:, None]
        leaves = np.empty((self.forest.roots, len(rows)), np.float32)
        step = max(1, _PLACES // max(1, len(rows)))
        for first in range(0, self.forest.roots, step):
            some = slice(first, first + step)
            leaves[some] = self._walk(table, some)
        summands[:, 1:] = leaves.reshape(outputs, -1, len(rows))
        sums: NDArray[np.float32] = np.add.accumulate(summands, axis=1)[:, -1]
        return sums.T

    def _table(self, rows: Array) -> NDArray[np.float32]:
        """A row each column, written twice; then what leaves look at."""
        width = self.forest.width
        table = np.empty((self.forest.leaf_side + 1, len(rows)), np.float32)
        less, greater = table[:width], table[width:-1]
        less[:] = rows.T
        greater[:] = less
        table[-1] = _LESS
        missing = np.isnan(less)
        if missing.any():
            less[missing], greater[missing] = _LESS, _GREATER
        return table

    def _walk(self, table: NDArray[np.float32], some: slice) -> NDArray[np.float32]:
        """What some of the trees add to each row."""
        side, value, left = self.forest.side, self.forest.value, self.forest.left
        flat, count = table.ravel(), np.intp(table.shape[1])
        own = np.arange(count)
        higher = table.take(self._sides[some], axis=0) >= self._values[some, None]
        places = self._lefts[some, None] + higher
        for _ in range(self.forest.depth - 1):
            looked_at = side.take(places) * count
            looked_at += own
            higher = flat.take(looked_at) >= value.take(places)
            places = left.take(places).astype(np.intp)
            places += higher
        return value.take(places)
