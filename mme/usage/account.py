"""What one model used since that was last written down: plain counters, the event loop's alone.

Decision: an object a model, hung on what is in memory, so that a request pays for two additions and
no look-up. Who has counted something tells so once, and is then asked; the others are not.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import add
from typing import NamedTuple, TypeAlias

from mme.errors import Fault

Note: TypeAlias = "Callable[[Account], None]"


class Usage(NamedTuple):
    """What one model used in some time."""

    model: str  # empty: names that are no model's
    requests: int = 0
    client_errors: int = 0
    model_errors: int = 0
    server_errors: int = 0
    compute_seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    memory_byte_seconds: float = 0.0
    load_seconds: float = 0.0
    loads: int = 0

    def plus(self, other: Usage) -> Usage:
        """Both of them."""
        return Usage(self.model, *map(add, self[1:], other[1:]))


class Account:
    """One model's counters.

    Args:
        model: its name; empty: of all names that are no model's.
        note: called when there is something to be written down, once until it was taken.
    """

    __slots__ = (
        "_charged_at", "_is_noted", "_note", "bytes_in", "bytes_out", "client_errors",
        "compute_seconds", "load_seconds", "loads", "memory_byte_seconds", "model", "model_errors",
        "requests", "resident_bytes", "server_errors",
    )  # fmt: skip

    def __init__(self, model: str, note: Note) -> None:
        self.model = model
        self.resident_bytes = 0  # of all its copies, until their memory is back
        self._note = note
        self._charged_at = 0.0
        self._clear()

    def answered(self, bytes_in: int, bytes_out: int) -> None:
        """A request was answered well."""
        if not self._is_noted:
            self._tell()
        self.requests += 1
        self.bytes_in += bytes_in
        self.bytes_out += bytes_out

    def failed(self, fault: Fault, bytes_in: int) -> None:
        """A request was not."""
        self.answered(bytes_in, 0)
        if fault is Fault.CLIENT:
            self.client_errors += 1
        elif fault is Fault.MODEL:
            self.model_errors += 1
        else:
            self.server_errors += 1

    def ran(self, seconds: float) -> None:
        """A batch of its requests took a worker so long, whoever still waited for it."""
        if not self._is_noted:
            self._tell()
        self.compute_seconds += seconds

    def entered(self, resident_bytes: int, load_seconds: float, now: float) -> None:
        """A copy was loaded."""
        self.settle(now)
        self.resident_bytes += resident_bytes
        self.load_seconds += load_seconds
        self.loads += 1

    def left(self, resident_bytes: int, now: float) -> None:
        """The memory of a copy is back."""
        self.settle(now)
        self.resident_bytes -= resident_bytes

    def settle(self, now: float) -> None:
        """Charges the memory held until now, on the monotonic clock."""
        if not self._is_noted:
            self._tell()
        self.memory_byte_seconds += self.resident_bytes * (now - self._charged_at)
        self._charged_at = now

    def take(self) -> Usage:
        """What was counted; counting starts anew."""
        taken = Usage(
            self.model,
            self.requests,
            self.client_errors,
            self.model_errors,
            self.server_errors,
            self.compute_seconds,
            self.bytes_in,
            self.bytes_out,
            self.memory_byte_seconds,
            self.load_seconds,
            self.loads,
        )
        self._clear()
        return taken

    def _tell(self) -> None:
        self._is_noted = True
        self._note(self)

    def _clear(self) -> None:
        self._is_noted = False
        self.requests = self.client_errors = self.model_errors = self.server_errors = 0
        self.compute_seconds = self.memory_byte_seconds = self.load_seconds = 0.0
        self.bytes_in = self.bytes_out = self.loads = 0
