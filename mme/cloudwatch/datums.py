"""Pure: what was counted between two looks -> what PutMetricData takes; contract: runtime 2.8.

Decision: a statistic set a metric (count, sum, least, most), which is all that SageMaker's own have
(average, sum, minimum, maximum, count). Least and most are as exact as the histogram's buckets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from typing import Any, TypeAlias

from prometheus_client import Metric

Labels: TypeAlias = tuple[tuple[str, str], ...]
Look: TypeAlias = Mapping[tuple[str, Labels], float]
Datum: TypeAlias = dict[str, Any]  # JSON

_TIMES = (
    "ModelLatency", "OverheadLatency", "ModelLoadingWaitTime", "ModelLoadingTime",
    "ModelUnloadingTime", "ModelDownloadingTime", "ContainerLatency",
)  # fmt: skip
_OF_INVOCATIONS = {  # name here -> in CloudWatch; each is 1 or 0 for an invocation
    "Invocation4XXErrors": "Invocation4XXErrors",
    "Invocation5XXErrors": "Invocation5XXErrors",
    "InvocationModelErrors": "InvocationModelErrors",
}
_OF_CALLS = {
    "ContainerInvocation4XXErrors": "Invocation4XXErrors",
    "ContainerInvocation5XXErrors": "Invocation5XXErrors",
}


def look_at(families: Iterable[Metric]) -> Look:
    """All samples of now, by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def datums(before: Look, now: Look) -> list[Datum]:
    """What happened in between; of what did not happen, nothing is said."""

    def grown(name: str, labels: Labels) -> float:
        return now.get((name, labels), 0.0) - before.get((name, labels), 0.0)

    told = [*_invocations(now, grown), *_times(now, grown)]
    for labels in _labels(now, "ModelCacheHit_count"):
        count, hits = grown("ModelCacheHit_count", labels), grown("ModelCacheHit_sum", labels)
        told += _statistics("ModelCacheHit", labels, "None", count, hits)
    return told


def gauges(now: Look, percents: Mapping[str, float]) -> list[Datum]:
    """What an instance shows: models in memory, and how much of it is in use, in percent."""
    told = []
    for labels in _labels(now, "LoadedModelCount"):
        models = now["LoadedModelCount", labels]
        told.append({**_datum("LoadedModelCount", labels, "None"), "Value": models})
        told += [
            {**_datum(name, labels, "Percent"), "Value": value} for name, value in percents.items()
        ]
    return told


def _invocations(now: Look, grown: Callable[[str, Labels], float]) -> Iterator[Datum]:
    for counted, told, errors in (
        ("Invocations", ("Invocations", "InvocationsPerInstance"), _OF_INVOCATIONS),
        ("ContainerInvocations", ("Invocations",), _OF_CALLS),
    ):
        for labels in _labels(now, f"{counted}_total"):
            count = grown(f"{counted}_total", labels)
            for name in told:
                yield from _statistics(name, labels, "None", count, count)
            for name, shown in errors.items():
                failed = min(count, grown(f"{name}_total", labels))
                yield from _statistics(shown, labels, "None", count, failed)


def _times(now: Look, grown: Callable[[str, Labels], float]) -> Iterator[Datum]:
    for name in _TIMES:
        for labels in _labels(now, f"{name}_count"):
            count, total = grown(f"{name}_count", labels), grown(f"{name}_sum", labels)
            if count <= 0:
                continue
            mean, least, most, former = total / count, inf, 0.0, 0.0
            below = 0.0
            for bound, bucket in _buckets(now, name, labels):
                upto = grown(f"{name}_bucket", bucket)
                if upto > below:
                    least, most = min(least, former), former if bound == inf else bound
                below, former = upto, bound
            least, most = min(least, mean), max(mean, most)
            yield from _statistics(name, labels, "Microseconds", count, total, (least, most))


def _buckets(now: Look, name: str, labels: Labels) -> list[tuple[float, Labels]]:
    return sorted(
        (float(dict(bucket)["le"]), bucket)
        for bucket in _labels(now, f"{name}_bucket")
        if tuple(pair for pair in bucket if pair[0] != "le") == labels
    )


def _labels(now: Look, name: str) -> list[Labels]:
    return [labels for known, labels in now if known == name]


def _statistics(  # noqa: PLR0913, PLR0917 - what a statistic set is made of
    name: str,
    labels: Labels,
    unit: str,
    count: float,
    total: float,
    ends: tuple[float, float] | None = None,
) -> list[Datum]:
    if count <= 0:
        return []
    if ends is None:  # of ones and zeros
        ends = (1.0 if total >= count else 0.0), (1.0 if total > 0 else 0.0)
    values = {"SampleCount": count, "Sum": total, "Minimum": ends[0], "Maximum": ends[1]}
    return [{**_datum(name, labels, unit), "StatisticValues": values}]


def _datum(name: str, labels: Labels, unit: str) -> Datum:
    dimensions = [{"Name": label, "Value": value} for label, value in labels]
    return {"MetricName": name, "Dimensions": dimensions, "Unit": unit}
