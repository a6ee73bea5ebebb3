"""Many models by popularity: all of them in memory, then with room for half.

Decision: it is the mix of `peers` without the peers, at any size, in more rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from load_tests.peers.comparison import Comparison
from load_tests.peers.contestants import NullServer, Ours
from load_tests.peers.report import PeersReport

ARGUMENTS_KEPT = ("seconds", "models", "exponent", "mix_connections", "mix_rounds")
REPORT = PeersReport


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    add = parser.add_argument
    add("--seconds", type=float, default=5, help="of each measurement")
    add("--rounds", type=int, default=3, dest="mix_rounds", help="over which medians are taken")
    add("--models", type=int, default=100)
    add("--exponent", type=float, default=1.1, help="of their popularity")
    add("--connections", type=int, default=32, dest="mix_connections")


def run(options: argparse.Namespace, report: PeersReport) -> None:
    """Measures. Raises ServerFailed, GeneratorFailed, TrainingFailed."""
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        Comparison(options, report, Path(name)).run_mix([NullServer(), Ours()])
