"""A container of one model that answers over HTTP: POST /invocations (contract: runtime 4.3)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from mme.containers.sibling_client import SiblingClient
from mme.domain import Handover, Invocation, Reply
from mme.metrics import ContainerMetrics

_PATH: Final = "/invocations"


class Upkeep(Protocol):
    """What looks after a sibling: its health, or the process that was started for it."""

    def problem(self) -> str | None:
        """Why it can't answer now; None when it can."""
        ...

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`."""
        ...


class Sibling:
    """A container of one model, elsewhere: POST /invocations.

    Args:
        client: how it is reached; closed by whoever made it.
        upkeep: looks after it.
    """

    multi_model = False

    def __init__(
        self, client: SiblingClient, upkeep: Upkeep, metrics: ContainerMetrics | None
    ) -> None:
        self.hostname = client.name
        self.metrics = metrics
        self._client = client
        self._upkeep = upkeep

    async def invoke(self, invocation: Invocation) -> Reply:
        """Passes an invocation on. Raises as the client does."""
        return await self._client.invoke(_PATH, invocation)

    def open(self, invocation: Invocation) -> AbstractAsyncContextManager[Handover]:
        """As `invoke`; a large answer is handed on while it arrives."""
        return self._client.open(_PATH, invocation)

    def problem(self) -> str | None:
        """Why it can't answer now; None when it can."""
        return self._upkeep.problem()

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`."""
        return {
            "hostname": self.hostname,
            "kind": "sibling",
            "multi_model": False,
            "problem": self.problem(),
            **self._client.describe(),
            **self._upkeep.describe(),
        }
