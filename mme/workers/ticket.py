"""One request on its way to a worker, and what comes of it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from msgspec import Struct

from mme.workers.protocol import Answered, Ask, Faulted


@dataclass(slots=True, eq=False)
class Ticket:
    """One request on its way to a worker and back."""

    model: str
    ask: Ask
    outcome: asyncio.Future[Outcome]
    queued_at: float
    tenant: str = ""
    sent_at: float = 0.0

    def fail(self, error: Exception) -> None:
        """Tells who waits for it, if anyone still does."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


class Outcome(Struct, frozen=True):
    """One request's outcome, with what its batch took."""

    result: Answered | Faulted
    queue_seconds: float
    predict_seconds: float
