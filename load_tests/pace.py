"""When requests are sent: as fast as they are answered, or when they are due.

Decision: an open loop's arrivals are drawn beforehand from a seeded Poisson process, as independent
users make; a late answer delays none of them, and latency counts from the moment that was drawn. A
closed loop stops asking while the server stalls, so that its percentiles hide the stall; it is here
for capacity only, and to compare with others' figures.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from load_tests.alarm import Alarm
from load_tests.plan import Plan

_DRAWN = 20_000  # turns, after which they come again

Line = TypeVar("Line")
Line_contra = TypeVar("Line_contra", contravariant=True)
Ask = Callable[[Line, float], None]  # over this line, a request that is due then


class Pace(Protocol[Line_contra]):
    """Told of each line (connection) that is free, decides when it asks again."""

    def freed(self, line: Line_contra, now: float) -> None:
        """This line owes no answer now."""
        ...

    def lost(self, line: Line_contra) -> None:
        """This line is no more."""
        ...

    def is_over(self) -> bool:
        """Whether nothing more is to be sent once no line owes an answer."""
        ...

    def unsent(self) -> list[float]:
        """When the requests were due that no line was free for."""
        ...

    def close(self) -> None:
        """Asks no more."""
        ...


class ClosedLoop(Generic[Line]):
    """Every line asks again as soon as it was answered."""

    def __init__(self, ask: Ask[Line], until: float) -> None:
        self._ask, self._until = ask, until

    def freed(self, line: Line, now: float) -> None:
        """Asks again while there is time."""
        if now < self._until:
            self._ask(line, now)

    def lost(self, line: Line) -> None:
        """The others go on."""

    def is_over(self) -> bool:
        """A line that owes nothing was not asked again."""
        return True

    def unsent(self) -> list[float]:
        """Nothing is ever due."""
        return []

    def close(self) -> None:
        """Sends nothing more."""
        self._until = 0.0


class OpenLoop(Generic[Line]):
    """Requests become due by themselves; the next free line takes the longest due.

    Args:
        ask: sends one.
        arrivals: when each is due, rising, by `time.monotonic`.
        late: told how late the generator itself woke for each, in seconds.
    """

    def __init__(
        self, ask: Ask[Line], arrivals: deque[float], late: Callable[[float], None]
    ) -> None:
        self._ask, self._arrivals, self._late = ask, arrivals, late
        self._due: deque[float] = deque()
        self._free: deque[Line] = deque()
        self._alarm = Alarm(self._arrive)
        self._arrive()

    def freed(self, line: Line, now: float) -> None:
        """Takes what is due, or waits for it."""
        if self._due:
            self._ask(line, self._due.popleft())
        else:
            self._free.append(line)

    def lost(self, line: Line) -> None:
        """The others take over."""
        if line in self._free:
            self._free.remove(line)

    def is_over(self) -> bool:
        """All that was drawn has been sent."""
        return not self._due and not self._arrivals

    def unsent(self) -> list[float]:
        """What is due and what is to come."""
        return [*self._due, *self._arrivals]

    def close(self) -> None:
        """Sends nothing more."""
        self._alarm.close()

    def _arrive(self) -> None:
        now = time.monotonic()
        while self._arrivals and self._arrivals[0] <= now:
            self._late(now - self._arrivals[0])
            self._due.append(self._arrivals.popleft())
        while self._due and self._free:
            self._ask(self._free.popleft(), self._due.popleft())
        if self._arrivals:
            self._alarm.set(self._arrivals[0])


def draw_turns(plan: Plan) -> Sequence[int]:
    """Which question comes next, round and round: in turn, or drawn by popularity."""
    numbers = range(len(plan.questions))
    if plan.zipf_exponent is None:
        return numbers
    weights = [1 / (number + 1) ** plan.zipf_exponent for number in numbers]
    return random.Random(plan.seed).choices(numbers, weights, k=_DRAWN)


def draw_arrivals(per_second: float, since: float, until: float, seed: int) -> deque[float]:
    """Moments of a Poisson process, the same for the same seed."""
    draw = random.Random(seed)
    moments: deque[float] = deque()
    moment = since + draw.expovariate(per_second)
    while moment < until:
        moments.append(moment)
        moment += draw.expovariate(per_second)
    return moments
