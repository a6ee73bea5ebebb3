"""A flood for a pacer to find."""

from __future__ import annotations

from itertools import count

from mme.workers.pacing import Pacer


def watchful() -> Pacer:
    """A pacer to whom the loop is always busy."""
    return Pacer({}, busy_limit=0.5, wanted_seconds=count().__next__)


def flood(pacer: Pacer, tenant: str, now: float) -> float:
    """Has a tenant ask most, until the pacer holds it back; the moment when it does."""
    while pacer.tenant is None:
        now += 0.01
        pacer.took(tenant, 40, now)
        for number in range(20):
            pacer.took(f"quiet {number}", 1, now)
    assert pacer.tenant == tenant
    return now
