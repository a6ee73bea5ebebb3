"""Is what is in memory still the current version: asks the store, at most once an interval a model.

Half-way through `refresh_seconds` a use asks behind the answer's back; after the whole of it a use
waits for that, though never longer than `_WAIT_SECONDS`. A new version is loaded beside the old one
and takes over in one step; the old one answers meanwhile. A store that does not answer, or denies
what it gave before, changes nothing for what is in memory: a credential that ran out must not stop
the tenants that are being served.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial

import structlog

from mme.cache.entry import Entry
from mme.cache.flight import Flight
from mme.cache.residents import Residents
from mme.domain import ModelKey
from mme.errors import ArtifactUnavailable, MmeError
from mme.store.base import Artifacts, Versions

_log = structlog.get_logger()
_WAIT_SECONDS = 2.0


class Freshness:
    """Checks of what is in memory against the store.

    Args:
        refresh_seconds: an overwritten or deleted object is noticed within this time.
        reload: loads the newest version of a key; returns when it has taken over.
    """

    def __init__(
        self,
        refresh_seconds: float,
        *,
        store: Versions,
        artifacts: Artifacts,
        residents: Residents,
        reload: Callable[[ModelKey], Awaitable[None]],
    ) -> None:
        self._refresh_seconds = refresh_seconds
        self._store = store
        self._artifacts = artifacts
        self._residents = residents
        self._reload = reload
        self._checks: Flight[ModelKey, None, None] = Flight(
            share=lambda _: None, reclaim=lambda _: None
        )

    def check_soon(self, key: ModelKey) -> None:
        """Begins a check, unless one is under way."""
        self._checks.start(key, partial(self._check, key))

    async def checked(self, entry: Entry, now: float, deadline: float) -> Entry | None:
        """What is current after a check, waited for only when the last one is too long ago.

        Raises:
            Draining: the server is shutting down.
        Cancellation: stops waiting; the check goes on.
        """
        self.check_soon(entry.key)
        if now >= entry.fresh_until:
            try:
                async with asyncio.timeout_at(min(deadline, now + _WAIT_SECONDS)):
                    await self._checks.join(entry.key, partial(self._check, entry.key))
            except TimeoutError:
                entry.confirm(now, self._refresh_seconds)
        return self._residents.current(entry.key)

    async def refresh(self, key: ModelKey) -> None:
        """Asks the store now; a newer version of what is in memory has taken over on return.

        Raises:
            ArtifactUnavailable: it was deleted, and answers no more; or it is denied.
            MmeError: why the newer version can't be had; what was current still answers.
        """
        asked_at = time.monotonic()
        try:
            newest = await self._store.head(key)
        except ArtifactUnavailable as error:
            if error.reason == "missing":
                self._residents.kept.drop(key)
                for copy in self._residents.copies(key):
                    self._residents.retire(copy, "deleted", "the object was deleted")
                    self._artifacts.discard(copy.version)
            raise
        for _ in range(2):  # a load under way may have begun before the overwrite
            self._residents.kept.drop(key)  # what was evicted meanwhile may be another version
            current = self._residents.current(key)
            if current is None:
                return
            if current.version == newest:
                self._confirm(key, asked_at)
                return
            await self._reload(key)

    async def close(self) -> None:
        """Gives up checks under way."""
        await self._checks.close()

    async def _check(self, key: ModelKey) -> None:
        asked_at = time.monotonic()
        try:
            await self.refresh(key)
        except MmeError as error:
            if not self._residents.copies(key):  # it was deleted
                return
            _log.warning("refresh_failed", model=key, reason=str(error))
            self._confirm(key, asked_at)

    def _confirm(self, key: ModelKey, asked_at: float) -> None:
        for copy in self._residents.copies(key):
            copy.confirm(asked_at, self._refresh_seconds)
