"""What waits for one worker, and what is handed to it next. Pure: no I/O, no clock of its own.

Requests queue per model and tenant; tenants take turns by what they took, a tenant's models by the
order of their first. A batch is what is queued for one model and tenant at that moment, up to the
limits; nothing waits for it to fill. Handed over at a time is one batch, or the next few that take
`HANDOVER_SECONDS` together, the server's part included: lone requests of many models had each a way
there and back else, and the worker stood still for half of its time. The worker has one handover
and at most the next (`WINDOW`), so that cancellation and fairness act on everything else, and the
worker need not wait for us between two. While several tenants ask, batches are short, and none is
on its way behind a long one: who asks little waits for what was handed over before. Rejected: a
handover by the worker's part alone, which let a flood's large batches go ahead of others.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from operator import attrgetter
from typing import Final

from mme.workers.batch import Batch, Lane, Ticket
from mme.workers.batch_limits import BatchLimits
from mme.workers.fairness import FairQueue
from mme.workers.pacing import UNPACED, Pacer

WINDOW: Final = 2  # handovers that the worker may have
HANDOVER_SECONDS: Final = 0.001  # from which on a handover is full
SHORT_SECONDS: Final = 0.002  # of a batch, while several tenants ask
_LATE_SECONDS: Final = 0.003  # for a request to wait until it is sent
_LATE_FOR_SECONDS: Final = 0.05  # after the last one that did
_MIXED_SECONDS: Final = 1.0  # for so long after another tenant's request they do
_ANSWER_SECONDS: Final = 0.0001  # of the server's own time, a request
_LEARNT: Final = 0.2  # of what is thought of a model's seconds, by each of its batches


_charged_seconds = attrgetter("charged_seconds")


class WorkerQueue:
    """The queues in front of one worker, and the batches it has.

    Args:
        limits: of a batch.
        pacer: what tenants weigh, and who holds one back that floods; None: all alike.
    """

    def __init__(self, limits: BatchLimits, pacer: Pacer | None = None) -> None:
        self._limits = limits
        self._lanes: dict[str, dict[str, Lane]] = {}  # by model, by tenant
        self._pacer = pacer or Pacer({})
        self._turns: FairQueue[Lane] = FairQueue(self._pacer.weights)
        self._held: list[Lane] = []  # the paced tenant's, until more of it may go
        self._seconds: dict[str, float] = {}  # by model, of one request in its batch
        self._sent: deque[Batch] = deque()
        self._handovers = 0  # that they came in
        self._numbers = 0
        self._latest = ""  # the tenant that asked last
        self._mixed_until = 0.0
        self.late_until = 0.0  # requests waited too long lately: until then others are to yield
        self.waiting_count = 0

    @property
    def sent_count(self) -> int:
        """Requests handed to the worker and not answered."""
        return sum(len(batch.tickets) for batch in self._sent)

    @property
    def backlog(self) -> int:
        """Requests before a new one's turn, whatever their models."""
        return self.waiting_count + self.sent_count

    @property
    def held_until(self) -> float:
        """When more of what waits for being paced may go; 0 where nothing does."""
        return self._pacer.release_at if self._held else 0.0

    @property
    def running(self) -> Batch | None:
        """The batch that the worker is at."""
        return self._sent[0] if self._sent else None

    def unanswered(self, model: str) -> int:
        """Requests for one model, queued or handed to the worker."""
        sent = sum(len(batch.tickets) for batch in self._sent if batch.model == model)
        return self.waiting_for(model) + sent

    def crowded(self, limit: int) -> list[str]:
        """Models with so many unanswered requests or more, that no pace holds back."""
        if self.backlog < limit:
            return []
        models = {*self._lanes, *(batch.model for batch in self._sent)}
        models -= {lane.model for lane in self._held}
        return [model for model in models if self.unanswered(model) >= limit]

    def has_answered(self, model: str) -> bool:
        """Whether a batch of this model was finished, since it came."""
        return model in self._seconds

    def waiting_for(self, model: str) -> int:
        """Requests queued for one model."""
        lanes = self._lanes.get(model)
        return sum(len(lane.tickets) for lane in lanes.values()) if lanes else 0

    def drain_seconds(self, model: str, tenant: str) -> float:
        """About how long what is queued for both will take, if others get their due."""
        waiting = min(self._waiting(model, tenant) * len(self._turns), self.waiting_count)
        paced = self._pacer.drain_seconds(tenant, self._waiting(model, tenant))
        return max(paced, waiting * self._request_seconds(model))

    def least_seconds(self, model: str, tenant: str) -> float:
        """What the queue for both will take at least."""
        waiting = self._waiting(model, tenant)
        paced = self._pacer.drain_seconds(tenant, waiting)
        return max(paced, waiting * self._seconds.get(model, 0.0))

    def longest(self) -> Lane:
        """The lane that most requests wait in. Only while any waits."""
        return max(self._all_lanes(), key=lambda lane: len(lane.tickets))

    def drop_last(self, lane: Lane) -> Ticket:
        """Takes the newest request of a lane out of it."""
        self.waiting_count -= 1
        return lane.tickets.pop()

    def put(self, ticket: Ticket) -> None:
        """Queues one request behind the others of its model and tenant."""
        tenant = ticket.tenant
        if tenant != self._latest:
            self._mixed_until = ticket.queued_at + _MIXED_SECONDS if self._latest else 0.0
            self._latest = tenant
        lane = self._lane(ticket.model, tenant)
        lane.tickets.append(ticket)
        self.waiting_count += 1
        if not lane.has_turn:
            lane.has_turn = True
            self._turns.put(tenant, lane)

    def discard(self, ticket: Ticket) -> None:
        """Takes a request back that nobody waits for any more; one already sent runs on unheard."""
        lane = self._lanes.get(ticket.model, {}).get(ticket.tenant)
        if lane is not None and ticket in lane.tickets:
            lane.tickets.remove(ticket)
            self.waiting_count -= 1

    def withdraw(self, model: str) -> list[Ticket]:
        """Takes out all requests that are queued for one model."""
        lanes = self._lanes.get(model, {}).values()
        tickets = [ticket for lane in lanes for ticket in lane.tickets]
        for lane in lanes:
            lane.tickets.clear()
        self.waiting_count -= len(tickets)
        return tickets

    def forget(self, model: str) -> None:
        """The model has left the worker; nothing is queued for it."""
        self._lanes.pop(model, None)
        self._seconds.pop(model, None)

    def next_handover(self, now: float) -> list[Batch]:
        """The batches to send next, together; none while the worker has all that it may have."""
        if not self.waiting_count or self._handovers >= WINDOW:
            return []
        if self._held and now >= self._pacer.release_at:
            for lane in self._held:
                self._turns.put(lane.tenant, lane)
            self._held.clear()
        is_mixed = now < self._mixed_until
        sent = self._sent
        if is_mixed and sent and max(map(_charged_seconds, (sent[0], sent[-1]))) > SHORT_SECONDS:
            return []  # what is long fills its handover: it is the running batch or the last
        batches: list[Batch] = []
        seconds = 0.0
        while seconds < HANDOVER_SECONDS:
            batch = self._next_batch(now, is_mixed=is_mixed)
            if batch is None:
                break
            batches.append(batch)
            is_known = batch.model in self._seconds
            seconds += batch.charged_seconds if is_known else HANDOVER_SECONDS
        if batches:
            batches[-1].ends_handover = True
            self._handovers += 1
        return batches

    def _next_batch(self, now: float, *, is_mixed: bool) -> Batch | None:
        tickets: list[Ticket] = []
        while not tickets and self._turns:  # some may wait for nothing any more
            share, lane = self._turns.take()
            room = self._pacer.room(share.tenant, now)
            if not room:
                self._held.append(lane)
                continue
            seconds = self._request_seconds(lane.model)
            most = int(SHORT_SECONDS / seconds) or 1 if is_mixed else UNPACED
            tickets, taken = self._limits.take(lane.tickets, min(most, room), now)
            self.waiting_count -= taken
            share.charge(charged_seconds := len(tickets) * seconds)
            lane.has_turn = bool(lane.tickets)
            if lane.has_turn:  # the rest waits for its model's next turn
                self._turns.put(share.tenant, lane)
        if not tickets:
            return None
        self._pacer.took(share.tenant, len(tickets), now)
        if room == UNPACED and now - tickets[0].queued_at > _LATE_SECONDS:
            self.late_until = now + _LATE_FOR_SECONDS
        self._numbers += 1
        batch = Batch(self._numbers, lane.model, tickets, share, charged_seconds)
        batch.running_since = None if self._sent else now
        self._sent.append(batch)
        return batch

    def finish(self, number: int, now: float, seconds: float = 0.0, left: int = 0) -> Batch | None:
        """The worker has answered a batch. None if that is not the one it was at.

        Args:
            number: the batch's.
            now: on the monotonic clock.
            seconds: what the worker took for it.
            left: so many answers follow, and the worker is still at it.
        """
        if not self._sent or self._sent[0].number != number:
            return None
        if left:
            return self._sent[0]
        batch = self._sent.popleft()
        self._handovers -= batch.ends_handover
        if self._sent:
            self._sent[0].running_since = now
        self._learn(batch, seconds)
        return batch

    def abandon(self) -> tuple[list[Ticket], list[Ticket]]:
        """The worker has ended: (tickets it was at, tickets that had certainly not begun)."""
        started = self._sent.popleft().tickets if self._sent else []
        waiting = [ticket for batch in self._sent for ticket in batch.tickets]
        waiting += [ticket for lane in self._all_lanes() for ticket in lane.tickets]
        self._sent.clear()
        self._handovers = 0
        self._lanes.clear()
        self._turns.clear()
        self._held.clear()
        self.waiting_count = 0
        return started, waiting

    def _all_lanes(self) -> Iterator[Lane]:
        return (lane for lanes in self._lanes.values() for lane in lanes.values())

    def _lane(self, model: str, tenant: str) -> Lane:
        lanes = self._lanes.get(model)
        if lanes is None:
            lanes = self._lanes[model] = {}
        lane = lanes.get(tenant)
        if lane is None:
            lane = lanes[tenant] = Lane(model, tenant)
        return lane

    def _waiting(self, model: str, tenant: str) -> int:
        lane = self._lanes.get(model, {}).get(tenant)
        return len(lane.tickets) if lane else 0

    def _request_seconds(self, model: str) -> float:
        return self._seconds.get(model, 0.0) + _ANSWER_SECONDS

    def _learn(self, batch: Batch, seconds: float) -> None:
        count = len(batch.tickets)
        batch.share.charge(seconds + count * _ANSWER_SECONDS - batch.charged_seconds)
        if batch.model not in self._lanes:  # forgotten, while its last batch ran unheard
            return
        known = self._seconds.get(batch.model)
        each = seconds / count
        self._seconds[batch.model] = each if known is None else known + _LEARNT * (each - known)
