"""The containers of an endpoint of several, in their order, from the `[[containers]]` tables."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from mme.app.builtin import BuiltIn
from mme.app.source import Source
from mme.config import Config, ContainerConfig
from mme.config_containers import DEFAULT_ACCEPT
from mme.containers.base import Container
from mme.containers.fixed import FixedModel
from mme.containers.health import Health
from mme.containers.launch import Launched
from mme.containers.platform import MultiModelSibling
from mme.containers.ports import PortBlocks
from mme.containers.sibling import Sibling
from mme.containers.sibling_client import SiblingClient
from mme.domain import ModelKey
from mme.metrics import ContainerMetrics, Metrics
from mme.store.mounts import as_mount, split_location
from mme.usage.accounts import Accounts


def open_containers(  # noqa: PLR0913 - what they are made of
    config: Config,
    built_in: BuiltIn | None,
    *,
    source: Source | None,
    accounts: Accounts | None,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> tuple[Container, ...]:
    """Builds each; siblings are started here, and looked after.

    Args:
        config: has the tables.
        built_in: there where one of them is the built-in engine.
        source: there where one of them has target models or a model.
        accounts: there where models are, of whatever container; what they use is booked there.
        metrics: gives each its own.
        stack: ends what is started.

    Raises:
        ConfigError: one can't be.
    """
    siblings = _Siblings(
        config=config, source=source, accounts=accounts, metrics=metrics, stack=stack
    )
    opened: list[Container] = []
    for table in config.containers:
        if table.is_built_in and built_in is not None:
            opened.append(_built_in(table, built_in, metrics, stack))
        else:
            opened.append(siblings.open(table))
    stack.push_async_callback(siblings.end_all)
    return tuple(opened)


def _built_in(
    table: ContainerConfig, built_in: BuiltIn, metrics: Metrics, stack: AsyncExitStack
) -> Container:
    of_container = metrics.of_container(table.hostname)
    accept = table.environment.get(DEFAULT_ACCEPT)
    engine = built_in.engine(table.hostname, of_container, accept)
    if table.model is None:
        return engine
    return FixedModel(
        table.hostname,
        engine=engine,
        model=built_in.keep(ModelKey("".join(split_location(table.model))), stack),
        metrics=of_container,
    )


@dataclass(kw_only=True)
class _Siblings:
    """What siblings are built with, and those of them that were started."""

    config: Config
    source: Source | None
    accounts: Accounts | None
    metrics: Metrics
    stack: AsyncExitStack
    ports: PortBlocks = field(default_factory=PortBlocks)
    launched: list[Launched] = field(default_factory=list)

    def open(self, table: ContainerConfig) -> Container:
        metrics = self.metrics.of_container(table.hostname)
        client = SiblingClient(
            table.hostname,
            table.url or "",
            connections=table.connections,
            waiting=table.waiting,
            reply_limit_bytes=self.config.workers.answer_limit_bytes,
        )
        self.stack.push_async_callback(client.close)
        upkeep = self._look_after(table, client, metrics)
        if table.target_models is None or self.source is None or self.accounts is None:
            return Sibling(client, upkeep, metrics)
        prefix = as_mount(table.target_models)
        platform = MultiModelSibling(
            table,
            client,
            upkeep,
            cache=self.config.cache,
            versions=self.source.versions,
            artifacts=self.source.artifacts,
            artifact_key=lambda target: ModelKey(prefix + target),
            accounts=self.accounts,
            metrics=self.metrics,
            of_container=metrics,
        )
        self.stack.push_async_callback(platform.close)
        if isinstance(upkeep, Launched):
            upkeep.on_lost = platform.forget_models
        return platform

    async def end_all(self) -> None:
        """At once, for each may take its whole grace."""
        async with asyncio.TaskGroup() as ends:
            for launched in self.launched:
                ends.create_task(launched.close())

    def _look_after(
        self, table: ContainerConfig, client: SiblingClient, metrics: ContainerMetrics
    ) -> Launched | Health:
        health = Health(
            table.hostname,
            client.ping,
            startup_seconds=table.startup_seconds,
            metrics=metrics,
            on_recovery=client.probe_soon,
        )
        self.stack.push_async_callback(health.close)
        health.start()
        if table.command is None:
            return health
        launched = Launched(table, client=client, health=health, ports=self.ports)
        self.stack.push_async_callback(launched.close)
        self.launched.append(launched)
        launched.start()
        return launched
