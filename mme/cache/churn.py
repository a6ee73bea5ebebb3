"""Whether a newcomer may push out who is in use: keeps a cache that is too small useful. Pure.

Decisions: who was not asked for in `age_seconds` may always be pushed out, so this only acts when
all that could go is fresher, which is when a cache turns over and each load costs another one.
Then a newcomer has to have been asked for twice as often, lately, as who would go for it; others
are told when to come again. Each refusal counts as an ask, so that who insists gets in. Rejected:
to let newcomers wait for a turn, which holds their connections for what they may not get.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

from mme.domain import ModelKey
from mme.errors import CacheThrashing

_REMEMBERED_LIMIT = 100_000
_ADVANTAGE = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Victim:
    """Who would go first."""

    idle_seconds: float
    resident_seconds: float
    asks: int  # since it was loaded, the one that it was loaded for among them


class Churn:
    """What was asked for lately and was not in memory.

    Args:
        age_seconds: what is fresher than this goes only for what is worth more; 0 for anything.
    """

    def __init__(self, age_seconds: float) -> None:
        self.age_seconds = age_seconds
        self._asks: dict[ModelKey, tuple[float, float]] = {}  # how many, decayed, and when

    def ask(self, key: ModelKey, now: float) -> None:
        """`key` was asked for, and is not in memory."""
        if not self.age_seconds:
            return
        asks = self._asks_of(key, now) + 1
        self._asks.pop(key, None)
        self._asks[key] = asks, now
        if len(self._asks) > _REMEMBERED_LIMIT:
            del self._asks[next(iter(self._asks))]  # the one not asked for longest

    def wait_seconds(self, key: ModelKey, victim: Victim, now: float) -> float:
        """0 if `victim` may go for `key` now; otherwise when that is next thinkable."""
        wait_seconds = self.age_seconds - victim.idle_seconds
        if wait_seconds <= 0:
            return 0.0
        # as many as in the time that a newcomer's asks are remembered for
        asks = victim.asks * self.age_seconds / max(victim.resident_seconds, self.age_seconds)
        return 0.0 if self._asks_of(key, now) >= _ADVANTAGE * asks else wait_seconds

    def refuse(self, key: ModelKey, victim: Victim, now: float) -> None:
        """Raises CacheThrashing unless `victim` may go for `key` now."""
        wait_seconds = self.wait_seconds(key, victim, now)
        if wait_seconds:
            raise CacheThrashing(
                "Memory is full of models that were asked for more often lately, all of them "
                f"within {self.age_seconds:g} s; try again.",
                wait_seconds,
            )

    def _asks_of(self, key: ModelKey, now: float) -> float:
        asks, at = self._asks.get(key, (0.0, now))
        return asks * exp((at - now) / self.age_seconds)
