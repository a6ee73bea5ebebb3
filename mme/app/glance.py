"""What a console shows each second: a small picture, however many models there are.

Decision: what may change is copied in one step of the event loop (50 us with 10,000 models); the
sums over all models are made in a thread, so that no request waits for them. `/state` tells all of
every model, and would take the loop a tenth of a second.
A model's rate is its requests a second, averaged over the last ten or so while anyone looks, and
over its life when nobody did. It is kept here, so requests pay nothing for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from heapq import nlargest
from math import exp
from operator import itemgetter

from mme.app.rates import Totals, rates, read_totals
from mme.cache.entry import Entry
from mme.cache.model_cache import ModelCache
from mme.metrics import Metrics
from mme.workers.pool import Pool

_BLOCKS_SHOWN = 300
_EVENTS_SHOWN = 40
_LOADING_SHOWN = 20
_RATE_SECONDS = 10.0
_LEVELS = (0.01, 0.1, 1.0, 10.0)  # requests a second, between the groups of what is not shown
_HELD = ("queued", "running", "models", "state", "worker", "pid", "restarts", "private_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Seen:
    entries: list[Entry]
    totals: Totals
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
        self._rates: dict[str, tuple[int, float]] = {}  # by copy: hits, and hits a second

    async def take(self) -> dict[str, object]:
        """What there is to see now, as JSON. One at a time."""
        totals, former = read_totals(self._metrics, time.monotonic()), self._former
        self._former = totals
        told: dict[str, object] = {"rates": rates(former, totals), "totals": totals.counts}
        if self._cache is None or self._pool is None:
            return told
        seen = self._see(totals, self._cache, self._pool)
        return {**told, **await asyncio.to_thread(self._tell, seen, former)}

    def rate(self, entry: Entry) -> float:
        """Requests a second that `entry` had lately."""
        known = self._rates.get(entry.copy_id)
        return known[1] if known else _of_life(entry, time.monotonic())

    def _see(self, totals: Totals, cache: ModelCache, pool: Pool) -> _Seen:
        ledger = cache.residents.ledger
        return _Seen(
            entries=list(cache.residents),
            totals=totals,
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

    def _tell(self, seen: _Seen, former: Totals | None) -> dict[str, object]:
        now = seen.totals.at
        seconds = now - former.at if former else None
        self._rates = {
            entry.copy_id: self._rate_since(entry, now, seconds) for entry in seen.entries
        }
        blocks, others = _picture(
            [(entry, self._rates[entry.copy_id][1]) for entry in seen.entries]
        )
        return {
            "memory": {**seen.memory, "models": len(seen.entries)},
            "blocks": blocks,
            "others": others,
            "loading": seen.loading,
            "events": seen.events,
            "workers": seen.workers,
        }

    def _rate_since(self, entry: Entry, now: float, seconds: float | None) -> tuple[int, float]:
        known, hits = self._rates.get(entry.copy_id), entry.hits
        if known is None or not seconds:
            return hits, _of_life(entry, now)
        kept = exp(-seconds / _RATE_SECONDS)
        return hits, known[1] * kept + (hits - known[0]) / seconds * (1 - kept)


def _of_life(entry: Entry, now: float) -> float:
    return (entry.hits + 1) / max(_RATE_SECONDS, now - entry.loaded_at)


def _picture(
    rated: Sequence[tuple[Entry, float]],
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """The largest and the hottest each by itself, the others in groups by how hot they are."""
    shown = rated
    if len(rated) > _BLOCKS_SHOWN:
        half = _BLOCKS_SHOWN // 2
        large = nlargest(half, rated, key=lambda one: one[0].loaded.resident_bytes)
        chosen = {one[0].copy_id: one for one in (*large, *nlargest(half, rated, itemgetter(1)))}
        shown = list(chosen.values())
        rated = [one for one in rated if one[0].copy_id not in chosen]
    else:
        rated = ()
    return [_block(entry, rate) for entry, rate in shown], _groups(rated)


def _block(entry: Entry, rate: float) -> dict[str, object]:
    return {
        "model": entry.key,
        "bytes": entry.loaded.resident_bytes,
        "rate": round(rate, 3),
        "hits": entry.hits,
        "pinned": entry.pinned,
        "worker": entry.slot.index,
    }


def _groups(rated: Sequence[tuple[Entry, float]]) -> list[dict[str, object]]:
    counts, sizes, sums = ([0] * (len(_LEVELS) + 1) for _ in range(3))
    rate_sums = [float(x) for x in sums]
    for entry, rate in rated:
        level = sum(rate >= bound for bound in _LEVELS)
        counts[level] += 1
        sizes[level] += entry.loaded.resident_bytes
        rate_sums[level] += rate
    return [
        {"models": count, "bytes": size, "rate": round(total / count, 4)}
        for count, size, total in zip(counts, sizes, rate_sums, strict=True)
        if count
    ]
