"""Failures, size estimates, memory pressure and cores: small decisions, each with its claim."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mme.cache.failures import Failures
from mme.cache.pressure import MemoryReading, budget_now, read_memory, reserve
from mme.cache.sizes import SizeEstimates, likeness, likeness_of_files
from mme.domain import ArtifactVersion, ModelKey
from mme.errors import LoadFailed
from mme.workers.cores import allowed_cores
from mme.workers.few_files import few_files

KEY = ModelKey("m.tar.gz")
BROKEN = LoadFailed("broken")


def version(etag: str = "1") -> ArtifactVersion:
    return ArtifactVersion(location="file:///", key=KEY, etag=etag, size_bytes=1)


def test_a_failure_is_active_until_its_back_off_ends_and_doubles_with_each():
    failures = Failures(5.0, 300.0)
    failures.remember(KEY, BROKEN, "1", now=0.0)
    assert failures.active(KEY, 4.9).error is BROKEN
    assert failures.active(KEY, 5.0) is None
    failures.remember(KEY, BROKEN, "1", now=5.0)
    assert failures.active(KEY, 14.9) is not None
    assert failures.active(KEY, 15.0) is None


def test_the_back_off_has_a_limit_however_often_it_fails():
    failures = Failures(5.0, 300.0)
    for _ in range(2_000):
        failures.remember(KEY, BROKEN, "1", now=0.0)
    assert failures.active(KEY, 299.0) is not None
    assert failures.active(KEY, 300.0) is None


def test_a_new_content_that_fails_starts_the_back_off_anew():
    failures = Failures(5.0, 300.0)
    for _ in range(4):
        failures.remember(KEY, BROKEN, "1", now=0.0)
    failures.remember(KEY, BROKEN, "2", now=0.0)
    assert failures.active(KEY, 5.0) is None


def test_the_store_is_asked_for_a_mended_model_once_a_second():
    failures = Failures(5.0, 300.0)
    failures.remember(KEY, BROKEN, "1", now=0.0)
    failure = failures.active(KEY, 0.5)
    assert not failures.recheck(failure, 0.5)
    assert failures.recheck(failure, 1.0)
    assert not failures.recheck(failure, 1.5)


def test_remembered_failures_are_bounded():
    failures = Failures(5.0, 300.0)
    for number in range(20_000):
        failures.remember(ModelKey(str(number)), BROKEN, None, now=0.0)
    assert failures.active(ModelKey("0"), 0.0) is None
    assert failures.active(ModelKey("19999"), 0.0) is not None


def test_what_a_content_took_once_is_what_it_gets_next_time():
    sizes = SizeEstimates()
    sizes.learn(version(), 1_000_000, 50_000_000)
    assert 50_000_000 <= sizes.estimate(version(), 1_000_000, 10**6) <= 55_000_000


def test_a_guess_is_held_to_the_limit_but_never_below_the_size_on_disk():
    sizes = SizeEstimates()
    assert sizes.estimate(version(), 1_000_000, limit_bytes=1_500_000) == 1_500_000
    assert sizes.estimate(version(), 1_000_000, limit_bytes=1) == 1_000_000


def test_models_that_grow_in_memory_raise_the_guess_for_others():
    sizes = SizeEstimates()
    before = sizes.estimate(version("other"), 1_000_000, 10**9)
    sizes.learn(version(), 1_000_000, 9_000_000)
    assert sizes.estimate(version("other"), 1_000_000, 10**9) > 3 * before


def test_a_load_reserves_the_peak_of_the_last_one_as_far_as_there_is_room_at_all():
    sizes = SizeEstimates()
    sizes.learn(version(), 1_000_000, 3_000_000, 8_000_000)
    assert 8_000_000 <= sizes.estimate(version(), 1_000_000, 10**9) <= 9_000_000
    assert 3_000_000 <= sizes.estimate(version(), 1_000_000, 1_000_000) <= 3_500_000
    assert sizes.estimate(version(), 1_000_000, 5_000_000) == 5_000_000  # no more than there is


def test_growth_is_learned_per_framework_and_told_by_the_largest_files_name():
    sizes = SizeEstimates()
    sizes.learn(version("a"), 1_000_000, 9_000_000, framework="grows", like=".big")
    sizes.learn(version("b"), 1_000_000, 100_000, framework="maps", like=".map")
    assert sizes.estimate(version("c"), 1_000_000, 10**9, ".big") > 9_000_000
    assert sizes.estimate(version("c"), 1_000_000, 10**9, ".map") < 200_000
    assert sizes.estimate(version("c"), 1_000_000, 10**9, ".new") > 1_000_000


def test_artifacts_are_alike_by_their_largest_file(tmp_path: Path):
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "inference.py").write_text("pass")
    assert likeness(tmp_path) == ".py"
    (tmp_path / "xgboost-model").write_bytes(bytes(100))
    assert likeness(tmp_path) == "xgboost-model"


def test_a_few_files_are_alike_in_the_same_way(tmp_path: Path):
    for name, size_bytes, like in (
        ("notes.txt", 10, ".txt"),
        ("xgboost-model", 100, "xgboost-model"),
    ):
        (tmp_path / name).write_bytes(bytes(size_bytes))
        files = few_files(tmp_path)
        assert files is not None
        assert likeness_of_files(files) == likeness(tmp_path) == like
    (tmp_path / "code").mkdir()
    assert few_files(tmp_path) is None


def test_what_many_files_are_like_takes_longer_than_a_moment(tmp_path: Path):
    assert few_files(tmp_path) is None  # there is nothing to tell by
    assert few_files(tmp_path / "gone") is None
    for number in range(17):
        (tmp_path / f"{number}.bin").touch()
    assert few_files(tmp_path) is None
    assert likeness(tmp_path) == ".bin"


@given(
    configured=st.integers(1, 2**40),
    occupied=st.integers(0, 2**40),
    available=st.integers(0, 2**40),
    reserve=st.integers(0, 2**36),
)
def test_the_budget_never_exceeds_what_is_set_nor_what_can_be_had(
    configured, occupied, available, reserve
):
    budget = budget_now(
        configured_bytes=configured,
        occupied_bytes=occupied,
        reserve_bytes=reserve,
        reading=MemoryReading(total_bytes=2**40, available_bytes=available),
    )
    assert 0 <= budget <= configured
    assert budget <= max(0, occupied + available - reserve)
    if available >= configured + reserve:
        assert budget == configured


def test_a_cgroup_limit_lowers_total_and_available_v2(tmp_path: Path):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 100000\n")
    assert read_memory(tmp_path) == MemoryReading(total_bytes=1_000_000, available_bytes=400_000)


def test_a_cgroup_limit_lowers_total_and_available_v1(tmp_path: Path):
    memory = tmp_path / "memory"
    memory.mkdir()
    (memory / "memory.limit_in_bytes").write_text("1000000")
    (memory / "memory.usage_in_bytes").write_text("300000")
    assert read_memory(tmp_path) == MemoryReading(total_bytes=1_000_000, available_bytes=700_000)


def test_the_group_that_we_are_in_counts_as_well_as_the_one_above(tmp_path: Path):
    inner = tmp_path / "memory" / "ours"
    inner.mkdir(parents=True)
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("1000000")
    (inner / "memory.limit_in_bytes").write_text("300000")
    (inner / "memory.usage_in_bytes").write_text("100000")
    membership = tmp_path / "membership"
    membership.write_text("4:memory:/ours\n0::/elsewhere\n")
    reading = read_memory(tmp_path, membership)
    assert reading == MemoryReading(total_bytes=300_000, available_bytes=200_000)


def test_without_a_cgroup_limit_the_host_counts(tmp_path: Path):
    (tmp_path / "memory.max").write_text("max\n")
    reading = read_memory(tmp_path)
    assert reading.total_bytes > 2**28
    assert 0 < reading.available_bytes <= reading.total_bytes


def test_a_cpu_quota_lowers_the_cores_to_at_least_one(tmp_path: Path):
    assert allowed_cores(tmp_path) >= 1
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    assert allowed_cores(tmp_path) == 1


@pytest.mark.parametrize(
    ("total", "ratio", "kept"),
    [
        (100 * 2**30, 0.05, 5 * 2**30),
        (2**29, 0.05, 32 * 2**20),
        (80 * 2**20, 0.05, 10 * 2**20),
    ],
)
def test_a_share_of_memory_is_kept_free_and_of_little_memory_a_larger_one(total, ratio, kept):
    assert reserve(total, ratio) == kept
