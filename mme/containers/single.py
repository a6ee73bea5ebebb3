"""The one model of a container: in memory from the start, put back when it is lost.

Decision: it is pinned, and looked after by a task of its own rather than by whoever asks for its
health, so that a ping never waits and never loads.
"""

from __future__ import annotations

import asyncio

import structlog

from mme.cache.model_cache import ModelCache
from mme.containers.engine import MultiModelEngine
from mme.domain import ModelKey
from mme.errors import MmeError

_log = structlog.get_logger()
_LOOK_SECONDS = 0.5


class SingleModel:
    """A model that is always wanted.

    Args:
        key: which.
        cache: what is in memory.
        engine: loads.
        load_seconds: the cache's limit on a load.
        concurrency: how many requests it is worth sending at once.
    """

    def __init__(
        self,
        key: ModelKey,
        cache: ModelCache,
        engine: MultiModelEngine,
        load_seconds: float,
        *,
        concurrency: int,
    ) -> None:
        self.key = key
        self.concurrency = concurrency
        self._cache = cache
        self._engine = engine
        self._load_seconds = load_seconds
        self._failure: str | None = None
        cache.residents.pin(key)

    def is_loaded(self) -> bool:
        """Whether it answers now."""
        return self._cache.residents.current(self.key) is not None

    def failure(self) -> str | None:
        """Why it can't be loaded; None while it is being loaded for the first time."""
        return None if self.is_loaded() else self._failure

    async def keep_loaded(self) -> None:
        """Loads it, again where it was lost or failed; a failed load is not tried at once."""
        while True:
            if not self.is_loaded():
                await self._load()
            await asyncio.sleep(_LOOK_SECONDS)

    async def _load(self) -> None:
        deadline = asyncio.get_running_loop().time() + self._load_seconds
        try:
            await self._engine.load(self.key, deadline)
        except MmeError as error:
            if self._failure != str(error):
                _log.error("model_unavailable", reason=str(error))
            self._failure = str(error)
