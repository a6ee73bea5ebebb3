"""Short runs of the load tests for a fresh and a steady cache, against servers of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def found_by(scenario, tmp_path, *flags):
    """The figures of a run by subject and name, and what was not right."""
    subprocess.run(
        [sys.executable, "-m", "load_tests", scenario, f"--results={tmp_path}", *flags],
        cwd=ROOT, capture_output=True, check=False,
    )  # fmt: skip
    [path] = tmp_path.glob(f"{scenario}-*.json")
    told = json.loads(path.read_text())
    figures = {(each["subject"], each["figure"]): each["value"] for each in told["findings"]}
    return figures, told["failures"]


@pytest.mark.timeout(60)
def test_overwrites_fail_nobody_and_are_noticed_within_the_refresh_time(tmp_path):
    flags = ("--overwrites=60", "--pause-seconds=0.03", "--refresh-seconds=0.3", "--rate=100")
    figures, failures = found_by("overwrite", tmp_path, *flags)
    assert figures["overwrite", "overwrites"] == 60
    assert figures["overwrite", "answers"] > 20
    assert figures["overwrite", "versions that answered"] > 2
    assert failures == {}


@pytest.mark.timeout(120)
def test_a_governed_cache_stops_loading_again_and_never_refuses_the_hottest(tmp_path):
    flags = (
        "--models=120",
        "--boosters=2",
        "--seconds=2",
        "--rounds=1",
        "--rest-rate=100",
        "--workers=1",
    )
    figures, failures = found_by("thrash", tmp_path, *flags)
    assert figures["too small", "loads a second"] > 5
    assert figures["governed", "loads a second"] <= 1
    assert 0 < figures["governed", "the rest, % refused"] < 50
    latency = "governed: hottest tenth, p99 beside alone, times"  # nothing to judge here
    assert set(failures) <= {latency}


@pytest.mark.timeout(60)
def test_sizes_wrong_by_ten_either_way_end_no_worker_under_a_hard_limit(tmp_path):
    flags = ("--seconds=4", "--limiter=rlimit", "--slack-ratio=1.5")
    figures, failures = found_by("hard-limit", tmp_path, *flags)
    assert figures["hard limit", "loads"] > 20
    assert failures == {}
