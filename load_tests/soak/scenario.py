"""Everything at once for a long time: traffic, overwrites, faults, bad clients; what is left then.

Decisions: memory for a sixth of the models and a disk tier for a third of them, so that both are
full and evict all the time; failures are remembered for a second at most, so that a fault passes in
seconds; the store is rclone's S3 behind a relay that misbehaves, or, if asked for, a directory.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil

from load_tests.findings import Finding
from load_tests.operator import Operator
from load_tests.server_process import RunningServer, ServerFailed, mme_server
from load_tests.soak.book import Book
from load_tests.soak.faults import (
    Faults,
    faults_of_an_object,
    faults_of_the_store,
    faults_of_workers,
)
from load_tests.soak.relay import Relay
from load_tests.soak.report import SoakReport
from load_tests.soak.stage import MENDED, make_world, open_store, temporary
from load_tests.soak.traffic import World, Writer, bad_clients, good_clients
from load_tests.soak.truth import compare_held, compare_ledger, read_held, wait_until_quiet
from load_tests.soak.watch import Watch

ARGUMENTS_KEPT = (
    *("minutes", "rate", "models", "memory_megabytes", "workers"),
    *("fault_seconds", "pause_seconds", "overwrite_seconds", "store"),
)
REPORT = SoakReport

_DISK_BYTES_PER_MODEL = 200_000  # a third of what one takes
_PATIENCE_SECONDS = 3.0
_SAMPLE_SECONDS = 2.0
_FLAGS = (
    *("--refresh-seconds=1", "--failure-seconds=0.5", "--failure-limit-seconds=1"),
    *("--s3-read-seconds=2", "--silence-seconds=5", f"--body-seconds={_PATIENCE_SECONDS}"),
    *("--invocation-seconds=30", "--log-format=json"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    """What is there while it goes on."""

    options: argparse.Namespace
    scratch: Path
    world: World
    relay: Relay | None
    server: RunningServer
    book: Book
    over: threading.Event

    @property
    def store_port(self) -> int | None:
        return None if self.relay is None else self.relay.port


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    add = parser.add_argument
    add("--minutes", type=float, default=30)
    add("--rate", type=float, default=80, help="good requests a second")
    add("--models", type=int, default=600, help="that stay as they are")
    add("--memory-megabytes", type=int, default=32, help="for models in memory")
    add("--workers", type=int, default=2)
    add("--fault-seconds", type=float, default=4, help="how long each fault stays")
    add("--pause-seconds", type=float, default=8, help="without any, between two")
    add("--overwrite-seconds", type=float, default=2, help="between two versions of one model")
    add("--store", choices=("s3", "directory"), default="s3")


def run(options: argparse.Namespace, report: SoakReport) -> None:
    """Measures. Raises ServerFailed, TrainingFailed."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mme-load-")))
        world = make_world(scratch, options.models)
        relay, where = open_store(options.store, scratch, stack)
        debris = stack.enter_context(temporary(scratch / "tmp"))
        flags = [*where, *_FLAGS, f"--workers={options.workers}"]
        flags.append(f"--memory={options.memory_megabytes}MiB")
        flags.append(f"--disk={options.models * _DISK_BYTES_PER_MODEL}")
        with mme_server(None, scratch, flags) as server:
            soak = _Run(
                options=options,
                scratch=scratch,
                world=world,
                relay=relay,
                server=server,
                book=Book(),
                over=threading.Event(),
            )
            _soak(soak, report)
            family = psutil.Process(server.pid).children(recursive=True)
        _look_at_the_rest(scratch, debris, family, report)


def _soak(soak: _Run, report: SoakReport) -> None:
    server, over = soak.server, soak.over
    with Operator(server.port) as operator:
        if wrong := _ask_all(operator, soak.world):
            raise ServerFailed(wrong)
        wait_until_quiet(operator)
        before = read_held(server, soak.store_port, operator)
    watch = Watch(server, pause_seconds=_SAMPLE_SECONDS, over=over, book=soak.book)
    threads = [watch, *_everybody(soak)]
    for thread in threads:
        thread.start()
    try:
        over.wait(60 * soak.options.minutes)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    report.tell(soak.book, watch.samples)
    with Operator(server.port) as operator:  # an idle connection would have been closed
        wait_until_quiet(operator, before)
        after = read_held(server, soak.store_port, operator)
        report.keep("descriptors", [before.descriptors, after.descriptors])
        for finding in compare_held(before, after):
            report.add(finding)
        if wrong := _ask_all(operator, soak.world):
            report.fail(f"when all was over: {wrong}")
        for finding in compare_ledger(server, operator, soak.scratch / "cache"):
            report.add(finding)


def _ask_all(operator: Operator, world: World) -> str | None:
    """What is wrong with an answer; None where all are right."""
    asked = ((question.target, operator.ask(question)) for question in (*world.hot, world.mended))
    return next((f"{target}: {wrong}" for target, wrong in asked if wrong), None)


def _everybody(soak: _Run) -> Iterator[threading.Thread]:
    options, port, over, book = soak.options, soak.server.port, soak.over, soak.book
    yield Writer(soak.world, options.overwrite_seconds, over)
    yield from good_clients(port, soak.world, options.rate, over, book)
    yield from bad_clients(port, soak.world, _PATIENCE_SECONDS, over, book)
    faults = [
        *faults_of_workers(soak.server, seed=0),
        *(faults_of_the_store(soak.relay) if soak.relay is not None else ()),
        *faults_of_an_object(soak.server, soak.scratch / "models" / MENDED, soak.scratch),
    ]
    yield Faults(
        faults,
        lasting_seconds=options.fault_seconds,
        pause_seconds=options.pause_seconds,
        over=over,
        book=book,
    )


def _look_at_the_rest(
    scratch: Path, debris: Path, family: list[psutil.Process], report: SoakReport
) -> None:
    """Once the server has ended."""
    left = {
        "temporary files left": len(list(debris.iterdir())),
        "half-made models left": len(list((scratch / "cache" / "incoming").iterdir())),
        "processes left": sum(process.is_running() for process in family),
    }
    lines = [json.loads(line) for line in (scratch / "mme.log").read_text().splitlines()]
    left["tracebacks in the log"] = sum("exception" in line for line in lines)
    report.keep("log", dict(Counter(line["event"] for line in lines)))
    report.keep("tracebacks", [line for line in lines if "exception" in line][:5])
    for figure, value in left.items():
        report.add(Finding(subject="at the end", figure=figure, value=value, target=0))
