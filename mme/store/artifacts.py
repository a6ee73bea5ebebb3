"""The disk tier: a model's key in, a directory that holds its current version out, leased.

Decision: each lease asks the store once, with the version already on disk; "unchanged" costs one
small request and no bytes. A version is extracted once, straight from the stream, and no tarball is
ever written: who asks for one that is being extracted waits, and asks again. Two keys are never one
artifact, whatever their ETags: not every store's ETag proves the content. A store that does not
answer is an error even where the model lies on disk: whether it was deleted or overwritten can't be
known. A fetch is begun three times at most, whether the object broke off, came damaged or was
overwritten meanwhile: one count of all, so that no store is asked more than that for one load. What
would fail again, refused, denied, missing or the disk, is not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path

import structlog

from mme.config import DiskConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import (
    ConfigError,
    DiskUnavailable,
    ModelError,
    ReadFailed,
    StoreUnavailable,
)
from mme.metrics import Metrics
from mme.store.base import Artifact, ArtifactStream, Pause, Store
from mme.store.disk_files import DiskFiles, Stored, remove
from mme.store.disk_index import DiskIndex, Entry
from mme.store.disk_takeover import TakeOver
from mme.store.unpack import unpack
from mme.threads import Threads
from mme.tracing import stage

_log = structlog.get_logger()
_PAUSES_SECONDS = (0.1, 0.5)  # before a fetch is begun again, each more or less by half
_SWEEPERS = 2  # one may be busy taking over what an earlier run left


class ArtifactCache:
    """The disk tier over `store`, in `config.cache_dir`. Call `start` first and `close` last."""

    def __init__(self, store: Store, config: DiskConfig, metrics: Metrics) -> None:
        self._store = store
        self._config = config
        self._metrics = metrics
        self._files = DiskFiles(Path(config.cache_dir).expanduser())
        self._unpackers = Threads(config.unpack_threads, "unpack")
        self._sweeper = Threads(_SWEEPERS, "disk-sweeper")
        self._index = DiskIndex(self._files, config, self._sweeper)
        self._left = TakeOver(self._files, self._index)
        self._fetching: dict[str, asyncio.Event] = {}  # by digest; set when it has ended
        self._leases = 0
        metrics.disk_bytes.labels("budget").set_function(lambda: self.budget_bytes)
        metrics.disk_bytes.labels("used").set_function(lambda: self.used_bytes)

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
        """Takes the directory; what an earlier run left is taken over in the background.

        Raises:
            ConfigError: `cache_dir` is another server's, or can't be used.
        """
        debris = await asyncio.to_thread(self._files.open)
        self._sweeper.submit(self._left.run, debris)
        self._sweeper.submit(self._files.stock)

    @property
    def is_taken_over(self) -> bool:
        """Whether all that an earlier run left has been looked at."""
        return self._left.is_complete

    def go_along(self, copies_of: Callable[[Path], list[Path]]) -> None:
        """As in Artifacts."""
        self._index.copies_of = copies_of

    async def recall(self, versions: Sequence[ArtifactVersion]) -> None:
        """Takes these over before their turn, where an earlier run left them."""
        look = partial(self._left.look_for, versions, is_current=False)
        await asyncio.get_running_loop().run_in_executor(self._sweeper, look)

    def prefer(self, versions: Sequence[ArtifactVersion]) -> None:
        """Counts these as used now, the last one most recently: they go last when room is made."""
        self._index.prefer(versions)

    @contextlib.asynccontextmanager
    async def lease(self, key: ModelKey, pause: Pause = asyncio.sleep) -> AsyncIterator[Artifact]:
        """The current version of `key` on disk, which stays there for as long as this is entered.

        Raises (on entering):
            ArtifactUnavailable: no such object, or denied.
            ArtifactRefused: it is no sound tarball, or too large.
            DiskUnavailable: no room, or the disk fails.
            StoreUnavailable: the store does not answer, or broke off again and again.

        Cancelling while entering stops the download and leaves nothing behind.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        with stage("fetch and unpack"):
            entry, fetched_bytes = await self._obtain(key, pause)
        self._leases += 1
        try:
            yield Artifact(
                version=entry.version,
                directory=self._files.artifact(entry.version),
                unpacked_bytes=entry.unpacked_bytes,
                fetched_bytes=fetched_bytes,
                fetch_seconds=loop.time() - began,
            )
        finally:
            self._leases -= 1
            self._index.unpin(entry)

    def on_disk(self, key: ModelKey) -> ArtifactVersion | None:
        """The newest version of `key` that is on disk."""
        entry = self._index.newest(self._store.location, key)
        return entry.version if entry else None

    def discard(self, version: ArtifactVersion) -> None:
        """Takes `version` off the disk, once nobody leases it."""
        self._index.discard(version)

    async def close(self) -> None:
        """Waits for what threads are doing, and lets another server have `cache_dir`."""
        self._left.close()
        await asyncio.to_thread(self._unpackers.shutdown)
        await asyncio.to_thread(self._sweeper.shutdown)
        self._files.close()

    async def _obtain(self, key: ModelKey, pause: Pause) -> tuple[Entry, int]:
        """The entry, pinned for the caller, and the bytes that were fetched."""
        for pause_seconds in _PAUSES_SECONDS:
            try:
                return await self._attempt(key)
            except ReadFailed as error:
                _log.warning("fetch_begun_again", model=key, reason=str(error))
            self._metrics.fetch_restarts.inc()
            await pause(pause_seconds * random.uniform(0.5, 1.5))  # noqa: S311 - spreads them
        return await self._attempt(key)

    async def _attempt(self, key: ModelKey) -> tuple[Entry, int]:
        """As `_obtain`, begun once."""
        while True:
            known = self._index.pin_newest(self._store.location, key)
            try:
                found = await self._ask(key, known)
            finally:
                if known:
                    self._index.unpin(known)
            if not isinstance(found, asyncio.Event):
                break
            await found.wait()
        entry, fetched_bytes = found
        if not fetched_bytes:
            self._files.touch(entry.version)
            if self._leases:  # it may wait for its worker, and is in memory then
                self._sweeper.submit(self._files.read_ahead, entry.version)
        return entry, fetched_bytes

    async def _ask(self, key: ModelKey, known: Entry | None) -> tuple[Entry, int] | asyncio.Event:
        """As `_obtain`; or what to wait for, where another call is extracting that version."""
        entry: Entry | None = None
        fetched_bytes = 0
        try:
            async with self._store.open(key, known.version if known else None) as stream:
                if stream is None:
                    entry = known and self._index.confirm(known)
                elif (entry := await self._find(stream.version)) is None:
                    if (running := self._fetching.get(stream.version.digest)) is not None:
                        return running
                    entry = await self._fetch(stream)
                    fetched_bytes = stream.version.size_bytes
        except BaseException:
            if entry:
                self._index.unpin(entry)
            raise
        if entry is None:
            raise StoreUnavailable(f"{key} was taken off the disk while the store was asked.")
        return entry, fetched_bytes

    async def _find(self, version: ArtifactVersion) -> Entry | None:
        """The current `version`, pinned, where it is on disk."""
        entry = self._index.pin(version)
        if entry is None and not self._left.is_complete:
            await asyncio.to_thread(self._left.look_for, [version], is_current=True)
            entry = self._index.pin(version)
        return entry

    async def _fetch(self, stream: ArtifactStream) -> Entry:
        digest = stream.version.digest
        ended = self._fetching[digest] = asyncio.Event()
        try:
            return await self._extract(stream)
        except ModelError as refused:
            refused.etag = stream.version.etag  # so that it is not tried again before it changes
            raise
        finally:
            del self._fetching[digest]
            ended.set()

    async def _extract(self, stream: ArtifactStream) -> Entry:
        loop = asyncio.get_running_loop()
        began = loop.time()
        version, incoming = stream.version, self._files.incoming()
        claim = self._index.claim()
        try:
            await unpack(
                stream.chunks,
                incoming,
                limits=self._config,
                executor=self._unpackers,
                claim=claim.take,
                begin=self._mend,
                end=lambda size_bytes: self._files.note(incoming, Stored(version, size_bytes)),
                size_bytes=version.size_bytes,
            )
            # No await from here to the entry being pinned: nobody could evict or forget it between.
            entry = self._index.publish(incoming, version, claim)
        except BaseException as error:
            self._files.give_up(incoming)
            if isinstance(error, Exception):  # not while everything ends
                self._restock()
            if not isinstance(error, OSError):
                raise
            await asyncio.to_thread(remove, incoming)
            raise DiskUnavailable(f"The disk tier can't take it: {error.strerror}.") from error
        finally:
            claim.end()
        self._restock()
        self._metrics.model_downloading_time.observe((loop.time() - began) * 1e6)
        self._metrics.fetched_bytes.inc(version.size_bytes)
        return entry

    def _restock(self) -> None:
        if self._files.is_low:
            self._sweeper.submit(self._files.stock)

    def _mend(self) -> None:
        """Makes the directories anew where somebody deleted them."""
        try:
            if self._files.mend():
                self._sweeper.submit(self._left.forget_missing)
        except ConfigError as error:
            raise DiskUnavailable(str(error)) from error
        except OSError as error:  # whose fault that is: no artifact's
            raise DiskUnavailable(f"The disk tier can't be made: {error.strerror}.") from error
