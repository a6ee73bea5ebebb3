"""Models that others put on disk: a key is registered with the directory that holds it.

Decisions: the platform that registers a directory owns it, so nothing here is written, moved or
removed. A version is what the directory holds, by names, sizes and times, so that a model put back
unchanged is known by the size it had; it is looked at when it is loaded, and a registered model
stays current until it is taken off. A path is taken from the platform as the container contract
has it; where it is relative or climbs, it is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path, PurePosixPath

from mme.domain import ArtifactVersion, ModelKey
from mme.errors import InvalidRequest, ModelConflict, ModelMissing
from mme.store.base import Artifact, Pause

_URL_LIMIT = 4096
_BLOCK_BYTES = 512  # what `st_blocks` counts


class RegisteredDirectories:
    """Both `Versions` and `Artifacts`, over directories that lie extracted already."""

    location = "file:///"
    used_bytes = 0
    budget_bytes = 0

    def __init__(self) -> None:
        self._directories: dict[ModelKey, Path] = {}
        self._versions: dict[ModelKey, ArtifactVersion] = {}  # of those that were looked at

    @property
    def count(self) -> int:
        """How many are registered."""
        return len(self._directories)

    def __contains__(self, key: ModelKey) -> bool:
        return key in self._directories

    def keys(self) -> list[ModelKey]:
        """What is registered."""
        return list(self._directories)

    def register(self, key: ModelKey, url: str) -> None:
        """From now on `url`, a directory, is the model `key`.

        Raises:
            InvalidRequest: no text that a path can be.
            ModelConflict: the key is taken.
            ModelMissing: a relative path, or no directory.
        """
        if key in self._directories:
            raise ModelConflict(f"Model {key} is already registered.")
        if not url or not url.isprintable() or len(url) > _URL_LIMIT:
            raise InvalidRequest(f"url must be a printable path of at most {_URL_LIMIT} bytes.")
        path = PurePosixPath(url)
        if not path.is_absolute() or ".." in path.parts:
            raise ModelMissing(f"Relative path is not allowed in url: {url}")
        if not _is_directory(Path(path)):
            raise ModelMissing(f"Model not found in model store: {url}")
        self._directories[key] = Path(path)

    def unregister(self, key: ModelKey) -> None:
        """`key` is nothing any more. Unknown keys are ignored."""
        self._directories.pop(key, None)
        self._versions.pop(key, None)

    def directory(self, key: ModelKey) -> Path:
        """Where `key` lies. Raises ModelMissing."""
        if key not in self._directories:
            raise ModelMissing(f"Model not found: {key}")
        return self._directories[key]

    async def probe(self) -> None:
        """As in Versions: there is nobody to ask."""

    async def head(self, key: ModelKey) -> ArtifactVersion:
        """As in Versions; what was loaded once stays current.

        Raises:
            ModelMissing: not registered, or its directory is gone.
        """
        return self._versions.get(key) or (await self._look(key))[0]

    def go_along(self, copies_of: Callable[[Path], list[Path]]) -> None:
        """As in Artifacts; nothing is removed here."""

    @contextlib.asynccontextmanager
    async def lease(self, key: ModelKey, pause: Pause = asyncio.sleep) -> AsyncIterator[Artifact]:
        """As in Artifacts; that the directory stays is the platform's to see to.

        Raises (on entering):
            ModelMissing: not registered, or its directory is gone.
        """
        began = time.monotonic()
        version, unpacked_bytes = await self._look(key)
        if key in self._directories:
            self._versions[key] = version
        yield Artifact(
            version=version,
            directory=self.directory(key),
            unpacked_bytes=unpacked_bytes,
            fetched_bytes=0,
            fetch_seconds=time.monotonic() - began,
        )

    def on_disk(self, key: ModelKey) -> ArtifactVersion | None:
        """None: directories of others are no disk tier."""
        return None

    async def recall(self, versions: Sequence[ArtifactVersion]) -> None:
        """As in Artifacts: there is nothing to look for."""

    def prefer(self, versions: Sequence[ArtifactVersion]) -> None:
        """As in Artifacts: room is not ours to make."""

    def discard(self, version: ArtifactVersion) -> None:
        """As in Artifacts: the disk is not ours to clear."""

    async def _look(self, key: ModelKey) -> tuple[ArtifactVersion, int]:
        directory = self.directory(key)
        try:
            etag, size_bytes, unpacked_bytes = await asyncio.to_thread(_survey, directory)
        except OSError as error:
            raise ModelMissing(f"Model {key} can't be read: {error.strerror}.") from error
        version = ArtifactVersion(location=self.location, key=key, etag=etag, size_bytes=size_bytes)
        return version, unpacked_bytes


def _is_directory(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a name too long, or on the way a directory that may not be entered
        return False


def _survey(root: Path) -> tuple[str, int, int]:
    """What tells the directory's content from another, its bytes, and its bytes in blocks."""
    identity = hashlib.sha256(os.fsencode(root))
    size_bytes = unpacked_bytes = 0
    for directory, folders, names in os.walk(root, onerror=_raise):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(directory, name)  # noqa: PTH118 - stays text, for speed
            status = os.lstat(path)
            said = f"\0{status.st_size}\0{status.st_mtime_ns}\0"
            identity.update(os.fsencode(path) + said.encode())
            size_bytes += status.st_size
            unpacked_bytes += status.st_blocks * _BLOCK_BYTES
    return identity.hexdigest()[:32], size_bytes, unpacked_bytes


def _raise(error: OSError) -> None:
    raise error
