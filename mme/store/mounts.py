"""Several stores as one: a key that is a whole location belongs to the store it begins with.

Decision: containers of one endpoint that take models from different places share one disk tier and
one memory, so their models have keys of one kind. A client's key can't be taken for a location:
those that begin with a slash or a scheme are refused where requests are read. The ordinary keys
are those of the main store, if there is one, and their versions are the same as without mounts.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace

from mme.domain import ArtifactVersion, ModelKey
from mme.errors import ArtifactUnavailable
from mme.store.base import ArtifactStream, Store

_NO_MAIN = "mounts:"


def split_location(location: str) -> tuple[str, str]:
    """The mount and the name in it of one object: `s3://bucket/a/model.tar.gz`, a file's path."""
    directory, _, name = location.rpartition("/")
    return as_mount(directory), name


def as_mount(location: str) -> str:
    """A prefix or directory as it begins the keys of what is in it."""
    return location.rstrip("/") + "/"


class Mounts:
    """A Store over others.

    Args:
        main: for keys that are no locations; None: there is no such thing as an ordinary key.
        mounts: by what their keys begin with, see `as_mount`.
    """

    def __init__(self, main: Store | None, mounts: Mapping[str, Store]) -> None:
        self.location = main.location if main is not None else _NO_MAIN
        self._main = main
        self._mounts = sorted(mounts.items(), key=lambda item: len(item[0]), reverse=True)

    async def probe(self) -> None:
        """As in Store, of each."""
        for store in self._stores():
            await store.probe()

    async def head(self, key: ModelKey) -> ArtifactVersion:
        """As in Store."""
        store, inner = self._find(key)
        return self._ours(await store.head(inner), key)

    @contextlib.asynccontextmanager
    async def open(
        self, key: ModelKey, known: ArtifactVersion | None = None
    ) -> AsyncIterator[ArtifactStream | None]:
        """As in Store."""
        store, inner = self._find(key)
        theirs = known and replace(known, location=store.location, key=inner)
        async with store.open(inner, theirs) as stream:
            yield stream and replace(stream, version=self._ours(stream.version, key))

    async def close(self) -> None:
        """As in Store, of each."""
        for store in self._stores():
            await store.close()

    def _stores(self) -> list[Store]:
        main = [] if self._main is None else [self._main]
        return main + [store for _, store in self._mounts]

    def _find(self, key: ModelKey) -> tuple[Store, ModelKey]:
        for mount, store in self._mounts:
            if key.startswith(mount):
                return store, ModelKey(key.removeprefix(mount))
        if self._main is None:
            raise ArtifactUnavailable(self.location, key, "missing")
        return self._main, key

    def _ours(self, version: ArtifactVersion, key: ModelKey) -> ArtifactVersion:
        return replace(version, location=self.location, key=key)
