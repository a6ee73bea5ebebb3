"""What an operator may do to target models in the ordinary mode: load ahead, look, unload, pin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from mme.cache.entry import Entry
from mme.cache.model_cache import ModelCache
from mme.cache.warming import Warming
from mme.containers.engine import MultiModelEngine
from mme.domain import ModelKey
from mme.errors import ModelMissing


class OperatedModels:
    """The models of one cache.

    Args:
        location: of the store, which a model's URL begins with.
        cache: what is in memory.
        engine: loads.
        load_seconds: the cache's limit on a load.
        warming: loads ahead.
    """

    def __init__(
        self,
        location: str,
        cache: ModelCache,
        engine: MultiModelEngine,
        load_seconds: float,
        warming: Warming,
    ) -> None:
        self._location = location
        self._cache = cache
        self._engine = engine
        self._load_seconds = load_seconds
        self._warming = warming

    def names(self) -> set[ModelKey]:
        """Of what is in memory and answers."""
        return {entry.key for entry in self._cache.residents if not entry.retired}

    def describe(self, key: ModelKey) -> dict[str, object]:
        """One of those: its first copy, which is the pinned one of several. Raises ModelMissing."""
        copies = self._copies(key)
        told = copies[0].describe(time.monotonic())
        return {
            "modelName": key,
            "modelUrl": self._location + key,
            **{name: told[name] for name in told if name != "model"},
            "hits": sum(copy.hits for copy in copies),
            "copies": len(copies),
        }

    async def load(self, key: ModelKey) -> dict[str, object]:
        """Brings a model into memory, and describes it.

        Raises:
            ArtifactUnavailable, StoreUnavailable, ModelError: why it can't be loaded.
            ModelNotReady: not within the time for loads.
        Cancellation: the load goes on.
        """
        deadline = asyncio.get_running_loop().time() + self._load_seconds
        await self._engine.load(key, deadline)
        return self.describe(key)

    async def prewarm(self, keys: Sequence[ModelKey]) -> dict[str, object]:
        """Begins to load these behind all requests, as far as there is room without evicting.

        Raises:
            StoreUnavailable: which of them exist can't be said.
        """
        absent = [key for key in keys if self._cache.residents.current(key) is None]
        unknown = await self._warming.look_up(absent)
        taken = [key for key in absent if key not in unknown]
        self._warming.add(taken)
        return {
            "taken": len(taken),
            "inMemory": len(keys) - len(absent),
            "unknown": [{"modelName": key, "reason": unknown[key].reason} for key in unknown],
        }

    async def refresh(self, key: ModelKey) -> dict[str, object]:
        """Asks the store now; describes the newest version once that answers.

        Raises:
            ModelMissing: it is not in memory, and will be the newest when it is asked for.
            ArtifactUnavailable: the object is gone, or denied.
            MmeError: why the newest can't be loaded; what was there still answers.
        """
        self._copies(key)
        await self._cache.refresh(key)
        return self.describe(key)

    async def unload(self, key: ModelKey) -> None:
        """Takes a model out of memory; returns when its memory is back. It may come back.

        Raises:
            ModelMissing: it is not in memory.
        Cancellation: it leaves all the same.
        """
        if not await self._cache.unload(key):
            raise _missing(key)

    def pin(self, key: ModelKey) -> dict[str, object]:
        """Keeps a model that is in memory from being evicted. Raises ModelMissing."""
        self._copies(key)
        self._cache.residents.pin(key)
        return self.describe(key)

    def unpin(self, key: ModelKey) -> dict[str, object]:
        """Lets it be evicted again. Raises ModelMissing."""
        self._copies(key)
        self._cache.residents.unpin(key)
        return self.describe(key)

    def _copies(self, key: ModelKey) -> tuple[Entry, ...]:
        copies = self._cache.residents.copies(key)
        if not copies:
            raise _missing(key)
        return copies


def _missing(key: ModelKey) -> ModelMissing:
    return ModelMissing(f"Model not in memory: {key}")
