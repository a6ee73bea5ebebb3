"""Who pays for a batch: its model's account, whoever still waits for the answer."""

from __future__ import annotations

import time

from mme.workers.batch import Batch
from mme.workers.residency import Residencies


def charge(residencies: Residencies, batch: Batch | None, seconds: float | None = None) -> None:
    """Charges a batch.

    Args:
        residencies: of its worker; one that is not there has left meanwhile.
        batch: None: there is none.
        seconds: what it took; None: it ended its worker, or with it, and took until now.
    """
    residency = residencies.get(batch.model) if batch is not None else None
    if batch is None or residency is None or residency.account is None:
        return
    if seconds is None:
        seconds = time.monotonic() - batch.running_since if batch.running_since else 0.0
    residency.account.ran(seconds)
