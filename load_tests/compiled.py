"""What compiled trees save: a row in this process, and two servers, one with `--compile-trees on`.

Decisions: the servers are asked for the same model in turn (A B A B), once the one has compiled it;
the one that is not asked has nothing to do. Whose processor time an answer took is told beside how
many there were, for on few cores the client and the front share them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil

from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.operator import Operator
from load_tests.plan import Outcome, Plan, Question
from load_tests.replicas import make_replicas
from load_tests.server_process import RunningServer, ServerFailed, mme_server
from loaders.contract import Trust
from loaders.xgboost_loader import LOADER

ARGUMENTS_KEPT = ("seconds", "rounds", "connections")
REPORT = Findings

_HOT_SECONDS = 60.0  # within which the model has to be compiled
_CALLS = 5_000
_MICROSECONDS = 1e6


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--seconds", type=float, default=5, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="over which medians are taken")
    parser.add_argument("--connections", type=int, nargs="+", default=(1, 64))


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        [question] = make_replicas(scratch, 1, 1)
        [trained] = [path for path in (scratch / "trained").iterdir() if path.is_dir()]
        places = [scratch / name for name in ("off", "on")]
        for place in places:
            place.mkdir()
        models = scratch / "models"
        with (
            mme_server(models, places[0]) as off,
            mme_server(models, places[1], ["--compile-trees=on"]) as on,
        ):
            servers = {"as loaded": off, "compiled": on}
            _heat(servers, question, options, report)
            found: dict[tuple[str, str], list[float]] = defaultdict(list)
            for _ in range(options.rounds):
                for figure, seconds in _time_lone_rows(trained, question).items():
                    found[figure, "one row in one process, us"].append(seconds * _MICROSECONDS)
                for connections in options.connections:
                    for subject, server in servers.items():
                        looked = _look(server, question, connections, options, report)
                        for figure, value in looked.items():
                            found[subject, f"{connections} connections, {figure}"].append(value)
    for (subject, figure), values in found.items():
        report.keep(f"{subject}: {figure}", values)
        report.add(Finding(subject=subject, figure=figure, value=median(values)))


def _heat(
    servers: Mapping[str, RunningServer],
    question: Question,
    options: argparse.Namespace,
    report: Findings,
) -> None:
    for server in servers.values():
        with Operator(server.port) as operator:
            operator.load(question.target)
    server = servers["compiled"]
    end = time.monotonic() + _HOT_SECONDS
    while not _told(server)["compiled"]:
        if time.monotonic() > end:
            raise ServerFailed(f"the model was not compiled within {_HOT_SECONDS:g} s")
        _ask(server, question, 1, options, report)
    for subject, each in servers.items():
        kibibytes = _told(each)["bytes"] / 1024
        report.add(Finding(subject=subject, figure="memory, KiB", value=kibibytes))


def _told(server: RunningServer) -> dict[str, Any]:
    """What it says of its only model."""
    with Operator(server.port) as operator:
        found: dict[str, Any] = operator.state()["models"][0]
        return found


def _time_lone_rows(trained: Path, question: Question) -> dict[str, float]:
    """Seconds that a row takes, asked as the loader asks."""
    from loaders.compiled_call import CompiledCall, prepare  # noqa: PLC0415 - needs xgboost
    from loaders.xgboost_call import DirectCall  # noqa: PLC0415 - needs xgboost
    from loaders.xgboost_document import read_document  # noqa: PLC0415 - needs xgboost
    from loaders.xgboost_forest import read_forest  # noqa: PLC0415 - needs xgboost
    from loaders.xgboost_scorers import FlatScorer  # noqa: PLC0415 - needs xgboost

    booster: Any = LOADER.load_native(trained, Trust())
    found = read_forest(read_document(bytes(booster.save_raw("ubj"))))
    prepare()
    row = [float(word) for word in question.body.split(",")]
    calls = {
        "XGBoost": DirectCall(booster, (0, 0), np.nan).one,
        "as loaded": FlatScorer(*found).one,
        "compiled": CompiledCall(*found).one,
    }
    taken = {}
    for name, call in calls.items():
        started = time.perf_counter()
        for _ in range(_CALLS):
            call(row)
        taken[name] = (time.perf_counter() - started) / _CALLS
    return taken


def _look(
    server: RunningServer,
    question: Question,
    connections: int,
    options: argparse.Namespace,
    report: Findings,
) -> dict[str, float]:
    before_seconds = _worker_seconds(server)
    outcome = _ask(server, question, connections, options, report)
    used_seconds = _worker_seconds(server) - before_seconds
    return {
        "answers/s": outcome.per_second,
        "p50 ms": outcome.latency["p50_seconds"] * 1_000,
        "worker us/answer": used_seconds * _MICROSECONDS / max(1, outcome.checked),
    }


def _ask(
    server: RunningServer,
    question: Question,
    connections: int,
    options: argparse.Namespace,
    report: Findings,
) -> Outcome:
    plan = Plan(
        port=server.port,
        server_pid=server.pid,
        path="/endpoints/mme/invocations",
        questions=(question,),
        connections=connections,
        seconds=options.seconds,
    )
    outcome = measure(plan)
    for kind, count in outcome.errors.items():
        for _ in range(count):
            report.fail(kind)
    return outcome


def _worker_seconds(server: RunningServer) -> float:
    """Processor seconds of its workers so far."""
    return sum(sum(child.cpu_times()[:2]) for child in psutil.Process(server.pid).children())
