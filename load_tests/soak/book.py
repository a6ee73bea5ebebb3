"""Every outcome of every request, and which of them a fault excuses.

Decisions: a fault names beforehand what it may do to which traffic; anything else that happens is
an error of the server's, also during a fault. A request is excused only when it ran while the fault
did, or in the time after it that the fault says it takes to pass. All times are `time.monotonic`'s.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

RIGHT = "right"

Excuses = Mapping[str, frozenset[str]]
"""By traffic: outcomes that a fault may bring about."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Injected:
    """A fault that was there for a while."""

    name: str
    since: float
    until: float  # with the time that it took to pass
    excuses: Excuses


@dataclass(frozen=True, kw_only=True, slots=True)
class Amiss:
    """A request that did not get the right answer."""

    traffic: str
    outcome: str
    began: float
    ended: float
    detail: str = ""

    def is_excused_by(self, fault: Injected) -> bool:
        """Whether the fault was there, and may do this."""
        overlaps = self.began <= fault.until and fault.since <= self.ended
        return overlaps and self.outcome in fault.excuses.get(self.traffic, ())


@dataclass(slots=True)
class Verdicts:
    """Counts by traffic and outcome; what was excused, also by fault."""

    right: Counter[str] = field(default_factory=Counter)
    expected: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    unexpected: Counter[tuple[str, str]] = field(default_factory=Counter)
    first_unexpected: dict[tuple[str, str], Amiss] = field(default_factory=dict)


class Book:
    """Filled by many threads; judged at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._right: Counter[str] = Counter()
        self._amiss: list[Amiss] = []
        self._faults: list[Injected] = []

    @property
    def faults(self) -> tuple[Injected, ...]:
        """Those so far."""
        with self._lock:
            return tuple(self._faults)

    @property
    def right_count(self) -> int:
        """Right answers so far."""
        with self._lock:
            return self._right.total()

    def enter(self, traffic: str, outcome: str, began: float, ended: float, detail: str) -> None:
        """One request; `detail` is kept where it is amiss."""
        with self._lock:
            if outcome == RIGHT:
                self._right[traffic] += 1
            else:
                self._amiss.append(
                    Amiss(traffic=traffic, outcome=outcome, began=began, ended=ended, detail=detail)
                )

    def inject(self, fault: Injected) -> None:
        """One fault, once it has passed."""
        with self._lock:
            self._faults.append(fault)

    def judge(self) -> Verdicts:
        """What is excused and what is not."""
        with self._lock:
            verdicts = Verdicts(right=Counter(self._right))
            for amiss in self._amiss:
                by = next((each for each in self._faults if amiss.is_excused_by(each)), None)
                if by is not None:
                    verdicts.expected[amiss.traffic, amiss.outcome, by.name] += 1
                else:
                    key = amiss.traffic, amiss.outcome
                    verdicts.unexpected[key] += 1
                    verdicts.first_unexpected.setdefault(key, amiss)
        return verdicts
