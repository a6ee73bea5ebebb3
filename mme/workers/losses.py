"""What models have left behind in a worker when they went. Pure: others measure.

Decisions: only what happens while models are loaded and unloaded counts. What they take on later,
while they predict, is held by the living: see `child_excess`. To trim
the heap after each small model costs more than the model did: what lies free waits until it is
worth that, and counts as lost meanwhile; where models come as others go, the next one fills it.
"""

from __future__ import annotations

import threading

_WORTH_TRIMMING_BYTES = 128 * 1024  # what a process may hold for nobody, at most, and be let be
_MUCH_BYTES = 512 * 1024  # for nobody, while models come back all the time
_MUCH_RATIO = 0.125  # of what is charged


class Losses:
    """A running account: memory that is neither charged to a model nor given back."""

    def __init__(self) -> None:
        self._charged_bytes: dict[str, int] = {}  # by model
        self.charged_bytes = 0  # in all
        self._kept_bytes = 0  # of what is lost: trimming did not give it back
        self.lost_bytes = 0
        self._turn = threading.Lock()  # models come and go in two threads

    def came(self, model: str, *, charged_bytes: int, grown_bytes: int) -> None:
        """A model was loaded; the process has grown by less if it filled what others had left."""
        self._charged_bytes[model] = charged_bytes
        self._add(grown_bytes - charged_bytes, charged_bytes)

    @property
    def untrimmed_bytes(self) -> int:
        """What is lost and may come back by trimming."""
        return self.lost_bytes - self._kept_bytes

    @property
    def is_much(self) -> bool:
        """Whether that is worth trimming for at any time."""
        return self.untrimmed_bytes >= max(_MUCH_BYTES, _MUCH_RATIO * self.charged_bytes)

    def expected_bytes(self, models: list[str]) -> int:
        """What should come back once these have gone; 0: it is not worth trimming for."""
        expected_bytes = sum(self._charged_bytes.get(model, 0) for model in models)
        expected_bytes += self.untrimmed_bytes
        return expected_bytes if expected_bytes >= _WORTH_TRIMMING_BYTES else 0

    def went(self, models: list[str], *, returned_bytes: int | None) -> None:
        """Models were unloaded, and the process has shrunk by so much; None: it wasn't trimmed.

        Who was to be recalled and had been lost took nothing.
        """
        charged_bytes = sum(self._charged_bytes.pop(model, 0) for model in models)
        self._add(charged_bytes - (returned_bytes or 0), -charged_bytes)
        if returned_bytes is not None:
            self._kept_bytes = self.lost_bytes

    def trimmed(self, returned_bytes: int) -> None:
        """The heap was, for whatever reason: what lay free came back, and is lost no longer."""
        back_bytes = min(returned_bytes, self.untrimmed_bytes)
        if back_bytes > 0:
            self._add(-back_bytes, 0)

    def _add(self, more_bytes: int, charged_bytes: int) -> None:
        with self._turn:
            self.charged_bytes += charged_bytes
            self.lost_bytes = max(0, self.lost_bytes + more_bytes)
            self._kept_bytes = min(self._kept_bytes, self.lost_bytes)
