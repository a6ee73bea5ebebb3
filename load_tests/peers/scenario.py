"""Ours beside every peer: same models, same client, one server at a time, in rounds.

Then ours alone, where a goal is set against something else than a peer: `cold`, `herd` and `growth`
with their own decisions, so that one run tells of all goals.

Decisions: peers run as their projects say for throughput on two cores, each in its environment; one
that can't be installed is told and left out. Where ours fails, that part of the run ends, which
fails the run, and the next one begins, so that nothing that was measured is lost; what is known to
be missing is told before anything is measured. The mix has rounds of its own, since who has a
process a model takes a minute or more to start a hundred of them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from load_tests import cold, growth, herd
from load_tests.peers.all_peers import PEERS
from load_tests.peers.comparison import Comparison
from load_tests.peers.contestants import CEILING, COMPILED, Contestant, NullServer, Other, Ours
from load_tests.peers.environments import PeerUnavailable, installed_versions, obtain
from load_tests.peers.report import PeersReport
from load_tests.s3_server import find_rclone
from load_tests.tenants import installed_frameworks

ARGUMENTS_KEPT = (
    "seconds", "rounds", "connections", "frameworks", "peers",
    "models", "exponent", "mix_connections", "mix_peers", "mix_rounds", "first_models",
    "cold_models", "large_models", "herd_models", "growth_models",
)  # fmt: skip
REPORT = PeersReport

_COMPILED = "compiled"  # ours, with a setting that is not the default
_NAMED = (_COMPILED, *PEERS)
_MIX_PEERS = ("in-process", "in-process-2", "triton", "triton-default", "litserve")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    add = parser.add_argument
    add("--seconds", type=float, default=5, help="of each measurement")
    add("--rounds", type=int, default=3, help="over which medians are taken")
    add("--connections", type=_counts, default=(1, 8, 64), help="of xgboost; others: the most")
    add("--frameworks", default=",".join(installed_frameworks()))
    add("--peers", type=_names, default=_NAMED, help=f"of {','.join(_NAMED)}")
    place = Path.home() / ".cache" / "mme-load-tests"
    add("--environments", type=Path, default=place, help="where the peers are installed, and kept")
    add("--models", type=int, default=100, help="xgboost models in the mix; 0: no mix")
    add("--exponent", type=float, default=1.1, help="Zipf's, of their popularity")
    add("--mix-connections", type=int, default=32)
    add("--mix-peers", type=_names, default=_MIX_PEERS, help="those of --peers that take part")
    add("--mix-rounds", type=int, default=1)
    add("--first-models", type=int, default=5, help="cold ones of each framework; 0: none")
    add("--cold-models", type=int, default=50, help="of the scenario cold; 0: without it")
    add("--large-models", type=int, default=8, help="of the scenario cold; 0: none")
    add("--herd-models", type=int, default=500, help="of the scenario herd; 0: without it")
    add("--growth-models", type=int, default=10_000, help="of the scenario growth; 0: without it")


def run(options: argparse.Namespace, report: PeersReport) -> None:
    """Measures. Raises ServerFailed: there is no S3 for `cold` and `herd`, and nothing is begun."""
    if options.cold_models or options.herd_models:
        find_rclone()
    with tempfile.TemporaryDirectory(prefix="mme-load-") as name:
        _compare(options, report, Path(name))
    for name, scenario, flags in _alone(options):
        parser = argparse.ArgumentParser()
        scenario.add_arguments(parser)
        with report.going_on(name):
            scenario.run(parser.parse_args(flags), report.alone)


def _compare(options: argparse.Namespace, report: PeersReport, scratch: Path) -> None:
    comparison = Comparison(options, report, scratch)
    others = dict(_others(options, report))
    ours = Ours()
    ceiling = NullServer(CEILING, "bare")
    contestants: list[Contestant] = [ceiling, NullServer(), ours, *others.values()]
    with report.going_on("warm models"):
        comparison.run_warm(contestants)
    if options.models:
        mixed = [each for key, each in others.items() if key in options.mix_peers]
        with report.going_on("mix"):
            comparison.run_mix([ours, *(each for each in mixed if each in contestants)])
    if options.first_models:
        with report.going_on("first answers"):
            comparison.run_cold(contestants)


def _alone(options: argparse.Namespace) -> Iterator[tuple[str, ModuleType, list[str]]]:
    """The scenarios that ask ours alone, and what they are told."""
    if options.cold_models:
        large = f"--large-models={options.large_models}"
        yield "cold", cold, [f"--models={options.cold_models}", large]
    if options.herd_models:
        yield "herd", herd, [f"--models={options.herd_models}"]
    if options.growth_models:
        flags = [f"--models={options.growth_models}", f"--seconds={options.seconds}"]
        yield "growth", growth, flags


def _others(options: argparse.Namespace, report: PeersReport) -> Iterator[tuple[str, Contestant]]:
    for key in options.peers:
        if key == _COMPILED:
            yield key, Ours(COMPILED, ["--compile-trees=on"])
            continue
        peer = PEERS[key]
        try:
            python = obtain(peer, options.environments)
            report.add_versions(peer.name, installed_versions(peer, python))
        except PeerUnavailable as error:
            report.leave_out(peer.name, str(error))
        else:
            yield key, Other(peer, python)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(_NAMED):
        raise argparse.ArgumentTypeError(f"no such peer: {', '.join(sorted(unknown))}")
    return names
