"""`Engine`: everything behind the front, whole without it; `serving.py` puts a front before it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

from mme.app.bookkeeping import gauge, gauge_usage, keep, push_metrics
from mme.app.builtin import BuiltIn
from mme.app.containers import open_containers
from mme.app.process import describe_process
from mme.app.source import Source
from mme.app.view import View
from mme.config import Config
from mme.containers.base import Container
from mme.containers.hosted import HostedModels
from mme.containers.operated import OperatedModels
from mme.containers.single import SingleModel
from mme.domain import Invocation, ModelKey, Reply
from mme.errors import ConfigError, MmeError, ModelMissing
from mme.front.dialects import Management
from mme.metrics import Metrics
from mme.routing.catalog import Catalog, Endpoint, Variant
from mme.routing.pipeline import Pipeline
from mme.store.registered import RegisteredDirectories
from mme.usage.accounts import Accounts
from mme.usage.keeping import Keeper

_CONTAINER_MODES = ("multi", "single")  # whoever runs the container brings models and evicts them
_SINGLE = ModelKey("model")


class Engine:
    """The engine without HTTP.

    Use: `async with Engine(config) as engine: reply = await engine.invoke(invocation)`.

    Args:
        config: see `mme.build_config`; `models` is required, or containers.

    Raises (on entering):
        ConfigError: a setting does not hold up against the world.
        WorkerStartError: a worker can't start.
    """

    def __init__(self, config: Config) -> None:
        self.metrics = Metrics(config.server.endpoint_name, config.server.variant_name)
        self._config = config
        self._started_at = time.monotonic()
        self._mode = config.server.container
        self._single: SingleModel | None = None
        self._source: Source | None = None
        self._built_in: BuiltIn | None = None
        self._keeper: Keeper | None = None
        self._draining = False
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await self._build(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._draining = True
        await self._stack.aclose()

    def invoke(self, invocation: Invocation) -> Coroutine[Any, Any, Reply]:
        """Answers one invocation.

        Raises:
            MmeError: see `mme/errors.py` for the tree.
        Cancellation: a request that has not begun is dropped; a load it started goes on.
        """
        return self._pipeline.invoke(invocation)

    async def load(self, key: ModelKey) -> None:
        """Brings a model into the built-in engine's memory without asking it anything.

        Raises:
            MmeError: why it can't be; ConfigError where there is no built-in engine.
        """
        if self._built_in is None:
            raise ConfigError("containers: none of them is the built-in engine")
        deadline = asyncio.get_running_loop().time() + self._config.cache.load_seconds
        await self._built_in.primary.load(key, deadline)

    def readiness(self) -> list[str]:
        """Why it can't serve now; empty when it can."""
        reasons = []
        if self._source is not None and self._source.problem:
            reasons.append(self._source.problem)
        if self._draining:
            reasons.append("the server is shutting down")
        problems = (container.problem() for container in self._containers)
        reasons.extend(problem for problem in problems if problem)
        single = self._single
        if single is not None and not single.is_loaded():
            reasons.append(single.failure() or "the model is being loaded")
        return reasons

    def drain(self) -> None:
        """Not ready from now on; what is asked is still answered."""
        self._draining = True

    def state(self) -> dict[str, object]:
        """Everything the operator may see, as JSON; takes long where there are many models."""
        models = {"models": self._built_in.cache.describe_models()} if self._built_in else {}
        return self._describe() | models

    async def tell_state(self) -> dict[str, object]:
        """As `state`, the models encoded; others have their turns meanwhile.

        So it is of one moment only as long as the models are a hundred at most.
        """
        models = {"models": await self._built_in.cache.tell_models()} if self._built_in else {}
        return self._describe() | models

    def _describe(self) -> dict[str, object]:
        config, source = self._config, self._source
        state: dict[str, object] = {
            "endpoint": config.server.endpoint_name,
            "variant": config.server.variant_name,
            "uptime_seconds": round(time.monotonic() - self._started_at, 3),
            "ready": not self.readiness(),
            "process": describe_process(),
        }
        if config.containers:
            state["mode"] = config.pipeline.mode
            state["containers"] = [container.describe() for container in self._containers]
        if self._built_in is not None:
            state |= self._built_in.describe()
        if source is not None:
            state["store"] = source.versions.location
            state["disk"] = source.describe()
        return state

    def explain(self, key: ModelKey) -> dict[str, object]:
        """Why a model is in the built-in engine's memory or is not, as JSON.

        Raises:
            ModelMissing: there is no built-in engine.
        """
        return self._operable().explain(key)

    async def accesses(self) -> dict[str, object]:
        """The latest accesses of the built-in engine's models, as JSON. Raises ModelMissing."""
        return await self._operable().accesses()

    def _operable(self) -> BuiltIn:
        if self._built_in is None:
            raise ModelMissing("None of the containers is the built-in engine.")
        return self._built_in

    @property
    def location(self) -> str:
        """What is served, in words for an operator."""
        if self._config.containers:
            names = ", ".join(container.hostname for container in self._containers)
            return f"the containers {names} ({self._config.pipeline.mode})"
        return "what is posted to /models" if self._mode == "multi" else self._config.store.models

    def metrics_text(self, accept: str = "") -> tuple[bytes, str]:
        """The metrics in the form that `accept`, a header, asks for, and that form's name."""
        if self._built_in is not None:
            gauge(self._built_in, self.metrics)
        if self._keeper is not None:
            gauge_usage(self._keeper, self.metrics)
        if self._source is not None:
            self.metrics.disk_models.set(self._source.artifacts.count)
        return self.metrics.render(accept)

    async def _build(self, stack: AsyncExitStack) -> None:
        config, metrics = self._config, self.metrics
        by_platform = self._mode in _CONTAINER_MODES
        if by_platform and config.containers:
            raise ConfigError("container: who runs us as a container has no [[containers]] in us")
        tables = config.containers
        if by_platform:
            self._source = Source.registered()
        elif not tables or any(table.is_built_in or table.target_models for table in tables):
            self._source = await Source.open(config, metrics, stack)
        if self._source is not None and (not tables or any(item.is_built_in for item in tables)):
            self._built_in = await BuiltIn.open(
                config, self._source, metrics, stack, may_evict=not by_platform
            )
            self._keeper = self._built_in.keeper
        elif self._source is not None:  # of models that other containers alone have
            self._keeper = await keep(Accounts(), config, stack, is_ours=True)
        self._containers = self._open_containers(stack)
        self._pipeline = Pipeline(self._catalog(), config.pipeline.payload_limit_bytes)
        self.management = self._watched(await self._manage(stack))
        if self._source is not None:
            self._source.watch(stack)
        await push_metrics(config, metrics, stack)

    def _open_containers(self, stack: AsyncExitStack) -> tuple[Container, ...]:
        if not self._config.containers and self._built_in is not None:
            return (self._built_in.primary,)
        accounts = self._keeper.accounts if self._keeper is not None else None
        return open_containers(
            self._config,
            self._built_in,
            source=self._source,
            accounts=accounts,
            metrics=self.metrics,
            stack=stack,
        )

    async def _manage(self, stack: AsyncExitStack) -> Management:
        if self._built_in is None or self._source is None:
            return Management(usage=self._keeper)
        cache, engine = self._built_in.cache, self._built_in.primary
        load_seconds, keeper = self._config.cache.load_seconds, self._keeper
        source = self._source.versions
        if not isinstance(source, RegisteredDirectories):
            warming = self._built_in.warming
            operated = OperatedModels(source.location, cache, engine, load_seconds, warming)
            is_alone = not self._config.containers
            return Management(operated=operated, usage=keeper, is_alone=is_alone)
        if self._mode == "multi":
            hosted = HostedModels(source, cache, engine, load_seconds)
            stack.push_async_callback(hosted.close)
            return Management(hosted=hosted, usage=keeper)
        directory = self._config.store.models
        try:
            source.register(_SINGLE, directory)
        except MmeError as error:
            raise ConfigError(f"models: {directory!r} is no directory") from error
        self._single = self._built_in.keep(_SINGLE, stack)
        return Management(single=self._single, usage=keeper)

    def _watched(self, management: Management) -> Management:
        """With a console, but where a platform is who looks."""
        if self._mode in _CONTAINER_MODES:
            return management
        server = self._config.server
        names = {"variant": server.variant_name, "location": self.location}
        names |= {"version": version("mme"), "mode": self._config.pipeline.mode}
        view = View(self.metrics, self._containers, self._built_in, self.readiness, names)
        return replace(management, watched=view)

    def _catalog(self) -> Catalog:
        server, direct = self._config.server, self._is_direct
        variant = Variant(name=server.variant_name, containers=self._containers, direct=direct)
        endpoint = Endpoint(name=server.endpoint_name, variants=(variant,))
        return Catalog(account_id=server.account_id, endpoints={endpoint.name: endpoint})

    @property
    def _is_direct(self) -> bool:
        config = self._config
        return len(config.containers) > 1 and config.pipeline.mode == "Direct"
