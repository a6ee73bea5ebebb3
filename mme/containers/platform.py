"""A multi-model container for which this server plays SageMaker's platform.

It is told which models to load and unload; what it answers is the model's. Only statuses decide:
404 where it should have a model means that it forgot it, which costs one load and one more try;
507, that others have to go, and one more try. A body is read whole before it is sent, so that it
can be sent again, and so that no earlier container of a pipeline waits for a load.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Final, TypeVar

from msgspec.structs import replace

from mme.config import CacheConfig, ContainerConfig
from mme.containers.platform_calls import PlatformCalls, invoke_path
from mme.containers.platform_freshness import Freshness
from mme.containers.platform_loading import Held, Loading
from mme.containers.platform_room import Room
from mme.containers.platform_usage import Booking
from mme.containers.registry import Entry, Registry
from mme.containers.sibling import Upkeep
from mme.containers.sibling_client import SiblingClient
from mme.domain import Handover, Invocation, ModelKey, Reply
from mme.errors import InvalidRequest, ModelNotReady, SiblingFailed
from mme.metrics import ContainerMetrics, Metrics
from mme.store.base import Artifacts, Versions
from mme.usage.accounts import Accounts

_DISK_SHARE_RATIO: Final = 0.8  # loaded models keep their directories; one more has to fit beside
_FORGOTTEN: Final = 404
_FULL: Final = 507

Answered = TypeVar("Answered", Reply, Handover)


class MultiModelSibling:
    """A container of many models, elsewhere: POST /models, POST /models/{name}/invoke.

    Args:
        config: its limits; `loaded_bytes` is at most what the disk tier can keep.
        client: how it is reached; closed by whoever made it.
        upkeep: looks after it.
        cache: how long loads may take, how fresh models are, back-offs.
        versions: what is current.
        artifacts: unpacked models.
        artifact_key: what these call a target model.
        accounts: where what its models use is booked.
        metrics: the endpoint's.
        of_container: its own.
    """

    multi_model = True
    registry: Registry  # what is there; for others to look at

    def __init__(  # noqa: PLR0913 - it is where store and container meet
        self,
        config: ContainerConfig,
        client: SiblingClient,
        upkeep: Upkeep,
        *,
        cache: CacheConfig,
        versions: Versions,
        artifacts: Artifacts,
        artifact_key: Callable[[ModelKey], ModelKey],
        accounts: Accounts,
        metrics: Metrics,
        of_container: ContainerMetrics | None = None,
    ) -> None:
        self.hostname = config.hostname
        self.metrics = of_container
        self._client = client
        self._upkeep = upkeep
        self._of_endpoint = metrics
        on_disk = int(artifacts.budget_bytes * _DISK_SHARE_RATIO)
        limit_bytes = min(config.loaded_bytes or on_disk, on_disk)
        self.registry = Registry(config.loaded_models, limit_bytes)
        self._calls = PlatformCalls(client)
        self._room = Room(config.hostname, self.registry, self._calls, metrics, of_container)
        self._loading = Loading(
            config.hostname,
            cache,
            room=self._room,
            calls=self._calls,
            versions=versions,
            artifacts=artifacts,
            artifact_key=artifact_key,
            accounts=accounts,
            metrics=metrics,
        )
        self._booking = Booking(accounts, self.registry, self._loading.failures)
        self._freshness = Freshness(
            cache.refresh_seconds, room=self._room, loading=self._loading, versions=versions,
            artifact_key=artifact_key,
        )  # fmt: skip

    async def close(self) -> None:
        """Gives up loads, checks and unloads under way; the container keeps what it has."""
        await self._freshness.close()
        await self._loading.close()
        await self._room.close()

    def forget_models(self) -> None:
        """It has ended, and is empty when it is back."""
        self._room.forget(self.registry, "the container ended")

    async def invoke(self, invocation: Invocation) -> Reply:
        """Has the target model answer.

        Raises:
            InvalidRequest: no target model.
            ModelNotReady: not loaded by the deadline; the load goes on.
            MemoryRefused: it is too large, or nothing can be unloaded for it.
            ArtifactUnavailable, StoreUnavailable, ModelError: why it can't be loaded.
            what the client raises.
        Cancellation: the connection is dropped; a load goes on.
        """
        async with AsyncExitStack() as stack:
            held, reply = await self._answered(invocation, stack, self._client.invoke)
        timings = replace(reply.timings, load_seconds=held.load_seconds)
        return replace(reply, cache_hit=held.hit, timings=timings)

    @asynccontextmanager
    async def open(self, invocation: Invocation) -> AsyncIterator[Handover]:
        """As `invoke`; a large answer is handed on while it arrives."""
        async with AsyncExitStack() as stack:

            async def enter(path: str, asked: Invocation, target: str) -> Handover:
                return await stack.enter_async_context(self._client.open(path, asked, target))

            _, handover = await self._answered(invocation, stack, enter)
            yield handover

    def problem(self) -> str | None:
        """Why it can't answer now; None when it can."""
        return self._upkeep.problem()

    def absent(self) -> dict[ModelKey, str]:
        """What is being loaded but may not be there yet, and what failed to be lately."""
        failures = self._loading.failures.describe(time.monotonic())
        absent = {ModelKey(str(failure["model"])): "failed" for failure in failures}
        return absent | dict.fromkeys(self._loading.keys(), "loading")

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`."""
        return {
            "hostname": self.hostname,
            "kind": "sibling",
            "multi_model": True,
            "problem": self.problem(),
            "models_limit": self.registry.models_limit,
            "bytes_limit": self.registry.bytes_limit,
            "bytes": self.registry.size_bytes,
            "models": [_described(entry) for entry in self.registry],
            "loading": self._loading.keys(),
            "failures": self._loading.failures.describe(time.monotonic()),
            **self._client.describe(),
            **self._upkeep.describe(),
        }

    async def _answered(
        self,
        invocation: Invocation,
        stack: AsyncExitStack,
        send: Callable[[str, Invocation, str], Awaitable[Answered]],
    ) -> tuple[Held, Answered]:
        """Sends it to its model, twice at most; the model is held until `stack` is left."""
        target = _target_of(invocation)
        body = invocation.body
        if not isinstance(body, bytes):
            body = await body.read()
            invocation = replace(invocation, body=body)
        try:
            try:
                held, answered = await self._sent(target, invocation, stack, send)
            except _TryAgainError:
                held, answered = await self._sent(target, invocation, stack, send, is_last=True)
        except BaseException as error:  # whatever it was, and though its client has gone
            self._booking.failed(target, len(body), error)
            raise
        self._booking.answered(target, len(body), answered)
        return held, answered

    async def _sent(
        self,
        target: ModelKey,
        invocation: Invocation,
        stack: AsyncExitStack,
        send: Callable[[str, Invocation, str], Awaitable[Answered]],
        *,
        is_last: bool = False,
    ) -> tuple[Held, Answered]:
        held = await self._acquire(target, invocation.deadline)
        with ExitStack() as holding:
            holding.callback(held.release)
            try:
                answered = await send(invoke_path(held.entry), invocation, target)
            except SiblingFailed as failed:
                if not is_last and await self._is_mended(held.entry, failed, invocation.deadline):
                    raise _TryAgainError from failed
                raise
            stack.push(holding.pop_all())
        return held, answered

    async def _acquire(self, target: ModelKey, deadline: float) -> Held:
        asked_at = time.monotonic()
        if (entry := await self._freshness.current(target, deadline)) is not None:
            self._of_endpoint.model_cache_hit.observe(1)
            return Held(self._room, entry)
        try:
            async with asyncio.timeout_at(deadline):
                held = await self._loading.join(target)
        except TimeoutError:
            raise ModelNotReady(f"Model {target} is still being loaded; try again.") from None
        held.hit, held.load_seconds = False, time.monotonic() - asked_at
        self._of_endpoint.model_cache_hit.observe(0)
        self._of_endpoint.model_loading_wait_time.observe(held.load_seconds * 1e6)
        return held

    async def _is_mended(self, entry: Entry, failed: SiblingFailed, deadline: float) -> bool:
        """Whether what stood behind a bad status has been seen to, so that it may be sent again."""
        try:
            async with asyncio.timeout_at(deadline):
                if failed.original_status == _FORGOTTEN:
                    return await self._is_forgotten(entry)
                if failed.original_status == _FULL:
                    others = self.registry.idle(entry.size_bytes)
                    await self._room.unloaded(others, "evicted")
                    return bool(others)
        except TimeoutError:
            pass
        return False

    async def _is_forgotten(self, entry: Entry) -> bool:
        """Whether the container does not have the model any more; else the 404 is the model's."""
        loaded = [other for other in self.registry if other.state == "loaded"]
        if await self._calls.has(entry):
            return False
        is_empty = await self._calls.names() == []
        gone = loaded if is_empty else [entry]
        self._room.forget(gone, "the container does not have it any more")
        return True


class _TryAgainError(Exception):
    """What failed may be sent once more."""


def _target_of(invocation: Invocation) -> ModelKey:
    if invocation.target_model is None:
        raise InvalidRequest(
            f"Request {invocation.request_id} is missing a target model header.",
            "TARGET_MODEL_HEADER_MISSING",
        )
    return invocation.target_model


def _described(entry: Entry) -> dict[str, object]:
    return {
        "model": entry.target,
        "state": entry.state,
        "bytes": entry.size_bytes,
        "in_flight": entry.in_flight,
        "hits": entry.hits,
        "version": entry.version.etag,
    }
