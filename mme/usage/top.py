"""The models that were asked most of the last minutes, for the metrics, which can't have them all.

Decision: a score that halves every two minutes, of those only that once were among the most asked
of a few seconds: what is remembered is bounded whatever the number of models. An exact count would
have to remember every model for minutes.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from operator import attrgetter

from mme.usage.account import Usage
from mme.usage.accounts import NOBODY

_HALF_LIFE_SECONDS = 120.0
_REMEMBERED = 10  # times as many as are shown
_FORGOTTEN_BELOW = 0.05  # requests: five minutes after a single one


class TopModel:
    """One of them: what it used since it was remembered."""

    __slots__ = ("compute_seconds", "errors", "model", "requests", "score")

    def __init__(self, model: str) -> None:
        self.model = model
        self.score = 0.0
        self.requests = self.errors = 0
        self.compute_seconds = 0.0

    def add(self, usage: Usage) -> None:
        """Counts what it used now."""
        self.score += usage.requests
        self.requests += usage.requests
        self.errors += usage.client_errors + usage.model_errors + usage.server_errors
        self.compute_seconds += usage.compute_seconds


class TopModels:
    """The most asked.

    Args:
        count: how many are shown; 0: none.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._models: dict[str, TopModel] = {}

    def add(self, usages: Sequence[Usage], seconds: float) -> None:
        """Takes in what was used in the last `seconds`. For a thread: many take a while."""
        models = dict(self._models)  # they are shown meanwhile
        for model in models.values():
            model.score *= 0.5 ** (seconds / _HALF_LIFE_SECONDS)
        asked = (usage for usage in usages if usage.requests and usage.model != NOBODY)
        most = heapq.nlargest(self._count * _REMEMBERED, asked, key=attrgetter("requests"))
        newcomers = {usage.model for usage in most}
        for usage in usages:
            if usage.model in models:
                models[usage.model].add(usage)
            elif usage.model in newcomers:
                models[usage.model] = TopModel(usage.model)
                models[usage.model].add(usage)
        kept = _most(models.values(), self._count * _REMEMBERED)
        self._models = {top.model: top for top in kept if top.score >= _FORGOTTEN_BELOW}

    def shown(self) -> Sequence[TopModel]:
        """Those with the most requests of the last minutes, the first of them first."""
        return _most(self._models.values(), self._count)


def _most(models: Iterable[TopModel], count: int) -> Sequence[TopModel]:
    return heapq.nlargest(count, models, key=attrgetter("score"))
