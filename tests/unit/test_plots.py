"""What of a run is drawn beside what: by load, by subject and unit, no more than can be read."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from importlib.util import find_spec

import pytest
from rich.console import Console

from load_tests.findings import Finding, Findings
from load_tests.plan import Outcome
from load_tests.plot import Bar, write_plot
from load_tests.report import Report, Row


def make(report):
    return report("any", datetime.now(UTC), Console(quiet=True))


def drawn(report):
    return {title: {bar.name: bar.value for bar in bars} for title, bars in report.panels().items()}


def test_a_load_has_a_panel_for_its_rate_and_for_each_percentile_with_medians():
    report = make(Report)
    for number, rate in enumerate((900, 30, 10, 20)):
        report.add(row("mme", number, rate))
    report.add(row("dead", 1, 0))
    assert drawn(report) == {
        "a: answers/s": {"mme": 20, "dead": 0},
        "a: p50 ms": {"mme": 1.0},
        "a: p99 ms": {"mme": 2.0},
    }


def row(subject, number, rate):
    outcome = Outcome(
        answered=rate, seconds=1.0, lateness={}, checked=rate, errors={}, first_wrong=None,
        latency={"p50_seconds": 0.001, "p99_seconds": 0.002, "p999_seconds": 1.0} if rate else {},
        processors={"server_seconds": 1.0, "generator_seconds": 1.0, "elapsed_seconds": 1.0},
    )  # fmt: skip
    return Row(subject=subject, mode="a", round=number, outcome=outcome)


def test_figures_stand_beside_those_of_their_subject_and_unit():
    report = make(Findings)
    for figure in (
        "last answer, ms", "load, ms a model", "answers/s with 10 resident", "models a second",
        "fetch floor, times ours", "cores busy of 2, server", "predict, us", "resident of 3",
    ):  # fmt: skip
        report.add(Finding(subject="s", figure=figure, value=1.0))
    assert {title: list(bars) for title, bars in drawn(report).items()} == {
        "s: ms": ["last answer, ms", "load, ms a model"],
        "s: a second": ["answers/s with 10 resident", "models a second"],
        "s: times": ["fetch floor, times ours"],
        "s: cores": ["cores busy of 2, server"],
        "s: us": ["predict, us"],
        "s: others": ["resident of 3"],
    }


@pytest.mark.skipif(not find_spec("matplotlib"), reason="the extra bench is not installed")
def test_what_can_not_be_drawn_is_told_and_keeps_nothing_else_from_being_drawn(tmp_path):
    path = tmp_path / "any.png"
    many = [Bar(name=str(number), value=number) for number in range(30)]
    told = write_plot(path, {"a": many, "b": [Bar(name="endless", value=math.inf)]})
    assert told == f"The plot is in {path}; 7 bars did not fit in"
    assert path.read_bytes().startswith(b"\x89PNG")
    assert write_plot(tmp_path / "none.png", {"a": []}) == "No plot: nothing was measured."
