"""The disk tier: a model's key in, a directory that holds its current version out, leased.

Decision: each lease asks the store once, with the version already on disk; "unchanged" costs one
small request and no bytes. Two leases of one key are safe, not shared: sharing a load is the model
cache's job, and here the second to finish drops its copy. A store that does not answer is an error
even where the model lies on disk: whether it was deleted or overwritten can't be known.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mme.config import DiskConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import DiskUnavailable, ModelError, StoreUnavailable
from mme.metrics import Metrics
from mme.store.base import Artifact, ArtifactStream, Store
from mme.store.disk_files import DiskFiles
from mme.store.disk_index import DiskIndex, Entry
from mme.store.unpack import unpack


class ArtifactCache:
    """The disk tier over `store`, in `config.cache_dir`. Call `start` first and `close` last."""

    def __init__(self, store: Store, config: DiskConfig, metrics: Metrics) -> None:
        self._store = store
        self._config = config
        self._metrics = metrics
        self._files = DiskFiles(Path(config.cache_dir).expanduser())
        self._unpackers = ThreadPoolExecutor(config.unpack_threads, "unpack")
        self._sweeper = ThreadPoolExecutor(1, "disk-sweeper")
        self._index = DiskIndex(self._files, config.disk_bytes, self._sweeper)

    @property
    def used_bytes(self) -> int:
        """On disk, being extracted or being removed."""
        return self._index.used_bytes

    @property
    def budget_bytes(self) -> int:
        """What all of that may take."""
        return self._index.budget_bytes

    @property
    def count(self) -> int:
        """Artifacts on disk."""
        return self._index.count

    async def start(self) -> None:
        """Takes the directory, sweeps debris, and takes over what an earlier run left.

        Raises:
            ConfigError: `cache_dir` is another server's, or can't be used.
        """
        stored = await asyncio.to_thread(self._files.open)
        self._index.restore(stored)
        self._set_gauges()

    @contextlib.asynccontextmanager
    async def lease(self, key: ModelKey) -> AsyncIterator[Artifact]:
        """The current version of `key` on disk, which stays there for as long as this is entered.

        Raises (on entering):
            ArtifactUnavailable: no such object, or denied.
            ArtifactRefused: it is no sound tarball, or too large.
            DiskUnavailable: no room, or the disk fails.
            StoreUnavailable: the store does not answer, or broke off.

        Cancelling while entering stops the download and leaves nothing behind.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        entry, fetched_bytes = await self._obtain(key)
        try:
            yield Artifact(
                version=entry.version,
                directory=self._files.artifact(entry.version),
                unpacked_bytes=entry.unpacked_bytes,
                fetched_bytes=fetched_bytes,
                fetch_seconds=loop.time() - began,
            )
        finally:
            self._index.unpin(entry)
            self._set_gauges()

    def discard(self, version: ArtifactVersion) -> None:
        """Takes `version` off the disk, once nobody leases it."""
        self._index.discard(version)
        self._set_gauges()

    async def close(self) -> None:
        """Waits for what threads are doing, and lets another server have `cache_dir`."""
        await asyncio.to_thread(self._unpackers.shutdown)
        await asyncio.to_thread(self._sweeper.shutdown)
        self._files.close()

    async def _obtain(self, key: ModelKey) -> tuple[Entry, int]:
        """The entry, pinned for the caller, and the bytes that were fetched."""
        known = self._index.pin_newest(self._store.location, key)
        entry: Entry | None = None
        fetched_bytes = 0
        try:
            async with self._store.open(key, known.version if known else None) as stream:
                version = stream.version if stream else known.version if known else None
                entry = self._index.pin(version) if version else None
                if entry is None and stream is not None:
                    entry = await self._fetch(stream)
                    fetched_bytes = stream.version.size_bytes
        except BaseException:
            if entry:
                self._index.unpin(entry)
            raise
        finally:
            if known:
                self._index.unpin(known)
            self._set_gauges()
        if entry is None:
            raise StoreUnavailable(f"{key} was taken off the disk while the store was asked.")
        if not fetched_bytes:
            self._sweeper.submit(self._files.touch, entry.version)
        return entry, fetched_bytes

    async def _fetch(self, stream: ArtifactStream) -> Entry:
        loop = asyncio.get_running_loop()
        began = loop.time()
        incoming = self._files.incoming()
        claim = self._index.claim()
        try:
            await unpack(
                stream.chunks,
                incoming,
                limits=self._config,
                executor=self._unpackers,
                claim=claim.take,
            )
            # No await from here to the entry being pinned: nobody could evict or forget it between.
            entry = self._index.publish(incoming, stream.version, claim)
        except ModelError as refused:
            refused.etag = stream.version.etag  # so that it is not tried again before it changes
            raise
        except OSError as error:
            await asyncio.to_thread(shutil.rmtree, incoming, ignore_errors=True)
            raise DiskUnavailable(f"The disk tier can't take it: {error.strerror}.") from error
        finally:
            claim.end()
        self._metrics.model_downloading_time.observe((loop.time() - began) * 1e6)
        self._metrics.fetched_bytes.inc(stream.version.size_bytes)
        return entry

    def _set_gauges(self) -> None:
        self._metrics.disk_bytes.labels("budget").set(self.budget_bytes)
        self._metrics.disk_bytes.labels("used").set(self.used_bytes)
