"""How much goes into one batch: so many requests, rows and bytes, so that nobody in it waits long.

Decision: rows are counted as what parts them in text, lines and the brackets of JSON, and a small
body as one; any other format is held by its bytes alone. An estimate is enough for a limit, and
takes a microsecond for each 10 KB. Rejected: to read bodies here, and to limit by the seconds that
a batch will take, which takes from models that are slow a row, but fast together, what helps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mme.workers.batch import Ticket

_SMALL_BYTES: Final = 256
_PARTING: Final = (b"\n", b"[", b"{")


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchLimits:
    """Of one batch; a request that is larger goes alone."""

    requests: int = 64
    rows: int = 1024
    bytes: int = 4 * 1024**2

    def take(self, queue: list[Ticket], most: int, now: float) -> tuple[list[Ticket], int]:
        """Takes the next batch from the front of a queue.

        Args:
            queue: what waits for one model and tenant.
            most: requests, where that is less than the limit.
            now: on the monotonic clock.

        Returns:
            The batch, and how many were taken out: also those that nobody waits for any more.
        """
        most = min(most, self.requests)
        tickets: list[Ticket] = []
        size_bytes = rows = taken = 0
        for ticket in queue:
            if len(tickets) == most:
                break
            if not ticket.outcome.done():  # else too late, or whoever asked has gone
                body = ticket.ask.body
                size_bytes += len(body)
                rows += 1 if len(body) < _SMALL_BYTES else count_rows(body)
                if tickets and (size_bytes > self.bytes or rows > self.rows):
                    break
                ticket.sent_at = now
                tickets.append(ticket)
            taken += 1
        del queue[:taken]
        return tickets, taken


def count_rows(body: bytes) -> int:
    """About how many rows a body of text has, rather too many than too few; 1 of any other."""
    return max(1, *(body.count(mark) for mark in _PARTING))
