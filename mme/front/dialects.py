"""Which dialects a server speaks, by what can be done to its models: one in charge, and others.

The one in charge answers where no route is, and what is no HTTP at all.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mme.config import ServerConfig
from mme.front.console_api import ConsoleApi, Watched
from mme.front.container_api import ContainerApi, Hosted
from mme.front.exchange import Exchange, Service
from mme.front.models_api import ModelsApi, Operated
from mme.front.oip_api import OipApi
from mme.front.openapi_api import openapi_route
from mme.front.ops_api import OpsApi
from mme.front.recent import Recent
from mme.front.routes import NoMatch, Route
from mme.front.runtime_api import RuntimeApi
from mme.front.single_api import Single, SingleModelApi
from mme.front.usage_api import Kept, UsageApi
from mme.front.wire import Answer


class Dialect(Protocol):
    """What can be in charge."""

    def routes(self) -> list[Route]:
        """The paths it answers."""
        ...

    def refuse(self, error: Exception, exchange: Exchange) -> Answer:
        """The answer to a failed request."""
        ...

    def miss(self, found: NoMatch, message: str, request_id: str) -> Answer:
        """The answer where no route is."""
        ...

    def unreadable(self, request_id: str, reason: str) -> Answer:
        """The answer to what is no HTTP; `reason` names what is wrong with it."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Management:
    """What can be done to models: at most one of these, by the server's mode."""

    operated: Operated | None = None  # the ordinary mode: operators see to target models
    hosted: Hosted | None = None  # a container of many: the platform loads and unloads
    single: Single | None = None  # a container of one
    watched: Watched | None = None  # what the console shows; None: there is none
    usage: Kept | None = None  # what each of them used
    is_alone: bool = True  # those models are all that the endpoint has, so any dialect asks them


def open_dialects(  # noqa: PLR0913 - what they are about
    service: Service,
    readiness: Callable[[], list[str]],
    config: ServerConfig,
    management: Management,
    recent: Recent | None = None,
    *,
    state: Callable[[], Awaitable[Mapping[str, object]]] | None = None,
) -> tuple[Dialect, list[Route]]:
    """The dialect in charge, and all routes; `state` is what `/state` tells, not the service's."""
    lead = _lead(service, readiness, config, management)
    operated = OpsApi(service, readiness, lead.refuse, state or service.tell_state)
    routes = [*lead.routes(), *operated.routes()]
    if management.watched is not None:
        watched, can_operate = management.watched, management.operated is not None
        recent = recent or Recent(time.time)
        console = ConsoleApi(service, watched, config, recent, can_operate=can_operate)
        routes += console.routes()
    if management.usage is not None:
        routes += UsageApi(management.usage, lead.refuse).routes()
    if management.operated is not None:
        routes += ModelsApi(management.operated).routes()
    if management.operated is not None and management.is_alone:
        routes += OipApi(service, readiness, config, management.operated).routes()
    return lead, [*routes, openapi_route(tuple(routes), lead.refuse)]


def _lead(
    service: Service,
    readiness: Callable[[], list[str]],
    config: ServerConfig,
    management: Management,
) -> Dialect:
    if management.hosted is not None:
        return ContainerApi(service, readiness, config, management.hosted)
    if management.single is not None:
        return SingleModelApi(service, readiness, config, management.single)
    return RuntimeApi(service, readiness, config)
