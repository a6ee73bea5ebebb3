"""What each tenant may have of memory and of the network, where there are limits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterator

from mme.cache.entry import Entry
from mme.cache.residents import Residents
from mme.errors import MemoryRefused, Throttled
from mme.workers.limits import Limits

_PATIENCE_SECONDS = 5.0  # longer, and who asks is told to come again


class Quota:
    """Makes tenants keep to their own limits.

    Args:
        limits: theirs.
        residents: what is in memory.
    """

    def __init__(self, limits: Limits, residents: Residents) -> None:
        self.tenants = limits.tenants
        self._limits = limits
        self._residents = residents
        self._loading_bytes: Counter[str] = Counter()  # by tenant

    async def may_load(self, tenant: str) -> None:
        """Waits until the tenant's downloads are down to their rate.

        Raises:
            Throttled: that takes too long.
        """
        while usage := self._limits.of(tenant, time.monotonic()):
            seconds = usage.download_wait_seconds(time.monotonic())
            if not seconds:
                return
            if seconds > _PATIENCE_SECONDS:
                raise Throttled(f"Rate exceeded: {tenant} has loaded too much lately.", seconds)
            await asyncio.sleep(seconds)

    def fetched(self, tenant: str, size_bytes: int) -> None:
        """So much was downloaded for the tenant."""
        if usage := self._limits.of(tenant, time.monotonic()):
            usage.downloaded(size_bytes)

    async def make_room(self, tenant: str, size_bytes: int) -> None:
        """Evicts the tenant's own least recently used for one more, which is `loading` already.

        Raises:
            MemoryRefused: it is larger than all the tenant may have.
            Throttled: what it has is being loaded, or pinned.
        """
        usage = self._limits.of(tenant, time.monotonic())
        most_bytes = usage.limit.resident_bytes if usage else None
        if most_bytes is None:
            return
        if size_bytes > most_bytes:
            raise MemoryRefused(
                f"The model needs {size_bytes} bytes of memory; {tenant} may have {most_bytes}."
            )
        own = sorted(self._of(tenant), key=lambda entry: entry.used_at)
        over_bytes = self._loading_bytes[tenant] - most_bytes
        over_bytes += sum(entry.loaded.resident_bytes for entry in own)
        leaving: list[Entry] = []
        for entry in own:
            if over_bytes > 0 and not entry.pinned:
                leaving.append(entry)
                over_bytes -= entry.loaded.resident_bytes
        if over_bytes > 0:
            raise Throttled(f"Rate exceeded: {tenant} may have {most_bytes} bytes in memory.", 1.0)
        await self._residents.unload(tuple(leaving), "evicted", f"{tenant} may have no more")

    def is_limited(self, tenant: str, now: float) -> bool:
        """Whether there is anything that the tenant may not have."""
        return self._limits.of(tenant, now) is not None

    def fits(self, tenant: str, more_bytes: int) -> bool:
        """Whether the tenant may have so much more without anything of its own leaving."""
        usage = self._limits.of(tenant, time.monotonic())
        most_bytes = usage.limit.resident_bytes if usage else None
        if most_bytes is None:
            return True
        taken_bytes = sum(entry.loaded.resident_bytes for entry in self._of(tenant))
        return taken_bytes + self._loading_bytes[tenant] + more_bytes <= most_bytes

    @contextlib.contextmanager
    def loading(self, tenant: str, size_bytes: int) -> Iterator[None]:
        """While entered, so much is being loaded for the tenant."""
        self._loading_bytes[tenant] += size_bytes
        try:
            yield
        finally:
            self._loading_bytes[tenant] -= size_bytes
            if not self._loading_bytes[tenant]:
                del self._loading_bytes[tenant]

    def _of(self, tenant: str) -> Iterator[Entry]:
        return (entry for entry in self._residents if entry.loaded.residency.tenant == tenant)
