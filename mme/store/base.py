"""What a store is: objects by key, each with a version that changes with its content.

Decision: a miss costs one request. `open` carries the version that the disk tier already has, and
the store says "unchanged" or streams the new one (GET with If-None-Match), instead of a HEAD before
every GET.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from mme.domain import ArtifactVersion, ModelKey


@dataclass(frozen=True, slots=True)
class ArtifactStream:
    """An object being read: its version, and its bytes as they arrive.

    Iterating raises StoreUnavailable when the connection breaks, the body is shorter than
    announced, or the object changed under the read.
    """

    version: ArtifactVersion
    chunks: AsyncIterator[bytes]


class Store(Protocol):
    """A bucket prefix, or a directory that behaves as one. Keys are relative to it."""

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
