"""The Open Inference Protocol v2 over REST: /v2/..., models named by target model.

Decisions: a model's metadata loads it, as only a loaded model knows its tensors; its readiness does
not. The repository is what is in memory: nothing lists the store. To unload what is not in memory
is no error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection
from functools import partial
from importlib.metadata import version
from typing import Protocol

from mme.config import ServerConfig
from mme.domain import ModelKey
from mme.errors import ModelMissing
from mme.front.access import Action
from mme.front.exchange import Exchange, Service
from mme.front.oip_wire import (
    check_load,
    error_reply,
    index_entry,
    infer_answer,
    json_reply,
    metadata,
    read_infer,
    read_model,
    read_options,
)
from mme.front.routes import Route
from mme.front.wire import REQUEST_ID, Answer, read_target_model

EXTENSIONS = ("binary_tensor_data", "model_repository", "model_repository(unload_dependents)")
_DESCRIBED = dict[str, object]


class Repository(Protocol):
    """The models in memory."""

    def names(self) -> Collection[ModelKey]:
        """Of what is in memory."""
        ...

    def describe(self, key: ModelKey) -> _DESCRIBED:
        """One of those. Raises ModelMissing."""
        ...

    async def load(self, key: ModelKey) -> _DESCRIBED:
        """Brings it into memory. Raises MmeError."""
        ...

    async def unload(self, key: ModelKey) -> None:
        """Returns when its memory is back. Raises ModelMissing."""
        ...


class OipApi:
    """The dialect, bound to one service and its models.

    Args:
        readiness: why the server can't serve now; empty when it can.
    """

    def __init__(
        self,
        service: Service,
        readiness: Callable[[], list[str]],
        server: ServerConfig,
        repository: Repository,
    ) -> None:
        self._service = service
        self._readiness = readiness
        self._server = server
        self._repository = repository
        self._about = {"name": "mme", "version": version("mme"), "extensions": EXTENSIONS}

    def routes(self) -> list[Route]:
        """The paths it answers; of those that overlap the longer ones first."""
        get = partial(Route, method="GET", refuse=_refuse, action=Action.INVOKE)
        post = partial(Route, method="POST", refuse=_refuse, action=Action.INVOKE)
        look, load = partial(get, action=Action.OPEN), partial(post, action=Action.LOAD)
        model, managed = "/v2/models/{...}", "/v2/repository/models/{...}"
        return [
            get(name="oip_server", path="/v2", answer=self._describe_server),
            get(name="oip_server", path="/v2/", answer=self._describe_server),
            look(name="oip_live", path="/v2/health/live", answer=self._live),
            look(name="oip_ready", path="/v2/health/ready", answer=self._ready),
            post(name="oip_infer", path=f"{model}/infer", answer=self._infer, invokes=True),
            get(name="oip_model_ready", path=f"{model}/ready", answer=self._model_ready),
            get(name="oip_model", path=model, answer=self._describe_model),
            load(name="oip_index", path="/v2/repository/index", answer=self._index),
            load(name="oip_load", path=f"{managed}/load", answer=self._load),
            post(
                name="oip_unload",
                path=f"{managed}/unload",
                answer=self._unload,
                action=Action.ADMIN,
            ),
            get(name="oip_unknown", path="/v2/{...}", answer=_decline),
            post(name="oip_unknown", path="/v2/{...}", answer=_decline),
        ]

    async def _describe_server(self, exchange: Exchange) -> Answer:
        return json_reply(200, self._about, exchange.request_id)

    async def _live(self, exchange: Exchange) -> Answer:
        return json_reply(200, {"live": True}, exchange.request_id)

    async def _ready(self, exchange: Exchange) -> Answer:
        if reasons := self._readiness():
            told = {"ready": False, "error": ", ".join(reasons)}
            return json_reply(400, told, exchange.request_id)
        return json_reply(200, {"ready": True}, exchange.request_id)

    async def _model_ready(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_model(exchange.head.url.raw_path, "/ready"))
        told: _DESCRIBED = {"name": key, "ready": True}
        try:
            self._repository.describe(key)
        except ModelMissing as missing:
            told |= {"ready": False, "error": str(missing)}
        return json_reply(200 if told["ready"] else 400, told, exchange.request_id)

    async def _describe_model(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_model(exchange.head.url.raw_path))
        told = metadata(key, await self._repository.load(key))
        return json_reply(200, told, exchange.request_id)

    async def _infer(self, exchange: Exchange) -> Answer:
        key = read_model(exchange.head.url.raw_path, "/infer")
        headers = exchange.head.headers
        invocation = read_infer(
            headers,
            key,
            request_id=exchange.request_id,
            endpoint=self._server.endpoint_name,
            body=await exchange.receive(),
            deadline=exchange.clock() + self._server.invocation_seconds,
        )
        invocation = exchange.admit(invocation)
        exchange.reply = reply = await self._service.invoke(invocation)
        return infer_answer(reply, headers.get("Content-Type", ""), exchange.request_id)

    async def _index(self, exchange: Exchange) -> Answer:
        read_options(await exchange.receive())
        names = filter(exchange.sees, self._repository.names())
        entries = [index_entry(name) for name in names]
        return json_reply(200, entries, exchange.request_id)

    async def _load(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_target_model(exchange.segment))
        check_load(read_options(await exchange.receive()).get("parameters"))
        await self._repository.load(key)
        return Answer(status=200, headers={REQUEST_ID: exchange.request_id})

    async def _unload(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_target_model(exchange.segment))
        read_options(await exchange.receive())
        with contextlib.suppress(ModelMissing):
            await self._repository.unload(key)
        return Answer(status=200, headers={REQUEST_ID: exchange.request_id})


async def _decline(_: Exchange) -> Answer:
    raise ModelMissing("There is no such operation in version 2 of the protocol here.")


def _refuse(error: Exception, exchange: Exchange) -> Answer:
    return error_reply(error, exchange.request_id)
