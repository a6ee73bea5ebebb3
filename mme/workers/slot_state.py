"""What an operator may see of one worker."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mme.workers.environments import Environment
    from mme.workers.process import WorkerProcess
    from mme.workers.slot import Slot


def describe(
    slot: Slot,
    process: WorkerProcess | None,
    environment: Environment | None,
    loading: str,
    restarts: int,
) -> dict[str, object]:
    """A worker's state, for `/state`."""
    state = "leaving" if slot.is_leaving else "starting" if process is None else "ready"
    return {
        "worker": slot.index,
        "pid": process.pid if process else None,
        "environment": environment.digest if environment else None,
        "state": state,
        "models": len(slot.residencies),
        "resident_bytes": slot.residencies.resident_bytes,
        "private_bytes": process.private_bytes if process else 0,
        "excess_bytes": process.excess_bytes if process else 0,
        "lost_bytes": process.lost_bytes if process else 0,
        "disk_bytes": process.disk.used_bytes if process else 0,
        "queued": slot.queue.waiting_count,
        "running": slot.queue.sent_count,
        "loading": loading or None,
        "restarts": restarts,
        "isolation": process.isolation.describe() if process else None,
    }
