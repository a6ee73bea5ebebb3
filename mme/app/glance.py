"""What a console shows each second: a small picture, however many models there are.

Decision: what may change is copied in one step of the event loop (50 us with 10,000 models); the
sums over all models are made in a thread, so that no request waits for them. `/state` tells all of
every model, and takes a hundred times as long.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict, dataclass

from mme.app.heat import Heat
from mme.app.picture import draw
from mme.app.rates import Totals, rates, read_totals
from mme.cache.entry import Entry
from mme.cache.model_cache import ModelCache
from mme.metrics import Metrics
from mme.workers.pool import Pool

_EVENTS_SHOWN = 40
_LOADING_SHOWN = 20
_HELD = ("queued", "running", "models", "state", "worker", "pid", "restarts", "private_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    entries: list[Entry]
    at: float  # monotonic
    memory: dict[str, int]
    loading: list[str]
    events: list[dict[str, object]]
    workers: list[dict[str, object]]


class Glances:
    """Looks at one engine, once a second at most, while anyone wants to see."""

    def __init__(self, cache: ModelCache | None, pool: Pool | None, metrics: Metrics) -> None:
        self._cache = cache
        self._pool = pool
        self._metrics = metrics
        self._former: Totals | None = None
        self.heat: Heat[Entry] = Heat()

    async def take(self) -> dict[str, object]:
        """What there is to see now, as JSON. One at a time."""
        totals, former = read_totals(self._metrics, time.monotonic()), self._former
        self._former = totals
        told: dict[str, object] = {"rates": rates(former, totals), "totals": totals.counts}
        if self._cache is None or self._pool is None:
            return told
        seen = self._see(totals.at, self._cache, self._pool)
        return {**told, **await asyncio.to_thread(self._tell, seen)}

    def _see(self, at: float, cache: ModelCache, pool: Pool) -> _Seen:
        ledger = cache.residents.ledger
        return _Seen(
            entries=list(cache.residents),
            at=at,
            memory={
                "budget_bytes": ledger.budget_bytes,
                "reserved_bytes": ledger.reserved_bytes,
                "resident_bytes": ledger.resident_bytes,
                "leaving_bytes": ledger.leaving_bytes,
            },
            loading=[str(key) for key in cache.loading.keys()[:_LOADING_SHOWN]],
            events=[asdict(record) for record in cache.records.latest(_EVENTS_SHOWN)],
            workers=[{name: each[name] for name in _HELD} for each in pool.describe()],
        )

    def _tell(self, seen: _Seen) -> dict[str, object]:
        blocks, others = draw(self.heat.look(seen.entries, seen.at))
        return {
            "memory": {**seen.memory, "models": len(seen.entries)},
            "blocks": blocks,
            "others": others,
            "loading": seen.loading,
            "events": seen.events,
            "workers": seen.workers,
        }
