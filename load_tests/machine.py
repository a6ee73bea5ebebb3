"""What a figure depends on besides the code: versions and hardware, without names or paths."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

_PACKAGES = ("mme", "aiohttp", "uvloop", "msgspec", "numpy", "xgboost-cpu", "xgboost", "torch")


def machine_facts() -> dict[str, str | int]:
    """The machine as the server sees it."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 0,
        "cores_allowed": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "kernel": platform.release(),
    }


def versions() -> dict[str, str]:
    """Python's and the packages' that matter here, where installed."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
