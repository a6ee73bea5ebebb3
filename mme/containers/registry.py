"""Pure: which models another container has in memory, and which of them it may keep.

Decisions: what is being loaded or unloaded counts like what is loaded, so that the limits hold at
every moment; a model with requests in it is never given as a victim; what makes no room is not
unloaded in vain. Recency is the order of use, so no clock is needed. A model is named by its
version's digest: two versions of one model may be there together, and the `current` one answers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mme.domain import ArtifactVersion, ModelKey


@dataclass(slots=True, eq=False)
class Entry:
    """A model in the container."""

    target: ModelKey  # as clients name it
    version: ArtifactVersion
    size_bytes: int  # unpacked
    state: Literal["loading", "loaded", "unloading"] = "loading"
    in_flight: int = 0
    hits: int = 0
    loaded_at: float = 0.0  # monotonic; or since when it is being loaded
    fresh_until: float = 0.0  # until then it is taken for the current version
    why_left: str = ""  # why it does not answer any more

    @property
    def name(self) -> str:
        """What the container calls it: lower-case hex, which all of them take."""
        return self.version.digest

    @property
    def is_idle(self) -> bool:
        """Whether it may be unloaded."""
        return self.state == "loaded" and not self.in_flight


class Registry:
    """The models of one container.

    Args:
        models_limit: how many at most.
        bytes_limit: of all of them at most; None: any.
    """

    def __init__(self, models_limit: int, bytes_limit: int | None) -> None:
        self.models_limit = models_limit
        self.bytes_limit = bytes_limit
        self._entries: dict[str, Entry] = {}  # by name, the least recently used first
        self._current: dict[ModelKey, Entry] = {}

    def __iter__(self) -> Iterator[Entry]:
        return iter(tuple(self._entries.values()))

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size_bytes(self) -> int:
        """Of all of them."""
        return sum(entry.size_bytes for entry in self._entries.values())

    def find(self, name: str) -> Entry | None:
        """The model of that name, in whatever state."""
        return self._entries.get(name)

    def has(self, entry: Entry) -> bool:
        """Whether `entry` is there still."""
        return self._entries.get(entry.name) is entry

    def current(self, target: ModelKey) -> Entry | None:
        """What answers for `target`."""
        return self._current.get(target)

    def others(self, entry: Entry) -> list[Entry]:
        """Other versions of the same model."""
        return [x for x in self if x.target == entry.target and x is not entry]

    def can_ever_hold(self, size_bytes: int) -> bool:
        """Whether a model of that size fits when it is alone."""
        return self.bytes_limit is None or size_bytes <= self.bytes_limit

    def fits(self, size_bytes: int) -> bool:
        """Whether one more model of that size fits now."""
        return self._within(len(self._entries) + 1, self.size_bytes + size_bytes)

    def victims(self, size_bytes: int) -> list[Entry]:
        """Idle models to unload so that one more fits; none where that is in vain, or needless."""
        staying = [entry for entry in self if entry.state != "unloading"]
        count, total = len(staying) + 1, sum(entry.size_bytes for entry in staying) + size_bytes
        chosen: list[Entry] = []
        for entry in staying:
            if self._within(count, total):
                break
            if entry.is_idle:
                chosen.append(entry)
                count, total = count - 1, total - entry.size_bytes
        return chosen if self._within(count, total) else []

    def idle(self, wanted_bytes: int = 0) -> list[Entry]:
        """The least recently used idle one; more, where that is less than `wanted_bytes`."""
        chosen: list[Entry] = []
        for entry in self:
            if chosen and sum(x.size_bytes for x in chosen) >= wanted_bytes:
                break
            if entry.is_idle:
                chosen.append(entry)
        return chosen

    def begin(self, target: ModelKey, version: ArtifactVersion, size_bytes: int) -> Entry:
        """A load begins: the model counts from now on."""
        entry = Entry(target, version, size_bytes)
        self._entries[entry.name] = entry
        return entry

    def answer(self, entry: Entry) -> Entry | None:
        """`entry` is loaded and answers for its model; gives what answered before, if another."""
        entry.state, entry.why_left = "loaded", ""
        former = self._current.get(entry.target)
        self._current[entry.target] = entry
        return former if former is not entry else None

    def retire(self, entry: Entry, why: str = "") -> None:
        """`entry` does not answer any more; the first reason given counts."""
        entry.why_left = entry.why_left or why
        if self._current.get(entry.target) is entry:
            del self._current[entry.target]

    def hold(self, entry: Entry) -> None:
        """A request goes into `entry`."""
        entry.in_flight += 1
        entry.hits += 1
        if self.has(entry):
            self._entries[entry.name] = self._entries.pop(entry.name)

    def unhold(self, entry: Entry) -> None:
        """A request has left it."""
        entry.in_flight -= 1

    def leave(self, entry: Entry) -> None:
        """Its unloading begins."""
        self.retire(entry)
        entry.state = "unloading"

    def drop(self, entry: Entry) -> None:
        """It is not in the container any more."""
        self.retire(entry)
        if self.has(entry):
            del self._entries[entry.name]

    def _within(self, count: int, size_bytes: int) -> bool:
        within_bytes = self.bytes_limit is None or size_bytes <= self.bytes_limit
        return count <= self.models_limit and within_bytes
