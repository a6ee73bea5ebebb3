"""One key overwritten again and again under load: who is answered by which version, and how old.

Decisions: every version predicts another number, so that an answer tells which one gave it; the
version that the answer's header names has to be the same one each time. Old is a request sent more
than the refresh interval after a newer version was in place and yet answered by an older one; how
long after is what is told. Requests are paced, so that a slow server shows as latency and not as
fewer questions.
"""

from __future__ import annotations

import argparse
import http.client
import tempfile
import threading
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from load_tests.findings import Finding, Findings
from load_tests.operator import Operator
from load_tests.percentiles import summarise
from load_tests.server_process import mme_server
from load_tests.versions import Versions

ARGUMENTS_KEPT = ("overwrites", "pause_seconds", "refresh_seconds", "readers", "rate", "workers")
REPORT = Findings

_PATH = "/endpoints/mme/invocations"
_TARGET = "tenant.tar.gz"
_VERSION = "X-Mme-Model-Version"
_TIMEOUT_SECONDS = 60
_OK = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """One answer, on the clock of `time.monotonic`."""

    asked_at: float
    answered_at: float
    status: int
    version: str | None  # as the header names it
    number: int | None  # of the version that predicts what was answered


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--overwrites", type=int, default=1000)
    parser.add_argument("--pause-seconds", type=float, default=0.05, help="between two of them")
    parser.add_argument("--refresh-seconds", type=float, default=0.5, help="as in mme serve")
    parser.add_argument("--readers", type=int, default=4, help="connections")
    parser.add_argument("--rate", type=float, default=200, help="requests a second of all readers")
    parser.add_argument("--workers", type=int, help="as in mme serve; default: its own")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        (scratch / "models").mkdir()
        versions = Versions(scratch / "models" / _TARGET, scratch)
        written = [versions.write(0)]
        flags = [f"--refresh-seconds={options.refresh_seconds}"]
        if options.workers:
            flags.append(f"--workers={options.workers}")
        with mme_server(scratch / "models", scratch, flags) as server:
            with Operator(server.port) as operator:
                operator.load(_TARGET)  # so that the framework's import is not waited for
            over = threading.Event()
            with ThreadPoolExecutor(options.readers) as threads:
                pause = options.readers / options.rate
                ask = (server.port, versions, pause, over)
                readers = [threads.submit(_read, *ask) for _ in range(options.readers)]
                try:
                    for number in range(1, options.overwrites + 1):
                        time.sleep(options.pause_seconds)
                        written.append(versions.write(number))
                    time.sleep(2 * options.refresh_seconds)
                finally:
                    over.set()
        answers = [answer for reader in readers for answer in reader.result()]
    _judge(answers, written, options, report)


def _read(port: int, versions: Versions, pause: float, over: threading.Event) -> list[Answer]:
    """Asks until `over`, every `pause` seconds."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_SECONDS)
    headers = {
        "Content-Type": "text/csv",
        "Accept": "text/csv",
        "X-Amzn-SageMaker-Target-Model": _TARGET,
    }
    answers = []
    try:
        while not over.wait(pause):
            asked_at = time.monotonic()
            connection.request("POST", _PATH, versions.row, headers)
            with connection.getresponse() as response:
                body, status = response.read(), response.status
                answers.append(
                    Answer(
                        asked_at=asked_at,
                        answered_at=time.monotonic(),
                        status=status,
                        version=response.headers[_VERSION],
                        number=versions.number_of(body) if status == _OK else None,
                    )
                )
    finally:
        connection.close()
    return answers


def _judge(
    answers: list[Answer], written: list[float], options: argparse.Namespace, report: Findings
) -> None:
    names: dict[int, set[str | None]] = defaultdict(set)
    late_seconds = [0.0]
    for answer in answers:
        if answer.number is None:
            report.fail("mixed" if answer.status == _OK else f"status {answer.status}")
            continue
        names[answer.number].add(answer.version)
        late_seconds.append(_lateness(answer, answer.number, written))
    if any(len(found) != 1 or None in found for found in names.values()):
        report.fail("a version has several names")
    if max(names, default=-1) != options.overwrites:
        report.fail("the last version never answered")
    latencies = summarise([answer.answered_at - answer.asked_at for answer in answers])
    for figure, value, target in (
        ("overwrites", len(written) - 1, None),
        ("answers", len(answers), None),
        ("failed answers", sum(answer.status != _OK for answer in answers), 0),
        ("versions that answered", len(names), None),
        ("oldest answer, seconds after its successor", max(late_seconds), options.refresh_seconds),
        ("p50 ms", 1000 * latencies["p50_seconds"], None),
        ("p99 ms", 1000 * latencies["p99_seconds"], None),
    ):
        report.add(Finding(subject="overwrite", figure=figure, value=value, target=target))


def _lateness(answer: Answer, number: int, written: list[float]) -> float:
    """How long before the request the version's successor was in place, in seconds."""
    if number + 1 >= len(written):
        return 0.0
    return max(0.0, answer.asked_at - written[number + 1])
