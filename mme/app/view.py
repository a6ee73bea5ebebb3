"""What a console is shown of an engine: its containers, and what is in memory."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from mme.app.builtin import BuiltIn
from mme.app.elsewhere import Elsewhere
from mme.app.finding import Known, find
from mme.app.glance import Glances
from mme.containers.base import Container
from mme.domain import ModelKey
from mme.front.console_query import Search
from mme.metrics import Metrics


class View:
    """One engine, seen from outside.

    Args:
        metrics: the engine's.
        containers: all that answer.
        built_in: None where other containers alone answer.
        readiness: why it can't serve now; empty when it can.
        about: what does not change: names and places.
    """

    def __init__(
        self,
        metrics: Metrics,
        containers: Sequence[Container],
        built_in: BuiltIn | None,
        readiness: Callable[[], list[str]],
        about: Mapping[str, object],
    ) -> None:
        self._containers = containers
        self._elsewhere = Elsewhere(containers)
        self._cache = built_in.cache if built_in is not None else None
        pool = built_in.pool if built_in is not None else None
        self._glances = Glances(self._cache, pool, metrics)
        self._readiness = readiness
        self._about = about
        self._began_at = time.monotonic()

    async def glance(self) -> dict[str, object]:
        """A small picture of now, as JSON."""
        self._elsewhere.look(time.monotonic())
        return {
            "at": round(time.time(), 3),
            **self._about,
            "uptime_seconds": round(time.monotonic() - self._began_at),
            "reasons": self._readiness(),
            "containers": [_container(each.describe()) for each in self._containers],
            **await self._glances.take(),
        }

    def events(self) -> list[dict[str, object]]:
        """The latest events of the built-in engine, oldest first, as JSON."""
        return self._cache.records.describe() if self._cache is not None else []

    async def find(self, search: Search) -> dict[str, object]:
        """Models that fit, of the built-in engine and of others, as JSON."""
        cache = self._cache
        known = Known(
            entries=[entry for entry in cache.residents if not entry.retired] if cache else [],
            lasts=cache.records.lasts() if cache else {},
            loading=set(cache.loading.keys()) if cache else set(),
            rate=self._glances.heat.rate,
            elsewhere=self._elsewhere.models(),
        )
        return await asyncio.to_thread(find, known, search)

    def elsewhere(self, key: ModelKey) -> list[dict[str, object]]:
        """Which other containers have a model of that name, and how they are with it, as JSON."""
        return [held.describe() for held in self._elsewhere.models() if held.model == key]


def _container(told: Mapping[str, object]) -> dict[str, object]:
    """What it says of itself; of its lists, how long they are."""
    return {name: len(x) if isinstance(x, list) else x for name, x in told.items()}
