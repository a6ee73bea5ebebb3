"""Rates and percentiles between two looks at the metrics."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.app.rates import Totals, percentile, rates, read_totals
from mme.metrics import Metrics

BOUNDS = (0.1, 1.0, inf)


def totals(at, hits=0, misses=0, buckets=(0, 0, 0)):
    return Totals(at=at, counts={"hits": hits, "misses": misses}, bounds=BOUNDS, buckets=buckets)


def test_counts_are_a_second_and_the_hit_ratio_is_of_this_time_alone():
    told = rates(totals(10.0, hits=100, misses=100), totals(12.0, hits=106, misses=102))
    assert (told["hits"], told["misses"], told["hit_ratio"]) == (3.0, 1.0, 0.75)


def test_where_nothing_was_asked_there_is_no_ratio_and_no_percentile():
    told = rates(totals(10.0, buckets=(1, 2, 3)), totals(11.0, buckets=(1, 2, 3)))
    assert told["hit_ratio"] is None
    assert told["p99_seconds"] is None


@pytest.mark.parametrize("before", [None, totals(1.0), totals(10.0)])
def test_a_first_look_one_after_a_pause_and_one_at_once_tell_no_rate(before):
    assert rates(before, totals(10.0)) is None


def test_a_percentile_lies_between_its_bounds_and_over_the_last_at_the_last():
    assert percentile(BOUNDS, (10, 10, 10), 0.5) == pytest.approx(0.05)
    assert percentile(BOUNDS, (5, 10, 10), 0.75) == pytest.approx(0.55)
    assert percentile(BOUNDS, (0, 0, 10), 0.5) == 1.0


@given(st.lists(st.integers(0, 1000), min_size=3, max_size=3), st.floats(0.01, 0.99))
def test_percentiles_never_leave_the_bounds(counts, quantile):
    buckets = (counts[0], counts[0] + counts[1], sum(counts))
    told = percentile(BOUNDS, buckets, quantile)
    assert (told is None) == (not any(counts))
    assert told is None or 0 <= told <= 1.0


def test_the_metrics_are_read_as_they_count():
    metrics = Metrics("e", "v")
    before = read_totals(metrics, 1.0)
    metrics.requests.labels("invocations", "200").inc(3)
    metrics.requests.labels("invocations", "400").inc()
    metrics.requests.labels("readyz", "503").inc()  # no invocation
    for hit in (1, 1, 0):
        metrics.model_cache_hit.observe(hit)
    metrics.loads.labels("loaded").inc()
    metrics.loads.labels("failed").inc()
    metrics.evictions.labels("evicted").inc()
    metrics.evictions.labels("lost").inc()
    metrics.request_seconds.observe(0.004)
    told = rates(before, read_totals(metrics, 2.0))
    named = ("requests", "errors", "hits", "misses", "loads", "failed_loads", "evictions")
    assert [told[name] for name in named] == [4, 1, 2, 1, 1, 1, 2]
    assert 0.0025 < told["p50_seconds"] <= 0.005
