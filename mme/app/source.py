"""Where models come from: the store, the disk tier over it, and whether it has been reached."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import structlog

from mme.app.tasks import own
from mme.config import Config, ContainerConfig
from mme.errors import MmeError
from mme.metrics import Metrics
from mme.store.artifacts import ArtifactCache
from mme.store.base import Artifacts, Store, Versions
from mme.store.mounts import Mounts, as_mount, split_location
from mme.store.open_store import open_store
from mme.store.registered import RegisteredDirectories

_log = structlog.get_logger()
_PROBE_SECONDS = 1.0
_PROBE_LIMIT_SECONDS = 30.0


class Source:
    """A store and what lies of it on disk.

    Args:
        versions: what is current.
        artifacts: what is on disk.
    """

    def __init__(self, versions: Versions, artifacts: Artifacts) -> None:
        self.versions = versions
        self.artifacts = artifacts
        self.problem: str | None = "the model store has not been reached yet"

    @classmethod
    async def open(cls, config: Config, metrics: Metrics, stack: AsyncExitStack) -> Source:
        """Opens the store that the settings name, and the disk tier.

        Raises:
            ConfigError: there is no such store, or the disk tier can't be had.
        """
        store = _open(config)
        stack.push_async_callback(store.close)
        artifacts = ArtifactCache(store, config.disk, metrics)
        await artifacts.start()
        stack.push_async_callback(artifacts.close)
        return cls(store, artifacts)

    @classmethod
    def registered(cls) -> Source:
        """What whoever runs the container puts there."""
        directories = RegisteredDirectories()
        return cls(directories, directories)

    def watch(self, stack: AsyncExitStack) -> None:
        """Begins to ask the store, until it has answered once."""
        own(stack, self._probe())

    def describe(self) -> dict[str, object]:
        """The disk tier, for `/state`."""
        return {
            "budget_bytes": self.artifacts.budget_bytes,
            "used_bytes": self.artifacts.used_bytes,
            "artifacts": self.artifacts.count,
        }

    async def _probe(self) -> None:
        """Later outages do not make us unready: what is in memory still answers."""
        pause_seconds = _PROBE_SECONDS
        while True:
            try:
                await self.versions.probe()
            except MmeError as error:
                if self.problem != str(error):
                    location = self.versions.location
                    _log.error("store_unreachable", store=location, reason=str(error))
                self.problem = str(error)
            else:
                self.problem = None
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, _PROBE_LIMIT_SECONDS)


def _open(config: Config) -> Store:
    if not config.containers:
        return open_store(config.store)
    main = next((item.models for item in config.containers if item.models is not None), None)
    mounts = {mount for item in config.containers if (mount := _mount(item)) is not None}
    return Mounts(
        None if main is None else open_store(replace(config.store, models=main)),
        {mount: open_store(replace(config.store, models=mount)) for mount in sorted(mounts)},
    )


def _mount(container: ContainerConfig) -> str | None:
    if container.model is not None:
        return split_location(container.model)[0]
    return container.target_models and as_mount(container.target_models)
