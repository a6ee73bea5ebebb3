"""Warm models under steady load: capacity, then latency at a share of it, beside a null server.

Decisions: the null server takes its turn right before ours in every round (A B A B), so that a
change in the machine hits both; open loops run at the same rate on both, so that what the null
server shows is the floor of ours. Models are made warm beforehand: cold is another scenario.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from load_tests.measure import measure
from load_tests.plan import Plan, Question
from load_tests.report import Report, Row
from load_tests.server_process import RunningServer, mme_server, null_server
from load_tests.tenants import Tenant, installed_frameworks, pack, train

ARGUMENTS_KEPT = ("seconds", "rounds", "connections", "shares", "workers", "models", "frameworks")

_PATH = "/endpoints/mme/invocations"
_WARM_SECONDS = 60.0  # within which every model has to be loaded
_OPEN_CONNECTIONS = 256  # so that a stall does not close the loop


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One server with the questions it is asked."""

    name: str
    server: RunningServer
    questions: tuple[Question, ...]

    def plan(self, options: argparse.Namespace, connections: int) -> Plan:
        """A closed loop over so many connections."""
        return Plan(
            port=self.server.port,
            server_pid=self.server.pid,
            path=_PATH,
            questions=self.questions,
            connections=connections,
            seconds=options.seconds,
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="over which medians are taken")
    parser.add_argument("--connections", type=_counts, default=(1, 8, 64))
    parser.add_argument(
        "--shares", type=_ratios, default=(0.5, 0.8),
        help="of the capacity at the most connections, for open loops",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, help="as in mme serve; default: its own")
    parser.add_argument("--models", type=int, default=1, help="of each framework, asked in turn")
    parser.add_argument("--frameworks", default=",".join(installed_frameworks()))
    parser.add_argument("--trained", type=Path, help="what loaders.samples made; default: train")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name, ExitStack() as stack:
        scratch = Path(name)
        tenants = _prepare(options, scratch)
        flags = [f"--workers={options.workers}"] if options.workers else []
        bare = stack.enter_context(null_server("bare", scratch))
        null = stack.enter_context(null_server("aiohttp", scratch))
        server = stack.enter_context(mme_server(scratch / "models", scratch, flags))
        pairs = [
            (
                Subject(name="null server", server=null, questions=_echoed(subject.questions)),
                subject,
            )
            for subject in _subjects(tenants, server)
        ]
        _warm(pairs, options, report)
        ceiling = replace(pairs[0][0], name="generator's ceiling", server=bare)
        _closed_loops(pairs, ceiling, options, report)
        _open_loops(pairs, options, report)


def _prepare(options: argparse.Namespace, scratch: Path) -> list[Tenant]:
    trained, models = options.trained, scratch / "models"
    models.mkdir()
    if trained is None:
        trained = scratch / "trained"
        trained.mkdir()
        frameworks = options.frameworks.split(",")
        train(trained, options.models * len(frameworks), options.frameworks)
    return pack(trained.resolve(), models)


def _subjects(tenants: list[Tenant], server: RunningServer) -> Iterator[Subject]:
    questions: dict[str, list[Question]] = defaultdict(list)
    for tenant in tenants:
        questions[tenant.framework].append(tenant.question)
    for framework, asked in questions.items():
        yield Subject(name=f"mme, {framework}", server=server, questions=tuple(asked))


def _echoed(questions: tuple[Question, ...]) -> tuple[Question, ...]:
    return tuple(
        replace(question, expected=tuple(float(word) for word in question.body.split(",")))
        for question in questions
    )


Pairs = list[tuple[Subject, Subject]]


def _warm(pairs: Pairs, options: argparse.Namespace, report: Report) -> None:
    for _null, subject in pairs:
        plan = subject.plan(options, connections=len(subject.questions))
        outcome = measure(replace(plan, seconds=0.1, drain_seconds=_WARM_SECONDS))
        report.add(Row(subject=subject.name, mode="warming up", round=0, outcome=outcome))


def _closed_loops(
    pairs: Pairs, ceiling: Subject, options: argparse.Namespace, report: Report
) -> None:
    for number in range(1, options.rounds + 1):
        for connections in options.connections:
            mode = f"closed, {connections} connections"
            for subject in (ceiling, *(each for pair in pairs for each in pair)):
                outcome = measure(subject.plan(options, connections))
                report.add(Row(subject=subject.name, mode=mode, round=number, outcome=outcome))


def _open_loops(pairs: Pairs, options: argparse.Namespace, report: Report) -> None:
    for number in range(1, options.rounds + 1):
        for share in options.shares:
            for pair in pairs:
                rate = share * _capacity(pair[1], max(options.connections), report)
                mode = f"open, {rate:.0f}/s ({share:.0%})"
                for subject in pair:
                    plan = replace(
                        subject.plan(options, _OPEN_CONNECTIONS),
                        arrivals_per_second=rate,
                        seed=number,
                    )
                    outcome = measure(plan)
                    report.add(Row(subject=subject.name, mode=mode, round=number, outcome=outcome))


def _capacity(subject: Subject, connections: int, report: Report) -> float:
    mode = f"closed, {connections} connections"
    return median(
        row.outcome.per_second
        for row in report.rows
        if row.subject == subject.name and row.mode == mode
    )


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _ratios(text: str) -> tuple[float, ...]:
    return tuple(float(word) for word in text.split(","))
