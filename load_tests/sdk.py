"""What it costs that boto3 signs each request and writes its body apart, beside plain requests.

Decision: the same model, connections and numbers, in turns (A B C A B C): plain requests that recur
to the byte, as every other scenario sends; as boto3 sends them, to a server without keys; and to
one that checks each signature.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import ExitStack
from pathlib import Path

from load_tests.measure import measure
from load_tests.plan import Plan
from load_tests.replicas import make_replicas
from load_tests.report import Report, Row
from load_tests.sdk_requests import write_keys
from load_tests.server_process import mme_server

ARGUMENTS_KEPT = ("seconds", "rounds", "connections")
REPORT = Report

_PATH = "/endpoints/mme/invocations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--seconds", type=float, default=3, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5, help="over which medians are taken")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])


def run(options: argparse.Namespace, report: Report) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name, ExitStack() as stack:
        scratch = Path(name)
        questions = make_replicas(scratch, 1, 1)
        write_keys(scratch / "keys.toml")
        checks = [f"--access-keys={scratch / 'keys.toml'}"]
        open_server, guarded = (
            stack.enter_context(mme_server(scratch / "models", _made(scratch / place), flags))
            for place, flags in (("open", []), ("guarded", checks))
        )
        subjects = {
            "plain requests": (open_server, False),
            "as boto3, no keys": (open_server, True),
            "as boto3, keys": (guarded, True),
        }
        for number in range(options.rounds + 1):  # 0 is for warming up
            for connections in options.connections:
                for subject, (server, as_sdk) in subjects.items():
                    plan = Plan(
                        port=server.port,
                        server_pid=server.pid,
                        path=_PATH,
                        questions=tuple(questions),
                        connections=connections,
                        seconds=options.seconds if number else 0.5,
                        as_sdk=as_sdk,
                    )
                    mode = f"closed, {connections} connections"
                    outcome = measure(plan)
                    report.add(Row(subject=subject, mode=mode, round=number, outcome=outcome))


def _made(directory: Path) -> Path:
    directory.mkdir()
    return directory
