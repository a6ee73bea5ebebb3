"""Who was asked for lately, in order: what another budget or policy is tried on (`mme whatif`).

Decision: every access, in arrays of 9 bytes each and a table of the models in them; well under a
microsecond a request. A sample would be smaller, but misses depend on who came between. Names go
with their last access, and only those that were in memory once are taken down: no client can fill
the table with names of its own.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

HIT, MISS, REFUSED = b"hmr"
_KEPT = 200_000
_MILLISECONDS = 1000
_WRAP = 2**32  # after 49 days; differences stay right


@dataclass(frozen=True, kw_only=True, slots=True)
class Noted:
    """What a log held at one moment."""

    models: list[str]  # and what each of them takes
    sizes_bytes: array[int]
    load_seconds: array[float]
    numbers: array[int]  # of models, by access, as those below
    milliseconds: array[int]  # since the start
    outcomes: bytearray

    def describe(self) -> dict[str, object]:
        """As JSON. Takes tens of milliseconds, in any thread."""
        return {
            "models": self.models,
            "bytes": self.sizes_bytes.tolist(),
            "load_seconds": self.load_seconds.tolist(),
            "numbers": self.numbers.tolist(),
            "milliseconds": self.milliseconds.tolist(),
            "outcomes": self.outcomes.decode(),
        }


class AccessLog:
    """A ring of accesses.

    Args:
        opened_at: monotonic time that accesses are counted from, in seconds.
        limit: how many are kept.
    """

    def __init__(self, opened_at: float, limit: int = _KEPT) -> None:
        self._opened_at = opened_at
        self._limit = limit
        self._next = 0  # where the ring is overwritten, once it is full
        self._who = array("I")  # the three columns of the ring
        self._when = array("I")  # milliseconds
        self._outcomes = bytearray()
        self._numbers: dict[str, int] = {}  # of models; the rows of the four columns below
        self._names: list[str] = []
        self._bytes = array("Q")
        self._load_seconds = array("d")
        self._uses = array("I")  # in the ring
        self._free_numbers: list[int] = []

    def __len__(self) -> int:
        return len(self._who)

    def note(
        self, model: str, at_seconds: float, *, hit: bool, size_bytes: int, load_seconds: float
    ) -> None:
        """Takes down that `model` was asked for, and was in memory then or came there."""
        number = self._numbers.get(model)
        if number is None:
            number = self._enrol(model)
        if not (hit and self._bytes[number]):
            self._bytes[number] = size_bytes
            self._load_seconds[number] = load_seconds
        self._append(number, at_seconds, HIT if hit else MISS)

    def note_refused(self, model: str, at_seconds: float) -> None:
        """Takes down that there was no room for `model`, if it has been in memory before."""
        number = self._numbers.get(model)
        if number is not None:
            self._append(number, at_seconds, REFUSED)

    def copy(self) -> Noted:
        """What is kept now, oldest first."""
        at = self._next
        return Noted(
            models=self._names[:],
            sizes_bytes=self._bytes[:],
            load_seconds=self._load_seconds[:],
            numbers=self._who[at:] + self._who[:at],
            milliseconds=self._when[at:] + self._when[:at],
            outcomes=self._outcomes[at:] + self._outcomes[:at],
        )

    def _append(self, number: int, at_seconds: float, outcome: int) -> None:
        when = int((at_seconds - self._opened_at) * _MILLISECONDS) % _WRAP
        self._uses[number] += 1
        if len(self._who) < self._limit:
            self._who.append(number)
            self._when.append(when)
            self._outcomes.append(outcome)
            return
        at = self._next
        uses, former = self._uses, self._who[at]
        uses[former] -= 1
        if not uses[former]:
            self._forget(former)
        self._who[at], self._when[at], self._outcomes[at] = number, when, outcome
        self._next = at + 1 if at + 1 < self._limit else 0

    def _enrol(self, model: str) -> int:
        if self._free_numbers:
            number = self._free_numbers.pop()
            self._names[number] = model
            self._bytes[number] = 0
        else:
            number = len(self._names)
            self._names.append(model)
            self._bytes.append(0)
            self._load_seconds.append(0.0)
            self._uses.append(0)
        self._numbers[model] = number
        return number

    def _forget(self, number: int) -> None:
        del self._numbers[self._names[number]]
        self._names[number] = ""
        self._free_numbers.append(number)
