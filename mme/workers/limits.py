"""What each tenant may have at most: requests at once and a second, bytes in memory and a second.

Pure: no clock of its own. Decision: a tenant's downloads are paced between loads and not within
one: a load goes at full speed and the next one waits until the average is right again.
"""

from __future__ import annotations

from mme.config import LimitConfig, TenantConfig
from mme.errors import Throttled

_TENANTS_KEPT = 10_000  # before those at rest are forgotten


class Bucket:
    """So much a second, and a second's worth at once; may owe.

    Args:
        per_second: how fast it fills.
        now: on the monotonic clock.
    """

    def __init__(self, per_second: float, now: float) -> None:
        self._per_second = per_second
        self._most = max(1.0, per_second)
        self._amount, self._at = self._most, now

    def wait_seconds(self, amount: float, now: float) -> float:
        """Until there is so much; 0 where there is."""
        grown = self._amount + (now - self._at) * self._per_second
        self._amount, self._at = min(self._most, grown), now
        return max(0.0, (amount - self._amount) / self._per_second)

    def spend(self, amount: float) -> None:
        """Takes so much, there or not."""
        self._amount -= amount


class Usage:
    """What one tenant may have, and has."""

    def __init__(self, tenant: str, limit: LimitConfig, now: float) -> None:
        self.limit = limit
        self._tenant = tenant
        self._running = 0
        self._requests = _bucket(limit.requests_per_second, now)
        self._downloads = _bucket(limit.download_bytes_per_second, now)

    @property
    def is_at_rest(self) -> bool:
        """Nothing runs."""
        return not self._running

    def enter(self, now: float) -> None:
        """One more request, which `leave`s. Raises Throttled."""
        most = self.limit.max_concurrency
        if most is not None and self._running >= most:
            raise Throttled(f"Rate exceeded: {self._tenant} may have {most} requests at once.")
        if self._requests is not None:
            if seconds := self._requests.wait_seconds(1, now):
                rate = self.limit.requests_per_second
                raise Throttled(
                    f"Rate exceeded: {self._tenant} may ask {rate:g} times a second.", seconds
                )
            self._requests.spend(1)
        self._running += 1

    def leave(self) -> None:
        """One request less."""
        self._running -= 1

    def download_wait_seconds(self, now: float) -> float:
        """Until it may load again."""
        return self._downloads.wait_seconds(0, now) if self._downloads is not None else 0.0

    def downloaded(self, size_bytes: int) -> None:
        """So much was fetched for it."""
        if self._downloads is not None:
            self._downloads.spend(size_bytes)


class Limits:
    """All tenants' limits.

    Args:
        tenants: who has which.
    """

    def __init__(self, tenants: TenantConfig) -> None:
        self.tenants = tenants
        self._usages: dict[str, Usage | None] = {}

    def of(self, tenant: str, now: float) -> Usage | None:
        """What a tenant may have; None: as much as there is."""
        if not self.tenants.limits:
            return None
        if tenant not in self._usages:
            if len(self._usages) >= _TENANTS_KEPT:
                self._forget()
            limit = self.tenants.limit_of(tenant)
            self._usages[tenant] = None if limit is None else Usage(tenant, limit, now)
        return self._usages[tenant]

    def _forget(self) -> None:
        """Who owes is forgiven, once in ten thousand tenants."""
        busy: dict[str, Usage | None] = {
            tenant: each for tenant, each in self._usages.items() if each and not each.is_at_rest
        }
        self._usages = busy


def _bucket(per_second: float | None, now: float) -> Bucket | None:
    return None if per_second is None else Bucket(per_second, now)
