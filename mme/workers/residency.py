"""A model in a worker's memory, and what asks for one to be there."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from mme.domain import Signature
    from mme.usage.account import Account
    from mme.workers.environments import Environment
    from mme.workers.process import WorkerProcess
    from mme.workers.slot import Slot


@dataclass(slots=True, eq=False)
class Residency:
    """A model in a worker's memory; `alive` until that worker ends or unloads it."""

    slot: Slot
    model: str  # the opaque id
    name: str  # for the log
    tenant: str  # whose it is, unless that is the API key's
    resident_bytes: int
    framework: str
    alive: bool = True
    account: Account | None = None  # that is charged for it, once it is admitted
    is_compiled: bool = False
    kept_by: WorkerProcess | None = None  # which can bring it back when it has left; None: none can

    @property
    def leaves_at_once(self) -> bool:
        """Whether its worker drops and keeps it between two batches."""
        return self.alive and self.kept_by is not None

    @property
    def is_kept(self) -> bool:
        """Whether its worker can bring it back, once it has left."""
        is_there = self.kept_by is not None and self.kept_by is self.slot.process
        return is_there and not self.slot.is_leaving

    def resize(self, more_bytes: int) -> None:
        """It takes so much more, or less."""
        self.resident_bytes += more_bytes
        if self.alive:
            self.slot.residencies.resident_bytes += more_bytes


class Residencies:
    """The models in one worker's memory."""

    def __init__(self) -> None:
        self._by_model: dict[str, Residency] = {}
        self.resident_bytes = 0
        self.empty = asyncio.Event()  # there is none any more

    def __len__(self) -> int:
        return len(self._by_model)

    def __iter__(self) -> Iterator[Residency]:
        return iter(self._by_model.values())

    def __contains__(self, model: str) -> bool:
        return model in self._by_model

    def get(self, model: str) -> Residency | None:
        """What is here under this id."""
        return self._by_model.get(model)

    def add(self, residency: Residency) -> None:
        """It came."""
        self._by_model[residency.model] = residency
        self.resident_bytes += residency.resident_bytes
        self.empty.clear()

    def remove(self, residency: Residency) -> None:
        """It goes."""
        residency.alive = False
        del self._by_model[residency.model]
        self.resident_bytes -= residency.resident_bytes
        if not self._by_model:
            self.empty.set()


class LoadRequest(Struct, frozen=True, kw_only=True):
    """What is to be loaded."""

    model: str  # an opaque id, unique to this copy of the artifact's content
    name: str  # for the log
    directory: str  # the extracted artifact
    files: tuple[str, ...] | None = None  # all that is in it, where it is a few plain files
    size_bytes: int  # reserved for it; counts for placement while it loads
    content: str = ""  # what is of one content takes the same memory each time; "": nobody knows
    tenant: str = ""  # for whom; its model's requests are that tenant's, unless an API key's are
    environment: Environment | None = None  # whose workers take it; None: the pool's own
    avoid: tuple[Slot, ...] = ()  # workers that have a copy already


class LoadedModel(Struct, frozen=True, kw_only=True):
    """A model in a worker's memory, as measured there."""

    residency: Residency
    resident_bytes: int  # private, for as long as it stays
    load_seconds: float
    framework: str
    signature: Signature | None = None
    peak_bytes: int = 0  # private, at most, while it was loaded
    file_bytes: int = 0  # of its own files, mapped: page cache, nobody's alone


@functools.lru_cache
def shared(signature: Signature | None) -> Signature | None:
    """The same, once for all models that are asked alike."""
    return signature
