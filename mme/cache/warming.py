"""Models brought into memory before anyone asks: pinned, prewarmed, and those of the last run.

They are loaded behind every request's load, few at once, and nothing is evicted for them: where
memory is full, what is in it was asked for and they were not. What was hot is written down again
and again, and at the end, in `hot_list.py`'s file; but not before the last run's list has been gone
through, so that a server killed while it restores loses nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path

import structlog

from mme.cache.hot_list import Heat, HotModel, read_hot_list, write_hot_list
from mme.cache.model_cache import ModelCache
from mme.cache.sliced import sliced
from mme.config import CacheConfig
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import (
    ArtifactUnavailable,
    DiskUnavailable,
    MemoryRefused,
    MmeError,
    StoreUnavailable,
)
from mme.store.base import Artifacts, Versions

_log = structlog.get_logger()
_AT_ONCE = 4  # so that requests find turns, and workers that are free
_SAVE_SECONDS = 5.0
_SLICE = 500  # models seen to in one go of the event loop's
_PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0)  # while the store or the disk does not answer
_REFUSALS_TO_STOP = 3  # in a row: one large model need not stop the small ones behind it


class Warming:
    """Loads ahead of need.

    Args:
        config: what to pin, to prewarm, and whether to restore.
        cache: loads, and knows what is in memory.
        store: says which models there are.
        disk: where they were.
        directory: the hot list's.
    """

    def __init__(
        self,
        config: CacheConfig,
        *,
        cache: ModelCache,
        store: Versions,
        disk: Artifacts,
        directory: Path,
    ) -> None:
        self._config = config
        self._cache = cache
        self._store = store
        self._disk = disk
        self._path = directory / "hot.json"
        self._queue: asyncio.Queue[ModelKey] = asyncio.Queue()
        self._waiting = 0
        self._refusals = 0
        self._is_tight = False  # memory nearly is full
        self._alone = asyncio.Lock()
        self._heat: Heat | None = None  # None: the last run's list has not been gone through
        self._writing = threading.Lock()

    async def run(self) -> None:
        """Loads, restores and writes down until cancelled; then writes down once more."""
        pinned, named = map(_keys, (self._config.pin, self._config.prewarm))
        for key in pinned:
            self._cache.residents.pin(key)
        self.add([*pinned, *named])
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(self._work())
                group.create_task(self._restore_and_save())
        finally:
            await self._save()

    def add(self, keys: Iterable[ModelKey]) -> None:
        """Loads these, one after another, unless they are in memory or there is no room."""
        self._refusals = 0
        self._is_tight = False
        for key in keys:
            self._waiting += 1
            self._queue.put_nowait(key)

    def describe(self) -> dict[str, object]:
        """How far it is, for `/state`."""
        return {"restored": self._heat is not None, "waiting": self._waiting}

    async def look_up(self, keys: Sequence[ModelKey]) -> dict[ModelKey, ArtifactUnavailable]:
        """Those of `keys` that the store does not have, or denies.

        Raises:
            StoreUnavailable: it does not answer.
        """
        unknown: dict[ModelKey, ArtifactUnavailable] = {}
        waiting = deque(keys)
        failures: list[StoreUnavailable] = []

        async def ask() -> None:
            while waiting and not failures:
                key = waiting.popleft()
                try:
                    await self._store.head(key)
                except ArtifactUnavailable as error:
                    unknown[key] = error
                except StoreUnavailable as error:
                    failures.append(error)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(ask())
        if failures:
            raise failures[0]
        return unknown

    async def _work(self) -> None:
        while True:
            key = await self._queue.get()
            try:
                await self._load(key)
            finally:
                self._waiting -= 1
                self._queue.task_done()

    async def _load(self, key: ModelKey) -> None:
        for pause_seconds in (*_PAUSES_SECONDS, None):
            if self._refusals >= _REFUSALS_TO_STOP or self._cache.residents.current(key):
                return
            try:
                await self._prepare(key)
            except MemoryRefused:
                self._refusals += 1
            except (StoreUnavailable, DiskUnavailable) as error:
                if pause_seconds is not None:
                    await asyncio.sleep(pause_seconds)
                    continue
                _log.warning("not_warmed", model=key, reason=str(error))
            except MmeError as error:
                _log.warning("not_warmed", model=key, reason=str(error))
            else:
                self._refusals = 0
            return

    async def _prepare(self, key: ModelKey) -> None:
        """One of several, or alone once one was refused: what others reserve, they may not need."""
        if not self._is_tight:
            try:
                await self._cache.loading.prepare(key)
            except MemoryRefused:
                self._is_tight = True
            else:
                return
        async with self._alone:
            await self._cache.loading.prepare(key)

    async def _restore_and_save(self) -> None:
        hot = await asyncio.to_thread(read_hot_list, self._path, self._store.location)
        if self._config.restore == "on" and hot:
            began = time.monotonic()
            await self._disk.recall([model.version(self._store.location) for model in hot])
            self.add(ModelKey(model.key) for model in hot)
            await self._queue.join()
            self._put_in_order(hot)
            _log.info("restored", models=len(hot), seconds=round(time.monotonic() - began, 3))
        self._heat = Heat({ModelKey(model.key): model.heat for model in hot}, time.monotonic())
        while True:
            await asyncio.sleep(_SAVE_SECONDS)
            await self._save()

    def _put_in_order(self, hot: list[HotModel]) -> None:
        """Loaded hottest first, the hottest would be the first to go: used the other way round."""
        residents = self._cache.residents
        rank = {model.key: -number for number, model in enumerate(hot)}
        asked = [entry for entry in residents if entry.hits]
        restored = [entry for entry in residents if not entry.hits]
        restored.sort(key=lambda entry: rank.get(entry.key, 1))
        for entry in restored + sorted(asked, key=lambda entry: entry.used_at):
            residents.ledger.touch(entry.copy_id)

    async def _save(self) -> None:
        """Writes down what is in memory; that the disk does not take it is no reason to fail."""
        if self._heat is None:
            return
        current = [entry for entry in self._cache.residents if not entry.retired]
        current.sort(key=attrgetter("used_at"), reverse=True)
        heat = self._heat
        heat.begin(time.monotonic())
        async for some in sliced(current, _SLICE):
            heat.count([(entry.copy_id, entry.key, entry.hits) for entry in some])
        warmth = heat.end()
        latest: dict[ModelKey, ArtifactVersion] = {}
        for entry in current:
            latest.setdefault(entry.key, entry.version)
        coldest_first = sorted(latest, key=warmth.__getitem__, reverse=True)[::-1]
        models: list[HotModel] = []
        async for keys in sliced(coldest_first, _SLICE):
            versions = [latest[key] for key in keys]
            self._disk.prefer(versions)
            models += [
                HotModel(
                    version.key, version.etag, version.size_bytes, round(warmth[version.key], 3)
                )
                for version in versions
            ]
        models.reverse()
        await asyncio.to_thread(self._write, models)

    def _write(self, models: list[HotModel]) -> None:
        with self._writing, contextlib.suppress(OSError):  # the last one may still be at it
            write_hot_list(self._path, self._store.location, models)


def _keys(names: Iterable[str]) -> list[ModelKey]:
    return [ModelKey(name) for name in names]
