"""A model's way into a multi-model container: artifact -> room -> POST /models -> it answers.

One flight a model, which outlives who waits for it. Any 2xx and 409 say that it is loaded; but
where an older version is there, 409 may be about that one (Triton names models by target model),
so the older one leaves first. A failed load is remembered with its cause, also one that got no
answer, for it may be what ended the container; not one that was not begun, because the container
did not answer at all. What a failed load has left there is unloaded: TorchServe lists it on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Final

import structlog

from mme.cache.failures import Failures
from mme.cache.flight import Flight
from mme.config import CacheConfig
from mme.containers.platform_calls import PlatformCalls, text_of
from mme.containers.platform_room import Room
from mme.containers.registry import Entry
from mme.domain import ModelKey
from mme.errors import (
    InvocationTimeout,
    LoadFailed,
    MemoryRefused,
    ModelError,
    SiblingFailed,
    SiblingSilent,
    StoreUnavailable,
)
from mme.metrics import Metrics
from mme.store.base import Artifact, Artifacts, Versions
from mme.tracing import stage
from mme.usage.accounts import Accounts

_log = structlog.get_logger()
_GOOD: Final = range(200, 300)
_CONFLICT: Final = 409
_FULL: Final = 507


class Held:
    """A model that stays in the container until `release`, which is called once."""

    def __init__(self, room: Room, entry: Entry) -> None:
        room.hold(entry)
        self._room = room
        self.entry = entry
        self.hit = True
        self.load_seconds = 0.0

    def release(self) -> None:
        """Gives it back."""
        self._room.unhold(self.entry)


class Loading:
    """Loads under way, and failures of earlier ones.

    Args:
        container: its hostname.
        config: time limits and back-offs; the same as the built-in engine's.
        artifact_key: what the store calls a target model.
        accounts: where loads are booked.
    """

    def __init__(  # noqa: PLR0913 - it is where store and container meet
        self,
        container: str,
        config: CacheConfig,
        *,
        room: Room,
        calls: PlatformCalls,
        versions: Versions,
        artifacts: Artifacts,
        artifact_key: Callable[[ModelKey], ModelKey],
        accounts: Accounts,
        metrics: Metrics,
    ) -> None:
        self._container = container
        self._config = config
        self._room = room
        self._calls = calls
        self._versions = versions
        self._artifacts = artifacts
        self._artifact_key = artifact_key
        self._accounts = accounts
        self._metrics = metrics
        self._turns = asyncio.Semaphore(config.load_concurrency)
        self.failures = Failures(config.failure_seconds, config.failure_limit_seconds)
        self._flight: Flight[ModelKey, Entry, Held] = Flight(
            share=partial(Held, room), reclaim=Held.release
        )

    def keys(self) -> list[ModelKey]:
        """What is being loaded now."""
        return self._flight.keys()

    async def join(self, target: ModelKey) -> Held:
        """The newest version, held, by the load under way or one of its own.

        Raises:
            what the load raised, the same to all who waited for it; Draining after `close`.
        Cancellation: stops waiting; the load goes on.
        """
        return await self._flight.join(target, partial(self._load, target))

    async def close(self) -> None:
        """Gives up loads under way."""
        await self._flight.close()

    async def _load(self, target: ModelKey) -> Entry:
        key = self._artifact_key(target)
        await self._refuse_known_failure(target, key)
        await self._calls.reach()
        seconds = self._config.load_seconds
        try:
            async with asyncio.timeout(seconds), self._turns:
                with stage("load"):
                    return await self._fetch_and_place(target, key)
        except (TimeoutError, InvocationTimeout):
            late = LoadFailed(f"Not loaded by container {self._container} within {seconds:g} s.")
            raise self._failed(target, late) from None
        except MemoryRefused:  # not remembered: what is unloaded next may make room
            raise
        except ModelError as error:
            raise self._failed(target, error) from None

    async def _fetch_and_place(self, target: ModelKey, key: ModelKey) -> Entry:
        asked_at = time.monotonic()
        async with AsyncExitStack() as lease:
            artifact = await lease.enter_async_context(self._artifacts.lease(key))
            entry = await self._room.settled(artifact.version.digest)
            if entry is None:
                entry = await self._room.admit(target, artifact, lease)
                entry.loaded_at = time.monotonic()
                await self._place(entry, artifact)
        entry.fresh_until = asked_at + self._config.refresh_seconds
        self._room.answer(entry)
        self.failures.forget(target)
        return entry

    async def _place(self, entry: Entry, artifact: Artifact) -> None:
        began = time.perf_counter()
        try:
            with stage("load in a container"):
                await self._post(entry, artifact)
            if not self._room.registry.has(entry):
                raise SiblingSilent(self._container, "it was restarted while it loaded the model")  # noqa: TRY301 - cleaned up and named as the others
        except BaseException as error:
            self._room.abandon(entry)
            if isinstance(error, ModelError):
                error.etag = entry.version.etag
            raise
        seconds = time.perf_counter() - began
        self._metrics.model_loading_time.observe(seconds * 1e6)
        self._metrics.loads.labels("loaded").inc()
        self._accounts.loaded_elsewhere(entry.target, seconds)
        _log.info(
            "model_loaded",
            container=self._container,
            model=entry.target,
            bytes=entry.size_bytes,
            fetch_seconds=round(artifact.fetch_seconds, 6),
            load_seconds=round(seconds, 6),
            from_disk=artifact.fetched_bytes == 0,
        )

    async def _post(self, entry: Entry, artifact: Artifact) -> None:
        """Tries until it is loaded or refused for good; its caller limits the time."""
        deadline = asyncio.get_running_loop().time() + self._config.load_seconds
        while True:
            answer = await self._calls.load(entry, artifact.directory, deadline)
            others = self._room.registry.others(entry)
            if answer.status == _CONFLICT and others:
                await self._room.unloaded(others, "superseded")
            elif answer.status in _GOOD or answer.status == _CONFLICT:
                return
            elif answer.status != _FULL:
                raise SiblingFailed(text_of(answer), answer.status)
            elif not await self._room.make_some():
                raise MemoryRefused(text_of(answer) or f"Container {self._container} is full.")

    async def _refuse_known_failure(self, target: ModelKey, key: ModelKey) -> None:
        now = time.monotonic()
        if (failure := self.failures.active(target, now)) is None:
            return
        if self.failures.recheck(failure, now):
            with contextlib.suppress(StoreUnavailable):
                if (await self._versions.head(key)).etag != failure.etag:
                    return
        raise failure.error

    def _failed(self, target: ModelKey, error: ModelError) -> ModelError:
        self.failures.remember(target, error, error.etag, time.monotonic())
        self._metrics.loads.labels("failed").inc()
        _log.warning("model_not_loaded", container=self._container, model=target, reason=str(error))
        return error
