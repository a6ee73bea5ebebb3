"""What each part of an answer costs alone: null server, prediction, GET, unpacking, loading.

Decisions: all parts take turns in every round, so that a change in the machine hits all; a figure
is the median of its rounds, each the median of its repetitions. What a cold answer costs at least
is the sum of its parts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from load_tests.findings import Finding, Findings
from load_tests.floor_parts import Part, WrongPart, model_parts, object_parts
from load_tests.measure import measure
from load_tests.plan import Plan, Question
from load_tests.server_process import RunningServer, null_server
from load_tests.tenants import Tenant, installed_frameworks, pack, train

ARGUMENTS_KEPT = ("seconds", "rounds", "connections", "frameworks")
REPORT = Findings

_MICROSECONDS = 1e6
_COLD = (
    "GET over loopback by http.client", "decompress and unpack", "load", "csv to csv, 1 row"
)  # fmt: skip
_ECHO = Question(target="none", body="0.5", expected=(0.5,))

Taken = dict[tuple[str, str], list[float]]  # seconds a row, by subject and figure


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--seconds", type=float, default=1, help="of each part in each round")
    parser.add_argument("--rounds", type=int, default=3, help="over which medians are taken")
    parser.add_argument("--connections", type=int, nargs="+", default=(1, 64))
    parser.add_argument("--frameworks", default=",".join(installed_frameworks()))
    parser.add_argument("--trained", type=Path, help="what loaders.samples made; default: train")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name, ExitStack() as stack:
        scratch = Path(name)
        models = scratch / "models"
        models.mkdir()
        trained = (options.trained or _trained(options, scratch)).resolve()
        tenants = pack(trained, models)
        objects = stack.enter_context(null_server("objects", scratch, str(models)))
        nulls = {
            kind: stack.enter_context(null_server(kind, scratch)) for kind in ("bare", "aiohttp")
        }
        taken: Taken = defaultdict(list)
        try:
            parts = list(_parts(tenants, trained, models, objects))
            for _ in range(options.rounds):
                for part in parts:
                    seconds = _seconds_each(part, options.seconds) / part.rows
                    taken[part.subject, part.figure].append(seconds)
                _ask_null_servers(nulls, options, taken)
        except WrongPart as error:
            report.fail(str(error))
        _tell(taken, report)


def _trained(options: argparse.Namespace, scratch: Path) -> Path:
    target = scratch / "trained"
    target.mkdir()
    train(target, len(options.frameworks.split(",")), options.frameworks)
    return target


def _parts(
    tenants: list[Tenant], trained: Path, models: Path, objects: RunningServer
) -> Iterator[Part]:
    for tenant in {each.framework: each for each in tenants}.values():
        tarball = models / tenant.question.target
        yield from object_parts(tenant, tarball, objects.port)
        yield from model_parts(tenant, trained / tarball.name.removesuffix(".tar.gz"))


def _seconds_each(part: Part, seconds: float) -> float:
    part.act()  # warm
    taken: list[float] = []
    end = time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        started = time.perf_counter()
        part.act()
        taken.append(time.perf_counter() - started)
    return median(taken)


def _ask_null_servers(
    servers: Mapping[str, RunningServer], options: argparse.Namespace, taken: Taken
) -> None:
    for kind, server in servers.items():
        for connections in options.connections:
            plan = Plan(
                port=server.port,
                server_pid=server.pid,
                path="/",
                questions=(_ECHO,),
                connections=connections,
                seconds=options.seconds,
            )
            outcome = measure(plan)
            if outcome.errors:
                raise WrongPart(f"null server: {outcome.errors}")
            taken[f"null server, {kind}", f"{connections} at once"].append(1 / outcome.per_second)


def _tell(taken: Taken, report: Findings) -> None:
    middle = {name: median(rounds) for name, rounds in taken.items()}
    for (subject, figure), seconds in middle.items():
        report.add(Finding(subject=subject, figure=f"{figure}, us", value=_MICROSECONDS * seconds))
        report.add(Finding(subject=subject, figure=f"{figure}, a second", value=1 / seconds))
    for subject in {subject for subject, figure in middle if figure in _COLD}:
        cold = sum(middle[subject, figure] for figure in _COLD)
        report.add(Finding(subject=subject, figure="cold, in all, us", value=_MICROSECONDS * cold))
    report.keep("seconds", {" / ".join(name): rounds for name, rounds in taken.items()})
