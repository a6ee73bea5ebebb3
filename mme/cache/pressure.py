"""How many bytes models may take now: the budget, less what something else has taken.

Measured from the host (psutil) and from the cgroups (v2 or v1) that we are in, whichever leaves
least: the one that is mounted, which a container takes for the root, and our own below it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_MEMBERSHIP = Path("/proc/self/cgroup")
_NO_LIMIT_BYTES = 1 << 60
_LEAST_RESERVE_BYTES = 32 * 1024**2
_LEAST_RESERVE_RATIO = 0.125


@dataclass(frozen=True, slots=True)
class MemoryReading:
    """A moment's memory, in bytes."""

    total_bytes: int
    available_bytes: int


def read_memory(cgroup: Path = _CGROUP, membership: Path = _MEMBERSHIP) -> MemoryReading:
    """Reads host and cgroups; blocking, some tens of microseconds."""
    host = psutil.virtual_memory()
    total, available = host.total, host.available
    unified, memory = _groups(cgroup, membership)
    v2 = ("memory.max", "memory.current", "inactive_file")
    v1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    for group, (limit, used, reclaimable) in (
        *((group, v2) for group in unified),
        *((group, v1) for group in memory),
    ):
        limit_bytes = _read_number(group / limit)
        if limit_bytes is None or limit_bytes > _NO_LIMIT_BYTES:
            continue
        used_bytes = (_read_number(group / used) or 0) - _read_stat(group, reclaimable)
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


def reserve(total_bytes: int, ratio: float) -> int:
    """What is to stay free of so much memory: in a small container a share alone is too little.

    Between two looks a few loads may take more than was thought. Pure.
    """
    least_bytes = min(_LEAST_RESERVE_BYTES, int(total_bytes * _LEAST_RESERVE_RATIO))
    return max(int(total_bytes * ratio), least_bytes)


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
                reserve_bytes=reserve(reading.total_bytes, reserve_ratio),
                reading=reading,
            )
        )
        await asyncio.sleep(pause_seconds)


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _groups(cgroup: Path, membership: Path) -> tuple[set[Path], set[Path]]:
    """Directories that limit us: of version 2, and of version 1's memory."""
    unified, memory = {cgroup}, {cgroup / "memory"}
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return unified, memory
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            unified.add(cgroup / path.lstrip("/"))
        elif "memory" in controllers.split(","):
            memory.add(cgroup / "memory" / path.lstrip("/"))
    return unified, memory


def _read_stat(group: Path, name: str) -> int:
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.split()[0] == name), 0)
