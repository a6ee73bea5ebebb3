"""An evicted model's way back where its worker has kept it: one message, and nobody waits.

Decisions: those who go for it leave in the same step, in the same worker, which drops them before
it brings the model back; so their bytes are its own at once. Where others are next to go than kept
models of that worker, they are unloaded first, and it waits for that. It is as current as if it had
stayed. Where the tenant has limits of its own, or evictions are weighed, it is loaded as any other.
While a load waits for room, what is free is left to it.
"""

from __future__ import annotations

import time
from itertools import count

from msgspec.structs import replace

from mme.cache.entry import Entry
from mme.cache.quota import Quota
from mme.cache.residents import Residents
from mme.domain import ModelKey
from mme.metrics import Metrics
from mme.workers.slot import Slot

_numbers = count(1)  # of copies: loaded ones have others


class Recall:
    """Brings models back.

    Args:
        residents: what is in memory, and was.
        quota: what tenants may have.
        is_weighed: whether not every newcomer may push others out.
    """

    def __init__(
        self, residents: Residents, quota: Quota, metrics: Metrics, *, is_weighed: bool
    ) -> None:
        self._residents, self._quota = residents, quota
        self._recalled = metrics.loads.labels("recalled")
        self._is_weighed = is_weighed

    def at_once(self, key: ModelKey, now: float, api_key: str | None = None) -> Entry | None:
        """What `key` was when it was evicted, in memory again; None: that can't be in this step.

        It is to be leased in this very step.
        """
        tenant = self._quota.tenants.tenant_of(key, api_key)
        former = self._former(key, tenant, now)
        if former is None or not former.is_gone:
            return None
        copy_id = _copy_id(former)
        leaving = self._room(copy_id, former)
        return None if leaving is None else self._bring_back(former, copy_id, tenant, leaving, now)

    async def with_room(self, key: ModelKey, tenant: str) -> Entry | None:
        """As `at_once`, once there is room; None: it has to be loaded.

        Raises:
            MemoryRefused: as `Residents.reserve`.
        Cancellation: nothing is left behind.
        """
        former = self._former(key, tenant, time.monotonic())
        if former is None or (former.slot.loading_seconds and not former.is_gone):
            return None  # to leave, it would have to wait for that load
        copy_id = _copy_id(former)
        await former.wait_until_gone()  # before, its worker may not have kept it
        await self._residents.reserve(copy_id, key, former.loaded.resident_bytes)
        now = time.monotonic()
        if self._former(key, tenant, now) is not former:  # its worker has ended meanwhile
            self._residents.release(copy_id)
            return None
        return self._bring_back(former, copy_id, tenant, [], now)

    def _former(self, key: ModelKey, tenant: str, now: float) -> Entry | None:
        """What `key` was, if it may be that again."""
        former = self._residents.kept.get(key)
        if former is None or self._is_weighed or now >= former.fresh_until:
            return None
        is_kept = former.loaded.residency.is_kept
        return former if is_kept and not self._quota.is_limited(tenant, now) else None

    def _bring_back(
        self, former: Entry, copy_id: str, tenant: str, leaving: list[Entry], now: float
    ) -> Entry:
        residency = former.slot.recall(
            former.loaded.residency,
            copy_id,
            former.version.digest,
            tenant,
            [entry.loaded.residency for entry in leaving],
        )
        for entry in leaving:
            self._residents.gone(entry)
        entry = Entry(
            version=former.version,
            loaded=replace(former.loaded, residency=residency),
            unpacked_bytes=former.unpacked_bytes,
            loaded_at=now,
            used_at=now,
            check_at=former.check_at,
            fresh_until=former.fresh_until,
        )
        self._residents.admit(entry, "recalled: its worker had kept it", is_load=False)
        self._recalled.inc()
        return entry

    def _room(self, copy_id: str, former: Entry) -> list[Entry] | None:
        """Who leaves in the step in which it comes, its room reserved; None: they can't."""
        residents, size_bytes = self._residents, former.loaded.resident_bytes
        victims = residents.ledger.displace(
            size_bytes, may_evict=residents.may_evict, spare_free=residents.is_waited_for
        )
        if victims is None:
            return None
        leaving = residents.part_with(victims, former.key)
        if not all(_leaves_with(entry, former.slot) for entry in leaving):
            residents.unload_soon(leaving)
            return None
        residents.ledger.take_over(copy_id, size_bytes, victims)
        return leaving


def _copy_id(former: Entry) -> str:
    return f"{former.version.digest}-{next(_numbers)}"


def _leaves_with(entry: Entry, slot: Slot) -> bool:
    return entry.slot is slot and entry.loaded.residency.leaves_at_once
