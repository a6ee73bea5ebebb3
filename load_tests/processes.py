"""What a server's processes hold in memory."""

from __future__ import annotations

from pathlib import Path

import psutil

MEGABYTE = 1024**2


def worker_pids(server_pid: int) -> list[int]:
    """The server's workers, in the order in which they were started."""
    children = psutil.Process(server_pid).children(recursive=True)
    return sorted(child.pid for child in children if "mme.workers.child" in child.cmdline())


def anonymous_bytes(pid: int) -> int:
    """Memory that is a process's alone and comes from no file."""
    return _rollup(pid)["Anonymous"]


def server_bytes(server_pid: int) -> int:
    """Memory of the server and all its processes, what they share counted once."""
    children = psutil.Process(server_pid).children(recursive=True)
    return sum(_rollup(pid)["Pss"] for pid in (server_pid, *(child.pid for child in children)))


def worker_bytes(server_pid: int) -> int:
    """Memory that is its workers' alone."""
    return sum(map(anonymous_bytes, worker_pids(server_pid)))


def _rollup(pid: int) -> dict[str, int]:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    pairs = (line.split(":") for line in lines)
    return {name: int(value.split()[0]) * 1024 for name, value in pairs}
