"""Pure: memory as blocks: the largest and the hottest by themselves, the others in a few groups."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest

from mme.cache.entry import Entry

_SHOWN = 300
_LEVELS = (0.01, 0.1, 1.0, 10.0)  # requests a second, between groups

_Blocks = list[dict[str, object]]


def draw(rated: Sequence[tuple[Entry, float]]) -> tuple[_Blocks, _Blocks]:
    """Blocks of one model each, and groups of those that are not among them, as JSON.

    Args:
        rated: all models, with their requests a second.
    """
    if len(rated) <= _SHOWN:
        return [_block(entry, rate) for entry, rate in rated], []
    sizes = [entry.loaded.resident_bytes for entry, _ in rated]
    large = nlargest(_SHOWN // 2, range(len(rated)), key=sizes.__getitem__)
    hot = nlargest(_SHOWN // 2, range(len(rated)), key=[rate for _, rate in rated].__getitem__)
    shown = {*large, *hot}
    groups = [_Group() for _ in range(len(_LEVELS) + 1)]
    for place, (_, rate) in enumerate(rated):
        if place not in shown:
            groups[bisect(_LEVELS, rate)].add(sizes[place], rate)
    others = [group.describe() for group in groups if group.models]
    return [_block(*rated[place]) for place in sorted(shown)], others


@dataclass(slots=True)
class _Group:
    models: int = 0
    bytes: int = 0
    rate: float = 0.0

    def add(self, size_bytes: int, rate: float) -> None:
        self.models += 1
        self.bytes += size_bytes
        self.rate += rate

    def describe(self) -> dict[str, object]:
        rate = round(self.rate / self.models, 4)
        return {"models": self.models, "bytes": self.bytes, "rate": rate}


def _block(entry: Entry, rate: float) -> dict[str, object]:
    return {
        "model": entry.key,
        "bytes": entry.loaded.resident_bytes,
        "rate": round(rate, 3),
        "hits": entry.hits,
        "pinned": entry.pinned,
        "worker": entry.slot.index,
    }
