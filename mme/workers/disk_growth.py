"""Which of a worker's models filled its directory. Pure; the times are arguments.

Decision: nobody sees who writes a file, for models share a process; so what has come between two
looks is put down to whose batches have written it, as far as the worker tells, and the rest shared
out among those that it was at, by how long it was. Who has most by the time that it is too much is
to blame, though it may be at rest by then. What comes while the worker is at nothing is put down to
whom it was at before; what goes, goes from all alike.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping


class Growth:
    """A running account of shares by model, from look to look."""

    def __init__(self) -> None:
        self._at: dict[object, str] = {}  # what the worker was given; it is at the first
        self._busy_seconds: dict[str, float] = {}  # since the last look
        self._before: dict[str, float] = {}  # the same of the last time that it was busy
        self._written_bytes: dict[str, int] = {}  # since the last look, as they say
        self._shares: dict[str, float] = {}
        self._used_bytes = 0
        self._untold_bytes = 0.0  # of the last growth: who wrote it may tell by the next look
        self._untold: Mapping[str, float] = {}  # whose it is else, by seconds

    def began(self, what: object, model: str) -> None:
        """The worker was given something to do; a load is called as its model."""
        self._at[what] = model

    def ended(self, what: object, seconds: float, written_bytes: int = 0) -> None:
        """It was at it for so long."""
        if model := self._at.pop(what, ""):
            self._busy_seconds[model] = self._busy_seconds.get(model, 0.0) + seconds
            if written_bytes > 0:
                known_bytes = self._written_bytes.get(model, 0)
                self._written_bytes[model] = known_bytes + written_bytes

    def looked(self, used_bytes: int, seconds: float) -> None:
        """So much was found, so long after the last look."""
        busy_seconds, written_bytes = self._busy_in(seconds), self._written_bytes
        grown_bytes, before_bytes = used_bytes - self._used_bytes, self._used_bytes
        self._used_bytes, self._written_bytes = used_bytes, {}
        told_bytes = min(
            max(0, grown_bytes) + self._untold_bytes, float(sum(written_bytes.values()))
        )
        _share_out(told_bytes, written_bytes, self._shares)
        late_bytes = min(told_bytes, self._untold_bytes)
        _share_out(self._untold_bytes - late_bytes, self._untold, self._shares)
        self._untold_bytes = max(0.0, grown_bytes - (told_bytes - late_bytes))
        self._untold = busy_seconds
        if grown_bytes < 0:
            left = used_bytes / before_bytes
            self._shares = {model: left * share for model, share in self._shares.items() if left}

    def most(self) -> str:
        """The model with the largest share; "": nobody has any."""
        shares = dict(self._shares)
        _share_out(self._untold_bytes, self._untold, shares)
        return max(shares, key=shares.__getitem__, default="")

    def is_loading(self, model: str) -> bool:
        """Whether the worker is at its load."""
        return model in self._at

    def _busy_in(self, seconds: float) -> dict[str, float]:
        busy = {model: min(each, seconds) for model, each in self._busy_seconds.items()}
        for model in itertools.islice(self._at.values(), 1):
            busy[model] = busy.get(model, 0.0) + max(0.0, seconds - sum(busy.values()))
        self._busy_seconds = {}
        self._before = busy or self._before
        return self._before


def _share_out(grown_bytes: float, weights: Mapping[str, float], shares: dict[str, float]) -> None:
    weight = sum(weights.values())
    if grown_bytes and weight:
        for model, part in weights.items():
            shares[model] = shares.get(model, 0.0) + grown_bytes * part / weight
