"""What a store is, objects by key, and what it makes on disk: artifacts, leased.

Decision: a miss costs one request. `open` carries the version that the disk tier already has, and
the store says "unchanged" or streams the new one (GET with If-None-Match), instead of a HEAD before
every GET.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

from mme.domain import ArtifactVersion, ModelKey

Chunk: TypeAlias = bytes | bytearray  # of an object's bytes; nobody changes it
Pause: TypeAlias = Callable[[float], Awaitable[None]]  # waits for so many seconds


@dataclass(frozen=True, slots=True)
class ArtifactStream:
    """An object being read: its version, and its bytes as they arrive.

    Iterating raises ReadFailed when the connection breaks, the body is shorter than announced or
    not what its ETag names, or the object changed under the read: it may be opened and read anew.
    It raises StoreUnavailable where that is not worth a try.
    """

    version: ArtifactVersion
    chunks: AsyncIterator[Chunk]


@dataclass(frozen=True, kw_only=True, slots=True)
class Artifact:
    """A version on disk while it is leased. Nobody writes under `directory`."""

    version: ArtifactVersion
    directory: Path
    unpacked_bytes: int  # on disk, in whole blocks
    fetched_bytes: int  # 0: it was on disk already
    fetch_seconds: float  # asking the store, and fetching and unpacking where that was needed


class Artifacts(Protocol):
    """Models' directories by key; of the disk tier, or put there by others."""

    @property
    def used_bytes(self) -> int:
        """On disk, being extracted or being removed."""
        ...

    @property
    def budget_bytes(self) -> int:
        """What all of that may take."""
        ...

    @property
    def count(self) -> int:
        """Artifacts on disk."""
        ...

    def lease(
        self, key: ModelKey, pause: Pause = asyncio.sleep
    ) -> AbstractAsyncContextManager[Artifact]:
        """The current version of `key` on disk, which stays there while this is entered.

        A fetch that is begun again calls `pause` before, with seconds.

        Raises (on entering): MmeError, why there is none. Cancelling leaves nothing behind.
        """
        ...

    def on_disk(self, key: ModelKey) -> ArtifactVersion | None:
        """The newest version of `key` that the disk tier has, current or not."""
        ...

    async def recall(self, versions: Sequence[ArtifactVersion]) -> None:
        """Looks for these first among what an earlier run left on disk."""
        ...

    def prefer(self, versions: Sequence[ArtifactVersion]) -> None:
        """Counts these as used now, the last one most recently: they go last for want of room."""
        ...

    def discard(self, version: ArtifactVersion) -> None:
        """Takes `version` off the disk, where that is ours to do, once nobody leases it."""
        ...

    def go_along(self, copies_of: Callable[[Path], list[Path]]) -> None:
        """What it names is removed with an artifact's directory: links keep the bytes on disk."""
        ...


class Versions(Protocol):
    """What is current, by key."""

    location: str

    async def probe(self) -> None:
        """Asks whether the store is there and lets us in.

        Raises:
            ArtifactUnavailable: the bucket or directory is missing, or denied.
            StoreUnavailable: it does not answer.
        """
        ...

    async def head(self, key: ModelKey) -> ArtifactVersion:
        """The current version of `key`.

        Raises:
            ArtifactUnavailable: no such object, or denied.
            StoreUnavailable: the store does not answer, or fails.
        """
        ...


class Store(Versions, Protocol):
    """A bucket prefix, or a directory that behaves as one. Keys are relative to it."""

    def open(
        self, key: ModelKey, known: ArtifactVersion | None = None
    ) -> AbstractAsyncContextManager[ArtifactStream | None]:
        """Opens `key` for reading, or yields None when its current version still is `known`.

        Raises (on entering): as `head`. Cancelling closes the connection.
        """
        ...

    async def close(self) -> None:
        """Releases connections; the store is not used afterwards."""
        ...
