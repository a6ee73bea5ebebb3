"""How many bytes the disk tier takes, and may take: the sums behind the index.

    claimed   of artifacts being extracted
    resident  of artifacts on disk
    leaving   withdrawn, and counted until they have left the disk

What the file system has free counts beside the budget, since others write there, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from mme.config import DiskConfig

_FREE_BYTES = 4 * 1024**2  # left on the file system for everything else


class DiskBytes:
    """The sums. Its owner locks.

    Args:
        config: the budget and the watermarks.
        free_bytes: what the file system still takes; may raise OSError.
    """

    def __init__(self, config: DiskConfig, free_bytes: Callable[[], int]) -> None:
        self.budget = config.disk_bytes
        self._high_ratio = config.high_ratio
        self._low_ratio = min(config.low_ratio, config.high_ratio)
        self._free_bytes = free_bytes
        self.claimed = 0
        self.resident = 0
        self.leaving = 0

    @property
    def used(self) -> int:
        """Claimed, resident and leaving."""
        return self.claimed + self.resident + self.leaving

    def fits(self, size_bytes: int) -> bool:
        """Whether so many may be claimed now. Raises OSError."""
        within = self.used + size_bytes <= self.budget
        return within and self._free_bytes() >= size_bytes + _FREE_BYTES

    def is_above_high(self) -> bool:
        """Whether it is time to make room ahead of need."""
        return self._is_above(self._high_ratio)

    def is_above_low(self) -> bool:
        """Whether that has to go on."""
        return self._is_above(self._low_ratio)

    def why_full(self) -> str:
        """What stands in the way of more, where nothing can be removed."""
        if self.used < self.budget - _FREE_BYTES:
            return "The disk tier's file system is full."
        return "The disk tier is full of models in use."

    def _is_above(self, ratio: float) -> bool:
        capacity = self.budget
        with contextlib.suppress(OSError):
            capacity = max(0, min(capacity, self.used + self._free_bytes() - _FREE_BYTES))
        return self.claimed + self.resident > ratio * capacity


class Claim:
    """The bytes of one artifact while it is being extracted.

    Args:
        make_room: adds to the claim, or raises.
        release: takes it off the sums.
    """

    def __init__(
        self, make_room: Callable[[int, Claim], None], release: Callable[[Claim], None]
    ) -> None:
        self._make_room = make_room
        self._release = release
        self.taken_bytes = 0
        self.is_over = False

    def take(self, size_bytes: int) -> None:
        """Makes room for so many bytes more. Blocks.

        Raises:
            ArtifactRefused: the artifact alone is larger than the budget.
            DiskUnavailable: everything else is in use, or the file system is full.
        """
        self._make_room(size_bytes, self)

    def end(self) -> None:
        """Gives the bytes back unless they were published; nothing can be taken afterwards."""
        self._release(self)
