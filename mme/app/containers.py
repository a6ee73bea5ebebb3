"""The containers of an endpoint of several, in their order, from the `[[containers]]` tables."""

from __future__ import annotations

from contextlib import AsyncExitStack

from mme.app.builtin import BuiltIn
from mme.app.source import Source
from mme.config import Config, ContainerConfig
from mme.config_containers import DEFAULT_ACCEPT
from mme.containers.base import Container
from mme.containers.fixed import FixedModel
from mme.domain import ModelKey
from mme.errors import ConfigError
from mme.metrics import Metrics
from mme.store.mounts import split_location


async def open_containers(
    config: Config,
    built_in: BuiltIn | None,
    source: Source | None,
    metrics: Metrics,
    stack: AsyncExitStack,
) -> tuple[Container, ...]:
    """Builds each; siblings are started here, and looked after.

    Args:
        config: has the tables.
        built_in: there where one of them is the built-in engine.
        source: there where one of them has target models or a model.
        metrics: gives each its own.
        stack: ends what is started.

    Raises:
        ConfigError: one can't be.
    """
    opened: list[Container] = []
    for table in config.containers:
        of_container = metrics.of_container(table.hostname)
        if table.model is not None and built_in is not None:
            opened.append(_fixed_model(table, built_in, metrics, stack))
        elif table.models is not None and built_in is not None:
            opened.append(built_in.engine(table.hostname, of_container))
        else:
            raise ConfigError(f"containers, {table.hostname}: siblings come next")
    return tuple(opened)


def _fixed_model(
    table: ContainerConfig, built_in: BuiltIn, metrics: Metrics, stack: AsyncExitStack
) -> FixedModel:
    key = ModelKey("".join(split_location(table.model or "")))
    return FixedModel(
        table.hostname,
        engine=built_in.engine(table.hostname),
        model=built_in.keep(key, stack),
        default_accept=table.environment.get(DEFAULT_ACCEPT),
        metrics=metrics.of_container(table.hostname),
    )
