"""Which eviction policy loads less: traffic replayed against each, in caches of several sizes.

The one scenario without a server: it runs the server's own ledger and policies, which are pure. A
cache's size is a share of what all models of the trace take together. The replay starts empty, so
each model's first load is in every line.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from load_tests.plot import Bar, Panels
from load_tests.run_report import RunReport
from load_tests.trace import Traffic, make_trace
from load_tests.trace_files import read_trace
from mme.cache.policy import POLICIES
from mme.cache.replay import Replayed, Trace, replay

ARGUMENTS_KEPT = ("models", "hours", "requests", "sigma", "seed", "shares")
_MEGABYTE = 1e6


class Simulation(RunReport):
    """Collects replays, and tells them in a table; as `report.Report`."""

    def __init__(self, scenario: str, started: datetime, console: Console) -> None:
        super().__init__(scenario, started, console)
        self._replays: list[tuple[float, Replayed]] = []
        self._facts: dict[str, float] = {}

    def describe(self, trace: Trace) -> int:
        """Tells what is replayed. Bytes of all models together."""
        asked = set(trace.numbers)
        all_bytes = sum(trace.sizes_bytes[number] for number in asked)
        first_seconds = sum(trace.load_seconds[number] for number in asked)
        self._facts = {
            "requests": len(trace.numbers),
            "models_asked_for": len(asked),
            "all_bytes": all_bytes,
            "first_load_seconds": first_seconds,
        }
        self._console.print(
            f"{len(trace.numbers):,} requests of {len(asked):,} models, "
            f"{all_bytes / _MEGABYTE:,.0f} MB together; to load each once takes "
            f"{first_seconds:,.1f} s",
            highlight=False,
        )
        return all_bytes

    def add(self, share: float, found: Replayed) -> None:
        """Enters a replay; `share` is its cache's."""
        self._replays.append((share, found))

    def failures(self) -> dict[str, int]:
        """Nothing can go wrong in a replay."""
        return {}

    def print_tables(self) -> None:
        """A line a cache and policy."""
        table = Table(title="Replayed")
        for name in ("cache", "MB", "by", "misses", "of requests", "evictions", "loading s"):
            table.add_column(name, justify="right")
        for share, found in self._replays:
            misses = found.misses / max(1, found.requests)
            table.add_row(
                f"{share:.0%}", f"{found.budget_bytes / _MEGABYTE:,.0f}", found.eviction,
                f"{found.misses:,}", f"{misses:.2%}", f"{found.evictions:,}",
                f"{found.load_seconds:,.1f}",
            )  # fmt: skip
        self._console.print(table)

    def told(self) -> dict[str, Any]:
        """Every replay."""
        replays = [{"share": share, **found.describe()} for share, found in self._replays]
        return {"trace": self._facts, "replays": replays}

    def panels(self) -> Panels:
        """Misses by policy, for each cache."""
        panels: dict[str, list[Bar]] = defaultdict(list)
        for share, found in self._replays:
            misses = 100 * found.misses / max(1, found.requests)
            title = f"room for {share:.0%} of all models: misses, % of requests"
            panels[title].append(Bar(name=found.eviction, value=misses))
        return panels


REPORT = Simulation


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be chosen."""
    parser.add_argument("--trace", type=Path, help="Azure's CSV, or a /state/accesses in .json")
    parser.add_argument("--models", type=int, default=5_000, help="made up, or taken of Azure's")
    parser.add_argument("--hours", type=float, default=24.0, help="made up")
    parser.add_argument("--requests", type=int, default=300_000, help="made up, about as many")
    parser.add_argument("--sigma", type=float, default=2.0, help="of the logarithm of popularity")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--shares", type=float, nargs="+", default=[0.02, 0.05, 0.1, 0.2, 0.4],
        help="sizes of the cache, of all models' bytes",
    )  # fmt: skip


def run(options: argparse.Namespace, report: Simulation) -> None:
    """Replays. Raises GeneratorFailed: the trace can't be read."""
    if options.trace is not None:
        trace = read_trace(options.trace, options.models, options.seed)
    else:
        wanted = {name: getattr(options, name) for name in Traffic.__dataclass_fields__}
        trace = make_trace(Traffic(**wanted))
    all_bytes = report.describe(trace)
    for share in options.shares:
        for eviction in POLICIES:
            report.add(share, replay(trace, max(1, int(share * all_bytes)), eviction))
