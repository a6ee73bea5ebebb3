"""One tenant asks a hundred times its share: what all others feel of it.

Decision: a tenant's share is what the server can do at most by the number of tenants; the others
ask for a part of theirs in an open loop, as many users do, and the flood comes in an open loop of
its own, by wrk: our own generator for it alone would take most of a core from whom it floods.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from load_tests.beside import measure_round, tell
from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.operator import Operator
from load_tests.plan import Plan
from load_tests.replicas import make_replicas
from load_tests.server_process import mme_server
from load_tests.wrk import measure_by_wrk

ARGUMENTS_KEPT = (
    "tenants",
    "boosters",
    "seconds",
    "rounds",
    "load",
    "times",
    "workers",
    "pace_above",
)
REPORT = Findings

_TARGET = 1.25
_CONNECTIONS = 64
_ITS_OWN = {"workers": int, "pace-above": float}  # settings of the server's


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--tenants", type=int, default=100, help="a model each")
    parser.add_argument("--boosters", type=int, default=8, help="different ones among them")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=4, help="over which medians are taken")
    parser.add_argument("--load", type=float, default=0.3, help="of their share, by the others")
    parser.add_argument("--times", type=float, default=100, help="its share, by the flood")
    for flag, kind in _ITS_OWN.items():
        parser.add_argument(f"--{flag}", type=kind, help="as in mme serve; default: its own")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        questions = make_replicas(scratch, options.tenants, options.boosters)
        with mme_server(scratch / "models", scratch, _flags(options)) as server:
            with Operator(server.port) as operator:
                for question in questions:
                    if wrong := operator.ask(question):
                        report.fail(f"warming up: {wrong}")

            def plan(asked: slice, per_second: float | None, seed: int) -> Plan:
                return Plan(
                    port=server.port,
                    server_pid=server.pid,
                    path="/endpoints/mme/invocations",
                    questions=tuple(questions[asked]),
                    connections=_CONNECTIONS,
                    seconds=options.seconds,
                    arrivals_per_second=per_second,
                    seed=seed,
                )

            capacity = measure(plan(slice(None), None, 0)).per_second
            share = capacity / options.tenants
            quiet, flood = options.load * (capacity - share), options.times * share
            rounds = [
                measure_round(
                    plan(slice(1, None), quiet, seed),
                    partial(measure_by_wrk, plan(slice(0, 1), flood, seed)),
                )
                for seed in range(options.rounds)
            ]
    for figure, value in (
        ("capacity, answers a second", capacity),
        ("the others' rate, a second", quiet),
        ("the flood's rate, a second", flood),
    ):
        report.add(Finding(subject="flood", figure=figure, value=value))
    tell("all others", rounds, report, lambda _noise: _TARGET)


def _flags(options: argparse.Namespace) -> list[str]:
    given = {flag: vars(options)[flag.replace("-", "_")] for flag in _ITS_OWN}
    return [f"--{flag}={value}" for flag, value in given.items() if value is not None]
