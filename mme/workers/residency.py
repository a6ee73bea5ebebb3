"""A model in a worker's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mme.usage.account import Account
    from mme.workers.slot import Slot


@dataclass(slots=True, eq=False)
class Residency:
    """A model in a worker's memory; `alive` until that worker ends or unloads it."""

    slot: Slot
    model: str  # the opaque id
    name: str  # for the log
    tenant: str  # whose it is, unless that is the API key's
    resident_bytes: int
    alive: bool = True
    account: Account | None = None  # that is charged for it, once it is admitted
