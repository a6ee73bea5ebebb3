"""The models that multi-model siblings hold, as far as who loads them there knows, for a console.

What such a model takes of that container's memory nobody here knows: its size is that of its files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mme.app.heat import Heat
from mme.containers.base import Container
from mme.containers.platform import MultiModelSibling
from mme.containers.registry import Entry

LOADED = "loaded"


@dataclass(frozen=True, slots=True)
class Held:
    """One model of one container."""

    container: str
    model: str
    state: str  # "loaded", "loading", "unloading" or "failed"
    rate: float = 0.0  # requests a second, lately
    entry: Entry | None = None  # where it is in the container, or is on its way in or out

    def describe(self) -> dict[str, object]:
        """As a line of a list, as JSON."""
        told: dict[str, object] = {
            "model": self.model, "state": self.state, "container": self.container,
        }  # fmt: skip
        if self.entry is not None:
            told |= {
                "file_bytes": self.entry.size_bytes,
                "hits": self.entry.hits,
                "rate": round(self.rate, 3),
                "in_flight": self.entry.in_flight,
                "version": self.entry.version.etag,
            }
        return told


class Elsewhere:
    """What the multi-model siblings among these containers hold."""

    def __init__(self, containers: Iterable[Container]) -> None:
        self._siblings = [each for each in containers if isinstance(each, MultiModelSibling)]
        self._heat: Heat[Entry] = Heat()

    def look(self, now: float) -> None:
        """Takes down how often each is asked; `now` is monotonic. In the event loop's thread."""
        self._heat.look([entry for each in self._siblings for entry in each.registry], now)

    def models(self) -> Sequence[Held]:
        """All that are there, on their way in or out, or could not be loaded lately."""
        held: list[Held] = []
        for sibling in self._siblings:
            name, there = sibling.hostname, list(sibling.registry)
            held += [Held(name, x.target, x.state, self._heat.rate(x), x) for x in there]
            names = {entry.target for entry in there}
            absent = sibling.absent()
            held += [Held(name, key, absent[key]) for key in absent if key not in names]
        return held
