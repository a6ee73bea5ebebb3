"""Latencies to figures: nearest rank, never interpolated, so each figure was really measured."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

_SHARES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of `ordered`, sorted and not empty, that `share` of them do not exceed."""
    rank = math.ceil(round(share * len(ordered), 9))  # 0.07 * 100 is 7.000000000000001
    return ordered[max(rank, 1) - 1]


def summarise(seconds: Collection[float]) -> dict[str, float]:
    """The usual figures in seconds; empty where nothing was measured."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    figures = {f"{name}_seconds": percentile(ordered, share) for name, share in _SHARES.items()}
    mean_seconds = math.fsum(ordered) / len(ordered)
    return {**figures, "max_seconds": ordered[-1], "mean_seconds": mean_seconds}
