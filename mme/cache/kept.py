"""Models that were evicted and that their worker has kept: to bring one back takes no load.

Who was evicted the longest ago is forgotten first, as the workers do. One that is not known here is
loaded; one that its worker has lost meanwhile is found out by asking for it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from mme.cache.entry import Entry
from mme.domain import ModelKey

KEPT_BYTES: Final = 256 * 1024**2  # by each worker; loaders keep about as much


class Kept:
    """What was in memory, by key, as it was."""

    def __init__(self) -> None:
        self._entries: OrderedDict[ModelKey, Entry] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, entry: Entry, limit_bytes: int) -> None:
        """`entry` was evicted, and is kept.

        Args:
            entry: what it was.
            limit_bytes: that all may have taken which are known here.
        """
        self.drop(entry.key)
        self._entries[entry.key] = entry
        self._bytes += entry.loaded.resident_bytes
        while self._bytes > limit_bytes:
            self.drop(next(iter(self._entries)))

    def get(self, key: ModelKey) -> Entry | None:
        """What `key` was, if that is kept."""
        return self._entries.get(key)

    def drop(self, key: ModelKey) -> None:
        """From now on `key` has to be loaded."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry.loaded.resident_bytes
