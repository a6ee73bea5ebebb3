"""Which artifacts are on disk, who uses them, how many bytes they are: the state of the disk tier.

Rules: claimed + resident + leaving <= budget, and bytes leave the count only when they have left
the disk. A pinned entry is never removed. An entry that is not the newest of its key goes with its
last pin.

Decision: one lock, and under it no disk work but renames, so that the loop may call everything
here; only `Claim.take` waits, and is for the extracting threads. Removals run one by one in the
sweeper.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ArtifactRefused, DiskUnavailable
from mme.store.disk_files import DiskFiles, Stored

_FREE_BYTES = 4 * 1024**2  # left on the file system for everything else
_REMOVAL_SECONDS = 30.0


@dataclass(slots=True, eq=False)
class Entry:
    """One artifact on disk."""

    version: ArtifactVersion
    unpacked_bytes: int
    pins: int = 0
    is_newest: bool = False  # of its key


class DiskIndex:
    """The index over `files`.

    Args:
        files: opened already.
        budget_bytes: what everything together may take.
        sweeper: removes directories, in a thread of its own.
    """

    def __init__(self, files: DiskFiles, budget_bytes: int, sweeper: Executor) -> None:
        self._files = files
        self._sweeper = sweeper
        self._changed = threading.Condition()
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # least recently used first
        self._newest: dict[tuple[str, ModelKey], Entry] = {}
        self._resident_bytes = 0
        self._claimed_bytes = 0
        self._leaving_bytes = 0
        self.budget_bytes = budget_bytes

    @property
    def used_bytes(self) -> int:
        """Claimed, resident and leaving."""
        return self._claimed_bytes + self._resident_bytes + self._leaving_bytes

    @property
    def count(self) -> int:
        """Artifacts on disk."""
        return len(self._entries)

    def restore(self, stored: Iterable[Stored]) -> None:
        """Takes over what an earlier run left, least recently used first."""
        with self._changed:
            for item in stored:
                self._add(Entry(item.version, item.unpacked_bytes))
            while self._resident_bytes > self.budget_bytes:
                self._drop(next(iter(self._entries.values())))

    def pin_newest(self, location: str, key: ModelKey) -> Entry | None:
        """Pins the newest version of `key` that is on disk."""
        with self._changed:
            entry = self._newest.get((location, key))
            return self._pin(entry.version) if entry else None

    def pin(self, version: ArtifactVersion) -> Entry | None:
        """Pins `version` where it is on disk, and makes it the newest of its key."""
        with self._changed:
            entry = self._pin(version)
            if entry:
                self._crown(entry)
            return entry

    def unpin(self, entry: Entry) -> None:
        """Gives a pin back."""
        with self._changed:
            entry.pins -= 1
            self._drop_unwanted(entry)
            self._changed.notify_all()  # a claim may wait for something to evict

    def publish(self, incoming: Path, version: ArtifactVersion, claim: Claim) -> Entry:
        """Turns an extracted directory and its claim into an artifact, pinned, newest of its key.

        Where another call was quicker with the same version, that one's is pinned instead.

        Raises:
            OSError: it can't be written down or renamed; nothing has changed then.
        """
        with self._changed:
            entry = self._pin(version)
            if entry:
                self._leave(incoming, claim.taken_bytes)
                self._crown(entry)
            else:
                self._files.publish(incoming, Stored(version, claim.taken_bytes))
                entry = Entry(version, claim.taken_bytes, pins=1)
                self._add(entry)
            self.release(claim)
            return entry

    def discard(self, version: ArtifactVersion) -> None:
        """Lets go of `version`: at once, or with its last pin."""
        with self._changed:
            if entry := self._entries.get(version.digest):
                self._dethrone(entry)

    def claim(self) -> Claim:
        """Begins an extraction."""
        return Claim(self)

    def make_room(self, size_bytes: int, claim: Claim) -> None:
        """Adds to a claim, evicting what is least recently used. Blocks; `Claim.take` calls it."""
        with self._changed:
            while not self._fits(size_bytes):
                if claim.taken_bytes + size_bytes > self.budget_bytes:
                    raise ArtifactRefused(
                        f"The archive unpacks to more than the {self.budget_bytes} bytes of the "
                        "disk tier (setting disk)."
                    )
                if not self._leaving_bytes:
                    self._evict()
                if not self._changed.wait(_REMOVAL_SECONDS):
                    raise DiskUnavailable("The disk tier is slow to remove models.")
            if claim.is_over:
                raise DiskUnavailable("The extraction was given up.")
            self._claimed_bytes += size_bytes
            claim.taken_bytes += size_bytes

    def release(self, claim: Claim) -> None:
        """Takes a claim off the count, once. `Claim.end` calls it."""
        with self._changed:
            if not claim.is_over:
                claim.is_over = True
                self._claimed_bytes -= claim.taken_bytes
                self._changed.notify_all()

    def _fits(self, size_bytes: int) -> bool:
        within = self.used_bytes + size_bytes <= self.budget_bytes
        return within and self._files.free_bytes() >= size_bytes + _FREE_BYTES

    def _evict(self) -> None:
        victim = next((entry for entry in self._entries.values() if not entry.pins), None)
        if victim is None:
            raise DiskUnavailable("The disk tier is full of models in use.")
        self._drop(victim)

    def _pin(self, version: ArtifactVersion) -> Entry | None:
        entry = self._entries.get(version.digest)
        if entry is None:
            return None
        if not self._files.has(version):  # someone deleted it under us
            self._drop(entry)
            return None
        entry.pins += 1
        self._entries.move_to_end(version.digest)
        return entry

    def _add(self, entry: Entry) -> None:
        self._entries[entry.version.digest] = entry
        self._resident_bytes += entry.unpacked_bytes
        self._crown(entry)

    def _crown(self, entry: Entry) -> None:
        name = (entry.version.location, entry.version.key)
        older = self._newest.get(name)
        if older and older is not entry:
            self._dethrone(older)
        entry.is_newest = True
        self._newest[name] = entry

    def _dethrone(self, entry: Entry) -> None:
        entry.is_newest = False
        self._newest.pop((entry.version.location, entry.version.key), None)
        self._drop_unwanted(entry)

    def _drop_unwanted(self, entry: Entry) -> None:
        there = self._entries.get(entry.version.digest) is entry
        if there and not entry.pins and not entry.is_newest:
            self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.version.digest]
        if entry.is_newest:
            del self._newest[(entry.version.location, entry.version.key)]
        self._resident_bytes -= entry.unpacked_bytes
        self._leave(self._files.withdraw(entry.version), entry.unpacked_bytes)

    def _leave(self, path: Path, size_bytes: int) -> None:
        self._leaving_bytes += size_bytes
        with contextlib.suppress(RuntimeError):  # closed: the next start sweeps
            self._sweeper.submit(self._remove, path, size_bytes)

    def _remove(self, path: Path, size_bytes: int) -> None:
        shutil.rmtree(path, ignore_errors=True)
        with self._changed:
            self._leaving_bytes -= size_bytes
            self._changed.notify_all()


class Claim:
    """The bytes of one artifact while it is being extracted."""

    def __init__(self, index: DiskIndex) -> None:
        self._index = index
        self.taken_bytes = 0
        self.is_over = False

    def take(self, size_bytes: int) -> None:
        """Makes room for so many bytes more. Blocks.

        Raises:
            ArtifactRefused: the artifact alone is larger than the budget.
            DiskUnavailable: everything else is in use.
        """
        self._index.make_room(size_bytes, self)

    def end(self) -> None:
        """Gives the bytes back unless they were published; nothing can be taken afterwards."""
        self._index.release(self)
