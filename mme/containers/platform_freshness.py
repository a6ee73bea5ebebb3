"""Is what a multi-model container has loaded still the current version: asks the store.

As for the built-in engine: half-way through `refresh_seconds` a use asks behind the answer's back,
after the whole of it a use waits for that, though never longer than `_WAIT_SECONDS`. A new version
takes over when it is loaded; a deleted one stops answering; a store that does not answer, or denies
what it gave before, changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import structlog

from mme.cache.flight import Flight
from mme.containers.platform_loading import Loading
from mme.containers.platform_room import Room
from mme.containers.registry import Entry
from mme.domain import ModelKey
from mme.errors import ArtifactUnavailable, MmeError
from mme.store.base import Versions

_log = structlog.get_logger()
_WAIT_SECONDS: Final = 2.0


class Freshness:
    """Checks of loaded models against the store."""

    def __init__(
        self,
        refresh_seconds: float,
        *,
        room: Room,
        loading: Loading,
        versions: Versions,
        artifact_key: Callable[[ModelKey], ModelKey],
    ) -> None:
        self._refresh_seconds = refresh_seconds
        self._room = room
        self._loading = loading
        self._versions = versions
        self._artifact_key = artifact_key
        self._checks: Flight[ModelKey, None, None] = Flight(
            share=lambda _: None, reclaim=lambda _: None
        )

    async def current(self, target: ModelKey, deadline: float) -> Entry | None:
        """What answers for `target`, checked if it is time.

        Raises:
            Draining: the server is shutting down.
        Cancellation: stops waiting; a check goes on.
        """
        now, entry = time.monotonic(), self._room.registry.current(target)
        if entry is None or now < entry.fresh_until - self._refresh_seconds / 2:
            return entry
        check = partial(self._check, entry)
        self._checks.start(target, check)
        if now >= entry.fresh_until:
            try:
                async with asyncio.timeout_at(min(deadline, _loop_time() + _WAIT_SECONDS)):
                    await self._checks.join(target, check)
            except TimeoutError:
                entry.fresh_until = now + self._refresh_seconds
        return self._room.registry.current(target)

    async def close(self) -> None:
        """Gives up checks under way."""
        await self._checks.close()

    async def _check(self, entry: Entry) -> None:
        asked_at, target = time.monotonic(), entry.target
        try:
            if await self._versions.head(self._artifact_key(target)) != entry.version:
                (await self._loading.join(target)).release()
                return
        except ArtifactUnavailable as error:
            if error.reason == "missing":
                self._room.retire(entry, "deleted")
                return
            _log.warning("refresh_failed", model=target, reason=str(error))
        except MmeError as error:
            _log.warning("refresh_failed", model=target, reason=str(error))
        entry.fresh_until = asked_at + self._refresh_seconds


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
