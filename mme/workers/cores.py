"""How many cores this process may use: its affinity, cut by a cgroup's quota (v2 or v1)."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def allowed_cores(cgroup: Path = _CGROUP) -> int:
    """Whole cores, at least one."""
    cores = float(len(os.sched_getaffinity(0)))
    quota = _quota_cores(cgroup)
    return max(1, int(cores if quota is None else min(cores, quota)))


def _quota_cores(cgroup: Path) -> float | None:
    try:
        if (cgroup / "cpu.max").exists():
            quota, period = (cgroup / "cpu.max").read_text().split()
        else:
            quota = (cgroup / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text()
        return None if quota == "max" or int(quota) <= 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return None
