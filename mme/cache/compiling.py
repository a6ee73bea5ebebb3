"""Hot tree models compiled in their workers: room first, then the work, then what was measured.

Decisions: one at a time, and never by evicting anybody: without room, the model stays as it is, for
now. Both exist for a moment, so the charge grows before it begins; it ends as what the worker
measured. Content whose answers differed is not tried again.
"""

from __future__ import annotations

import asyncio

import structlog
from msgspec.structs import replace

from mme.cache.entry import Entry
from mme.cache.lease import Lease
from mme.cache.loading import Loading
from mme.cache.residents import Residents
from mme.errors import WorkerLost
from mme.metrics import Metrics
from mme.workers.pool import Pool
from mme.workers.protocol import NO_ROOM_STATUS, CallFailed, Faulted, Loaded

_log = structlog.get_logger()
_PAUSE_SECONDS = 0.5
_REFUSED_LIMIT = 10_000


class Compiling:
    """Compiles what the workers find hot.

    Args:
        limit_seconds: what takes longer ends its worker, as a load does.
    """

    def __init__(
        self,
        *,
        pool: Pool,
        residents: Residents,
        loading: Loading,
        metrics: Metrics,
        limit_seconds: float,
    ) -> None:
        self._pool = pool
        self._residents = residents
        self._loading = loading
        self._metrics = metrics
        self._limit_seconds = limit_seconds
        self._refused: dict[str, None] = {}  # contents

    async def run(self) -> None:
        """Asks the workers until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            for model, wanted_bytes in self._pool.hot().items():
                entry = self._residents.find(model)
                if entry is not None and self._may(entry):
                    await self._compile(entry, wanted_bytes)

    def _may(self, entry: Entry) -> bool:
        """A beat may tell of who has been compiled, or refused, since."""
        is_done = entry.retired or entry.loaded.residency.is_compiled
        return not is_done and entry.version.digest not in self._refused

    async def _compile(self, entry: Entry, wanted_bytes: int) -> None:
        size_bytes, tenant = entry.loaded.resident_bytes, entry.loaded.residency.tenant
        if not self._loading.fits(tenant, wanted_bytes):
            return
        if not self._charge(entry, size_bytes + wanted_bytes):
            return  # a beat will tell of it again
        lease = Lease(self._residents, entry)
        try:
            async with asyncio.timeout(self._limit_seconds):
                answer = await entry.slot.compile(entry.copy_id, wanted_bytes)
            size_bytes = self._settle(entry, answer, size_bytes)
        except (WorkerLost, TimeoutError):
            return  # with its worker all its bytes go
        finally:
            self._charge(entry, size_bytes)
            lease.release()

    def _settle(self, entry: Entry, answer: Loaded | CallFailed, former_bytes: int) -> int:
        """Tells how it went; returns what the model takes from now on."""
        if isinstance(answer, Loaded):
            entry.loaded.residency.is_compiled = True
            size_bytes, outcome = answer.resident_bytes, "compiled"
            _log.info(
                "model_compiled",
                model=entry.key,
                bytes=size_bytes,
                former_bytes=former_bytes,
                seconds=round(answer.seconds, 6),
            )
        else:
            is_full = answer.fault.status == NO_ROOM_STATUS
            size_bytes, outcome = former_bytes, "no_room" if is_full else "refused"
            if not is_full:
                self._refuse(entry, answer.fault)
        self._metrics.models_compiled.labels(outcome).inc()
        return size_bytes

    def _refuse(self, entry: Entry, fault: Faulted) -> None:
        self._refused[entry.version.digest] = None
        if len(self._refused) > _REFUSED_LIMIT:
            del self._refused[next(iter(self._refused))]
        _log.warning(
            "model_not_compiled", model=entry.key, reason=fault.message, detail=fault.detail or None
        )

    def _charge(self, entry: Entry, size_bytes: int) -> bool:
        """Charges it so much from now on. False: there is no room for that, or it has gone."""
        loaded, ledger = entry.loaded, self._residents.ledger
        if not ledger.resize(entry.copy_id, size_bytes):
            return False
        more_bytes = size_bytes - loaded.resident_bytes
        loaded.residency.resize(more_bytes)
        self._residents.accounts.resized(loaded.residency.account, more_bytes)
        entry.loaded = replace(loaded, resident_bytes=size_bytes)
        return True
