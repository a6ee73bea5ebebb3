"""What happened to models in memory, and why: the latest events, for `/state`."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass

_KEPT = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One event.

    `kind` is one of loaded, evicted, superseded, deleted, unloaded, lost, failed, refused.
    """

    at: float  # seconds since the epoch
    kind: str
    model: str
    bytes: int
    reason: str


class Records:
    """The latest events, oldest first.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._records: deque[Record] = deque(maxlen=_KEPT)

    def add(self, kind: str, model: str, size_bytes: int, reason: str) -> Record:
        """Records an event that happens now."""
        record = Record(at=self._clock(), kind=kind, model=model, bytes=size_bytes, reason=reason)
        self._records.append(record)
        return record

    def describe(self) -> list[dict[str, object]]:
        """All that is kept, as JSON."""
        return [asdict(record) for record in self._records]
