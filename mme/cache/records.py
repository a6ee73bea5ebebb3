"""What happened to models in memory, why, and for whom: the latest events, the last of each model.

All bounded: a ring of events, the last event of so many models, and, apart from both so that no
client and no outage can flush them, the last names that the store had no object for, or no answer.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import islice

LOADED = "loaded"
ABSENT, UNAVAILABLE = "absent", "unavailable"
_NOTHING_CAME = {ABSENT, UNAVAILABLE}
_KEPT = 10_000
_MODELS_KEPT = 20_000
_NOTHING_KEPT = 1_000
_SHOWN = 500
_SHOWN_OF_ONE = 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One event.

    `kind` is `loaded`, or says how the model left memory (evicted, superseded, deleted, unloaded,
    lost, ...), or why it never came (failed, refused, absent, unavailable), with `bytes` 0 then.
    """

    at: float  # seconds since the epoch
    kind: str
    model: str
    bytes: int
    reason: str
    for_whom: str | None  # the model whose load asked for the room
    before_bytes: int  # of all models that answer, before and after the event
    after_bytes: int


class Records:
    """The latest events, oldest first.

    Args:
        clock: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._answering_bytes = 0
        self._records: deque[Record] = deque(maxlen=_KEPT)
        self._last: OrderedDict[str, Record] = OrderedDict()
        self._nothing: OrderedDict[str, Record] = OrderedDict()
        self.is_complete = True  # nothing was dropped yet for want of space

    def add(
        self, kind: str, model: str, size_bytes: int, reason: str, *, for_whom: str | None = None
    ) -> Record:
        """Records an event that happens now.

        Args:
            kind: see Record.
            model: the target model.
            size_bytes: what comes into memory or leaves it.
            reason: why, for an operator.
            for_whom: the model whose load asked for the room.
        """
        before_bytes = self._answering_bytes
        self._answering_bytes += size_bytes if kind == LOADED else -size_bytes
        record = Record(
            at=self._clock(),
            kind=kind,
            model=model,
            bytes=size_bytes,
            reason=reason,
            for_whom=for_whom,
            before_bytes=before_bytes,
            after_bytes=self._answering_bytes,
        )
        if kind in _NOTHING_CAME:
            self._keep(self._nothing, record, _NOTHING_KEPT)
        else:
            self._records.append(record)
            self._keep(self._last, record, _MODELS_KEPT)
        return record

    def last(self, model: str) -> Record | None:
        """The last thing that happened to `model`, as far as that is still known."""
        known = [kept[model] for kept in (self._last, self._nothing) if model in kept]
        return max(known, key=lambda record: record.at, default=None)

    def of(self, model: str) -> list[Record]:
        """The latest events of `model`, oldest first. Takes time; for people who ask."""
        theirs = (record for record in reversed(self._records) if record.model == model)
        return list(islice(theirs, _SHOWN_OF_ONE))[::-1]

    def lasts(self) -> dict[str, Record]:
        """The last event of each model, as far as that is still known."""
        return {**self._nothing, **self._last}

    def latest(self, count: int) -> list[Record]:
        """The latest events, the newest first."""
        return list(islice(reversed(self._records), count))

    def describe(self) -> list[dict[str, object]]:
        """The latest events, as JSON."""
        return [asdict(record) for record in self.latest(_SHOWN)][::-1]

    def _keep(self, kept: OrderedDict[str, Record], record: Record, limit: int) -> None:
        kept[record.model] = record
        kept.move_to_end(record.model)
        if len(kept) > limit:
            kept.popitem(last=False)
            self.is_complete = False
