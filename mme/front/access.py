"""Pure: what a caller may do: which actions, to which endpoints, target models and containers.

Decision: what a request does not name is the empty text, which only patterns such as `*` fit: a key
for some models can't ask for the one that is answered with where none is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from fnmatch import translate
from typing import Any

from msgspec import Struct

from mme.config import ServerConfig
from mme.errors import AccessDenied


class Action(Enum):
    """What a route does, in the words of the key file; OPEN asks nobody who they are."""

    OPEN = "open"
    INVOKE = "invoke"
    LOAD = "load"
    ADMIN = "admin"

    @property
    def manages(self) -> bool:
        """Whether it is for operators, and so for their address where they have one."""
        return self in {Action.LOAD, Action.ADMIN}


_AWS_NAMES = {
    Action.INVOKE: "sagemaker:InvokeEndpoint",
    Action.LOAD: "mme:LoadModel",
    Action.ADMIN: "mme:Administer",
}


class Patterns:
    """Those of `fnmatch`, in which `*` fits slashes too; compiled once, as there may be many."""

    def __init__(self, patterns: Iterable[str]) -> None:
        texts = tuple(patterns)
        self.fit_all = "*" in texts
        self._fits = re.compile("|".join(map(translate, texts)) or "(?!)").fullmatch

    def fit(self, name: str) -> bool:
        """Whether any fits all of the name, case and all."""
        return self.fit_all or self._fits(name) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """A key's permissions."""

    name: str
    actions: frozenset[Action]
    endpoints: Patterns
    models: Patterns
    containers: Patterns


class Caller(Struct, frozen=True, kw_only=True):
    """Who asks, and by which action; made anew for every request."""

    grant: Grant
    action: Action
    server: ServerConfig

    def check_action(self) -> None:
        """Raises AccessDenied where the key may not do this at all."""
        if self.action not in self.grant.actions:
            raise self._denied(f"endpoint/{self.server.endpoint_name.lower()}")

    def check(self, endpoint: str, model: str | None, container: str | None = None) -> None:
        """Raises AccessDenied where the key may not do it to these."""
        grant = self.grant
        resource = f"endpoint/{endpoint.lower()}"
        if not grant.endpoints.fit(endpoint):
            raise self._denied(resource)
        if not grant.models.fit(model or ""):
            raise self._denied(f"{resource} with target model {model!r}")
        if not grant.containers.fit(container or ""):
            raise self._denied(f"{resource} with target container {container!r}")

    def check_all(self) -> None:
        """Raises AccessDenied where the key may not do this to every model."""
        if not self.grant.models.fit_all:
            raise self._denied(f"endpoint/{self.server.endpoint_name.lower()} with all its models")

    def sees(self, model: str) -> bool:
        """Whether the key may know of this model."""
        return self.grant.models.fit(model)

    def _denied(self, resource: str) -> AccessDenied:
        region, account = self.server.region, self.server.account_id
        action = _AWS_NAMES[self.action]
        return AccessDenied(
            f"User: arn:aws:iam::{account}:user/{self.grant.name} is not authorized to perform: "
            f"{action} on resource: arn:aws:sagemaker:{region}:{account}:{resource} "
            f"because no identity-based policy allows the {action} action"
        )


def hide_others(explained: Mapping[str, Any], sees: Callable[[str], bool]) -> dict[str, Any]:
    """Why a model is where it is, without the names of models that the caller may not know of."""
    last = explained.get("last_event")
    return {
        **explained,
        "last_event": last and _hide_other(last, sees),
        "events": [_hide_other(event, sees) for event in explained["events"]],
    }


def _hide_other(event: Mapping[str, Any], sees: Callable[[str], bool]) -> Mapping[str, Any]:
    whom = event["for_whom"]
    return event if whom is None or sees(whom) else {**event, "for_whom": "another model"}
