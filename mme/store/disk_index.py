"""Which artifacts are on disk, who uses them, how many bytes they are: the state of the disk tier.

Rules: claimed + resident + leaving <= budget, and bytes leave the count only when they have left
the disk. A pinned entry is never removed. An entry that is not the newest of its key goes with its
last pin. What an earlier run left is counted as it is found (`disk_takeover.py`), which takes a
while with very many; until then the free space of the file system, which each claim minds, is the
limit.

Above the high watermark the least recently used go, one by one and in the background, down to the
low one, so that a fetch seldom waits for removals.

Decision: one lock, and under it no disk work but renames, so that the loop may call everything
here; only `Claim.take` waits, and is for the extracting threads. What else touches the disk runs in
the sweeper.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from mme.config import DiskConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ArtifactRefused, DiskUnavailable
from mme.store.disk_bytes import Claim, DiskBytes
from mme.store.disk_files import DiskFiles, Stored, note_beside, remove

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
        config: the budget and the watermarks.
        sweeper: removes directories, in threads of its own.
    """

    def __init__(self, files: DiskFiles, config: DiskConfig, sweeper: Executor) -> None:
        self._files = files
        self._bytes = DiskBytes(config, files.free_bytes)
        self._sweeper = sweeper
        self._changed = threading.Condition()
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # least recently used first
        self._newest: dict[tuple[str, ModelKey], Entry] = {}
        self._is_trimming = False
        self.copies_of: Callable[[Path], list[Path]] = lambda _artifact: []  # that go with it

    @property
    def used_bytes(self) -> int:
        """Claimed, resident and leaving."""
        return self._bytes.used

    @property
    def budget_bytes(self) -> int:
        """What all of that may be."""
        return self._bytes.budget

    @property
    def count(self) -> int:
        """Artifacts on disk."""
        return len(self._entries)

    def __contains__(self, digest: str) -> bool:
        return digest in self._entries

    def versions(self) -> list[ArtifactVersion]:
        """What is on disk, least recently used first."""
        with self._changed:
            return [entry.version for entry in self._entries.values()]

    def prefer(self, versions: Iterable[ArtifactVersion]) -> None:
        """Counts them as used now, the last one most recently."""
        with self._changed:
            for version in versions:
                if version.digest in self._entries:
                    self._entries.move_to_end(version.digest)

    def pin_newest(self, location: str, key: ModelKey) -> Entry | None:
        """Pins the newest version of `key` that is on disk."""
        with self._changed:
            entry = self._newest.get((location, key))
            return self._pin(entry.version) if entry else None

    def newest(self, location: str, key: ModelKey) -> Entry | None:
        """The newest version of `key` that is on disk. No use of it."""
        return self._newest.get((location, key))

    def pin(self, version: ArtifactVersion) -> Entry | None:
        """Pins `version` where it is on disk, and makes it the newest of its key."""
        with self._changed:
            entry = self._pin(version)
            if entry:
                self._crown(entry)
            return entry

    def confirm(self, entry: Entry) -> Entry | None:
        """Pins `entry`, which is pinned and turned out current, once more; None: it has gone."""
        with self._changed:
            if self._entries.get(entry.version.digest) is not entry:
                return None
            entry.pins += 1
            self._crown(entry)
            return entry

    def unpin(self, entry: Entry) -> None:
        """Gives a pin back."""
        with self._changed:
            entry.pins -= 1
            if not entry.pins:
                self._drop_unwanted(entry)
                self._changed.notify_all()  # a claim may wait for something to evict

    def publish(self, incoming: Path, version: ArtifactVersion, claim: Claim) -> Entry:
        """Turns an extracted directory and its claim into an artifact, pinned, newest of its key.

        Where another call was quicker with the same version, that one's is pinned instead.

        Raises:
            OSError: it can't be renamed; nothing has changed then.
        """
        with self._changed:
            entry = self._pin(version)
            if entry:
                self._leave(incoming, claim.taken_bytes, note_beside(incoming))
                self._crown(entry)
            else:
                if self._files.has(version):  # torn, left by an earlier run
                    self._leave(self._files.withdraw(version.digest), 0)
                self._files.publish(incoming, version)
                entry = Entry(version, claim.taken_bytes, pins=1)
                self._add(entry)
            self.release(claim)
            self.mind_watermark()
            return entry

    def adopt(self, stored: Stored, *, is_current: bool) -> None:
        """Adds what an earlier run left, as used before all else.

        Args:
            stored: found whole.
            is_current: the store says so; else it goes where its key is known already, since what
                was found before it is newer.
        """
        version = stored.version
        with self._changed:
            if version.digest in self._entries:
                return
            if (version.location, version.key) in self._newest and not is_current:
                self._leave(self._files.withdraw(version.digest), 0)
                return
            self._add(Entry(version, stored.unpacked_bytes))
            self._entries.move_to_end(version.digest, last=False)

    def drop_torn(self, digest: str) -> None:
        """Removes what is no whole artifact."""
        with self._changed:
            if digest not in self._entries:
                self._leave(self._files.withdraw(digest), 0)

    def drop_if_missing(self, version: ArtifactVersion) -> None:
        """Lets go of `version` where it was deleted under us."""
        if not self._files.has(version):
            with self._changed:
                entry = self._entries.get(version.digest)
                if entry is not None and not entry.pins and not self._files.has(version):
                    self._drop(entry)

    def discard(self, version: ArtifactVersion) -> None:
        """Lets go of `version`: at once, or with its last pin."""
        with self._changed:
            if entry := self._entries.get(version.digest):
                self._dethrone(entry)

    def claim(self) -> Claim:
        """Begins an extraction."""
        return Claim(self.make_room, self.release)

    def make_room(self, size_bytes: int, claim: Claim) -> None:
        """Adds to a claim, evicting what is least recently used. Blocks; `Claim.take` calls it."""
        with self._changed:
            while not self._bytes.fits(size_bytes):
                if claim.taken_bytes + size_bytes > self.budget_bytes:
                    raise ArtifactRefused(
                        f"The archive unpacks to more than the {self.budget_bytes} bytes of the "
                        "disk tier (setting disk)."
                    )
                if not self._bytes.leaving:
                    if (victim := self._victim()) is None:
                        raise DiskUnavailable(self._bytes.why_full())
                    self._drop(victim)
                if not self._changed.wait(_REMOVAL_SECONDS):
                    raise DiskUnavailable("The disk tier is slow to remove models.")
            if claim.is_over:
                raise DiskUnavailable("The extraction was given up.")
            self._bytes.claimed += size_bytes
            claim.taken_bytes += size_bytes

    def release(self, claim: Claim) -> None:
        """Takes a claim off the count, once. `Claim.end` calls it."""
        with self._changed:
            if not claim.is_over:
                claim.is_over = True
                self._bytes.claimed -= claim.taken_bytes
                self._changed.notify_all()

    def _victim(self) -> Entry | None:
        return next((entry for entry in self._entries.values() if not entry.pins), None)

    def mind_watermark(self) -> None:
        """Begins to trim where there is too much."""
        with self._changed:
            if not self._is_trimming and self._bytes.is_above_high():
                self._is_trimming = True
                self._later(self._trim)

    def _trim(self) -> None:
        """Drops one and comes again, so that other work of the sweeper comes between."""
        with self._changed:
            victim = self._victim() if self._bytes.is_above_low() else None
            self._is_trimming = victim is not None
            if victim is not None:
                self._drop(victim)
                self._later(self._trim)

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
        self._bytes.resident += entry.unpacked_bytes
        self._crown(entry)

    def _crown(self, entry: Entry) -> None:
        if entry.is_newest:
            return
        name = (entry.version.location, entry.version.key)
        older = self._newest.get(name)
        if older:
            self._dethrone(older)
        entry.is_newest = True
        self._newest[name] = entry

    def _dethrone(self, entry: Entry) -> None:
        if entry.is_newest:
            entry.is_newest = False
            del self._newest[entry.version.location, entry.version.key]
        self._drop_unwanted(entry)

    def _drop_unwanted(self, entry: Entry) -> None:
        there = self._entries.get(entry.version.digest) is entry
        if there and not entry.pins and not entry.is_newest:
            self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        del self._entries[entry.version.digest]
        if entry.is_newest:
            del self._newest[(entry.version.location, entry.version.key)]
        self._bytes.resident -= entry.unpacked_bytes
        copies = self.copies_of(self._files.artifact(entry.version))
        self._leave(self._files.withdraw(entry.version.digest), entry.unpacked_bytes, *copies)

    def _leave(self, path: Path, size_bytes: int, *copies: Path) -> None:
        self._bytes.leaving += size_bytes
        self._later(self._remove, size_bytes, path, *copies)

    def _later(self, work: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # closed: the next start sweeps
            self._sweeper.submit(work, *arguments)

    def _remove(self, size_bytes: int, *paths: Path) -> None:
        for path in paths:
            remove(path)
        with self._changed:
            self._bytes.leaving -= size_bytes
            self._changed.notify_all()
