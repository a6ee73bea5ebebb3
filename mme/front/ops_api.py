"""For operators: is it alive, is it ready, what does it hold and why, its metrics.

GET /livez, /readyz, /metrics, /state
GET /state/models/{name}   why this model is in memory, or is not; slashes may be written plainly
GET /state/accesses        who was asked for lately, in order: what `mme whatif` replays
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from mme.errors import InvalidRequest, ModelMissing
from mme.front.access import Action, hide_others
from mme.front.exchange import Exchange, Service
from mme.front.routes import Route
from mme.front.runtime_errors import clean, json_answer
from mme.front.wire import REQUEST_ID, Answer, read_target_model


class OpsApi:
    """The dialect, bound to one service.

    Args:
        readiness: why the server can't serve now; empty when it can.
        refuse: the answer to a failed request.
        state: what `/state` tells, fit for JSON.
    """

    def __init__(
        self,
        service: Service,
        readiness: Callable[[], list[str]],
        refuse: Callable[[Exception, Exchange], Answer],
        state: Callable[[], Awaitable[Mapping[str, object]]],
    ) -> None:
        self._service = service
        self._readiness = readiness
        self._refuse = refuse
        self._tell_state = state

    def routes(self) -> list[Route]:
        """The paths it answers."""
        answers = {
            "livez": (self._alive, Action.OPEN),
            "readyz": (self._ready, Action.OPEN),
            "state": (self._state, Action.ADMIN),
            "metrics": (self._metrics, Action.ADMIN),
            "state/accesses": (self._accesses, Action.ADMIN),
            "state/models/{...}": (self._explain, Action.ADMIN),
        }
        return [
            Route(
                name=path.removesuffix("/{...}").replace("/", "_"),
                method="GET",
                path=f"/{path}",
                answer=answer,
                refuse=self._refuse,
                action=action,
            )
            for path, (answer, action) in answers.items()
        ]

    async def _alive(self, exchange: Exchange) -> Answer:
        return json_answer(200, {"alive": True}, request_id=exchange.request_id)

    async def _ready(self, exchange: Exchange) -> Answer:
        reasons = self._readiness()
        members = {"ready": not reasons, "reasons": reasons}
        return json_answer(503 if reasons else 200, members, request_id=exchange.request_id)

    async def _state(self, exchange: Exchange) -> Answer:
        exchange.may_use_all()  # it names them
        return json_answer(200, await self._tell_state(), request_id=exchange.request_id)

    async def _accesses(self, exchange: Exchange) -> Answer:
        exchange.may_use_all()
        told = await self._service.accesses()  # megabytes: not for the loop to encode
        return await asyncio.to_thread(json_answer, 200, told, request_id=exchange.request_id)

    async def _explain(self, exchange: Exchange) -> Answer:
        try:
            told = self._service.explain(exchange.may_use(read_target_model(exchange.segment)))
        except (InvalidRequest, ModelMissing) as error:  # no name of a model, or nothing to know it
            message = {"Message": clean(str(error))}
            return json_answer(404, message, request_id=exchange.request_id)
        told = hide_others(told, exchange.sees)
        return json_answer(200, told, request_id=exchange.request_id)

    async def _metrics(self, exchange: Exchange) -> Answer:
        exchange.may_use_all()  # those asked most are named
        accept = exchange.head.headers.get("Accept", "")
        body, form = self._service.metrics_text(accept)
        headers = {REQUEST_ID: exchange.request_id, "Content-Type": form}
        return Answer(status=200, body=body, headers=headers)
