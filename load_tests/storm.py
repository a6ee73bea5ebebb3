"""Cold loads, fifty a second, beside steady warm traffic: what the warm ones feel of them.

Decisions: each cold model is asked for once, a key of its own, in an open loop; the warm ones are
asked in an open loop, too, at a part of what the server can do at most. The target is a tenth more
than alone against alone, which is what the machine's own noise allows.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

from load_tests.beside import measure_round, tell, with_plain_work
from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.operator import Operator
from load_tests.plan import Plan, Question
from load_tests.replicas import make_replicas
from load_tests.server_process import mme_server

ARGUMENTS_KEPT = ("warm", "boosters", "seconds", "rounds", "load", "loads", "workers")
REPORT = Findings

_TARGET = 1.1
_CONNECTIONS = 64
_SPARE_RATIO = 1.3  # of cold models, for what chance draws more


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--warm", type=int, default=20, help="models")
    parser.add_argument("--boosters", type=int, default=8, help="different ones among all")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=4, help="over which medians are taken")
    parser.add_argument("--load", type=float, default=0.2, help="of the capacity, by warm ones")
    parser.add_argument("--loads", type=float, default=50, help="cold models a second")
    parser.add_argument("--workers", type=int, help="as in mme serve; default: its own")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    cold = int(_SPARE_RATIO * options.loads * (options.seconds + 1)) + 10  # a round
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        count = options.warm + options.rounds * cold
        questions = make_replicas(scratch, count, options.boosters)
        flags = [f"--workers={options.workers}"] if options.workers else []
        with mme_server(scratch / "models", scratch, flags) as server:
            with Operator(server.port) as operator:
                for question in questions[: options.warm]:
                    if wrong := operator.ask(question):
                        report.fail(f"warming up: {wrong}")

            def plan(asked: list[Question], per_second: float | None, seed: int = 0) -> Plan:
                return Plan(
                    port=server.port,
                    server_pid=server.pid,
                    path="/endpoints/mme/invocations",
                    questions=tuple(asked),
                    connections=_CONNECTIONS,
                    seconds=options.seconds,
                    arrivals_per_second=per_second,
                    seed=seed,
                )

            warm_ones, rounds = questions[: options.warm], []
            rate = options.load * measure(plan(warm_ones, None)).per_second
            for seed in range(options.rounds):
                begin = options.warm + seed * cold
                warm = plan(warm_ones, rate, seed)
                storm = plan(questions[begin : begin + cold], options.loads, seed)
                found = measure_round(warm, partial(measure, storm))
                rounds.append(with_plain_work(found, warm, options.loads))
    report.add(Finding(subject="warm ones", figure="asks a second", value=rate))
    tell("warm ones", rounds, report, lambda noise_ratio: _TARGET * noise_ratio)
