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

import functools
import math
import struct
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from loaders.codecs import Array

_PLACES = 32_768  # rows times trees a step: what the processor's second caches hold
_FLOAT = np.dtype(np.float32)
_LESS, _GREATER = np.float32(-np.inf), np.float32(np.inf)  # than any feature: they are finite


class Forest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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

    def sum_one(self, numbers: Sequence[float]) -> NDArray[np.float32] | None:
        """The sums of one row of as many numbers as there are features, an output each.

        None where one of them is infinite or none. Raises OverflowError where one is too large.
        """
        if not math.isfinite(sum(numbers)):
            return None
        row = np.frombuffer(_row_writer(self.width)(*numbers, *numbers, -math.inf), _FLOAT)
        side, value, left, roots = self.side, self.value, self.left, self.roots
        higher = row.take(side[:roots]) >= value[:roots]
        places = left[:roots] + higher
        for _ in range(self.depth - 1):
            higher = row.take(side.take(places)) >= value.take(places)
            places = np.add(left.take(places), higher, dtype=np.intp)
        return self._sum(value.take(places))

    def _sum(self, leaves: NDArray[np.float32]) -> NDArray[np.float32]:
        """Of one row, which it writes to: what is first added to the base may take its place."""
        if len(self.base) == 1:  # in half the steps
            leaves[0] += np.float32(self.base[0])
            return np.add.accumulate(leaves)[-1:]
        table = leaves.reshape(len(self.base), -1)
        table[:, 0] += np.array(self.base, _FLOAT)
        return np.add.accumulate(table, axis=1)[:, -1]

    def sum_all(self, rows: Array) -> NDArray[np.float32]:
        """The sums of each row, an output each; a feature that is missing is NaN, none infinite."""
        table, outputs = self._table(rows), len(self.base)
        summands = np.empty((outputs, self.roots // outputs + 1, len(rows)), np.float32)
        summands[:, 0] = np.array(self.base, _FLOAT)[:, None]
        leaves = np.empty((self.roots, len(rows)), np.float32)
        step = max(1, _PLACES // max(1, len(rows)))
        for first in range(0, self.roots, step):
            some = slice(first, min(first + step, self.roots))
            leaves[some] = self._walk(table, some)
        summands[:, 1:] = leaves.reshape(outputs, -1, len(rows))
        sums: NDArray[np.float32] = np.add.accumulate(summands, axis=1)[:, -1]
        return sums.T

    def _table(self, rows: Array) -> NDArray[np.float32]:
        """A row each column, written twice; then what leaves look at."""
        width = self.width
        table = np.empty((self.leaf_side + 1, len(rows)), np.float32)
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
        side, value, left = self.side, self.value, self.left
        flat, count = table.ravel(), np.intp(table.shape[1])
        own = np.arange(count)
        higher = table.take(side[some], axis=0) >= value[some, None]
        places = left[some, None].astype(np.intp) + higher
        for _ in range(self.depth - 1):
            looked_at = side.take(places) * count
            looked_at += own
            higher = flat.take(looked_at) >= value.take(places)
            places = left.take(places).astype(np.intp)
            places += higher
        return value.take(places)


@functools.lru_cache(maxsize=256)
def _row_writer(width: int) -> Callable[..., bytes]:
    """What makes a row, written twice, of numbers; an infinite one is refused, unlike by "f"."""
    return struct.Struct(f"<{2 * width + 1}f").pack
