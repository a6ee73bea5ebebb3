"""Pure: what happened between two looks at the metrics, as figures a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample

from mme.metrics import Metrics

INVOKING = (
    "endpoint_invocations",
    "invocations",
    "oip_infer",
    "grpc_ModelInfer",
)  # routes that are asked of models
_ERROR_STATUS = 400
_PERCENTILES = {"p50_seconds": 0.5, "p90_seconds": 0.9, "p99_seconds": 0.99}
_PAUSE_SECONDS = 5.0  # what lies further apart is no current rate


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """Counters since the start, at one moment."""

    at: float  # monotonic
    counts: Mapping[str, float]  # requests, errors, hits, misses, loads, failed_loads, evictions
    bounds: Sequence[float]  # of the histogram of seconds a request took, the last one infinite
    buckets: Sequence[float]  # cumulative


def read_totals(metrics: Metrics, at: float) -> Totals:
    """What the metrics say now."""
    hits = _values(metrics.model_cache_hit)
    loads = _samples(metrics.loads)
    asked = [(one.labels["route"], one) for one in _samples(metrics.requests)]
    invoking = [one for route, one in asked if route in INVOKING]
    took = [one for one in _samples(metrics.request_seconds) if one.name.endswith("_bucket")]
    return Totals(
        at=at,
        counts={
            "requests": _sum(invoking),
            "errors": _sum(x for x in invoking if int(x.labels["status"]) >= _ERROR_STATUS),
            "hits": hits["sum"],
            "misses": hits["count"] - hits["sum"],
            "loads": _sum(one for one in loads if one.labels["outcome"] == "loaded"),
            "failed_loads": _sum(one for one in loads if one.labels["outcome"] != "loaded"),
            "evictions": _sum(_samples(metrics.evictions)),
            "fetched_bytes": _sum(_samples(metrics.fetched_bytes)),
        },
        bounds=[float(one.labels["le"]) for one in took],
        buckets=[one.value for one in took],
    )


def rates(before: Totals | None, after: Totals) -> dict[str, float | None] | None:
    """Each count a second, percentiles and the hit ratio between two looks.

    None where there was no look just before; a member is None where nothing happened to tell.
    """
    if before is None or not 0 < (seconds := after.at - before.at) <= _PAUSE_SECONDS:
        return None
    counts = {name: value - before.counts[name] for name, value in after.counts.items()}
    buckets = [new - old for new, old in zip(after.buckets, before.buckets, strict=True)]
    asked = counts["hits"] + counts["misses"]
    return {
        **{name: round(count / seconds, 3) for name, count in counts.items()},
        **{name: percentile(after.bounds, buckets, x) for name, x in _PERCENTILES.items()},
        "hit_ratio": counts["hits"] / asked if asked else None,
    }


def percentile(bounds: Sequence[float], buckets: Sequence[float], quantile: float) -> float | None:
    """Where the `quantile` of cumulative `buckets` lies, as straight lines between bounds have it.

    None where they are empty; what is over the last finite bound is that bound.
    """
    if not buckets or not buckets[-1]:
        return None
    wanted = quantile * buckets[-1]
    edges = pairwise(zip((0.0, *bounds), (0.0, *buckets), strict=True))
    for (low, below), (high, upto) in edges:
        if upto >= wanted and upto > below:
            if high == inf:
                return low
            return low + (high - low) * (wanted - below) / (upto - below)
    return None


def _samples(metric: MetricWrapperBase) -> list[Sample]:
    return [one for family in metric.collect() for one in family.samples if _is_told(one)]


def _is_told(sample: Sample) -> bool:
    return not sample.name.endswith("_created")


def _sum(samples: Iterable[Sample]) -> float:
    return sum(sample.value for sample in samples)


def _values(metric: MetricWrapperBase) -> dict[str, float]:
    return {one.name.rsplit("_", 1)[1]: one.value for one in _samples(metric)}
