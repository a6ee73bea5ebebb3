"""GET /openapi.json: what this server answers, as an OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version

import msgspec

from mme.front.access import Action
from mme.front.exchange import Exchange
from mme.front.openapi import describe
from mme.front.routes import Route
from mme.front.wire import REQUEST_ID, Answer


def openapi_route(
    routes: Sequence[Route], refuse: Callable[[Exception, Exchange], Answer]
) -> Route:
    """The route that tells of `routes` and itself."""
    document: list[bytes] = []  # made once, when first asked for

    async def answer(exchange: Exchange) -> Answer:
        if not document:
            document.append(msgspec.json.encode(describe([*routes, route], version("mme"))))
        headers = {REQUEST_ID: exchange.request_id, "Content-Type": "application/json"}
        return Answer(status=200, body=document[0], headers=headers)

    route = Route(
        name="openapi",
        method="GET",
        path="/openapi.json",
        answer=answer,
        refuse=refuse,
        action=Action.OPEN,
    )
    return route
