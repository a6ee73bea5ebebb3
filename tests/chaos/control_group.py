"""A control group in which memory or processes end soon, where this machine lets a test make one.

Version 2 or 1, whichever has the controller. Making one takes the right to write there, which root
has and a container seldom; the tests ask `can_be_made` when they are collected.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

_ROOT, _MEMBERSHIP = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
_LIMITS = {"memory": ("memory.max", "memory.limit_in_bytes"), "pids": ("pids.max",)}


class ControlGroup:
    """A group that is there; `add` puts processes into it, which bring nothing of what they have.

    Raises OSError where there is no such controller.
    """

    def __init__(self, parent: Path, controller: str) -> None:
        self._path = parent / f"mme-test-{uuid.uuid4().hex}"
        self._path.mkdir()
        found = [self._path / name for name in _LIMITS[controller]]
        try:
            self._limit = next(path for path in found if path.exists())
        except StopIteration:
            self.remove()
            raise OSError(f"no controller {controller} here") from None

    def limit(self, most: int | None) -> None:
        """So many bytes of memory, or processes and threads, from now on; None: any number."""
        unlimited = "-1" if self._limit.name == "memory.limit_in_bytes" else "max"
        self._limit.write_text(unlimited if most is None else str(most))

    def add(self, pid: int) -> None:
        """What it takes from now on counts here."""
        (self._path / "cgroup.procs").write_text(str(pid))

    @property
    def kills(self) -> int:
        """How many processes the kernel has ended here because memory had."""
        is_second = self._limit.name == "memory.max"
        name = "memory.events" if is_second else "memory.oom_control"
        found = re.search(r"^oom_kill (\d+)", (self._path / name).read_text(), re.MULTILINE)
        return int(found[1]) if found else 0

    def remove(self) -> None:
        """Once no process is in it any more."""
        self._path.rmdir()


def make_group(controller: str) -> ControlGroup | None:
    """The first that lets itself be made, limited and entered; None: this machine allows none."""
    for parent in _parents(controller):
        with contextlib.suppress(OSError):
            group = ControlGroup(parent, controller)
            try:
                _enter_and_leave(group)
            except OSError:
                group.remove()
                raise
            return group
    return None


def can_be_made(controller: str) -> bool:
    """Whether a group can be had here."""
    group = make_group(controller)
    if group is not None:
        group.remove()
    return group is not None


def _parents(controller: str) -> Iterator[Path]:
    """Our own group of each hierarchy, as a container sees it or as the host does."""
    mounted = {"": (".", "unified"), controller: (controller,)}  # version 2 names none
    for line in _MEMBERSHIP.read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in mounted.get(controllers, ()):
            for group in (_ROOT / name / path.strip("/"), _ROOT / name):
                if (group / "cgroup.procs").exists():
                    yield group


def _enter_and_leave(group: ControlGroup) -> None:
    group.limit(None)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as guest:
        group.add(guest.pid)
