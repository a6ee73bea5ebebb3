"""A disk tier that is really small: a file system of its own, or else a limit on files' sizes.

Where the kernel lets us, the server gets a namespace with a tmpfs as its cache directory, which the
test reaches through /proc. Where it does not, no file of the server may grow past a limit, which
makes the same writes fail.
"""

from __future__ import annotations

import os
import resource
import shlex
import subprocess
from pathlib import Path

_UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")


class SmallDisk:
    """A cache directory in which there is room for so many bytes.

    Args:
        directory: to be the cache directory; made here.
        size_bytes: of the whole file system.
        inodes: that it has, where it is real; 0: any number.
    """

    def __init__(self, directory: Path, size_bytes: int, inodes: int = 0) -> None:
        directory.mkdir()
        self._directory = directory
        self._size_bytes = size_bytes
        options = f"size={size_bytes},nr_inodes={inodes}"
        self._mount = f"mount -t tmpfs -o {options} none {shlex.quote(str(directory))}"
        self.is_real = _runs(*_UNSHARE, "sh", "-c", self._mount)

    @property
    def within(self) -> list[str]:
        """The command in which the server is started."""
        if self.is_real:
            return [*_UNSHARE, "sh", "-c", f'{self._mount} && exec "$@"', "sh"]
        return []

    def fill(self, pid: int) -> None:
        """Leaves the server `pid` no room."""
        if not self.is_real:
            _limit_files(pid, 64 * 1024)
            return
        with (self._seen(pid) / "ballast").open("wb") as ballast:
            free = os.statvfs(ballast.name)
            os.posix_fallocate(ballast.fileno(), 0, free.f_bavail * free.f_frsize)

    def free(self, pid: int) -> None:
        """Gives it back."""
        if not self.is_real:
            _limit_files(pid, resource.RLIM_INFINITY)
            return
        (self._seen(pid) / "ballast").unlink()

    def _seen(self, pid: int) -> Path:
        return Path(f"/proc/{pid}/root{self._directory}")


def _limit_files(pid: int, size_bytes: int) -> None:
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, resource.RLIM_INFINITY))


def _runs(*command: str) -> bool:
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=10).returncode == 0
    except FileNotFoundError:
        return False
