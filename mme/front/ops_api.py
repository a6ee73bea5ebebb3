"""For operators: is it alive, is it ready, what does it hold, its metrics."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CONTENT_TYPE_LATEST

from mme.front.exchange import Exchange, Service
from mme.front.routes import Route
from mme.front.runtime_errors import json_answer
from mme.front.wire import REQUEST_ID, Answer


class OpsApi:
    """The dialect, bound to one service.

    Args:
        readiness: why the server can't serve now; empty when it can.
        refuse: the answer to a failed request.
    """

    def __init__(
        self,
        service: Service,
        readiness: Callable[[], list[str]],
        refuse: Callable[[Exception, Exchange], Answer],
    ) -> None:
        self._service = service
        self._readiness = readiness
        self._refuse = refuse

    def routes(self) -> list[Route]:
        """The paths it answers."""
        answers = {
            "livez": self._alive,
            "readyz": self._ready,
            "state": self._state,
            "metrics": self._metrics,
        }
        return [
            Route(name=name, method="GET", path=f"/{name}", answer=answer, refuse=self._refuse)
            for name, answer in answers.items()
        ]

    async def _alive(self, exchange: Exchange) -> Answer:
        return json_answer(200, {"alive": True}, request_id=exchange.request_id)

    async def _ready(self, exchange: Exchange) -> Answer:
        reasons = self._readiness()
        members = {"ready": not reasons, "reasons": reasons}
        return json_answer(503 if reasons else 200, members, request_id=exchange.request_id)

    async def _state(self, exchange: Exchange) -> Answer:
        return json_answer(200, self._service.state(), request_id=exchange.request_id)

    async def _metrics(self, exchange: Exchange) -> Answer:
        headers = {REQUEST_ID: exchange.request_id, "Content-Type": CONTENT_TYPE_LATEST}
        return Answer(status=200, body=self._service.metrics_text(), headers=headers)
