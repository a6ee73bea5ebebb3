"""Who waits for a load: so many a model and in all, and no tenant fills the whole. Pure.

Decision: as in front of the workers (`workers/admission.py`). More than a model's places are
refused; where all places are taken, the newest of the tenant that has most goes for another's, and
who has as many is refused itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mme.errors import Overloaded

_RETRY_SECONDS = 1.0


@dataclass(slots=True, eq=False)
class Place:
    """One request's."""

    tenant: str
    give_up: Callable[[], None]  # ends its waiting
    is_given_up: bool = False


class Waiting:
    """The places of one cache.

    Args:
        model_limit: requests that may wait for one model's load.
        total_limit: in all.
    """

    def __init__(self, model_limit: int, total_limit: int) -> None:
        self._model_limit, self.total_limit = model_limit, total_limit
        self._models: Counter[str] = Counter()
        self._tenants: dict[str, dict[Place, None]] = {}  # in the order of arrival
        self._by_count: dict[int, dict[str, None]] = {}  # tenants with so many
        self._most = 0  # that one tenant has
        self.count = 0

    @contextmanager
    def place(self, model: str, tenant: str, give_up: Callable[[], None]) -> Iterator[Place]:
        """Has a place while entered; another may lose its own for it.

        Args:
            model: what is waited for.
            tenant: who waits.
            give_up: called where this place has to go for another's request.

        Raises:
            Overloaded: there is none.
        """
        if self._models[model] >= self._model_limit:
            raise overloaded()
        if self.count >= self.total_limit:
            self._make_room(tenant)
        mine = Place(tenant, give_up)
        self._enter(model, mine)
        try:
            yield mine
        finally:
            self._leave(model, mine)

    def _make_room(self, tenant: str) -> None:
        if len(self._tenants.get(tenant, ())) + 1 >= self._most:
            raise overloaded()
        fullest = next(iter(self._by_count[self._most]))
        newest = next(reversed(self._tenants[fullest]))
        self._drop(newest)
        newest.is_given_up = True
        newest.give_up()

    def _enter(self, model: str, mine: Place) -> None:
        self._models[model] += 1
        self.count += 1
        places = self._tenants.setdefault(mine.tenant, {})
        places[mine] = None
        self._moved(mine.tenant, len(places) - 1, len(places))

    def _leave(self, model: str, mine: Place) -> None:
        self._models[model] -= 1
        if not self._models[model]:
            del self._models[model]
        if not mine.is_given_up:
            self._drop(mine)

    def _drop(self, place: Place) -> None:
        self.count -= 1
        places = self._tenants[place.tenant]
        del places[place]
        self._moved(place.tenant, len(places) + 1, len(places))
        if not places:
            del self._tenants[place.tenant]

    def _moved(self, tenant: str, before: int, after: int) -> None:
        """Keeps who has how many, so that the fullest is found at once."""
        if before:
            del self._by_count[before][tenant]
            if not self._by_count[before]:
                del self._by_count[before]
        if after:
            self._by_count.setdefault(after, {})[tenant] = None
        if after > self._most or (before == self._most and before not in self._by_count):
            self._most = after  # they differ by one


def overloaded() -> Overloaded:
    """What is told who may not wait, or no longer."""
    return Overloaded("Too many requests are waiting for models to be loaded.", _RETRY_SECONDS)
