"""Limits of one tenant: refused beyond them, with when to come again; nobody else notices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.config import ConfigError, LimitConfig, TenantConfig, build_config
from mme.errors import Throttled
from mme.workers.limits import Bucket, Limits


def limits(**values: float) -> Limits:
    return Limits(TenantConfig(limits=(LimitConfig(pattern="acme*", **values),)))


@given(
    rate=st.floats(0.1, 100),
    waits=st.lists(st.floats(0, 5), min_size=1, max_size=50),
)
def test_no_more_than_the_rate_and_a_seconds_worth_get_through(rate, waits):
    bucket, now, passed = Bucket(rate, 0.0), 0.0, 0
    for wait in waits:
        now += wait
        if not bucket.wait_seconds(1, now):
            bucket.spend(1)
            passed += 1
    assert passed <= max(1.0, rate) + rate * now + 1e-6


def test_requests_over_the_rate_are_told_when_to_come_again():
    usage = limits(requests_per_second=2).of("acme", 0.0)
    for _ in range(2):
        usage.enter(0.0)
    with pytest.raises(Throttled) as refused:
        usage.enter(0.0)
    assert refused.value.retry_after_seconds == pytest.approx(0.5)
    usage.enter(0.5)


def test_requests_at_once_are_counted_until_they_leave():
    usage = limits(max_concurrency=1).of("acme", 0.0)
    usage.enter(0.0)
    with pytest.raises(Throttled):
        usage.enter(0.0)
    usage.leave()
    usage.enter(0.0)


def test_a_large_download_is_paid_off_before_the_next():
    usage = limits(download_bytes_per_second=100).of("acme", 0.0)
    usage.downloaded(1100)
    assert usage.download_wait_seconds(0.0) == pytest.approx(10.0)
    assert usage.download_wait_seconds(10.0) == pytest.approx(0.0)


def test_only_tenants_that_fit_are_limited_and_each_has_its_own():
    all_limits = limits(max_concurrency=1)
    assert all_limits.of("other", 0.0) is None
    all_limits.of("acme-1", 0.0).enter(0.0)
    all_limits.of("acme-2", 0.0).enter(0.0)


@pytest.mark.parametrize(
    ("tenant_by", "model", "key", "tenant"),
    [
        ("model", "acme/a.tar.gz", "bob", "acme/a.tar.gz"),
        ("1", "acme/eu/a.tar.gz", "bob", "acme"),
        ("2", "acme/eu/a.tar.gz", None, "acme/eu"),
        ("key", "acme/a.tar.gz", "bob", "bob"),
        ("key", "acme/a.tar.gz", None, "acme/a.tar.gz"),
    ],
)
def test_a_tenant_is_a_model_a_prefix_or_a_key(tenant_by, model, key, tenant):
    assert TenantConfig(tenant_by=tenant_by).tenant_of(model, key) == tenant


@pytest.mark.parametrize(
    "tables",
    [
        {"limits": [{"pattern": "x", "max_concurrency": 0.5}]},
        {"limits": [{"pattern": "x", "requests_per_second": 0}]},
        {"limits": [{"pattern": "x", "resident_bytes": "many"}]},
        {"limits": [{"pattern": "x", "bytes": 1}]},
        {"limits": [{"max_concurrency": 1}]},
        {"limits": {"pattern": "x"}},
        {"limits": ["x"]},
        {"tenants": {"acme": -1}},
        {"tenants": {"acme": True}},
        {"tenants": ["acme"]},
    ],
)
def test_tables_that_do_not_hold_up_are_refused_by_name(tables):
    with pytest.raises(ConfigError, match=r"limits|tenants"):
        build_config(tables)


def test_tables_are_read():
    config = build_config(
        {
            "tenants": {"acme": 2},
            "limits": [{"pattern": "acme*", "resident_bytes": "1MiB", "max_concurrency": 3}],
        }
    )
    assert config.tenants.weights == {"acme": 2.0}
    [limit] = config.tenants.limits
    assert (limit.resident_bytes, limit.max_concurrency) == (2**20, 3)
