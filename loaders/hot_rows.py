"""How much time a model would have saved if it were compiled, and the last rows it was asked.

Decision: what counts are calls, not rows. Compiled, a lone row of 100 trees takes a tenth of the
time, but each row more takes thrice as long, so that a call of many rows takes longer than before.
A model that is mostly asked by tables never becomes hot.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from loaders.codecs import Array

_EVEN_ROWS = 24  # a call of so many takes as long either way
HOT_CALLS: Final = 1_000  # of lone rows: 60 us saved each pay for compiling, which takes 60 ms
_KEPT_ROWS: Final = 64


class HotRows:
    """Counts; keeps copies of the last rows, but only shortly before they may be wanted."""

    def __init__(self) -> None:
        self._saved = 0  # in rows: of a call, by how many it was below those that come out even
        self._due_at = HOT_CALLS * (_EVEN_ROWS - 1)
        self._kept: deque[Array] = deque(maxlen=_KEPT_ROWS)

    @property
    def is_due(self) -> bool:
        """Whether it is time to compile the model, or to try again where there was no room."""
        return self._saved >= self._due_at

    def note(self, rows: Array | Sequence[Sequence[float]]) -> None:
        """These were answered in one call. In the thread that predicts."""
        self._saved = max(0, self._saved + _EVEN_ROWS - len(rows))
        if self._saved > self._due_at - _KEPT_ROWS * _EVEN_ROWS:
            self._kept.extend(np.array(rows[-_KEPT_ROWS:], dtype=np.float32))

    def postpone(self) -> None:
        """Due again after twice as many calls."""
        self._due_at = 2 * max(self._saved, self._due_at)

    def table(self) -> Array:
        """The rows that were kept."""
        return np.array(list(self._kept))
