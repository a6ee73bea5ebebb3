"""One copy of a model in memory, and what is known of it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from functools import lru_cache

from mme.cache.churn import Victim
from mme.domain import ArtifactVersion, ModelKey
from mme.workers.pool import LoadedModel
from mme.workers.slot import Slot

_told = lru_cache(maxsize=256)(asdict)  # models alike share one


@dataclass(slots=True, eq=False)
class Entry:
    """A copy of a model in one worker's memory."""

    version: ArtifactVersion
    loaded: LoadedModel
    unpacked_bytes: int
    loaded_at: float  # monotonic, as all of these
    used_at: float
    check_at: float  # from then on the store is asked whether this still is the current version
    fresh_until: float  # and from then on nobody is answered before it has been asked
    hits: int = 0
    pinned: bool = False
    is_gone: bool = False  # its memory is back
    _gone: asyncio.Event | None = None  # where someone waits for that: one takes most of a kilobyte
    retired: bool = False  # no longer current: goes when its last lease ends

    @property
    def key(self) -> ModelKey:
        """The target model."""
        return self.version.key

    @property
    def copy_id(self) -> str:
        """What the ledger and its worker know it by."""
        return self.loaded.residency.model

    @property
    def slot(self) -> Slot:
        """The worker that it is in."""
        return self.loaded.residency.slot

    async def wait_until_gone(self) -> None:
        """Returns once its memory is back."""
        if not self.is_gone:
            self._gone = self._gone or asyncio.Event()
            await self._gone.wait()

    def went(self) -> None:
        """Its memory is back."""
        self.is_gone = True
        if self._gone is not None:
            self._gone.set()

    def backlog(self) -> int:
        """Requests that its worker has or will have before the next one."""
        return self.slot.queue.backlog

    def confirm(self, asked_at: float, refresh_seconds: float) -> Entry:
        """It was current when the store was asked at `asked_at`, or is to pass for it."""
        self.check_at = asked_at + refresh_seconds / 2
        self.fresh_until = asked_at + refresh_seconds
        return self

    def as_victim(self, now: float) -> Victim:
        """What counts when it is to go for another model."""
        return Victim(
            idle_seconds=now - self.used_at,
            resident_seconds=now - self.loaded_at,
            asks=self.hits + 1,
        )

    def describe(self, now: float) -> dict[str, object]:
        """What an operator may see, at the monotonic time `now`, as JSON."""
        signature = self.loaded.signature
        return {
            "model": self.key,
            "state": "retired" if self.retired else "resident",
            "bytes": self.loaded.resident_bytes,
            "age_seconds": round(now - self.loaded_at, 3),
            "idle_seconds": round(now - self.used_at, 3),
            "hits": self.hits,
            "pinned": self.pinned,
            "worker": self.slot.index,
            "version": self.version.etag,
            "framework": self.loaded.framework,
            "compiled": self.loaded.residency.is_compiled,
            "unpacked_bytes": self.unpacked_bytes,
            "load_seconds": round(self.loaded.load_seconds, 6),
            "signature": signature and _told(signature),
        }
