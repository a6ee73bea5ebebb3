"""Throughput with very many models in memory over that with few: what grows that should not.

Decisions: two servers, one that holds few models and one that holds many, are asked for the same
few in turn (A B A B); the one that is not asked has nothing to do. Then the large one is asked for
all of its models evenly: told, and no goal, for then the processor's caches hold none of them.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path
from statistics import median

from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.operator import Operator
from load_tests.plan import Plan, Question
from load_tests.replicas import make_replicas
from load_tests.server_process import RunningServer, mme_server

ARGUMENTS_KEPT = ("models", "few", "seconds", "rounds", "connections", "boosters", "workers")
REPORT = Findings

_LOADERS = 4
_LOST_TARGET = 5.0  # per cent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--models", type=int, default=2_000, help="resident in the large one")
    parser.add_argument("--few", type=int, default=10, help="resident in the small one")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="over which medians are taken")
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--boosters", type=int, default=8, help="different ones among them")
    parser.add_argument("--workers", type=int, help="as in mme serve; default: its own")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        questions = make_replicas(scratch, options.models, options.boosters)
        places = [scratch / name for name in ("small", "large")]
        for place in places:
            place.mkdir()
        flags = [f"--workers={options.workers}"] if options.workers else []
        with (
            mme_server(scratch / "models", places[0], flags) as small,
            mme_server(scratch / "models", places[1], flags) as large,
        ):
            few = questions[: options.few]
            _load(small, few, report)
            _load(large, questions, report)
            _compare(small, large, few, options, report)
            evenly = _per_second(large, questions, options, report)
            _find(report, "answers/s, all asked evenly", evenly)


def _load(server: RunningServer, questions: Sequence[Question], report: Findings) -> None:
    own = threading.local()

    def load(question: Question) -> int:
        if not hasattr(own, "operator"):
            own.operator = Operator(server.port)
        status: int = own.operator.load(question.target)
        return status

    with ThreadPoolExecutor(_LOADERS) as threads:
        for status in threads.map(load, questions):
            if status != HTTPStatus.OK:
                report.fail(f"load answered {status}")
    with Operator(server.port) as operator:
        _find(report, f"resident of {len(questions)}", len(operator.state()["models"]))


def _compare(
    small: RunningServer,
    large: RunningServer,
    few: Sequence[Question],
    options: argparse.Namespace,
    report: Findings,
) -> None:
    rates: dict[int, list[float]] = {small.pid: [], large.pid: []}
    for server in (small, large):
        _per_second(server, few, options, report)  # warms
    for _ in range(options.rounds):
        for server in (small, large):
            rates[server.pid].append(_per_second(server, few, options, report))
    report.keep("answers/s with few resident", rates[small.pid])
    report.keep("answers/s with many resident", rates[large.pid])
    before, after = (median(found) for found in rates.values())
    _find(report, f"answers/s with {options.few} resident", before)
    _find(report, f"answers/s with {options.models} resident", after)
    _find(report, "% lost with many resident", 100 * (1 - after / before), _LOST_TARGET)


def _per_second(
    server: RunningServer,
    questions: Sequence[Question],
    options: argparse.Namespace,
    report: Findings,
) -> float:
    plan = Plan(
        port=server.port,
        server_pid=server.pid,
        path="/endpoints/mme/invocations",
        questions=tuple(questions),
        connections=options.connections,
        seconds=options.seconds,
    )
    outcome = measure(plan)
    for kind, count in outcome.errors.items():
        for _ in range(count):
            report.fail(kind)
    return outcome.per_second


def _find(report: Findings, figure: str, value: float, target: float | None = None) -> None:
    report.add(Finding(subject="growth", figure=figure, value=value, target=target))
