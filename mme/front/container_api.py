"""The container contract for many models: the platform loads, lists, invokes and unloads by name.

Decision: statuses and field names are the contract's (runtime 2.5): camelCase in answers,
snake_case in what is asked. A DELETE of what is not loaded is a 404, as the contract has it; that
nothing is left to do then is for the platform to conclude.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from mme.config import ServerConfig
from mme.domain import ModelKey
from mme.errors import InvalidRequest
from mme.front.access import Action
from mme.front.container_wire import (
    json_body,
    miss_answer,
    payload_answer,
    read_load,
    read_model_name,
    read_payload,
    refusal_answer,
)
from mme.front.exchange import Exchange, Service
from mme.front.pages import read_page
from mme.front.routes import NoMatch, Route
from mme.front.wire import REQUEST_ID, Answer


class Hosted(Protocol):
    """Models that the platform loads and unloads."""

    def names(self) -> list[str]:
        """Those that are loaded."""
        ...

    def url(self, key: ModelKey) -> str:
        """The directory of one. Raises ModelMissing."""
        ...

    async def load(self, key: ModelKey, url: str) -> None:
        """Loads a directory under a name. Raises MmeError."""
        ...

    async def unload(self, key: ModelKey) -> None:
        """Returns when its memory is back. Raises ModelMissing."""
        ...


class ContainerApi:
    """The dialect, bound to one service and its hosted models.

    Args:
        readiness: why the server can't serve now; empty when it can.
    """

    def __init__(
        self,
        service: Service,
        readiness: Callable[[], list[str]],
        server: ServerConfig,
        hosted: Hosted,
    ) -> None:
        self._service = service
        self._readiness = readiness
        self._server = server
        self._hosted = hosted

    def routes(self) -> list[Route]:
        """The paths it answers."""
        route = partial(Route, refuse=self.refuse)
        managing = partial(route, action=Action.LOAD)
        model = "/models/{}"
        return [
            route(name="ping", method="GET", path="/ping", answer=self._ping, action=Action.OPEN),
            managing(name="load_model", method="POST", path="/models", answer=self._load),
            managing(name="list_models", method="GET", path="/models", answer=self._list),
            managing(name="describe_model", method="GET", path=model, answer=self._describe),
            managing(name="unload_model", method="DELETE", path=model, answer=self._unload),
            route(
                name="invoke_model",
                method="POST",
                path=f"{model}/invoke",
                answer=self._invoke,
                action=Action.INVOKE,
                invokes=True,
            ),
        ]

    def refuse(self, error: Exception, exchange: Exchange) -> Answer:
        """The answer to a failed request."""
        return refusal_answer(error, exchange.request_id)

    def miss(self, found: NoMatch, message: str, request_id: str) -> Answer:
        """The answer where no route is."""
        return miss_answer(found.allowed, message, request_id)

    def unreadable(self, request_id: str, reason: str) -> Answer:
        """The answer to what is no HTTP; `reason` names what is wrong with it."""
        error = InvalidRequest(f"The request could not be read as HTTP/1.1 ({reason}).")
        return refusal_answer(error, request_id, close=True)

    async def _ping(self, exchange: Exchange) -> Answer:
        if reasons := self._readiness():
            return json_body(503, {"status": ", ".join(reasons)}, exchange.request_id)
        return Answer(status=200, headers={REQUEST_ID: exchange.request_id})

    async def _load(self, exchange: Exchange) -> Answer:
        key, url = read_load(await exchange.receive())
        exchange.may_use(key)
        await self._hosted.load(key, url)
        return json_body(200, {"status": f"Model {key} loaded"}, exchange.request_id)

    async def _list(self, exchange: Exchange) -> Answer:
        names = filter(exchange.sees, self._hosted.names())
        page, token = read_page(names, exchange.head.url.query)
        members: dict[str, object] = {"models": [self._named(ModelKey(name)) for name in page]}
        if token is not None:
            members["nextPageToken"] = token
        return json_body(200, members, exchange.request_id)

    async def _describe(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_model_name(exchange.segment))
        return json_body(200, self._named(key), exchange.request_id)

    async def _unload(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_model_name(exchange.segment))
        await self._hosted.unload(key)
        return json_body(200, {"status": f"Model {key} unloaded"}, exchange.request_id)

    async def _invoke(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_model_name(exchange.segment))
        self._hosted.url(key)
        invocation = read_payload(
            exchange.head.headers,
            key,
            request_id=exchange.request_id,
            endpoint=self._server.endpoint_name,
            body=await exchange.receive(),
            deadline=exchange.clock() + self._server.invocation_seconds,
        )
        invocation = exchange.admit(invocation)
        exchange.reply = reply = await self._service.invoke(invocation)
        return payload_answer(reply, exchange.request_id)

    def _named(self, key: ModelKey) -> dict[str, object]:
        return {"modelName": key, "modelUrl": self._hosted.url(key)}
