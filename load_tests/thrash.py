"""A cache that is too small: what its hottest models feel, and how often it loads again.

Decisions: the hottest tenth and the rest are asked by generators of their own, in open loops, so
that each has its own latencies; the rest is asked evenly, which is the worst case for LRU. Three
servers in turn: room for all, with the hottest alone and with everyone; room for one part in 1.2;
and the same governed by `--churn-seconds`. That the rest is refused is told and no failure, for
that is what a governor is for; anything else not right is one, and so is a refusal of the hottest.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

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
_LOADS = 'mme_loads_total{outcome="loaded"}'


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
    parser.add_argument("--seconds", type=float, default=20, help="of each measurement")
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

        def serve(asked: dict[str, int], *flags: str) -> list[Measured]:
            workers = [f"--workers={options.workers}"] if options.workers else []
            with mme_server(scratch / "models", scratch, [*flags, *workers]) as server:
                measured = [_measure(server, groups, options, count) for count in asked.values()]
            for subject, each in zip(asked, measured, strict=True):
                _tell(subject, each, options.seconds, report)
            return measured

        alone, roomy = serve({"alone": 1, "room for all": 2})
        small = f"--memory={int(roomy.resident_bytes / _PRESSURE_RATIO)}"
        [lru] = serve({"too small": 2}, small)
        [governed] = serve({"governed": 2}, small, f"--churn-seconds={options.churn_seconds}")
    resident_count = options.models * governed.resident_bytes / roomy.resident_bytes
    # one whole cache in each --churn-seconds is what the governor lets turn over at most
    limit = resident_count / options.churn_seconds
    _find(report, "governed", "loads a second, bounded", governed.loads / options.seconds, limit)
    for subject, measured, target in (
        ("room for all", roomy, None),
        ("too small", lru, None),
        ("governed", governed, _P99_TARGET),
    ):
        times = measured.hot_p99_seconds / alone.hot_p99_seconds
        _find(report, subject, "hottest tenth, p99 beside alone, times", times, target)


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
        return operator.count(_LOADS), operator.state()["memory"]["resident_bytes"]


def _tell(subject: str, measured: Measured, seconds: float, report: Findings) -> None:
    rest = measured.rest
    refused = rest.errors.pop(_REFUSED, 0) if rest else 0
    for outcome in filter(None, (measured.hot, rest)):
        for kind, count in outcome.errors.items():
            for _ in range(count):
                report.fail(f"{subject}: {kind}")
    _find(report, subject, "hottest tenth, p50 ms", 1000 * measured.hot.latency["p50_seconds"])
    _find(report, subject, "hottest tenth, p99 ms", 1000 * measured.hot_p99_seconds)
    _find(report, subject, "loads a second", measured.loads / seconds)
    if rest:
        _find(report, subject, "the rest, right answers a second", rest.per_second)
        _find(report, subject, "the rest, % refused", 100 * refused / (refused + rest.checked))


def _find(
    report: Findings, subject: str, figure: str, value: float, target: float | None = None
) -> None:
    report.add(Finding(subject=subject, figure=figure, value=value, target=target))
