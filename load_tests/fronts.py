"""What several fronts take from the engine's process: processor time an answer, by process.

Decisions: two servers, one with its own front and one with several, are asked for the same model in
turn (A B A B); the one that is not asked has nothing to do. What is looked at is whose time it was:
how much more the engine could do on more cores, these two can't show.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import median

import psutil

from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.plan import Outcome, Plan, Question
from load_tests.replicas import make_replicas
from load_tests.server_process import RunningServer, mme_server

ARGUMENTS_KEPT = ("fronts", "seconds", "rounds", "connections")
REPORT = Findings

_PARTS = {"mme.front.remote_main": "fronts", "mme.workers.child": "workers"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--fronts", type=int, default=2, help="of the server that has several")
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="over which medians are taken")
    parser.add_argument("--connections", type=int, default=64)


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        questions = make_replicas(scratch, 1, 1)
        places = [scratch / name for name in ("one", "several")]
        for place in places:
            place.mkdir()
        with (
            mme_server(scratch / "models", places[0]) as one,
            mme_server(scratch / "models", places[1], [f"--fronts={options.fronts}"]) as several,
        ):
            servers = {"1 front": one, f"{options.fronts} fronts": several}
            found: dict[tuple[str, str], list[float]] = defaultdict(list)
            for server in servers.values():
                _ask(server, questions, options, report)  # warms
            for _ in range(options.rounds):
                for subject, server in servers.items():
                    for figure, value in _look(server, questions, options, report).items():
                        found[subject, figure].append(value)
    for (subject, figure), values in found.items():
        report.keep(f"{subject}: {figure}", values)
        report.add(Finding(subject=subject, figure=figure, value=median(values)))


def _look(
    server: RunningServer, questions: list[Question], options: argparse.Namespace, report: Findings
) -> dict[str, float]:
    before = _used(server)
    outcome = _ask(server, questions, options, report)
    after = _used(server)
    figures = {"answers/s": outcome.per_second, "p50 ms": outcome.latency["p50_seconds"] * 1000}
    for part, seconds in after.items():
        figures[f"{part} us/answer"] = (seconds - before[part]) * 1e6 / outcome.checked
    return figures


def _ask(
    server: RunningServer, questions: list[Question], options: argparse.Namespace, report: Findings
) -> Outcome:
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
    return outcome


def _used(server: RunningServer) -> dict[str, float]:
    """Processor seconds so far, by part."""
    own = psutil.Process(server.pid)
    seconds = defaultdict(float, {"engine": sum(own.cpu_times()[:2])})
    for child in own.children():
        words = child.cmdline()
        part = next((part for module, part in _PARTS.items() if module in words), "others")
        seconds[part] += sum(child.cpu_times()[:2])
    return seconds
