"""A lease: as long as it is held, the model stays in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mme.cache.entry import Entry
from mme.cache.residents import Residents

if TYPE_CHECKING:
    from types import TracebackType

    from mme.cache.model_cache import ModelCache
    from mme.domain import ModelKey
    from mme.workers.slot import Residency


class Lease:
    """A model that stays in memory until `release`."""

    __slots__ = ("_residents", "entry", "hit", "load_seconds")

    def __init__(self, residents: Residents, entry: Entry) -> None:
        residents.hold(entry)
        self._residents = residents
        self.entry = entry
        self.hit = True
        self.load_seconds = 0.0

    @property
    def residency(self) -> Residency:
        """Where it is."""
        return self.entry.loaded.residency

    def release(self) -> None:
        """Gives the lease back; once."""
        self._residents.unhold(self.entry)


class Leasing:
    """`async with` over a lease; no request's, so that it takes no place of those."""

    __slots__ = ("_cache", "_deadline", "_key", "_lease")

    def __init__(self, cache: ModelCache, key: ModelKey, deadline: float) -> None:
        self._cache = cache
        self._key = key
        self._deadline = deadline

    async def __aenter__(self) -> Lease:
        self._lease = await self._cache.acquire(self._key, self._deadline, is_request=False)
        return self._lease

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lease.release()
