"""Traffic for the simulator: made up as wished, the same each time, or read as it was recorded."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from load_tests.measure import GeneratorFailed
from load_tests.trace import Traffic, make_trace
from load_tests.trace_files import read_trace
from mme.cache.replay import replay

ROOT = Path(__file__).parents[2]
WANTED = Traffic(models=200, hours=2, requests=10_000, sigma=2.0, seed=1)


def test_made_up_traffic_is_the_same_for_the_same_seed_and_another_for_another():
    trace = make_trace(WANTED)
    assert trace == make_trace(WANTED)
    assert trace != make_trace(replace(WANTED, seed=2))
    assert 5_000 < len(trace.numbers) < 20_000
    assert len(trace.sizes_bytes) == len(trace.load_seconds) == 200
    assert min(trace.sizes_bytes) >= 50_000
    assert min(trace.load_seconds) > 0


def test_popularity_spreads_as_wished():
    def share_of_the_top_tenth(sigma):
        counts = Counter(make_trace(replace(WANTED, sigma=sigma)).numbers).most_common()
        return sum(count for _, count in counts[:20]) / sum(count for _, count in counts)

    assert share_of_the_top_tenth(0.0) < 0.25
    assert share_of_the_top_tenth(3.0) > 0.7


def test_a_larger_cache_never_does_worse_under_lru_on_models_of_one_size():
    trace = replace(make_trace(WANTED), sizes_bytes=[1] * 200)
    misses = [replay(trace, budget, "lru").misses for budget in range(1, 200, 20)]
    assert misses == sorted(misses, reverse=True)


def azure(path, functions):
    lines = ["HashOwner,HashApp,HashFunction,Trigger," + ",".join(map(str, range(1, 1441)))]
    for name, counts in functions.items():
        minutes = [counts.get(minute, 0) for minute in range(1, 1441)]
        lines.append(f"owner,app,{name},http," + ",".join(map(str, minutes)))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_azures_invocations_come_in_the_order_of_their_minutes(tmp_path):
    path = azure(tmp_path / "day.csv", {"a": {1: 2, 1440: 1}, "b": {5: 3}, "c": {700: 1000}})
    trace = read_trace(path, models=10, seed=0)
    assert trace.numbers == [0] * 2 + [1] * 3 + [2] * 30 + [0]  # 30 of a minute are enough
    assert trace == read_trace(path, models=10, seed=0)


def test_of_azures_functions_no_more_are_taken_than_wished(tmp_path):
    path = azure(tmp_path / "day.csv", {str(n): {1 + n: 1} for n in range(50)})
    trace = read_trace(path, models=7, seed=0)
    assert sorted(trace.numbers) == list(range(7))


def test_what_a_server_noted_is_replayed_as_it_was(tmp_path):
    path = tmp_path / "noted.json"
    told = {"numbers": [0, 1, 0], "bytes": [10, 20], "load_seconds": [0.5, 1.5]}
    path.write_text(json.dumps(told))
    trace = read_trace(path, models=1, seed=0)
    found = replay(trace, 20, "lru")
    assert (found.loads, found.load_seconds) == (3, 2.5)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", ""),
        ("a.csv", "a,b,c\n1,2,3\n"),
        ("a.csv", "HashOwner,HashApp,HashFunction,Trigger,1\no,a,f,http,1\n"),
        ("a.json", "{}"),
        ("a.json", "nothing"),
        ("a.json", '{"numbers": [3], "bytes": [1], "load_seconds": [1.0]}'),
    ],
)
def test_what_is_no_trace_is_named(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(GeneratorFailed, match="is no trace"):
        read_trace(path, models=1, seed=0)
    with pytest.raises(GeneratorFailed, match="is no trace"):
        read_trace(tmp_path / "absent", models=1, seed=0)


@pytest.mark.timeout(60)
def test_the_simulator_tells_both_policies_in_every_cache(tmp_path):
    done = subprocess.run(
        [
            sys.executable, "-m", "load_tests", "simulate", "--results", str(tmp_path),
            "--models", "300", "--requests", "5000", "--hours", "1", "--shares", "0.1", "0.3",
        ],
        capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = tmp_path.glob("*.json")
    told = json.loads(path.read_text())
    tried = [(row["share"], row["eviction"]) for row in told["replays"]]
    assert tried == [(0.1, "lru"), (0.1, "gdsf"), (0.3, "lru"), (0.3, "gdsf")]
    for row in told["replays"]:
        assert row["hits"] + row["misses"] == told["trace"]["requests"]
        assert row["load_seconds"] >= told["trace"]["first_load_seconds"]
    lru, gdsf = told["replays"][:2]
    assert gdsf["load_seconds"] < lru["load_seconds"]
    assert "gdsf" in done.stdout
