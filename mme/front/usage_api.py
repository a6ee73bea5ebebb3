"""For operators: what each model used, to bill its tenant or to find the costly one.

GET /ledger?since=1d&until=...&top=20&by=compute_seconds&format=csv

The answer is JSON, or CSV where `format` or Accept says so.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from mme.errors import InvalidRequest
from mme.front.access import Action
from mme.front.container_wire import json_body
from mme.front.exchange import Exchange
from mme.front.routes import Route
from mme.front.wire import REQUEST_ID, Answer
from mme.usage.statement import Statement, Window, read_window

_ASKED = ("since", "until", "top", "by", "format")


class Kept(Protocol):
    """Where usage is kept."""

    async def read(self, window: Window) -> Statement:
        """What was used, until now. Raises InvalidRequest, UsageUnreadable."""
        ...


class UsageApi:
    """The dialect, bound to one ledger.

    Args:
        kept: what it tells of.
        refuse: the answer to a failed request.
    """

    def __init__(self, kept: Kept, refuse: Callable[[Exception, Exchange], Answer]) -> None:
        self._kept = kept
        self._refuse = refuse

    def routes(self) -> list[Route]:
        """The paths it answers."""
        return [
            Route(
                name="ledger",
                method="GET",
                path="/ledger",
                answer=self._tell,
                refuse=self._refuse,
                action=Action.ADMIN,
            )
        ]

    async def _tell(self, exchange: Exchange) -> Answer:
        exchange.may_use_all()  # it names them
        query = exchange.head.url.query
        for name in query:
            if name not in _ASKED:
                raise InvalidRequest(f"{name} is not one of {', '.join(_ASKED)}.")
        window = read_window(query, time.time())
        is_csv = _wants_csv(query, exchange.head.headers.get("Accept", ""))
        statement = await self._kept.read(window)
        answer = _as_csv if is_csv else _as_json  # megabytes, with many: not for the loop to write
        return await asyncio.to_thread(answer, statement, exchange.request_id)


def _wants_csv(query: Mapping[str, str], accept: str) -> bool:
    wanted = query.get("format", "csv" if accept.startswith("text/csv") else "json")
    if wanted not in {"csv", "json"}:
        raise InvalidRequest("format must be csv or json.")
    return wanted == "csv"


def _as_json(statement: Statement, request_id: str) -> Answer:
    return json_body(200, statement.describe(), request_id)


def _as_csv(statement: Statement, request_id: str) -> Answer:
    headers = {
        REQUEST_ID: request_id,
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": 'attachment; filename="ledger.csv"',
    }
    return Answer(status=200, body=statement.as_csv().encode(), headers=headers)
