"""The first answer of a model that is not in memory: from S3 and from disk, beside its parts.

Decisions: the store is a real S3 on loopback, so that what is measured is ours and not a network's;
each key is asked for once by one client, right after its parts were done without us. One model more
is asked for beforehand, which imports its framework. How much was fetched is checked, so that what
counts as cold was, and what counts as the disk tier's was not fetched again. No host is waited for
to give the memory that models and their parts take (`backed_memory.py`).
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from load_tests.backed_memory import backed_memory
from load_tests.cold_parts import Bench, Parts, WrongPart, middle
from load_tests.findings import Finding, Findings
from load_tests.operator import Operator
from load_tests.plan import Question
from load_tests.replicas import make_replicas
from load_tests.s3_server import BUCKET, ObjectStore, object_store
from load_tests.server_process import ROOT, mme_server
from load_tests.tenants import TrainingFailed, pack

_LARGE = ("large_megabytes", "large_models", "large_level")
ARGUMENTS_KEPT = ("models", *_LARGE, "boosters", "workers")
REPORT = Findings


_PARTS_TARGET = 1.5  # times the sum of its parts
_LARGER_TARGET = 1.3  # times the larger of download and decompression
_DISK_TARGET_MS = 10.0
_SPARE_BYTES, _SPARE_TIMES = 256 * 1024**2, 6  # of a model: its files, twice, and in memory


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--models", type=int, default=50, help="small ones, of xgboost")
    parser.add_argument("--large-models", type=int, default=8, help="of torch; 0: none")
    add_large_arguments(parser)
    parser.add_argument("--boosters", type=int, default=8, help="different ones among them")
    parser.add_argument("--workers", type=int, help="as in mme serve; default: its own")


def add_large_arguments(parser: argparse.ArgumentParser) -> None:
    """What a large model is."""
    parser.add_argument("--large-megabytes", type=float, default=50, help="of a large model")
    parser.add_argument(
        "--large-level", type=int, default=9, help="gzip's for large models; 0: stored as they are"
    )


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Models of one kind: the first is for warming up."""

    name: str
    questions: Sequence[Question]
    is_large: bool = False


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        objects = scratch / "objects"
        objects.mkdir()
        questions = make_replicas(objects, options.models + 1, options.boosters, distinct=True)
        subjects = [Subject(name="xgboost", questions=questions)]
        if options.large_models:
            large = make_large(options, scratch / "large", objects / BUCKET)
            subjects.append(Subject(name="torch, large", questions=large, is_large=True))
        flags = [f"--workers={options.workers}"] if options.workers else []
        wanted_bytes = int(1e6 * options.large_megabytes * options.large_models) * _SPARE_TIMES
        with (
            backed_memory(_SPARE_BYTES + wanted_bytes),
            object_store(objects, scratch / "rclone.log") as store,
        ):
            try:
                _measure(subjects, store, scratch, flags, report)
            except WrongPart as error:
                report.fail(str(error))


def make_large(options: argparse.Namespace, trained: Path, bucket: Path) -> list[Question]:
    """Makes one model of `large_megabytes`, and `large_models` and one more objects of it."""
    command = ["-W", "ignore", "-m", "load_tests.large_torch", trained, options.large_megabytes]
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TrainingFailed(f"no large model:\n{done.stderr.strip()[-2000:]}")
    [tenant] = pack(trained, bucket)
    shutil.rmtree(trained)
    made = bucket / tenant.question.target
    made.write_bytes(gzip.compress(gzip.decompress(made.read_bytes()), options.large_level))
    questions = []
    for number in range(options.large_models + 1):
        target = f"large-{number:02}.tar.gz"
        (bucket / target).hardlink_to(bucket / tenant.question.target)
        questions.append(replace(tenant.question, target=target))
    return questions


def _measure(
    subjects: Sequence[Subject],
    store: ObjectStore,
    scratch: Path,
    flags: list[str],
    report: Findings,
) -> None:
    serve = [*flags, *store.flags, "--restore=off"]
    bucket, parts = scratch / "objects" / BUCKET, {}
    with mme_server(None, scratch, serve) as server, Operator(server.port) as operator:
        for subject in subjects:
            asking = _Asking(operator, subject, report)
            parts[subject.name] = _from_store(asking, store, bucket)
            evicted = asking.ask_all(is_fetched=False, before=lambda q: operator.unload(q.target))
            _tell_disk(subject, "after an eviction", evicted, report)
    with mme_server(None, scratch, serve) as server, Operator(server.port) as operator:
        for subject in subjects:
            restarted = _Asking(operator, subject, report).ask_all(is_fetched=False)
            _tell_disk(subject, "after a restart", restarted, report)


class _Asking:
    """One subject's models, asked for one after the other and checked."""

    def __init__(self, operator: Operator, subject: Subject, report: Findings) -> None:
        self._operator, self.subject, self.report = operator, subject, report

    def ask_all(
        self, *, is_fetched: bool, before: Callable[[Question], object] | None = None
    ) -> list[float]:
        """Seconds to each answer, but for the first model's."""
        warming, *questions = self.subject.questions
        self._ask(warming)
        fetched, taken = self._fetched(), []
        for question in questions:
            if before:
                before(question)
            taken.append(self._ask(question))
        if (self._fetched() > fetched) != is_fetched:
            self.report.fail(f"{self.subject.name}: fetched though on disk, or not though cold")
        return taken

    def _ask(self, question: Question) -> float:
        started = time.perf_counter()
        wrong = self._operator.ask(question)
        seconds = time.perf_counter() - started
        if wrong:
            self.report.fail(f"{self.subject.name}: {wrong}")
        return seconds

    def _fetched(self) -> int:
        return self._operator.count("mme_fetched_bytes_total")


def _from_store(asking: _Asking, store: ObjectStore, bucket: Path) -> Parts:
    subject, report, bench = asking.subject, asking.report, Bench(store.port)
    names = [question.target for question in subject.questions]
    signed, found = dict(zip(names, store.sign(names), strict=True)), []

    def do_parts(question: Question) -> None:
        name = question.target
        found.append(bench.take(signed[name], bucket / name, question))

    do_parts(subject.questions[0])  # imports the framework here, too
    found.clear()
    seconds = asking.ask_all(is_fetched=True, before=do_parts)
    parts = middle(found)
    report.keep(f"{subject.name}: from S3, seconds", seconds)
    for name in ("get", "decompress", "unpack", "load", "predict", "total"):
        _find(report, subject, f"{name} alone, ms", 1000 * getattr(parts, name))
    _find(report, subject, "first answer from S3, median ms", 1000 * median(seconds))
    _find(report, subject, "first answer from S3, slowest ms", 1000 * max(seconds))
    times = median(seconds) / parts.total
    _find(report, subject, "times the sum of its parts", times, _PARTS_TARGET)
    times = median(seconds) / parts.larger
    target = _LARGER_TARGET if subject.is_large else None
    _find(report, subject, "times the larger of GET and decompression", times, target)
    return parts


def _tell_disk(subject: Subject, when: str, seconds: Sequence[float], report: Findings) -> None:
    target = None if subject.is_large else _DISK_TARGET_MS
    report.keep(f"{subject.name}: from disk {when}, seconds", seconds)
    _find(report, subject, f"from disk {when}, median ms", 1000 * median(seconds), target)
    _find(report, subject, f"from disk {when}, slowest ms", 1000 * max(seconds))


def _find(
    report: Findings, subject: Subject, figure: str, value: float, target: float | None = None
) -> None:
    report.add(Finding(subject=subject.name, figure=figure, value=value, target=target))
