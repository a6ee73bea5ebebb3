"""Runs a scenario: `python -m load_tests steady`. Exit code 1 when any answer was not right."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from load_tests import (
    cold,
    compiled,
    density,
    far,
    flood,
    floor,
    fronts,
    growth,
    hard_limit,
    herd,
    hop,
    memory_return,
    overwrite,
    sdk,
    simulate,
    steady,
    storm,
    thrash,
    zipf,
)
from load_tests.measure import GeneratorFailed
from load_tests.peers import scenario as peers
from load_tests.report import Report
from load_tests.server_process import ServerFailed
from load_tests.soak import scenario as soak
from load_tests.tenants import TrainingFailed

# Each is a module with `add_arguments`, `run`, `ARGUMENTS_KEPT` and, where it is not about requests
# alone, a `REPORT` of its own; adding one touches one row.
_SCENARIOS = {
    "steady": steady,
    "floor": floor,
    "flood": flood,
    "peers": peers,
    "zipf": zipf,
    "cold": cold,
    "far": far,
    "herd": herd,
    "growth": growth,
    "hop": hop,
    "fronts": fronts,
    "sdk": sdk,
    "compiled": compiled,
    "memory-return": memory_return,
    "density": density,
    "simulate": simulate,
    "thrash": thrash,
    "storm": storm,
    "hard-limit": hard_limit,
    "overwrite": overwrite,
    "soak": soak,
}
_WIDTH = 170  # of what goes to a file, where no terminal says
_RESULTS = Path(__file__).parent / "results"


def main() -> int:
    """Runs what the command line asks for, and tells."""
    options = _parser().parse_args()
    scenario, started = _SCENARIOS[options.scenario], datetime.now(UTC)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    report = getattr(scenario, "REPORT", Report)(options.scenario, started, console)
    try:
        scenario.run(options, report)
    except (GeneratorFailed, ServerFailed, TrainingFailed) as error:
        console.print(f"{options.scenario} failed: {error}", markup=False, style="red")
        return 1
    report.print_tables()
    kept = {name: getattr(options, name) for name in scenario.ARGUMENTS_KEPT}
    written = report.write(options.results, kept)
    console.print(f"Every round is in {written}", soft_wrap=True)
    return 1 if report.failures() else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="load_tests", description=__doc__)
    scenarios = parser.add_subparsers(dest="scenario", required=True)
    for name, scenario in _SCENARIOS.items():
        chosen = scenarios.add_parser(name, help=(scenario.__doc__ or "").splitlines()[0])
        chosen.add_argument("--results", type=Path, default=_RESULTS, help="where the file goes")
        scenario.add_arguments(chosen)
    return parser


if __name__ == "__main__":
    sys.exit(main())
