"""The container contract for one model: /ping, /invocations, /execution-parameters.

Decision: a model that is still being loaded is a 503 and one that can't be loaded a 500: neither is
healthy to the platform, and whoever looks can tell them apart.
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
    read_payload,
    refusal_answer,
)
from mme.front.exchange import Exchange, Service
from mme.front.routes import NoMatch, Route
from mme.front.wire import REQUEST_ID, Answer

_MEBIBYTE = 1024**2
_BATCH_LIMIT_MEBIBYTES = 100  # what batch transform takes at most


class Single(Protocol):
    """The one model."""

    key: ModelKey
    concurrency: int  # how many requests it is worth sending at once

    def failure(self) -> str | None:
        """Why it can't be loaded; None where that is not known yet."""
        ...


class SingleModelApi:
    """The dialect, bound to one service and its one model.

    Args:
        readiness: why the server can't serve now; empty when it can.
    """

    def __init__(
        self,
        service: Service,
        readiness: Callable[[], list[str]],
        server: ServerConfig,
        single: Single,
    ) -> None:
        self._service = service
        self._readiness = readiness
        self._server = server
        self._single = single

    def routes(self) -> list[Route]:
        """The paths it answers."""
        get = partial(Route, method="GET", refuse=self.refuse, action=Action.OPEN)
        return [
            get(name="ping", path="/ping", answer=self._ping),
            get(name="execution_parameters", path="/execution-parameters", answer=self._parameters),
            Route(
                name="invocations",
                method="POST",
                path="/invocations",
                answer=self._invoke,
                refuse=self.refuse,
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
        if failure := self._single.failure():
            return json_body(500, {"status": failure}, exchange.request_id)
        if reasons := self._readiness():
            return json_body(503, {"status": ", ".join(reasons)}, exchange.request_id)
        return Answer(status=200, headers={REQUEST_ID: exchange.request_id})

    async def _parameters(self, exchange: Exchange) -> Answer:
        limit_mebibytes = self._server.body_limit_bytes // _MEBIBYTE
        members = {
            "MaxConcurrentTransforms": self._single.concurrency,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": min(max(1, limit_mebibytes), _BATCH_LIMIT_MEBIBYTES),
        }
        return json_body(200, members, exchange.request_id)

    async def _invoke(self, exchange: Exchange) -> Answer:
        invocation = read_payload(
            exchange.head.headers,
            self._single.key,
            request_id=exchange.request_id,
            endpoint=self._server.endpoint_name,
            body=await exchange.receive(),
            deadline=exchange.clock() + self._server.invocation_seconds,
        )
        invocation = exchange.admit(invocation)
        exchange.reply = reply = await self._service.invoke(invocation)
        return payload_answer(reply, exchange.request_id)
