"""A multi-model container that a test controls, and the platform over it: real sockets, real files.

It answers with what the loaded directory holds, so that a stale or foreign answer is seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from mme.config import CacheConfig, ContainerConfig, DiskConfig, StoreConfig
from mme.containers.platform import MultiModelSibling
from mme.containers.sibling_client import SiblingClient
from mme.errors import MmeError
from mme.metrics import Metrics
from mme.store.artifacts import ArtifactCache
from mme.store.open_store import open_store
from mme.usage.accounts import Accounts
from tests.engines import drop, invocation

BLOCK = 4096  # what the smallest model takes on disk
TARGET = "X-Amzn-SageMaker-Target-Model"


@dataclass
class ManyModels:
    """The container. A knob is asked with the target model, and gives a status or None."""

    capacity: int = 100  # over it, a load gets a 507
    by_target: bool = False  # as Triton: the target model is the name
    loaded_status: int = 200
    on_load: Callable[[str], int | None] = lambda _: None
    on_invoke: Callable[[str], int | None] = lambda _: None
    list_as: str = "models"  # or "map", "nothing"
    load_gate: asyncio.Event | None = None  # where there is one, loads wait for it
    invoke_gate: asyncio.Event | None = None
    unload_gate: asyncio.Event | None = None
    models: dict[str, tuple[str, Path]] = field(default_factory=dict)  # target and directory
    calls: list[tuple[str, str]] = field(default_factory=list)  # what was asked, target model
    loading: asyncio.Event = field(default_factory=asyncio.Event)
    invoking: asyncio.Event = field(default_factory=asyncio.Event)
    unloading: asyncio.Event = field(default_factory=asyncio.Event)
    not_found: int = 0  # invocations of models that it does not have
    port: int = 0

    def targets(self) -> list[str]:
        return sorted(target for target, _ in self.models.values())

    def count(self, what: str, target: str | None = None) -> int:
        return sum(call[0] == what and target in {None, call[1]} for call in self.calls)

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """On a port of its own; on the same one again when it comes back."""
        app = web.Application()
        app.router.add_get("/ping", self._ping)
        app.router.add_post("/models", self._load)
        app.router.add_get("/models", self._list)
        app.router.add_get("/models/{name}", self._show)
        app.router.add_delete("/models/{name}", self._unload)
        app.router.add_post("/models/{name}/invoke", self._invoke)
        runner = web.AppRunner(app, shutdown_timeout=0.1, handler_cancellation=True)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield
        finally:
            await runner.cleanup()
            self.models.clear()

    async def _ping(self, _: web.Request) -> web.Response:
        return web.Response()

    async def _load(self, request: web.Request) -> web.Response:
        target = self._noted("load", request)
        asked = await request.json()
        name, directory = asked["model_name"], Path(asked["url"])
        assert int(name, 16)
        assert name == name.lower()
        self.loading.set()
        if self.load_gate is not None:
            await self.load_gate.wait()
        if (status := self.on_load(target)) is not None:
            return web.Response(status=status, text=f"no: {target}")
        if (target if self.by_target else name) in self.models:
            return web.Response(status=409)
        if len(self.models) >= self.capacity:
            return web.Response(status=507, text="out of memory")
        self.models[target if self.by_target else name] = (target, directory)
        return web.Response(status=self.loaded_status)

    async def _list(self, request: web.Request) -> web.Response:
        names = sorted(self.models)
        if self.list_as == "map":
            return web.json_response(dict.fromkeys(names, "AVAILABLE"))
        if self.list_as == "nothing":
            return web.Response(status=400)
        begin = int(request.query.get("next_page_token", "0"))  # as MMS: a last page may be empty
        page: dict[str, Any] = {"models": [{"modelName": x} for x in names[begin : begin + 2]]}
        if names[begin : begin + 2]:
            page["nextPageToken"] = str(begin + 2)
        return web.json_response(page)

    async def _show(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self._name(request) in self.models else 404)

    async def _unload(self, request: web.Request) -> web.Response:
        self._noted("unload", request)
        self.unloading.set()
        if self.unload_gate is not None:
            await self.unload_gate.wait()
        gone = self.models.pop(self._name(request), None)
        return web.Response(status=404 if gone is None else 200)

    async def _invoke(self, request: web.Request) -> web.Response:
        target = self._noted("invoke", request)
        self.invoking.set()
        if self.invoke_gate is not None:
            await self.invoke_gate.wait()
        if (status := self.on_invoke(target)) is not None:
            return web.Response(status=status, text=f"the model says no: {target}")
        if self._name(request) not in self.models:
            self.not_found += 1
            return web.Response(status=404)
        _, directory = self.models[self._name(request)]
        return web.Response(body=(directory / "weights").read_bytes() + b"|" + await request.read())

    def _noted(self, what: str, request: web.Request) -> str:
        target = request.headers[TARGET]
        self.calls.append((what, target))
        return target

    def _name(self, request: web.Request) -> str:
        return request.headers[TARGET] if self.by_target else request.match_info["name"]


class Well:
    """Nothing is the matter with what is looked after."""

    def problem(self) -> None:
        return None

    def describe(self) -> dict[str, object]:
        return {}


def put(root: Path, name: str, weights: bytes) -> None:
    """Uploads a model."""
    drop(root / "models", name, {"weights": weights})


@asynccontextmanager
async def platform(
    root: Path,
    url: str,
    cache: dict[str, Any] | None = None,
    accounts: Accounts | None = None,
    **limits: Any,
) -> AsyncIterator[MultiModelSibling]:
    """The platform over a container, with the models that `put` puts there."""
    (root / "models").mkdir(exist_ok=True)
    metrics = Metrics("mme", "AllTraffic")
    store = open_store(StoreConfig(models=str(root / "models")))
    artifacts = ArtifactCache(store, DiskConfig(cache_dir=str(root / "cache")), metrics)
    await artifacts.start()
    client = SiblingClient("many", url, connections=16, waiting=64, reply_limit_bytes=1024**2)
    sibling = MultiModelSibling(
        ContainerConfig(hostname="many", url=url, target_models=str(root / "models"), **limits),
        client,
        Well(),
        cache=CacheConfig(**(cache or {})),
        versions=store,
        artifacts=artifacts,
        artifact_key=lambda target: target,
        accounts=accounts or Accounts(),
        metrics=metrics,
        of_container=metrics.of_container("many"),
    )
    try:
        yield sibling
    finally:
        await sibling.close()
        await client.close()
        await artifacts.close()
        await store.close()


@asynccontextmanager
async def running(root, container=None, **settings):
    """A container, the platform over it, and models a to d."""
    container = container or ManyModels()
    for name in "abcd":
        put(root, f"{name}.tar.gz", f"weights of {name}".encode())
    async with (
        container.served(),
        platform(root, f"http://127.0.0.1:{container.port}", **settings) as sibling,
    ):
        yield container, sibling


async def ask(sibling, name, **fields):
    reply = await sibling.invoke(invocation(f"{name}.tar.gz", b"x", **fields))
    return reply.body.decode()


def states(sibling):
    return {model["model"][0]: model["state"] for model in sibling.describe()["models"]}


async def failure_of(sibling, name):
    try:
        await ask(sibling, name)
    except MmeError as error:
        return error
    raise AssertionError("it did not fail")
