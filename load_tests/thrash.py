"""A cache that is too small: what its hottest models feel, and how often it loads again.

Decisions: the hottest tenth and the rest are asked by generators of their own, in open loops, so
that each has its own latencies; the rest is asked evenly, which is the worst case for LRU. Three
servers in turn: room for all, room for one part in 1.2, and the same with `--churn-seconds`; on
each the hottest alone and everyone take turns (A B A B), and medians are told. That the rest is
refused is no failure, for that is what a governor is for; a refusal of the hottest is one.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.operator import Operator
from load_tests.plan import Outcome, Plan, Question
from load_tests.replicas import make_replicas
from load_tests.server_process import RunningServer, mme_server

ARGUMENTS_KEPT = (
    "models",
    "boosters",
    "seconds",
    "rounds",
    "hot_rate",
    "rest_rate",
    "churn_seconds",
    "workers",
)
REPORT = Findings

_PRESSURE_RATIO = 1.2  # of the working set to the cache
_HOT_RATIO = 0.1
_P99_TARGET = 1.2  # times the unloaded value
_OPEN_CONNECTIONS = 64
_REFUSED = "status 503"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One server under both groups of questions."""

    hot: Outcome
    rest: Outcome | None  # None: not asked
    loads: int  # in the meantime
    resident_bytes: int  # at the end

    @property
    def hot_p99_seconds(self) -> float:
        """What one in a hundred of the hottest tenth's requests exceeded."""
        return self.hot.latency["p99_seconds"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--models", type=int, default=240, help="in the working set")
    parser.add_argument("--boosters", type=int, default=8, help="different ones among them")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="over which medians are taken")
    parser.add_argument("--hot-rate", type=float, default=100, help="asks/s of the hottest tenth")
    parser.add_argument("--rest-rate", type=float, default=60, help="asks/s of all others")
    parser.add_argument("--churn-seconds", type=float, default=30, help="as in mme serve")
    parser.add_argument("--workers", type=int, help="as in mme serve; default: its own")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        questions = make_replicas(scratch, options.models, options.boosters)
        hot_count = max(1, int(_HOT_RATIO * len(questions)))
        groups = questions[:hot_count], questions[hot_count:]

        def serve(subject: str, *flags: str) -> list[Measured]:
            workers = [f"--workers={options.workers}"] if options.workers else []
            alone, everyone = [], []
            with mme_server(scratch / "models", scratch, [*flags, *workers]) as server:
                for _ in range(options.rounds):
                    alone.append(_measure(server, groups, options, asked=1))
                    everyone.append(_measure(server, groups, options, asked=2))
            _tell(subject, alone, everyone, options.seconds, report)
            return everyone

        all_bytes = serve("room for all")[-1].resident_bytes
        small = f"--memory={int(all_bytes / _PRESSURE_RATIO)}"
        serve("too small", small)
        governed = serve("governed", small, f"--churn-seconds={options.churn_seconds}")
    resident_count = options.models * governed[-1].resident_bytes / all_bytes
    # one whole cache in each --churn-seconds is what the governor lets turn over at most
    limit = resident_count / options.churn_seconds
    loads = sum(each.loads for each in governed) / (options.seconds * options.rounds)
    _find(report, "governed", "loads a second, bounded", loads, limit)


def _measure(
    server: RunningServer,
    groups: tuple[Sequence[Question], ...],
    options: argparse.Namespace,
    asked: int,
) -> Measured:
    loads, _ = _look(server, *groups)
    rates = options.hot_rate, options.rest_rate
    plans = [
        Plan(
            port=server.port,
            server_pid=server.pid,
            path="/endpoints/mme/invocations",
            questions=tuple(group),
            connections=_OPEN_CONNECTIONS,
            seconds=options.seconds,
            arrivals_per_second=rate,
            seed=seed,
        )
        for seed, (group, rate) in enumerate(zip(groups, rates, strict=True))
    ]
    with ThreadPoolExecutor(len(groups)) as threads:
        hot, *rest = threads.map(measure, plans[:asked])
    loads_after, resident_bytes = _look(server)
    return Measured(
        hot=hot,
        rest=rest[0] if rest else None,
        loads=loads_after - loads,
        resident_bytes=resident_bytes,
    )


def _look(server: RunningServer, *asked_first: Sequence[Question]) -> tuple[int, int]:
    """Loads until now, and bytes in memory; a governed server refuses some of what it is asked."""
    with Operator(server.port) as operator:
        for question in (question for group in asked_first for question in group):
            operator.ask(question)
        return operator.loads(), operator.state()["memory"]["resident_bytes"]


def _tell(
    subject: str,
    alone: Sequence[Measured],
    everyone: Sequence[Measured],
    seconds: float,
    report: Findings,
) -> None:
    rests = [each.rest for each in everyone if each.rest is not None]
    refused = sum(rest.errors.pop(_REFUSED, 0) for rest in rests)
    right = sum(rest.checked for rest in rests)
    for outcome in (*(each.hot for each in (*alone, *everyone)), *rests):
        for kind, count in outcome.errors.items():
            for _ in range(count):
                report.fail(f"{subject}: {kind}")
    alone_seconds = median(each.hot_p99_seconds for each in alone)
    p99_seconds = median(each.hot_p99_seconds for each in everyone)
    loads = sum(each.loads for each in everyone) / (seconds * len(everyone))
    target = _P99_TARGET if subject == "governed" else None
    for figure, value, limit in (
        ("hottest tenth alone, p99 ms", 1000 * alone_seconds, None),
        ("hottest tenth, p99 ms", 1000 * p99_seconds, None),
        ("hottest tenth, p99 beside alone, times", p99_seconds / alone_seconds, target),
        ("loads a second", loads, None),
        ("the rest, right answers a second", median(rest.per_second for rest in rests), None),
        ("the rest, % refused", 100 * refused / (refused + right), None),
    ):
        _find(report, subject, figure, value, limit)


def _find(
    report: Findings, subject: str, figure: str, value: float, target: float | None = None
) -> None:
    report.add(Finding(subject=subject, figure=figure, value=value, target=target))
