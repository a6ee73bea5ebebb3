"""How many rows a model was asked, and the last of them before it is found hot."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import numpy as np

from loaders.codecs import Array

HOT_ROWS: Final = 1_000  # 60 us saved each: so many more pay for compiling, which takes 60 ms
_KEPT_ROWS: Final = 64


class HotRows:
    """Counts; keeps copies of the last rows, but only shortly before they may be wanted."""

    def __init__(self) -> None:
        self._answered = 0
        self._due_at = HOT_ROWS
        self._kept: deque[Array] = deque(maxlen=_KEPT_ROWS)

    @property
    def is_due(self) -> bool:
        """Whether it is time to compile the model, or to try again where there was no room."""
        return self._answered >= self._due_at

    def note(self, rows: Array | Sequence[Sequence[float]]) -> None:
        """These were answered. In the thread that predicts."""
        self._answered += len(rows)
        if self._answered > self._due_at - _KEPT_ROWS:
            self._kept.extend(np.array(rows[-_KEPT_ROWS:], dtype=np.float32))

    def postpone(self) -> None:
        """Due again after twice as many rows."""
        self._due_at = 2 * max(self._answered, self._due_at)

    def table(self) -> Array:
        """The rows that were kept."""
        return np.array(list(self._kept))
