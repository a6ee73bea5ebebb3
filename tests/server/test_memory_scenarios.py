"""Short runs of the load tests about memory: the targets hold, and a missed one fails the run."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from rich.console import Console

from load_tests.findings import Finding, Findings

ROOT = Path(__file__).parents[2]


def run(scenario: str, results: Path, *more: str):
    done = subprocess.run(
        [sys.executable, "-m", "load_tests", scenario, "--results", str(results), *more],
        cwd=ROOT, capture_output=True, text=True, timeout=160, check=False,
    )  # fmt: skip
    found = [json.loads(path.read_text()) for path in results.glob("*.json")]
    return done, found[0] if found else None


def figures(result):
    return {(row["subject"], row["figure"]): row["value"] for row in result["findings"]}


@pytest.mark.timeout(180)
def test_memory_comes_back_from_every_unload(tmp_path):
    done, result = run("memory-return", tmp_path, "--cycles", "30", "--frameworks", "xgboost,onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert result["failures"] == {}
    for framework in ("xgboost", "onnx"):
        assert figures(result)[framework, "growth, MB per 100 cycles"] <= 1
        assert len(result["raw"][f"{framework}: MB after each unload"]) == 30


@pytest.mark.timeout(180)
def test_small_models_take_little_more_than_in_a_plain_process_and_are_charged_for_it(tmp_path):
    done, result = run("density", tmp_path, "--models", "240", "--boosters", "2", "--seconds", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert result["failures"] == {}
    found = figures(result)
    assert found["density", "server without models, MB"] <= 60
    assert found["density", "models asked, %"] == 100


@pytest.mark.parametrize(
    ("value", "target", "fails"),
    [(1.0, 1.0, False), (1.1, 1.0, True), (float("nan"), 1.0, True), (9.9, None, False)],
)
def test_a_target_that_is_missed_is_a_failure(tmp_path, value, target, fails):
    findings = Findings("any", datetime.now(UTC), Console(quiet=True))
    findings.add(Finding(subject="s", figure="f", value=value, target=target))
    assert findings.failures() == ({"s: f": 1} if fails else {})


def test_a_wrong_answer_is_a_failure_whatever_the_figures(tmp_path):
    findings = Findings("any", datetime.now(UTC), Console(quiet=True))
    findings.add(Finding(subject="s", figure="f", value=1.0, target=2.0))
    findings.fail("wrong answer")
    findings.fail("wrong answer")
    written = json.loads(findings.write(tmp_path, {}).read_text())
    assert written["failures"] == {"wrong answer": 2}
    assert written["findings"] == [{"subject": "s", "figure": "f", "value": 1.0, "target": 2.0}]
