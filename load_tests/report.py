"""A run's rows to tables on the terminal, to one JSON file and to a plot.

Decision: what is printed is the median over the rounds with the range beside it, what is drawn the
median alone; the file holds every round as it was measured, so that anyone can work out something
else.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from load_tests.figures import CONNECTIONS, ELSEWHERE
from load_tests.plan import Outcome
from load_tests.plot import Bar, Panels
from load_tests.run_report import RunReport

_MILLISECONDS = 1000


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement: of what, how, in which round, and what was found."""

    subject: str
    mode: str  # e.g. "8 connections"
    round: int  # from 1 on; 0 is warming up
    outcome: Outcome


class Report(RunReport):
    """Collects rows, tells each as it comes, and sums up at the end."""

    def __init__(self, scenario: str, started: datetime, console: Console) -> None:
        super().__init__(scenario, started, console)
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        """Enters a measurement and shows it."""
        self.rows.append(row)
        told = f"round {row.round}  {row.mode:>24}  {row.subject:<24} {_figures([row])[0]:>9} /s"
        if row.outcome.errors:
            told += f"  errors: {row.outcome.errors}  {row.outcome.first_wrong or ''}"
        self._console.print(told, markup=False, highlight=False)

    def failures(self) -> dict[str, int]:
        """Everything that was not a right answer, by kind."""
        sums: dict[str, int] = defaultdict(int)
        for row in self.rows:
            for kind, count in row.outcome.errors.items():
                sums[kind] += count
        return dict(sums)

    def print_tables(self) -> None:
        """Medians and ranges over the rounds, and others' figures for orientation."""
        self._console.print(_measured_table(row for row in self.rows if row.round))
        for framework, servers in ELSEWHERE.items():
            if any(framework in row.subject for row in self.rows):
                self._console.print(_elsewhere_table(framework, servers))
        others = [_cores(row.outcome, "other") for row in self.rows] or [0.0]
        self._console.print(
            f"Others on this machine used {median(others):.2f} cores meanwhile (most in a "
            f"measurement: {max(others):.2f}). {sum(row.outcome.checked for row in self.rows)} "
            f"answers were right; not right: {self.failures() or 'none'}."
        )

    def told(self) -> dict[str, Any]:
        """Every round."""
        return {"rows": [asdict(row) for row in self.rows]}

    def panels(self) -> Panels:
        """For each load how many answers a second, p50 and p99, by subject."""
        panels: dict[str, list[Bar]] = defaultdict(list)
        for (mode, subject), members in _grouped(row for row in self.rows if row.round).items():
            for figure, values in _bars(members):
                if values:
                    bar = Bar(name=subject, value=median(values))
                    panels[f"{mode}: {figure}"].append(bar)
        return panels


def _measured_table(rows: Iterable[Row]) -> Table:
    table = Table(title="Measured here: median over the rounds (range)")
    for name in ("load", "server"):
        table.add_column(name)
    for name in ("right/s", "p50 ms", "p99 ms", "p99.9 ms", "server us/answer", "generator busy"):
        table.add_column(name, justify="right", overflow="fold")
    for (mode, subject), members in _grouped(rows).items():
        table.add_row(mode, subject, *_figures(members))
    return table


def _grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row.mode, row.subject].append(row)
    return groups


def _bars(rows: Sequence[Row]) -> Iterator[tuple[str, list[float]]]:
    yield "answers/s", [row.outcome.per_second for row in rows]
    for name in ("p50", "p99"):
        latencies = [row.outcome.latency for row in rows if row.outcome.latency]
        yield f"{name} ms", [_MILLISECONDS * each[f"{name}_seconds"] for each in latencies]


def _figures(rows: Sequence[Row]) -> list[str]:
    outcomes = [row.outcome for row in rows]
    latencies = [outcome.latency for outcome in outcomes if outcome.latency]
    return [
        _spread([outcome.per_second for outcome in outcomes], ".0f"),
        *(
            _spread([latency[name] * _MILLISECONDS for latency in latencies], ".2f")
            for name in ("p50_seconds", "p99_seconds", "p999_seconds")
        ),
        _spread([_server_microseconds(outcome) for outcome in outcomes if outcome.checked], ".0f"),
        format(median(_cores(outcome, "generator") for outcome in outcomes), ".0%"),
    ]


def _cores(outcome: Outcome, whose: str) -> float:
    return outcome.processors[f"{whose}_seconds"] / outcome.processors["elapsed_seconds"]


def _server_microseconds(outcome: Outcome) -> float:
    return outcome.processors["server_seconds"] * 1e6 / outcome.checked


def _spread(values: Sequence[float], form: str) -> str:
    if not values:
        return "-"
    middle = format(median(values), form)
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):{form}}-{max(values):{form}})"


def _elsewhere_table(framework: str, servers: Mapping[str, Sequence[tuple[float, ...]]]) -> Table:
    table = Table(title=f"{framework}: measured elsewhere and earlier (req/s / p50 / p99 ms)")
    table.add_column("server")
    for connections in CONNECTIONS:
        table.add_column(f"{connections} connections", justify="right")
    for server, cells in servers.items():
        table.add_row(server, *(" / ".join(f"{figure:,}" for figure in cell) for cell in cells))
    return table
