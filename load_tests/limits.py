"""A hard limit on what a running server may take from now on: a cgroup, or else rlimits."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

import psutil

_ROOT = Path("/sys/fs/cgroup")


class Limit(Protocol):
    """A limit that is in force."""

    kind: str

    def kills(self) -> int:
        """Processes that the kernel has ended for it."""
        ...


class _Cgroup:
    """A group of our own; what its processes held before is not counted."""

    def __init__(self, directory: Path, limit_file: str, events_file: str) -> None:
        self.kind = "cgroup"
        self._directory, self._events_file = directory, events_file
        self._limit_file = limit_file

    def apply(self, pids: Sequence[int], limit_bytes: int) -> None:
        """Raises OSError where that is not ours to do."""
        self._directory.mkdir()
        (self._directory / self._limit_file).write_text(str(limit_bytes))
        for pid in pids:
            (self._directory / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """Processes that the kernel has ended for it."""
        lines = (self._directory / self._events_file).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def close(self) -> None:
        """Takes the group away; what still runs goes to the one above."""
        with suppress(OSError):
            for pid in (self._directory / "cgroup.procs").read_text().split():
                (self._directory.parent / "cgroup.procs").write_text(pid)
            self._directory.rmdir()


class _Rlimits:
    """Data of each worker: what is over is refused to it."""

    kind = "rlimit"

    def kills(self) -> int:
        """A refusal ends nothing by itself."""
        return 0


@contextmanager
def limited(
    server_pid: int, worker_pids: Sequence[int], limit_bytes: int, limiter: str = "auto"
) -> Iterator[Limit]:
    """Lets the server's processes take `limit_bytes` more, all together, or each worker as many."""
    name = f"mme-load-{os.getpid()}"
    pids = [server_pid, *(child.pid for child in psutil.Process(server_pid).children(True))]
    cgroups = (
        _Cgroup(_ROOT / "memory" / name, "memory.limit_in_bytes", "memory.oom_control"),
        _Cgroup(_ROOT / name, "memory.max", "memory.events"),
    )
    for cgroup in cgroups if limiter == "auto" else ():
        try:
            cgroup.apply(pids, limit_bytes)
        except OSError:
            cgroup.close()
            continue
        try:
            yield cgroup
        finally:
            cgroup.close()
        return
    for pid in worker_pids:
        status = Path(f"/proc/{pid}/status").read_text().splitlines()
        held = next(int(line.split()[1]) for line in status if line.startswith("VmData:")) * 1024
        psutil.Process(pid).rlimit(resource.RLIMIT_DATA, (held + limit_bytes, held + limit_bytes))
    yield _Rlimits()
