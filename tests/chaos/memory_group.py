"""A control group in which memory ends soon, where this machine lets a test make one.

Version 2 or 1, whichever has the memory controller. Making one takes the right to write there,
which root has and a container seldom; the tests ask `can_be_made` when they are collected.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

_LIMIT_BYTES = 64 * 1024**2  # a process brings none of what it has into a group
_ROOT, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_MOUNTED = {"": (".", "unified"), "memory": ("memory",)}  # by controllers; version 2 names none


class MemoryGroup:
    """A group that is there; `add` puts processes into it."""

    def __init__(self, parent: Path) -> None:
        self._path = parent / f"mme-test-{uuid.uuid4().hex}"
        self._path.mkdir()
        found = [self._path / name for name in ("memory.max", "memory.limit_in_bytes")]
        try:
            next(path for path in found if path.exists()).write_text(str(_LIMIT_BYTES))
        except (OSError, StopIteration) as error:
            self.remove()
            raise OSError("no memory controller here") from error
        self._is_second = found[0].exists()

    def add(self, pid: int) -> None:
        """What it takes from now on counts here."""
        (self._path / "cgroup.procs").write_text(str(pid))

    @property
    def kills(self) -> int:
        """How many processes the kernel has ended here because memory had."""
        name = "memory.events" if self._is_second else "memory.oom_control"
        found = re.search(r"^oom_kill (\d+)", (self._path / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def remove(self) -> None:
        """Once no process is in it any more."""
        self._path.rmdir()


def _parents() -> Iterator[Path]:
    """Our own group of each hierarchy, as a container sees it or as the host does."""
    for line in _MEMBERSHIP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in _MOUNTED.get(controllers, ()):
            for group in (_ROOT / name / path.strip("/"), _ROOT / name):
                if (group / "cgroup.procs").exists():
                    yield group


def make_memory_group() -> MemoryGroup | None:
    """The first that lets itself be made and entered; None: this machine allows none."""
    for parent in _parents():
        with contextlib.suppress(OSError):
            group = MemoryGroup(parent)
            try:
                _enter_and_leave(group)
            except OSError:
                group.remove()
                raise
            return group
    return None


def _enter_and_leave(group: MemoryGroup) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as guest:
        group.add(guest.pid)
    assert group.kills == 0


def can_be_made() -> bool:
    """Whether a group can be had here."""
    group = make_memory_group()
    if group is not None:
        group.remove()
    return group is not None
