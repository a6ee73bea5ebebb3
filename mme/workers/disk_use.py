"""What a worker, or a build, has on disk: its temporary directory, and files that it only holds.

Blocks count, not sizes: a sparse file takes what it takes. A file with several names counts once.
Who has too many files, or too many directories in each other, has too much: to look at them must
cost nobody anything. What it was seen to hold in `/dev/shm` stays its own, until it has gone.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from threading import Lock
from typing import NamedTuple

from mme.workers.held_files import SHARED, Hidden, Key, held_files, shared_file
from mme.workers.hostile_tree import TooDeep, walk


class Use(NamedTuple):
    """What was found."""

    bytes: int
    files: int  # and directories, as far as they were counted
    excess: str = ""  # why that is too much, as the end of a sentence; "": it is not


class DiskUse:
    """Looked at by one thread at a time, while others wait.

    Args:
        directories: its own; of the first the file system and the owner count, so it must be there.
        limit_bytes: that it may have.
        limit_files: as well; with directories.
    """

    def __init__(self, *directories: Path, limit_bytes: int, limit_files: int) -> None:
        self._directories = directories
        self._limit_bytes, self._limit_files = limit_bytes, limit_files
        found = directories[0].stat()
        self._user, self._devices = found.st_uid, {found.st_dev}
        with contextlib.suppress(OSError):
            self._devices.add(Path(SHARED).stat().st_dev)
        self._shared: dict[str, Key] = {}
        self._is_seen = False  # what it holds, at least once
        self._turn = Lock()

    def look(self, group: int) -> Use:
        """How much it has.

        Args:
            group: of all its processes.

        Raises:
            OSError: it can't be told.
        """
        with self._turn:
            return self._look(group)

    def remove_shared(self) -> None:
        """Removes what it was seen to hold in `/dev/shm`."""
        with self._turn:
            for name, key in self._shared.items():
                if (found := shared_file(name)) and found.key == key:
                    with contextlib.suppress(OSError):
                        os.unlink(f"{SHARED}/{name}")  # noqa: PTH108 - a link is not followed

    def _look(self, group: int) -> Use:
        sizes: dict[Key, int] = {}
        number, excess = 0, ""
        try:
            for number, (key, size_bytes) in enumerate(self._found(group), start=1):
                sizes[key] = size_bytes
                if number > self._limit_files:
                    break
        except TooDeep:
            excess = "it had too many directories in each other"
        except Hidden:
            excess = "it hid which files it holds" if self._is_seen else ""
        used_bytes = sum(sizes.values())
        if used_bytes > self._limit_bytes:
            excess = f"it had more than {self._limit_bytes} bytes on disk"
        elif number > self._limit_files:
            excess = f"it had more than {self._limit_files} files"
        return Use(used_bytes, number, excess)

    def _found(self, group: int) -> Iterator[tuple[Key, int]]:
        for entry in chain.from_iterable(map(walk, self._directories)):
            yield (entry.st_dev, entry.st_ino), entry.st_blocks * 512
        for name, key in tuple(self._shared.items()):
            found = shared_file(name)
            if found is None or found.key != key:
                del self._shared[name]
            else:
                yield key, found.bytes
        for held in held_files(group, self._devices):
            if not held.shared_name:
                yield held.key, held.bytes
            elif held.user == self._user:  # what is removed for it, it could itself
                self._shared[held.shared_name] = held.key
                yield held.key, held.bytes
        self._is_seen = True
