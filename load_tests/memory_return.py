"""Does memory come back: load, predict, unload, over and over; what the worker keeps.

Decisions: a server with one worker a framework, so that none hides another's residue. Private
anonymous memory is read from outside, after the unload was answered. The first tenth of the cycles
is warming up: frameworks set things up on first use. A target missed is a failed run.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import linear_regression, median

from load_tests.findings import Finding, Findings
from load_tests.operator import Operator
from load_tests.processes import MEGABYTE, anonymous_bytes, worker_pids
from load_tests.server_process import mme_server
from load_tests.tenants import Tenant, all_frameworks, pack, train_one_each

ARGUMENTS_KEPT = ("cycles", "frameworks")
REPORT = Findings

_SLOPE_TARGET = 1.0  # MB per 100 cycles
_RESIDUE_TARGET = 5.0  # per cent of what the worker held before the load
_OK = 200


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--cycles", type=int, default=1000, help="of load, predict, unload")
    parser.add_argument("--frameworks", default=",".join(all_frameworks()))


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        (scratch / "models").mkdir()
        train_one_each(scratch / "trained", options.frameworks.split(","))
        for tenant in pack(scratch / "trained", scratch / "models"):
            with mme_server(scratch / "models", scratch, ["--workers=1"]) as server:
                [pid] = worker_pids(server.pid)
                with Operator(server.port) as operator:
                    _cycle(tenant, operator, pid, options.cycles, report)


def _cycle(tenant: Tenant, operator: Operator, pid: int, cycles: int, report: Findings) -> None:
    held, unload_seconds = [], []
    for _ in range(cycles):
        seconds = _once(tenant, operator, report)
        held.append(anonymous_bytes(pid) / MEGABYTE)
        unload_seconds.append(seconds)
    _tell(tenant.framework, held, unload_seconds, report)


def _once(tenant: Tenant, operator: Operator, report: Findings) -> float:
    """One cycle; how long the unload took, in seconds."""
    name = tenant.question.target
    status = operator.load(name)
    if status != _OK:
        report.fail(f"{tenant.framework}: load answered {status}")
    if wrong := operator.ask(tenant.question):
        report.fail(f"{tenant.framework}: {wrong}")
    started = time.monotonic()
    status = operator.unload(name)
    if status != _OK:
        report.fail(f"{tenant.framework}: unload answered {status}")
    return time.monotonic() - started


def _tell(framework: str, held: list[float], unload_seconds: list[float], report: Findings) -> None:
    steady = held[max(2, len(held) // 10) :]
    slope = linear_regression(range(len(steady)), steady).slope * 100
    residue = max(100 * (after - before) / before for before, after in pairwise(steady))
    for figure, value, target in (
        ("growth, MB per 100 cycles", slope, _SLOPE_TARGET),
        ("most left by one unload, % of before", residue, _RESIDUE_TARGET),
        ("worker at the end, MB", held[-1], None),
        ("unload, median ms", 1000 * median(unload_seconds), None),
    ):
        report.add(Finding(subject=framework, figure=figure, value=value, target=target))
    report.keep(f"{framework}: MB after each unload", [round(value, 3) for value in held])
