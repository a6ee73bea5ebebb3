"""Figures beside their targets: for scenarios that measure something else than requests."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from load_tests.plot import Bar, Panels
from load_tests.run_report import RunReport

_UNITS = {  # in whose panel a figure is: the first pattern that its name has
    "times": r"\btimes\b",
    "a second": r"\ba second\b|answers/s",
    "ms": r"\bms\b",
    "us": r"\bus\b",
    "MB": r"\bMB\b",
    "%": "%",
    "cores": r"\bcores\b",
}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One figure."""

    subject: str  # e.g. a framework
    figure: str  # what it is, with its unit
    value: float
    target: float | None = None  # it should be no higher

    @property
    def is_missed(self) -> bool:
        """Whether it has a target, and is beyond."""
        return self.target is not None and not self.value <= self.target  # nor may it be no number


class Findings(RunReport):
    """Collects figures, tells each as it comes, and sums up at the end; as `report.Report`."""

    def __init__(self, scenario: str, started: datetime, console: Console) -> None:
        super().__init__(scenario, started, console)
        self._errors: dict[str, int] = defaultdict(int)
        self._raw: dict[str, Any] = {}
        self.findings: list[Finding] = []

    def add(self, finding: Finding) -> None:
        """Enters a figure and shows it."""
        self.findings.append(finding)
        self._console.print(
            f"{finding.subject:<12} {finding.figure}: {finding.value:,.3f}",
            markup=False, highlight=False,
        )  # fmt: skip

    def fail(self, kind: str) -> None:
        """Counts an answer that was not right."""
        self._errors[kind] += 1

    def keep(self, name: str, raw: object) -> None:
        """Puts into the file what figures were made of."""
        self._raw[name] = raw

    def failures(self) -> dict[str, int]:
        """Wrong answers by kind, and targets that were missed."""
        missed = [finding for finding in self.findings if finding.is_missed]
        return {**self.wrong_answers(), **{f"{each.subject}: {each.figure}": 1 for each in missed}}

    def wrong_answers(self) -> dict[str, int]:
        """By kind."""
        return dict(self._errors)

    def print_tables(self) -> None:
        """All figures beside their targets."""
        table = Table(title="Measured here")
        for name in ("subject", "figure"):
            table.add_column(name)
        for name in ("measured", "target", ""):
            table.add_column(name, justify="right")
        for each in self.findings:
            target = "" if each.target is None else f"<= {each.target:,.3f}"
            verdict = "" if each.target is None else "missed" if each.is_missed else "met"
            table.add_row(each.subject, each.figure, f"{each.value:,.3f}", target, verdict)
        self._console.print(table)
        self._console.print(f"Not right: {self.failures() or 'nothing'}.", markup=False)

    def told(self) -> dict[str, Any]:
        """All figures, and what they were made of."""
        return {"findings": [asdict(each) for each in self.findings], "raw": self._raw}

    def panels(self) -> Panels:
        """Those of one subject and unit beside each other."""
        panels: dict[str, list[Bar]] = defaultdict(list)
        for each in self.findings:
            title = f"{each.subject}: {_unit(each.figure)}"
            panels[title].append(Bar(name=each.figure, value=each.value))
        return panels


def _unit(figure: str) -> str:
    """As the figure's name tells it."""
    found = (unit for unit, pattern in _UNITS.items() if re.search(pattern, figure))
    return next(found, "others")
