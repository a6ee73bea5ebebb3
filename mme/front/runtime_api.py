"""SageMaker's runtime API: InvokeEndpoint, and the container's two paths that share its form.

Decision: an invocation's time starts when its body has arrived, as the client's own read timeout
does; the body has a time of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from mme.config import ServerConfig
from mme.domain import Invocation
from mme.errors import InvalidRequest
from mme.front.access import Action
from mme.front.exchange import Exchange, Service
from mme.front.routes import NoMatch, Route
from mme.front.runtime_errors import error_answer, json_answer
from mme.front.wire import REQUEST_ID, Answer, read_endpoint, read_fields, reply_answer

_OTHER_OPERATIONS = {
    "/endpoints/{}/async-invocations": "InvokeEndpointAsync",
    "/endpoints/{}/invocations-response-stream": "InvokeEndpointWithResponseStream",
}


class RuntimeApi:
    """The dialect, bound to one service.

    Args:
        readiness: why the server can't serve now; empty when it can.
    """

    def __init__(
        self, service: Service, readiness: Callable[[], list[str]], server: ServerConfig
    ) -> None:
        self._service = service
        self._readiness = readiness
        self._server = server

    def routes(self) -> list[Route]:
        """The paths it answers."""
        route = partial(Route, method="POST", refuse=self.refuse, action=Action.INVOKE)
        return [
            route(
                path="/endpoints/{}/invocations",
                name="endpoint_invocations",
                answer=self._invoke,
                invokes=True,
            ),
            route(path="/invocations", name="invocations", answer=self._invoke, invokes=True),
            *(
                route(path=path, name=operation, answer=partial(self._decline, operation))
                for path, operation in _OTHER_OPERATIONS.items()
            ),
            route(path="/ping", name="ping", answer=self._ping, method="GET", action=Action.OPEN),
        ]

    def refuse(self, error: Exception, exchange: Exchange) -> Answer:
        """The answer to a failed request, also where no dialect could be told."""
        invocation = exchange.invocation
        return error_answer(
            error,
            request_id=exchange.request_id,
            endpoint=invocation.endpoint if invocation else self._server.endpoint_name,
            server=self._server,
        )

    def miss(self, found: NoMatch, message: str, request_id: str) -> Answer:
        """The answer where no route is."""
        headers = {"Allow": ", ".join(found.allowed)} if found.allowed else None
        status = 405 if found.allowed else 404
        return json_answer(status, {"Message": message}, request_id=request_id, headers=headers)

    def unreadable(self, request_id: str, reason: str) -> Answer:
        """The answer to what is no HTTP; `reason` names what is wrong with it."""
        return error_answer(
            InvalidRequest(f"The request could not be read as HTTP/1.1 ({reason})."),
            request_id=request_id,
            endpoint=self._server.endpoint_name,
            server=self._server,
            close=True,
        )

    async def _invoke(self, exchange: Exchange) -> Answer:
        fields, body = exchange.head.fields, exchange.received()
        if fields is None or body is None:
            endpoint = read_endpoint(exchange.segment or self._server.endpoint_name)
            body = await exchange.receive()
            fields = exchange.head.understood(read_fields(exchange.head.headers, endpoint))
        invocation = Invocation(
            request_id=exchange.request_id,
            body=body,
            deadline=exchange.clock() + self._server.invocation_seconds,
            **fields,
        )
        invocation = exchange.admit(invocation)
        exchange.reply = reply = await self._service.invoke(invocation)
        return reply_answer(reply, exchange.request_id)

    async def _decline(self, operation: str, exchange: Exchange) -> Answer:
        name = read_endpoint(exchange.segment)
        raise InvalidRequest(f"{operation} is not supported by endpoint {name}.")

    async def _ping(self, exchange: Exchange) -> Answer:
        if reasons := self._readiness():
            members = {"Message": "Not ready: " + ", ".join(reasons)}
            return json_answer(503, members, request_id=exchange.request_id)
        return Answer(status=200, headers={REQUEST_ID: exchange.request_id})
