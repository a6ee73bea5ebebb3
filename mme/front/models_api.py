"""For operators, in the ordinary mode: the container's routes over target models, and pinning.

    GET    /models                  what is in memory, in pages
    GET    /models/{name}           one of them
    POST   /models/{name}/load      into memory, ahead of the first request
    POST   /models/{name}/refresh   the newest version, now; answers once it has taken over
    POST   /models/{name}/pin       not to be evicted; /unpin takes it back
    DELETE /models/{name}           out of memory; the object stays, and is loaded when asked for
    POST   /prewarm                 many into memory, behind all requests, as far as there is room

A name is one segment: what it holds besides letters, slashes too, is percent-encoded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from typing import Protocol

import msgspec

from mme.domain import ModelKey
from mme.errors import InvalidRequest
from mme.front.access import Action
from mme.front.container_wire import json_body, refusal_answer
from mme.front.exchange import Exchange
from mme.front.pages import read_page
from mme.front.routes import Route
from mme.front.wire import Answer, read_target_model

_Description = dict[str, object]
_NAMES_LIMIT = 10_000


class _Prewarm(msgspec.Struct):
    models: list[str]


class Operated(Protocol):
    """Target models, as operators see them."""

    def names(self) -> Collection[ModelKey]:
        """Of what is in memory."""
        ...

    def describe(self, key: ModelKey) -> _Description:
        """One of those. Raises ModelMissing."""
        ...

    async def load(self, key: ModelKey) -> _Description:
        """Brings it into memory. Raises MmeError."""
        ...

    async def refresh(self, key: ModelKey) -> _Description:
        """Brings the newest version of what is in memory. Raises MmeError."""
        ...

    async def unload(self, key: ModelKey) -> None:
        """Returns when its memory is back. Raises ModelMissing."""
        ...

    async def prewarm(self, keys: Sequence[ModelKey]) -> _Description:
        """Begins to load these, and says which do not exist. Raises StoreUnavailable."""
        ...

    def pin(self, key: ModelKey) -> _Description:
        """Keeps it from being evicted. Raises ModelMissing."""
        ...

    def unpin(self, key: ModelKey) -> _Description:
        """Lets it be evicted again. Raises ModelMissing."""
        ...


class ModelsApi:
    """The dialect, bound to the models of one cache."""

    def __init__(self, operated: Operated) -> None:
        self._operated = operated

    def routes(self) -> list[Route]:
        """The paths it answers."""
        operated = self._operated
        route = partial(Route, refuse=_refuse)
        get = partial(route, method="GET", action=Action.LOAD)
        load = partial(route, method="POST", action=Action.LOAD)
        pin, model = partial(route, method="POST", action=Action.ADMIN), "/models/{}"
        return [
            get(name="list_models", path="/models", answer=self._list),
            get(name="describe_model", path=model, answer=_telling(operated.describe)),
            route(
                name="unload_model",
                method="DELETE",
                path=model,
                answer=self._unload,
                action=Action.ADMIN,
            ),
            load(name="prewarm_models", path="/prewarm", answer=self._prewarm),
            load(name="load_model", path=f"{model}/load", answer=self._load),
            load(name="refresh_model", path=f"{model}/refresh", answer=self._refresh),
            pin(name="pin_model", path=f"{model}/pin", answer=_telling(operated.pin)),
            pin(name="unpin_model", path=f"{model}/unpin", answer=_telling(operated.unpin)),
        ]

    async def _list(self, exchange: Exchange) -> Answer:
        names = filter(exchange.sees, self._operated.names())
        page, token = read_page(names, exchange.head.url.query)
        members: _Description = {"models": [self._operated.describe(ModelKey(n)) for n in page]}
        if token is not None:
            members["nextPageToken"] = token
        return json_body(200, members, exchange.request_id)

    async def _load(self, exchange: Exchange) -> Answer:
        told = await self._operated.load(exchange.may_use(read_target_model(exchange.segment)))
        return json_body(200, told, exchange.request_id)

    async def _prewarm(self, exchange: Exchange) -> Answer:
        names = _read_names(await exchange.receive())
        told = await self._operated.prewarm([exchange.may_use(name) for name in names])
        return json_body(202, told, exchange.request_id)

    async def _refresh(self, exchange: Exchange) -> Answer:
        told = await self._operated.refresh(exchange.may_use(read_target_model(exchange.segment)))
        return json_body(200, told, exchange.request_id)

    async def _unload(self, exchange: Exchange) -> Answer:
        key = exchange.may_use(read_target_model(exchange.segment))
        await self._operated.unload(key)
        return json_body(200, {"status": f"Model {key} unloaded"}, exchange.request_id)


def _read_names(body: bytes) -> list[ModelKey]:
    try:
        names = msgspec.json.decode(body, type=_Prewarm).models
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequest('The body must be {"models": [...]} in JSON, all texts.') from error
    if len(names) > _NAMES_LIMIT:
        raise InvalidRequest(f"There may be {_NAMES_LIMIT} models at once, at most.")
    return list(dict.fromkeys(map(read_target_model, names)))


def _telling(
    act: Callable[[ModelKey], _Description],
) -> Callable[[Exchange], Awaitable[Answer]]:
    async def answer(exchange: Exchange) -> Answer:
        told = act(exchange.may_use(read_target_model(exchange.segment)))
        return json_body(200, told, exchange.request_id)

    return answer


def _refuse(error: Exception, exchange: Exchange) -> Answer:
    return refusal_answer(error, exchange.request_id)
