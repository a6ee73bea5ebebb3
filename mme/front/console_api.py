"""For operators with a browser: the console's page, and what it and `mme top` show, as it changes.

GET /console                   the page; asks nobody who they are, as it tells nothing by itself
GET /console/{file}            its styles and scripts
GET /console/live              a glance at the server every second, as server-sent events
GET /console/models            a search in the models that the server knows, in pages
GET /console/events            what came into memory and left it lately, and why
GET /console/models/{name}     one of them: why it is in memory or not, its latencies, its errors

What the page does to models it asks of the routes that anyone asks: `/models`, the invocations.
Decision: who looks takes the glance that another took less than a second ago, so that all together
cost one a second, and nothing where nobody looks.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

import msgspec

from mme.config import ServerConfig
from mme.domain import ModelKey
from mme.errors import ModelMissing
from mme.front.access import Action, hide_others
from mme.front.console_files import PAGE, PageFile, read_files
from mme.front.console_query import Search, read_search
from mme.front.container_wire import json_body, refusal_answer
from mme.front.exchange import Exchange, Service
from mme.front.recent import Recent
from mme.front.routes import Route
from mme.front.wire import REQUEST_ID, Answer, read_target_model

_PAUSE_SECONDS = 1.0
_FRESH_SECONDS = 0.9
_VIEWERS_LIMIT = 32
_HISTORY = 600  # glances


class Watched(Protocol):
    """What there is to see."""

    async def glance(self) -> Mapping[str, object]:
        """A small picture of now, fit for JSON; `at` and `rates` are kept for who comes later."""
        ...

    def events(self) -> Sequence[Mapping[str, object]]:
        """The latest events, oldest first, fit for JSON."""
        ...

    async def find(self, search: Search) -> Mapping[str, object]:
        """Models that fit, fit for JSON."""
        ...

    def elsewhere(self, key: ModelKey) -> Sequence[Mapping[str, object]]:
        """What other containers have of that name, fit for JSON."""
        ...


class ConsoleApi:
    """The dialect, bound to one server.

    Args:
        service: explains single models.
        watched: what the glances are of.
        config: what this server lets whom do, and where.
        recent: the latest requests and errors.
        can_operate: whether models can be loaded, pinned and unloaded here.
    """

    def __init__(
        self,
        service: Service,
        watched: Watched,
        config: ServerConfig,
        recent: Recent,
        *,
        can_operate: bool,
    ) -> None:
        self._service = service
        self._watched = watched
        self._config = config
        self._recent = recent
        self._can_operate = can_operate
        self._files = read_files()
        self._viewers = 0
        self._turn = asyncio.Lock()
        self._taken_at = -_PAUSE_SECONDS
        self._glance = b""
        self._history: deque[dict[str, object]] = deque(maxlen=_HISTORY)

    def routes(self) -> list[Route]:
        """The paths it answers."""
        answers = {
            "live": ("console_live", self._live),
            "events": ("console_events", self._list_events),
            "models": ("console_models", self._find),
            "models/{...}": ("console_model", self._show),
        }
        told = [
            Route(
                name=name,
                method="GET",
                path=f"/console/{path}",
                answer=answer,
                refuse=_refuse,
                action=Action.ADMIN,
            )
            for path, (name, answer) in answers.items()
        ]
        pages = {"/console": self._files[PAGE]}
        pages |= {f"/console/{name}": file for name, file in self._files.items() if name != PAGE}
        return [*told, *(_page_route(path, file) for path, file in pages.items())]

    async def _live(self, exchange: Exchange) -> Answer:
        exchange.may_use_all()  # it names them
        if self._viewers >= _VIEWERS_LIMIT:
            message = f"{_VIEWERS_LIMIT} consoles are open already; try again later."
            return json_body(503, {"message": message}, exchange.request_id)
        headers = {
            REQUEST_ID: exchange.request_id,
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",  # a proxy that gathers answers would make it a slow show
        }
        pieces = self._events(exchange)
        return Answer(status=200, headers=headers, close=True, pieces=pieces)

    async def _events(self, exchange: Exchange) -> AsyncGenerator[bytes, None]:
        """Until the client goes, or may not see all models any more. Cancellation: ends it."""
        self._viewers += 1
        try:
            yield _event("hello", msgspec.json.encode(self._greeting(exchange)))
            while True:
                exchange.may_use_all()
                yield await self._look()
                await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            self._viewers -= 1

    async def _look(self) -> bytes:
        """The glance of this second, for all who look."""
        async with self._turn:
            if time.monotonic() - self._taken_at >= _FRESH_SECONDS:
                began = time.perf_counter()
                glance = await self._watched.glance()
                self._history.append({"at": glance["at"], "rates": glance["rates"]})
                took_seconds = round(time.perf_counter() - began, 6)
                told = {**glance, "viewers": self._viewers, "glance_seconds": took_seconds}
                self._glance = _event("glance", await asyncio.to_thread(msgspec.json.encode, told))
                self._taken_at = time.monotonic()
            return self._glance

    def _greeting(self, exchange: Exchange) -> dict[str, object]:
        caller, is_alone = exchange.caller, self._config.admin_port is None
        allowed = set(Action) if caller is None else caller.grant.actions
        return {
            "caller": caller and caller.grant.name,
            "may": {
                "invoke": is_alone and Action.INVOKE in allowed,
                "load": self._can_operate and Action.LOAD in allowed,
                "operate": self._can_operate and Action.ADMIN in allowed,
            },
            "endpoint": self._config.endpoint_name,
            "history": list(self._history),
        }

    async def _list_events(self, exchange: Exchange) -> Answer:
        exchange.may_use_all()
        return json_body(200, {"events": self._watched.events()}, exchange.request_id)

    async def _find(self, exchange: Exchange) -> Answer:
        exchange.may_use_all()
        told = await self._watched.find(read_search(exchange.head.url.query))
        return json_body(200, told, exchange.request_id)

    async def _show(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_target_model(exchange.segment))
        explained = hide_others(self._explain(key), exchange.sees)
        told = {"model": key, "recent": self._recent.describe(key), **explained}
        told["elsewhere"] = self._watched.elsewhere(key)
        return json_body(200, told, exchange.request_id)

    def _explain(self, key: ModelKey) -> Mapping[str, object]:
        try:
            return self._service.explain(key)
        except ModelMissing:  # other containers have models of their own
            return {"state": "elsewhere", "copies": [], "events": []}


def _event(name: str, data: bytes) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), data)  # JSON has no line breaks


def _page_route(path: str, file: PageFile) -> Route:
    async def answer(exchange: Exchange) -> Answer:
        return file.answer(exchange.request_id, exchange.head.headers.get("If-None-Match"))

    return Route(
        name="console_page" if path == "/console" else "console_file",
        method="GET",
        path=path,
        answer=answer,
        refuse=_refuse,
        action=Action.OPEN,
        operates=True,
    )


def _refuse(error: Exception, exchange: Exchange) -> Answer:
    return refusal_answer(error, exchange.request_id)
