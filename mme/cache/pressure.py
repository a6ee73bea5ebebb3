"""How many bytes models may take now: the budget, less what something else has taken.

Measured from the host (psutil) and from the cgroup (v2 or v1), whichever leaves less.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_NO_LIMIT_BYTES = 1 << 60


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """A moment's memory, in bytes."""

    total_bytes: int
    available_bytes: int


def read_memory(cgroup: Path = _CGROUP) -> MemoryReading:
    """Reads host and cgroup; blocking, some tens of microseconds."""
    host = psutil.virtual_memory()
    total, available = host.total, host.available
    for limit, used, reclaimable in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit_bytes = _read_number(cgroup / limit)
        if limit_bytes is None or limit_bytes > _NO_LIMIT_BYTES:
            continue
        used_bytes = (_read_number(cgroup / used) or 0) - _read_stat(cgroup / limit, reclaimable)
        total = min(total, limit_bytes)
        available = min(available, max(0, limit_bytes - used_bytes))
    return MemoryReading(total_bytes=total, available_bytes=available)


def budget_now(
    *, configured_bytes: int, occupied_bytes: int, reserve_bytes: int, reading: MemoryReading
) -> int:
    """The budget at this moment. Pure.

    Args:
        configured_bytes: the most it may be.
        occupied_bytes: what models really occupy now (resident and leaving).
        reserve_bytes: what is to stay free for everything else.
        reading: what the machine has.
    """
    obtainable = occupied_bytes + reading.available_bytes - reserve_bytes
    return max(0, min(configured_bytes, obtainable))


async def watch_memory(
    set_budget: Callable[[int], None],
    occupied_bytes: Callable[[], int],
    *,
    configured_bytes: int,
    reserve_ratio: float,
    pause_seconds: float,
) -> None:
    """Sets the budget anew, again and again, until cancelled."""
    while True:
        reading = await asyncio.to_thread(read_memory)
        set_budget(
            budget_now(
                configured_bytes=configured_bytes,
                occupied_bytes=occupied_bytes(),
                reserve_bytes=int(reading.total_bytes * reserve_ratio),
                reading=reading,
            )
        )
        await asyncio.sleep(pause_seconds)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _read_stat(limit: Path, name: str) -> int:
    try:
        lines = (limit.parent / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)
