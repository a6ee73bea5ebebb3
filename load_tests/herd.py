"""Many different cold models asked for at once: how many a second, and whether anything idles.

Decisions: the store is a real S3 on loopback. Beside ours stand the fetch floor, which is the same
objects got by a plain client over as many connections as ours may use, and the work floor, which is
unpacking and loading one model in one plain process, on every core. What all used together is told,
for no core should idle while models are waited for. A server serves one herd; the next round has a
fresh one with an empty disk.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from statistics import median

from load_tests.backed_memory import backed_memory
from load_tests.cold_parts import Bench, WrongPart, middle
from load_tests.findings import Finding, Findings
from load_tests.measure import measure
from load_tests.operator import Operator
from load_tests.plan import Outcome, Plan, Question
from load_tests.replicas import make_replicas
from load_tests.s3_server import BUCKET, ObjectStore, object_store
from load_tests.server_process import mme_server

ARGUMENTS_KEPT = ("models", "rounds", "boosters", "workers")
REPORT = Findings


_WORKED = 32  # models that the work floor is the median of
_S3_CONNECTIONS = 32  # as `mme serve` has by default
_LIMIT_SECONDS = 120.0
_WHO = {"server": "server", "S3 and others": "other", "client": "generator"}  # as Watch's
_IDLE_TARGET = 0.1  # of the cores
_MODEL_BYTES = 1024**2  # what a model takes, on disk and in memory, and while it is fetched


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--models", type=int, default=500, help="asked for at once, each cold")
    parser.add_argument("--rounds", type=int, default=3, help="over which medians are taken")
    parser.add_argument("--boosters", type=int, default=8, help="different ones among them")
    parser.add_argument("--workers", type=int, help="as in mme serve; default: its own")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        objects = scratch / "objects"
        objects.mkdir()
        questions = make_replicas(objects, options.models + 1, options.boosters, distinct=True)
        flags = [f"--workers={options.workers}"] if options.workers else []
        spare_bytes = _MODEL_BYTES * options.models * (options.rounds + 1)
        with backed_memory(spare_bytes), object_store(objects, scratch / "rclone.log") as store:
            fetched, herds = [], []
            for number in range(options.rounds):
                fetched.append(_fetch_all(store, [each.target for each in questions[1:]]))
                place = scratch / f"round-{number}"
                place.mkdir()
                herds.append(_stampede(store, questions, place, flags))
            try:
                work_seconds = _work_alone(store, objects / BUCKET, questions)
            except WrongPart as error:
                report.fail(str(error))
                return
        _tell(options.models, fetched, herds, work_seconds, report)


def _fetch_all(store: ObjectStore, names: list[str]) -> float:
    """Seconds to get all objects and do nothing with them."""
    own = threading.local()

    def get(path: str) -> None:
        if not hasattr(own, "connection"):
            own.connection = HTTPConnection("127.0.0.1", store.port, timeout=_LIMIT_SECONDS)
        own.connection.request("GET", path)
        own.connection.getresponse().read()

    paths = store.sign(names)
    with ThreadPoolExecutor(_S3_CONNECTIONS) as threads:
        started = time.perf_counter()
        list(threads.map(get, paths))
        return time.perf_counter() - started


def _stampede(
    store: ObjectStore, questions: Sequence[Question], place: Path, flags: list[str]
) -> Outcome:
    warming, *herd = questions
    with mme_server(None, place, [*flags, *store.flags]) as server:
        with Operator(server.port) as operator:
            operator.ask(warming)  # which imports the framework
        plan = Plan(
            port=server.port,
            server_pid=server.pid,
            path="/endpoints/mme/invocations",
            questions=tuple(herd),
            connections=len(herd),  # each asks once, and by then the time is over
            seconds=0.001,
            warm_up_seconds=0.0,
            drain_seconds=_LIMIT_SECONDS,
        )
        return measure(plan)


def _work_alone(store: ObjectStore, bucket: Path, questions: Sequence[Question]) -> float:
    """Seconds of one core that unpacking, loading and asking one model takes."""
    bench, asked = Bench(store.port), questions[:_WORKED]
    signed = store.sign([question.target for question in asked])
    found = [
        bench.take(path, bucket / question.target, question)
        for path, question in zip(signed, asked, strict=True)
    ]
    parts = middle(found)
    return parts.unpack + parts.load + parts.predict


def _tell(
    models: int,
    fetched: Sequence[float],
    herds: Sequence[Outcome],
    work_seconds: float,
    report: Findings,
) -> None:
    report.keep("fetch floor, seconds", fetched)
    report.keep("herds, processors", [herd.processors for herd in herds])
    for herd in herds:
        for kind, count in herd.errors.items():
            for _ in range(count):
                report.fail(kind)
    cores = os.cpu_count() or 1
    rates = [models / herd.latency["max_seconds"] for herd in herds if herd.latency]
    if not rates:
        return
    floor_rate = models / median(fetched)
    busy = {name: _cores(herds, whose) for name, whose in _WHO.items()}
    figures = {
        "models a second, all answered": median(rates),
        "models a second, fetch floor": floor_rate,
        "models a second, unpack and load on every core": cores / work_seconds,
        "fetch floor, times ours": floor_rate / median(rates),
        "first answers, median ms": 1000 * median(each.latency["p50_seconds"] for each in herds),
        "last answer, ms": 1000 * median(each.latency["max_seconds"] for each in herds),
        **{f"cores busy of {cores}, {who}": used for who, used in busy.items()},
    }
    for figure, value in figures.items():
        report.add(Finding(subject="herd", figure=figure, value=value))
    idle, target = max(0.0, cores - sum(busy.values())), _IDLE_TARGET * cores
    report.add(Finding(subject="herd", figure=f"cores idle of {cores}", value=idle, target=target))


def _cores(herds: Sequence[Outcome], whose: str) -> float:
    return median(
        herd.processors[f"{whose}_seconds"] / herd.processors["elapsed_seconds"] for herd in herds
    )
