"""What one hop costs: a sibling container called directly, through the server, and two in a row.

Decisions: the sibling answers with the request's own body, so that what is measured is the way to
it; each round asks the three in turn (A B C A B C), so that a change in the machine hits all. The
difference of the medians at one connection is the hop, at many the price in throughput.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from load_tests.measure import measure
from load_tests.plan import Plan, Question
from load_tests.report import Report, Row
from load_tests.server_process import RunningServer, mme_server, null_server

ARGUMENTS_KEPT = ("seconds", "rounds", "connections", "body_numbers")

_PATH = "/endpoints/mme/invocations"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="over which medians are taken")
    parser.add_argument("--connections", type=_counts, default=(1, 8, 64))
    parser.add_argument("--body-numbers", type=int, default=30, help="in a request's row")


def run(options: argparse.Namespace, report: Report) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed."""
    row = tuple(round(0.5 + number / 7, 3) for number in range(options.body_numbers))
    question = Question(target="", body=",".join(map(str, row)), expected=row)
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name, ExitStack() as stack:
        scratch = Path(name)
        sibling = stack.enter_context(null_server("aiohttp", scratch))
        subjects = {
            "sibling, directly": sibling,
            "one hop": stack.enter_context(_before(sibling, 1, scratch)),
            "two hops": stack.enter_context(_before(sibling, 2, scratch)),
        }
        for number in range(options.rounds + 1):  # 0 is for warming up
            for connections in options.connections:
                for subject, server in subjects.items():
                    plan = Plan(
                        port=server.port,
                        server_pid=server.pid,
                        path=_PATH,
                        questions=(question,),
                        connections=connections,
                        seconds=options.seconds if number else 0.5,
                    )
                    mode = f"closed, {connections} connections"
                    outcome = measure(plan)
                    report.add(Row(subject=subject, mode=mode, round=number, outcome=outcome))


@contextmanager
def _before(sibling: RunningServer, hops: int, scratch: Path) -> Iterator[RunningServer]:
    table = f'[[containers]]\nurl = "http://127.0.0.1:{sibling.port}"\n'
    directory = scratch / f"hops-{hops}"
    directory.mkdir()
    config = directory / "mme.toml"
    config.write_text(table * hops)
    with mme_server(None, directory, [f"--config={config}"]) as server:
        yield server


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))
