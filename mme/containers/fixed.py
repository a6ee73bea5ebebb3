"""The built-in engine with one fixed model, as one container of several.

What SageMaker sets for a container's default answer form is known here; a pipeline's earlier
containers, which get no Accept, are told by it what to hand on.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from mme.containers.engine import MultiModelEngine
from mme.containers.single import SingleModel
from mme.domain import Handover, Invocation, Reply
from mme.metrics import ContainerMetrics

_ANYTHING = (None, "*/*")


class FixedModel:
    """A container of one model, kept in memory.

    Args:
        engine: predicts.
        model: which; looked after by whoever made it.
        default_accept: of requests that do not say what they take.
    """

    multi_model = False

    def __init__(
        self,
        hostname: str,
        *,
        engine: MultiModelEngine,
        model: SingleModel,
        default_accept: str | None,
        metrics: ContainerMetrics | None,
    ) -> None:
        self.hostname = hostname
        self.metrics = metrics
        self._engine = engine
        self._model = model
        self._default_accept = default_accept

    async def invoke(self, invocation: Invocation) -> Reply:
        """Predicts with its model. Raises as the engine does."""
        return await self._engine.invoke(self._aimed(invocation))

    @asynccontextmanager
    async def open(self, invocation: Invocation) -> AsyncIterator[Handover]:
        """As `invoke`."""
        async with self._engine.open(self._aimed(invocation)) as handover:
            yield handover

    def problem(self) -> str | None:
        """Why it can't answer now; None when it can."""
        if self._model.is_loaded():
            return self._engine.problem()
        return self._model.failure() or "its model is being loaded"

    def describe(self) -> dict[str, object]:
        """Its state, for `/state`."""
        return {
            "hostname": self.hostname,
            "kind": "built-in",
            "multi_model": False,
            "model": self._model.key,
            "problem": self.problem(),
        }

    def _aimed(self, invocation: Invocation) -> Invocation:
        accept = invocation.accept
        if accept in _ANYTHING and self._default_accept is not None:
            accept = self._default_accept
        return replace(invocation, target_model=self._model.key, accept=accept)
