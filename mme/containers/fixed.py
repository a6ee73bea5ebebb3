"""The built-in engine with one fixed model, as one container of several."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec.structs import replace

from mme.containers.engine import MultiModelEngine
from mme.containers.single import SingleModel
from mme.domain import Handover, Invocation, Reply
from mme.metrics import ContainerMetrics


class FixedModel:
    """A container of one model, kept in memory.

    Args:
        engine: predicts.
        model: which; looked after by whoever made it.
    """

    multi_model = False

    def __init__(
        self,
        hostname: str,
        *,
        engine: MultiModelEngine,
        model: SingleModel,
        metrics: ContainerMetrics | None,
    ) -> None:
        self.hostname = hostname
        self.metrics = metrics
        self._engine = engine
        self._model = model

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
        why = self._model.failure() or "its model is being loaded"
        return f"container {self.hostname}: {why}"

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
        return replace(invocation, target_model=self._model.key)
