"""Requests on their way to a worker: queued for one model, then in a batch, then answered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from msgspec import Struct

from mme.workers.fairness import Share
from mme.workers.protocol import Answered, Ask, Faulted, Predict


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


class Lane:
    """What is queued for one model by one tenant."""

    __slots__ = ("has_turn", "model", "tenant", "tickets")

    def __init__(self, model: str, tenant: str) -> None:
        self.model = model
        self.tenant = tenant
        self.tickets: list[Ticket] = []  # an empty deque takes ten times as much, a model each
        self.has_turn = False  # to come


@dataclass(slots=True, eq=False)
class Batch:
    """Tickets sent together; `running_since` is when the worker can have begun with it."""

    number: int
    model: str
    tickets: list[Ticket]
    share: Share[Lane]  # who pays
    charged_seconds: float  # was predicted, the server's own among them
    running_since: float | None = None
    ends_handover: bool = False
    settled: int = 0  # of the tickets, the first ones

    @property
    def unsettled(self) -> int:
        """How many wait for their results."""
        return len(self.tickets) - self.settled

    def message(self) -> Predict:
        """What the worker is told."""
        return Predict(self.number, self.model, [ticket.ask for ticket in self.tickets])

    def settle(self, results: Sequence[Answered | Faulted], seconds: float) -> None:
        """Hands the next ones their results, who took `seconds` in all."""
        first, self.settled = self.settled, self.settled + len(results)
        for ticket, result in zip(self.tickets[first : self.settled], results, strict=True):
            if not ticket.outcome.done():
                queue_seconds = ticket.sent_at - ticket.queued_at
                ticket.outcome.set_result(Outcome(result, queue_seconds, seconds))
