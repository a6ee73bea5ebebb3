"""Room in a multi-model container: who is loaded there, unloaded, and whose directory is kept.

A model's artifact is leased from before its load until its unloading has been answered, so that
its directory stays for as long as the container may read it. Everything between a decision of the
registry and its bookkeeping happens in one step of the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from typing import Final

import structlog

from mme.containers.platform_calls import PlatformCalls, text_of
from mme.containers.registry import Entry, Registry
from mme.domain import ModelKey
from mme.errors import MemoryRefused, ModelError
from mme.metrics import ContainerMetrics, Metrics
from mme.store.base import Artifact

_log = structlog.get_logger()
MODEL_UNLOADED: Final = "model_unloaded"
MODEL_NOT_UNLOADED: Final = "model_not_unloaded"
_GONE: Final = frozenset({*range(200, 300), 404})


class Room:
    """The models of one container.

    Args:
        container: its hostname, for the log.
        registry: what may be there together.
        calls: how it is asked.
        metrics: the endpoint's.
        of_container: its own.
    """

    def __init__(
        self,
        container: str,
        registry: Registry,
        calls: PlatformCalls,
        metrics: Metrics,
        of_container: ContainerMetrics | None,
    ) -> None:
        self.registry = registry
        self._container = container
        self._calls = calls
        self._metrics = metrics
        self._of_container = of_container
        self._leases: dict[Entry, AsyncExitStack] = {}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def admit(self, target: ModelKey, artifact: Artifact, lease: AsyncExitStack) -> Entry:
        """Makes room for a load, unloading and waiting as needed; first come, first served.

        Args:
            target: what the model answers for.
            artifact: its directory.
            lease: keeps that; taken over.

        Raises:
            MemoryRefused: it is larger than all room there is.
        Cancellation: nothing is admitted; unloads that have begun go on.
        """
        registry, size_bytes = self.registry, artifact.unpacked_bytes
        if not registry.can_ever_hold(size_bytes):
            raise MemoryRefused(
                f"The model has {size_bytes} bytes; container {self._container} may hold"
                f" {registry.bytes_limit}."
            )
        async with self._turn:
            while not registry.fits(size_bytes):
                for victim in registry.victims(size_bytes):
                    self.retire(victim, "evicted")
                await self._change()
            entry = registry.begin(target, artifact.version, size_bytes)
        self._leases[entry] = lease.pop_all()
        return entry

    async def settled(self, name: str) -> Entry | None:
        """The model of that name if it is loaded; one that is being unloaded is waited for."""
        while (entry := self.registry.find(name)) is not None and entry.state != "loaded":
            await self._change()
        return entry

    async def make_some(self) -> bool:
        """Unloads what has been used least recently; returns when it is gone. False: none can."""
        leaving = [entry for entry in self.registry if entry.state == "unloading"]
        if not leaving:
            leaving = self.registry.idle()
        await self.unloaded(leaving, "evicted")
        return bool(leaving) or await self._unload_strays()

    async def unloaded(self, entries: Iterable[Entry], reason: str) -> None:
        """Retires `entries`; returns when all are gone: those in use, once they are not."""
        leaving = tuple(entries)
        for entry in leaving:
            self.retire(entry, reason)
        await self._until(lambda: not any(self.registry.has(entry) for entry in leaving))

    def answer(self, entry: Entry) -> None:
        """`entry` is loaded, and answers from now on."""
        former = self.registry.answer(entry)
        if former is not None:
            self.retire(former, "superseded")
        self._tell()

    def hold(self, entry: Entry) -> None:
        """A request goes into `entry`: it is not unloaded until `unhold`."""
        self.registry.hold(entry)

    def unhold(self, entry: Entry) -> None:
        """The request has left it; if it no longer answers, it goes with the last one."""
        self.registry.unhold(entry)
        if self.registry.current(entry.target) is not entry:
            self.retire(entry, "superseded")  # unless it has been told why already
        self._changed.set()

    def retire(self, entry: Entry, reason: str) -> None:
        """`entry` does not answer any more, and is unloaded when it is idle."""
        self.registry.retire(entry, reason)
        if self.registry.has(entry) and entry.is_idle:
            self._metrics.evictions.labels(entry.why_left).inc()
            self._leave(entry)

    def abandon(self, entry: Entry) -> None:
        """Its load failed: what that may have left in the container is unloaded."""
        if self.registry.has(entry):
            self.registry.retire(entry, "failed")
            self._leave(entry)

    def forget(self, entries: Iterable[Entry], reason: str) -> None:
        """The container does not have `entries` any more."""
        for entry in entries:
            if self.registry.has(entry):
                log = _log.bind(container=self._container, model=entry.target)
                log.warning(MODEL_UNLOADED, reason=reason, bytes=entry.size_bytes)
                self._metrics.evictions.labels("lost").inc()
                self._drop(entry)
                self._own(self._release(entry))

    async def close(self) -> None:
        """Gives up unloads under way and all directories; the container keeps what it has."""
        for task in tuple(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for entry in tuple(self._leases):
            await self._release(entry)

    def _leave(self, entry: Entry) -> None:
        self.registry.leave(entry)
        self._own(self._unload(entry))

    async def _unload(self, entry: Entry) -> None:
        log = _log.bind(container=self._container, model=entry.target)
        began = time.perf_counter()
        try:
            answer = await self._calls.unload(entry.name, entry.target)
            if answer.status in _GONE:
                log.info(MODEL_UNLOADED, reason=entry.why_left, bytes=entry.size_bytes)
            else:
                log.warning(MODEL_NOT_UNLOADED, status=answer.status, reason=text_of(answer))
        except ModelError as error:
            log.warning(MODEL_NOT_UNLOADED, reason=str(error))
        finally:
            self._metrics.model_unloading_time.observe((time.perf_counter() - began) * 1e6)
            self._drop(entry)
            await self._release(entry)

    async def _unload_strays(self) -> bool:
        strays = await self._calls.strays({entry.name for entry in self.registry})
        for name in strays:
            try:
                await self._calls.unload(name, name)
            except ModelError:
                return False
        return bool(strays)

    def _drop(self, entry: Entry) -> None:
        self.registry.drop(entry)
        self._changed.set()
        self._tell()

    async def _release(self, entry: Entry) -> None:
        lease = self._leases.pop(entry, None)
        if lease is not None:
            await lease.aclose()

    def _tell(self) -> None:
        if self._of_container is not None:
            self._of_container.models.set(len(self.registry))

    async def _until(self, is_true: Callable[[], bool]) -> None:
        while not is_true():
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    def _own(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name=f"unload of {self._container}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
