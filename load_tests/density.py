"""How many small models fit: all resident at once, what each takes, and whether they still answer.

Decisions: every key is an object and a load of its own, but a few boosters take turns as contents,
for training thousands tells nothing more. The measure is a plain process that holds the same
boosters, in the same run. Memory is that of the server and all its processes, shared pages counted
once. Before counting, one model is asked and a tenth of them loaded: the framework's weight and the
buffers that loading needs do not grow with the number of models.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.operator import Operator
from load_tests.plan import Plan, Question
from load_tests.processes import MEGABYTE, server_bytes, worker_bytes
from load_tests.server_process import ROOT, RunningServer, mme_server
from load_tests.tenants import TrainingFailed, pack, train

ARGUMENTS_KEPT = ("models", "boosters", "seconds", "connections", "workers")
REPORT = Findings

_EMPTY_TARGET = 60.0  # MB
_EXTRA_RATIO = 1.15  # of what a booster takes in a plain process
_CHARGE_TARGET = 5.0  # per cent between what is charged and what was taken
_LOADERS = 4
_OK = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--models", type=int, default=10_000, help="resident at once")
    parser.add_argument("--boosters", type=int, default=8, help="different ones among them")
    parser.add_argument("--seconds", type=float, default=10, help="of asking them all")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--workers", type=int, help="as in mme serve; default: its own")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        questions = _prepare(options, scratch)
        plain = _plain_megabytes(options, scratch / "trained")
        flags = [f"--workers={options.workers}"] if options.workers else []
        with mme_server(scratch / "models", scratch, flags) as server:
            _fill(server, questions, plain, report)
            _ask_all(server, questions, options, report)


def _prepare(options: argparse.Namespace, scratch: Path) -> list[Question]:
    trained, packed, models = (scratch / name for name in ("trained", "packed", "models"))
    for directory in (trained, packed, models):
        directory.mkdir()
    train(trained, options.boosters, "xgboost")
    tenants = pack(trained, packed)
    questions = []
    for number in range(options.models):
        question = tenants[number % len(tenants)].question
        target = f"model-{number:06}.tar.gz"
        (models / target).hardlink_to(packed / question.target)
        questions.append(replace(question, target=target))
    return questions


def _plain_megabytes(options: argparse.Namespace, trained: Path) -> float:
    files = sorted(str(path) for path in trained.glob("*/xgboost-model"))
    done = subprocess.run(
        [sys.executable, "-m", "load_tests.plain_boosters", str(options.models), *files],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise TrainingFailed(f"no plain process to compare with:\n{done.stderr.strip()}")
    return float(done.stdout) / MEGABYTE


def _fill(
    server: RunningServer, questions: Sequence[Question], plain: float, report: Findings
) -> None:
    _find(report, "server without models, MB", _megabytes(server), _EMPTY_TARGET)
    with Operator(server.port) as operator:
        if wrong := operator.ask(questions[0]):
            report.fail(f"first model: {wrong}")
    targets = [question.target for question in questions]
    first = max(1, len(targets) // 10)
    _load_all(server.port, targets[:first], report)
    before, charged_before = _megabytes(server), _charged_megabytes(server)
    in_workers_before = worker_bytes(server.pid) / MEGABYTE
    started, count = time.monotonic(), len(targets) - first
    _load_all(server.port, targets[first:], report)
    _find(report, "load, ms a model", 1000 * (time.monotonic() - started) / count)
    grown = _megabytes(server) - before
    charged = _charged_megabytes(server) - charged_before
    in_workers = worker_bytes(server.pid) / MEGABYTE - in_workers_before
    with Operator(server.port) as operator:
        resident = len(operator.state()["models"])
    if resident != len(questions):
        report.fail(f"{resident} of {len(questions)} models are resident")
    _find(report, "in a plain process, MB a model", plain)
    _find(report, "in the server, MB a model", grown / count, _EXTRA_RATIO * plain)
    _find(report, "of that in workers, MB a model", in_workers / count)
    _find(report, "charged, MB a model", charged / count)
    apart = 100 * abs(charged / in_workers - 1)
    _find(report, "charged beside what workers took, % apart", apart, _CHARGE_TARGET)
    _find(report, "server with all models, MB", _megabytes(server))


def _load_all(port: int, targets: Sequence[str], report: Findings) -> None:
    turn = threading.local()

    def load(target: str) -> int:
        if not hasattr(turn, "operator"):
            turn.operator = Operator(port)
        status: int = turn.operator.load(target)
        return status

    with ThreadPoolExecutor(_LOADERS) as threads:
        for status in threads.map(load, targets):
            if status != _OK:
                report.fail(f"load answered {status}")


def _ask_all(
    server: RunningServer, questions: list[Question], options: argparse.Namespace, report: Findings
) -> None:
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
    _find(report, "right answers a second", outcome.per_second)
    _find(report, "p99 ms", 1000 * outcome.latency.get("p99_seconds", 0.0))
    _find(report, "models asked, %", min(100.0, 100 * outcome.checked / len(questions)))
    _find(report, "server after asking, MB", _megabytes(server))


def _find(report: Findings, figure: str, value: float, target: float | None = None) -> None:
    report.add(Finding(subject="density", figure=figure, value=value, target=target))


def _megabytes(server: RunningServer) -> float:
    return server_bytes(server.pid) / MEGABYTE


def _charged_megabytes(server: RunningServer) -> float:
    with Operator(server.port) as operator:
        charged: int = operator.state()["memory"]["resident_bytes"]
    return charged / MEGABYTE
