"""What waits for one worker, and what is handed to it next. Pure: no I/O, no clock of its own.

Requests queue per model; models with waiting requests take turns. A batch is what is queued for one
model at that moment, up to the limits; nothing waits for it to fill. The worker has one batch and
at most the next (`WINDOW`), so that cancellation and fairness act on everything else, and the
worker need not wait for us between two.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from dataclasses import dataclass
from typing import Final

from msgspec import Struct

from mme.workers.protocol import Answered, Ask, Faulted

WINDOW: Final = 2


@dataclass(slots=True, eq=False)
class Ticket:
    """One request on its way to a worker and back."""

    model: str
    ask: Ask
    outcome: asyncio.Future[Outcome]
    queued_at: float
    sent_at: float = 0.0


class Outcome(Struct, frozen=True):
    """One request's outcome, with what its batch took."""

    result: Answered | Faulted
    queue_seconds: float
    predict_seconds: float


@dataclass(slots=True, eq=False)
class Batch:
    """Tickets sent together; `running_since` is when the worker can have begun with it."""

    number: int
    model: str
    tickets: list[Ticket]
    running_since: float | None = None


class WorkerQueue:
    """The queues in front of one worker, and the batches it has."""

    def __init__(self, batch_requests: int, batch_bytes: int) -> None:
        self._batch_requests = batch_requests
        self._batch_bytes = batch_bytes
        self._waiting: OrderedDict[str, deque[Ticket]] = (
            OrderedDict()
        )  # models in the order of their turns
        self._sent: deque[Batch] = deque()
        self._numbers = 0
        self.waiting_count = 0

    @property
    def sent_count(self) -> int:
        """Requests handed to the worker and not answered."""
        return sum(len(batch.tickets) for batch in self._sent)

    @property
    def backlog(self) -> int:
        """Requests before a new one's turn, whatever their models."""
        return self.waiting_count + self.sent_count

    def unanswered(self, model: str) -> int:
        """Requests for one model, queued or handed to the worker."""
        sent = sum(len(batch.tickets) for batch in self._sent if batch.model == model)
        return self.waiting_for(model) + sent

    def crowded(self, limit: int) -> list[str]:
        """Models with so many unanswered requests or more."""
        if self.backlog < limit:
            return []
        models = {*self._waiting, *(batch.model for batch in self._sent)}
        return [model for model in models if self.unanswered(model) >= limit]

    @property
    def running(self) -> Batch | None:
        """The batch that the worker is at."""
        return self._sent[0] if self._sent else None

    def waiting_for(self, model: str) -> int:
        """Requests queued for one model."""
        queue = self._waiting.get(model)
        return len(queue) if queue else 0

    def put(self, ticket: Ticket) -> None:
        """Queues one request behind the others of its model."""
        queue = self._waiting.get(ticket.model)
        if queue is None:
            queue = self._waiting[ticket.model] = deque()
        queue.append(ticket)
        self.waiting_count += 1

    def discard(self, ticket: Ticket) -> None:
        """Takes a request back that nobody waits for any more; one already sent runs on unheard."""
        queue = self._waiting.get(ticket.model)
        if queue is not None and ticket in queue:
            queue.remove(ticket)
            self.waiting_count -= 1
            if not queue:
                del self._waiting[ticket.model]

    def next_batch(self, now: float) -> Batch | None:
        """The next batch to send, or None while nothing waits or the worker has all it may have."""
        if not self._waiting or len(self._sent) >= WINDOW:
            return None
        model, queue = self._waiting.popitem(last=False)
        batch = Batch(self._take_number(), model, self._take(queue, now))
        if queue:
            self._waiting[model] = queue  # the rest waits for its model's next turn
        if not self._sent:
            batch.running_since = now
        self._sent.append(batch)
        return batch

    def finish(self, number: int, now: float) -> Batch | None:
        """The worker has answered a batch. None if that is not the one it was at."""
        if not self._sent or self._sent[0].number != number:
            return None
        batch = self._sent.popleft()
        if self._sent:
            self._sent[0].running_since = now
        return batch

    def abandon(self) -> tuple[list[Ticket], list[Ticket]]:
        """The worker has ended: (tickets it was at, tickets that had certainly not begun)."""
        started = self._sent.popleft().tickets if self._sent else []
        waiting = [ticket for batch in self._sent for ticket in batch.tickets]
        waiting += [ticket for queue in self._waiting.values() for ticket in queue]
        self._sent.clear()
        self._waiting.clear()
        self.waiting_count = 0
        return started, waiting

    def _take(self, queue: deque[Ticket], now: float) -> list[Ticket]:
        tickets: list[Ticket] = []
        size_bytes = 0
        while queue and len(tickets) < self._batch_requests:
            size_bytes += len(queue[0].ask.body)
            if tickets and size_bytes > self._batch_bytes:
                break
            ticket = queue.popleft()
            ticket.sent_at = now
            tickets.append(ticket)
        self.waiting_count -= len(tickets)
        return tickets

    def _take_number(self) -> int:
        self._numbers += 1
        return self._numbers
