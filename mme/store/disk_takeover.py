"""What an earlier run left on disk -> the index, in the background.

Decision: a start waits for none of it, since reading 100,000 notes and directories takes seconds.
What is asked for before its turn is looked for by name. An artifact is taken over whole or not at
all; debris is removed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mme.domain import ArtifactVersion
from mme.store.disk_files import DiskFiles, Stored, remove
from mme.store.disk_index import DiskIndex


class TakeOver:
    """Fills `index` with what is under `files`. All but `close` block, and are for threads."""

    def __init__(self, files: DiskFiles, index: DiskIndex) -> None:
        self._files = files
        self._index = index
        self._is_closed = False
        self.is_complete = False

    def run(self, debris: Iterable[Path]) -> None:
        """Takes over all of it, or as much as there is time for before `close`.

        Args:
            debris: what was in `incoming/` before this run.
        """
        for path in debris:
            remove(path)
        found: list[tuple[int, Stored]] = []
        for digest in self._files.digests():
            if self._is_closed:
                return
            if digest in self._index:
                continue
            if (stored := self._files.read(digest)) is not None:
                found.append((self._files.used_at(digest), stored))
            else:
                self._index.drop_torn(digest)
        for _, stored in sorted(found, key=lambda item: item[0], reverse=True):
            self._index.adopt(stored, is_current=False)
        self.is_complete = True
        self._index.mind_watermark()

    def look_for(self, versions: Iterable[ArtifactVersion], *, is_current: bool) -> None:
        """Takes over those of `versions` that are there, before their turn."""
        for version in versions:
            if self.is_complete or self._is_closed:
                return
            if (stored := self._files.read(version.digest)) is not None:
                self._index.adopt(stored, is_current=is_current)

    def forget_missing(self) -> None:
        """Lets go of what was deleted under us."""
        for version in self._index.versions():
            if self._is_closed:
                return
            self._index.drop_if_missing(version)

    def close(self) -> None:
        """Ends what runs soon."""
        self._is_closed = True
