"""Loads without end under a hard limit, by models whose size on disk says nothing.

Decisions: half of the models take ten times in memory of what they take on disk, half a tenth; each
takes twice as much while it is loaded. Every key is loaded for the first time, as far as the server
knows, so that nothing is learned of it; what is learned of its kind is wrong for every other. The
limit is on what the server's processes take once it has started: the budget and a share of it.
"""

from __future__ import annotations

import argparse
import io
import os
import tarfile
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from itertools import count
from pathlib import Path

from load_tests.findings import Finding, Findings
from load_tests.limits import limited
from load_tests.operator import Operator
from load_tests.processes import MEGABYTE, worker_pids
from load_tests.server_process import RunningServer, mme_server

ARGUMENTS_KEPT = ("seconds", "budget_megabytes", "slack_ratio", "workers", "limiter")
REPORT = Findings

_RESIDENT_KILOBYTES = (100, 200, 400, 800, 1600)
_CALLERS = 8
_SCRIPT = """
from pathlib import Path

def model_fn(model_dir):
    size = int((Path(model_dir) / "size").read_text())
    peak = bytearray(b"x") * (2 * size)
    return bytes(peak[:size])

def transform_fn(model, data, content_type, accept):
    return str(len(model))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--seconds", type=float, default=60, help="of loading")
    parser.add_argument("--budget-megabytes", type=int, default=32)
    parser.add_argument(
        "--slack-ratio", type=float, default=1.0,
        help="of the budget: the hard limit is so much above it, for heaps and open files",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limiter", choices=("auto", "rlimit"), default="auto")


def run(options: argparse.Namespace, report: Findings) -> None:
    """Measures. Raises ServerFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        scratch = Path(name)
        models = scratch / "models"
        models.mkdir()
        packed = _pack(scratch)
        budget_bytes = options.budget_megabytes * MEGABYTE
        flags = [f"--memory={budget_bytes}", f"--workers={options.workers}", "--disk=256MB"]
        with mme_server(models, scratch, flags) as server:
            pids = worker_pids(server.pid)
            limit_bytes = int(budget_bytes * (1 + options.slack_ratio))
            with limited(server.pid, pids, limit_bytes, options.limiter) as limit:
                answered = _load(server, packed, models, options.seconds, report)
                kills = limit.kills()
            with Operator(server.port) as operator:
                died = operator.count("mme_worker_restarts_total")
        for figure, value, target in (
            ("loads", answered, None),
            ("workers that died", died, 0),
            (f"ended by the kernel for memory ({limit.kind})", kills, 0),
        ):
            report.add(Finding(subject="hard limit", figure=figure, value=value, target=target))


def _pack(scratch: Path) -> list[Path]:
    """One tarball a size and a direction of error."""
    packed = []
    for resident in _RESIDENT_KILOBYTES:
        for disk in (resident // 10, resident * 10):
            path = scratch / f"packed-{resident}-{disk}"
            members = {
                "code/inference.py": _SCRIPT.encode(),
                "size": str(resident * 1024).encode(),
                "weights.bin": os.urandom(disk * 1024),
            }
            with tarfile.open(path, "w:gz", compresslevel=0) as archive:
                for name, data in members.items():
                    member = tarfile.TarInfo(name)
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
            packed.append(path)
    return packed


def _load(
    server: RunningServer, packed: list[Path], models: Path, seconds: float, report: Findings
) -> int:
    """Loads new keys until the time is over; how many were loaded."""
    numbers, lock, until = count(), threading.Lock(), time.monotonic() + seconds

    def call() -> int:
        loaded = 0
        with Operator(server.port) as operator:
            while time.monotonic() < until:
                with lock:
                    number = next(numbers)
                key = models / f"{number}.tar.gz"
                key.hardlink_to(packed[number % len(packed)])
                status = operator.load(key.name)
                key.unlink()
                if status == HTTPStatus.OK:
                    loaded += 1
                else:
                    report.fail(f"load answered {status}")
        return loaded

    with ThreadPoolExecutor(_CALLERS) as threads:
        return sum(each.result() for each in [threads.submit(call) for _ in range(_CALLERS)])
