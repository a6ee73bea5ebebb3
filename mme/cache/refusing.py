"""What is told of a load for which there is no room."""

from __future__ import annotations

from mme.cache.ledger import Ledger, Refusal
from mme.errors import MemoryRefused


def refused(ledger: Ledger[str], size_bytes: int, why: Refusal) -> MemoryRefused:
    """Says what was needed, what there is, and who has it."""
    needs = f"The model needs {size_bytes} bytes of memory"
    budget = f"the budget for all models is {ledger.budget_bytes}"
    if why is Refusal.TOO_LARGE:
        return MemoryRefused(f"{needs}; {budget}.")
    reason = why.value if why is Refusal.FULL else "all others are pinned"
    return MemoryRefused(f"{needs}; {budget}, of which {ledger.charged_bytes} are taken: {reason}.")
