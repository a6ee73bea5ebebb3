"""The first answer of a large model from an S3 that is far, in one GET and in ranges.

Decisions: the S3 is rclone's on loopback behind a hop that is late and slow as a connection to
another place is, in the same measure for all; each number of ranges has a server of its own and
asks for models that it never had, in turns with the others.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

from load_tests.cold import add_large_arguments, make_large
from load_tests.far_hop import Distance, far_hop
from load_tests.findings import Finding, Findings
from load_tests.operator import Operator
from load_tests.plan import Question
from load_tests.s3_server import BUCKET, ObjectStore, object_store
from load_tests.server_process import mme_server

_LARGE = ("large_megabytes", "large_models", "large_level")
ARGUMENTS_KEPT = (*_LARGE, "ranges", "latency_ms", "connection_megabytes")
REPORT = Findings


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--large-models", type=int, default=4, help="asked for in each way")
    add_large_arguments(parser)
    parser.add_argument("--ranges", type=_counts, default=(1, 2, 4, 8), help="1: one GET")
    parser.add_argument("--latency-ms", type=float, default=10, help="one way")
    parser.add_argument(
        "--connection-megabytes", type=float, default=25, help="that a connection has a second"
    )


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed, TrainingFailed."""
    distance = Distance(
        latency_seconds=options.latency_ms / 1000,
        connection_rate=options.connection_megabytes * 1e6,
    )
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name, ExitStack() as stack:
        scratch = Path(name)
        objects = scratch / "objects"
        (objects / BUCKET).mkdir(parents=True)
        questions = make_large(options, scratch / "large", objects / BUCKET)
        store = stack.enter_context(object_store(objects, scratch / "rclone.log"))
        far = replace(store, port=stack.enter_context(far_hop(store.port, distance)))
        ways = {
            ranges: stack.enter_context(_operator(far, ranges, scratch))
            for ranges in options.ranges
        }
        _measure(ways, questions, report)


@contextmanager
def _operator(store: ObjectStore, ranges: int, scratch: Path) -> Iterator[Operator]:
    directory = scratch / f"ranges-{ranges}"
    directory.mkdir()
    flags = [*store.flags, f"--s3-ranges={ranges}", "--workers=1"]
    with mme_server(None, directory, flags) as server, Operator(server.port) as operator:
        yield operator


def _measure(ways: dict[int, Operator], questions: Sequence[Question], report: Findings) -> None:
    seconds: dict[int, list[float]] = {ranges: [] for ranges in ways}
    for number, question in enumerate(questions):  # the first imports the framework
        for ranges, operator in ways.items():
            started = time.perf_counter()
            if wrong := operator.ask(question):
                report.fail(f"{ranges} ranges: {wrong}")
            if number:
                seconds[ranges].append(time.perf_counter() - started)
    for ranges, taken in seconds.items():
        subject = "one GET" if ranges == 1 else f"{ranges} ranges"
        report.keep(f"{subject}: seconds", taken)
        for which, value in (("median", median(taken)), ("slowest", max(taken))):
            figure = f"first answer from a far S3, {which} ms"
            report.add(Finding(subject=subject, figure=figure, value=1000 * value))


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))
