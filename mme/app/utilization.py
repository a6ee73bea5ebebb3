"""How much of the machine is in use, in percent, under SageMaker's names."""

from __future__ import annotations

import shutil
from pathlib import Path

from mme.cache.pressure import read_memory

_STAT = Path("/proc/stat")
_IDLE = slice(3, 5)  # idle, and waiting for a disk


class Utilization:
    """Looks at the machine; the processor's is since the last look.

    Args:
        disk: a directory on the disk that counts.
    """

    def __init__(self, disk: Path) -> None:
        self._disk = disk
        self._cores, self._idle, self._all = _read_ticks()

    def __call__(self) -> dict[str, float]:
        """In percent; of the processors, 100 for each core. Blocks, for tens of microseconds."""
        memory = read_memory()
        disk = shutil.disk_usage(self._disk)
        cores, idle, ticks = _read_ticks()
        passed = max(1, ticks - self._all)
        busy = 1 - min(1.0, (idle - self._idle) / passed)
        self._cores, self._idle, self._all = cores, idle, ticks
        return {
            "CPUUtilization": 100 * cores * busy,
            "MemoryUtilization": 100 * (1 - memory.available_bytes / memory.total_bytes),
            "DiskUtilization": 100 * disk.used / disk.total,
        }


def _read_ticks() -> tuple[int, int, int]:
    """Cores, and ticks of all of them since the machine started: idle ones, all."""
    total, *others = _STAT.read_text().splitlines()
    ticks = [int(text) for text in total.split()[1:9]]
    cores = sum(line.startswith("cpu") for line in others)
    return cores, sum(ticks[_IDLE]), sum(ticks)
