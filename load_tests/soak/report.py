"""The soak's report: figures as any scenario's, a row for each kind of outcome, and the plot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rich.console import Console

from load_tests.findings import Finding, Findings
from load_tests.processes import MEGABYTE
from load_tests.soak.book import Book, Injected, Verdicts
from load_tests.soak.plot import write_plot
from load_tests.soak.watch import Sample, slope, steady

_KEPT_SAMPLES = 200
_LONG_SECONDS = 1200.0  # what a slope is worth judging over
_SLOPE_TARGET = 6.0  # MB an hour


class SoakReport(Findings):
    """As Findings, which see."""

    def __init__(self, scenario: str, started: datetime, console: Console) -> None:
        super().__init__(scenario, started, console)
        self._samples: Sequence[Sample] = ()
        self._faults: Sequence[Injected] = ()

    def tell(self, book: Book, samples: Sequence[Sample]) -> None:
        """Enters what happened."""
        self._samples, self._faults = samples, book.faults
        verdicts = book.judge()
        for finding in (*_count(verdicts), *_slopes(steady(samples))):
            self.add(finding)
        self.keep("unexpected", [asdict(amiss) for amiss in verdicts.first_unexpected.values()])
        start = samples[0].at if samples else 0.0
        self.keep(
            "faults", [[each.name, each.since - start, each.until - start] for each in book.faults]
        )
        step = max(1, len(samples) // _KEPT_SAMPLES)
        self.keep("samples", [{**asdict(each), "at": each.at - start} for each in samples[::step]])

    def draw(self, path: Path) -> str:
        """The run over time."""
        return write_plot(path, self._samples, self._faults)


def _count(verdicts: Verdicts) -> list[Finding]:
    findings = [
        Finding(subject=traffic, figure="right", value=count)
        for traffic, count in sorted(verdicts.right.items())
    ]
    findings += [
        Finding(subject=traffic, figure=f"{outcome}, for: {fault}", value=count)
        for (traffic, outcome, fault), count in sorted(verdicts.expected.items())
    ]
    findings += [
        Finding(subject=traffic, figure=f"{outcome}, unexpected", value=count, target=0)
        for (traffic, outcome), count in sorted(verdicts.unexpected.items())
    ]
    total = verdicts.unexpected.total()
    return [*findings, Finding(subject="in all", figure="unexpected", value=total, target=0)]


def _slopes(samples: Sequence[Sample]) -> Iterator[Finding]:
    if not samples:
        return
    is_long = samples[-1].at - samples[0].at >= _LONG_SECONDS
    lines = {
        "server": [sample.server_bytes for sample in samples],
        "workers": [sample.worker_bytes for sample in samples],
        "workers less what is charged": [
            sample.worker_bytes - sample.charged_bytes for sample in samples
        ],
    }
    for name, values in lines.items():
        figure = f"{name}: growth, MB an hour"
        target = _SLOPE_TARGET if is_long else None
        yield Finding(subject="memory", figure=figure, value=slope(samples, values), target=target)
        yield Finding(subject="memory", figure=f"{name}: most, MB", value=max(values) / MEGABYTE)
    for name in ("descriptors", "threads", "tasks"):
        most = max(getattr(sample, name) for sample in samples)
        yield Finding(subject="server", figure=f"most {name}", value=most)
