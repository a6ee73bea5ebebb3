"""What models have left behind in a worker when they went. Pure: others measure.

Decision: only what happens while models are loaded and unloaded counts. What they take on later,
while they predict, is held by the living, and would make a worker look leaky that is not.
"""

from __future__ import annotations


class Losses:
    """A running account: memory that is neither charged to a model nor given back."""

    def __init__(self) -> None:
        self._charged_bytes: dict[str, int] = {}  # by model
        self.lost_bytes = 0

    def came(self, model: str, *, charged_bytes: int, grown_bytes: int) -> None:
        """A model was loaded; the process has grown by less if it filled what others had left."""
        self._charged_bytes[model] = charged_bytes
        self._add(grown_bytes - charged_bytes)

    def charged_bytes(self, models: list[str]) -> int:
        """What these are charged."""
        return sum(self._charged_bytes[model] for model in models)

    def went(self, models: list[str], *, returned_bytes: int) -> None:
        """Models were unloaded, and the process has shrunk by so much."""
        self._add(sum(map(self._charged_bytes.pop, models)) - returned_bytes)

    def _add(self, more_bytes: int) -> None:
        self.lost_bytes = max(0, self.lost_bytes + more_bytes)
