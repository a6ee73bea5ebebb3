"""The models that a platform loads and unloads by name, as the container contract has it.

Decisions: a registration stands from the moment a load begins, so that a second load of the name is
refused and an invocation waits for the first; it goes when the load fails. Loads and unloads
outlive who asked for them, because the platform gives up after its own time and asks again; while
one is under way the name is taken. A model lost with its worker stays registered and is loaded
again when it is asked for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Literal

from mme.cache.flight import Flight
from mme.cache.model_cache import ModelCache
from mme.containers.engine import MultiModelEngine
from mme.domain import ModelKey
from mme.errors import ModelConflict
from mme.store.registered import RegisteredDirectories

_Change = tuple[Literal["load", "unload"], ModelKey]
_MARGIN_SECONDS = 1.0  # by which a load's own limit comes first


class HostedModels:
    """What is registered, over one cache that may not evict.

    Args:
        directories: the cache's source of artifacts.
        cache: what is in memory.
        engine: loads.
        load_seconds: the cache's limit on a load.
    """

    def __init__(
        self,
        directories: RegisteredDirectories,
        cache: ModelCache,
        engine: MultiModelEngine,
        load_seconds: float,
    ) -> None:
        self._directories = directories
        self._cache = cache
        self._engine = engine
        self._limit_seconds = load_seconds + _MARGIN_SECONDS
        self._changes: Flight[_Change, None, None] = Flight(
            share=lambda _: None, reclaim=lambda _: None
        )

    def names(self) -> list[str]:
        """The models that are loaded."""
        registered = self._directories.keys()
        return [key for key in registered if ("load", key) not in self._changes]

    def url(self, key: ModelKey) -> str:
        """The directory of a registered model. Raises ModelMissing."""
        return str(self._directories.directory(key))

    async def load(self, key: ModelKey, url: str) -> None:
        """Registers a directory under a name and loads it.

        Raises:
            ModelConflict: the name is taken, perhaps by a load or unload under way.
            InvalidRequest, ModelMissing: the path is none, or none of a directory.
            MemoryRefused: there is no room; the platform unloads another and asks again.
            ModelError: it can't be loaded.
        Cancellation: the load goes on.
        """
        if ("unload", key) in self._changes or ("load", key) in self._changes:
            raise ModelConflict(f"Model {key} is being loaded or unloaded.")
        self._directories.register(key, url)
        await self._change("load", key, self._load)

    async def unload(self, key: ModelKey) -> None:
        """Takes a name off and its model out of memory; returns when the memory is back.

        A load under way is waited for, and so is an unload: both callers may rely on the memory.

        Raises:
            ModelMissing: there is none of that name.
        Cancellation: it leaves all the same.
        """
        if ("unload", key) not in self._changes:
            self._directories.directory(key)
        await self._change("unload", key, self._unload)

    async def close(self) -> None:
        """Gives up what is under way."""
        await self._changes.close()

    async def _change(
        self,
        kind: Literal["load", "unload"],
        key: ModelKey,
        call: Callable[[ModelKey], Awaitable[None]],
    ) -> None:
        await self._changes.join((kind, key), partial(call, key))

    async def _load(self, key: ModelKey) -> None:
        deadline = asyncio.get_running_loop().time() + self._limit_seconds
        try:
            await self._engine.load(key, deadline)
        except BaseException:
            self._directories.unregister(key)
            self._cache.failures.forget(key)  # the platform paces itself, and may mend it at once
            raise

    async def _unload(self, key: ModelKey) -> None:
        # Waits for a load under way first; nobody begins another once the name is off.
        self._directories.unregister(key)
        await self._cache.unload(key)
