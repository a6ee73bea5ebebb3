"""The comparison's report: medians, memory, goals, where we lose, who was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from load_tests.peers.contestants import COMPILED, NULL, OURS
from load_tests.peers.markdown import write_markdown
from load_tests.peers.verdicts import Verdict, judge, losses, work_out
from load_tests.plot import Bar, write_plot
from load_tests.processes import MEGABYTE
from load_tests.report import Report
from load_tests.result_file import write_result


class PeersReport(Report):
    """As Report, which see, with what else a comparison tells."""

    def __init__(self, scenario: str, started: datetime, console: Console) -> None:
        super().__init__(scenario, started, console)
        self._memory_bytes: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._left_out: dict[str, str] = {}
        self._notes: list[str] = []

    def add_memory(self, subject: str, when: str, used_bytes: int) -> None:
        """Enters what a server and all its processes held, shared pages counted once."""
        self._memory_bytes[when][subject].append(used_bytes)

    def leave_out(self, subject: str, why: str) -> None:
        """Tells that the run goes on without one."""
        self._left_out[subject] = why
        self._console.print(f"left out: {subject}: {why}", markup=False, style="yellow")

    def note(self, text: str) -> None:
        """Keeps a sentence for the end."""
        self._notes.append(text)

    def print_tables(self) -> None:
        """Everything, ours beside theirs."""
        super().print_tables()
        cells = work_out(self.rows)
        self._console.print(self._memory_table())
        goals = Table(title="Goals")
        for name in ("goal", "measured", "target", ""):
            goals.add_column(name, justify="left" if name == "goal" else "right")
        for each in self._verdicts():
            measured = "-" if each.measured is None else f"{each.measured:.2f}"
            bound = "<=" if each.is_at_most else ">="
            goals.add_row(each.goal, measured, f"{bound} {each.target:g}", each.word)
        self._console.print(goals)
        for title, lines in (
            ("Where we lose", list(losses(cells))),
            ("Left out", [f"{name}: {why}" for name, why in self._left_out.items()]),
            ("Notes", self._notes),
        ):
            told = "\n".join(f"  {line}" for line in lines) or "  nothing"
            self._console.print(f"{title}:\n{told}", markup=False, highlight=False)

    def write(self, directory: Path, arguments: Mapping[str, Any]) -> Path:
        """Writes the run's file, its tables in Markdown and, where matplotlib is, its plot."""
        cells = work_out(self.rows)
        path = write_result(
            directory,
            self._scenario,
            self._started,
            {
                "arguments": arguments,
                "failures": self.failures(),
                "rows": [asdict(row) for row in self.rows],
                "memory_bytes": self._memory_bytes,
                "goals": [{**asdict(each), "word": each.word} for each in self._verdicts()],
                "losses": list(losses(cells)),
                "left_out": self._left_out,
                "notes": self._notes,
            },
        )
        text = write_markdown(cells, self._verdicts(), self._memory_bytes)
        path.with_suffix(".md").write_text(text)
        panels: dict[str, list[Bar]] = defaultdict(list)
        for (subject, mode), figures in cells.items():
            panels[f"{mode}: answers/s"].append(Bar(name=subject, value=figures.per_second))
        self._console.print(write_plot(path.with_suffix(".png"), panels), soft_wrap=True)
        return path

    def _verdicts(self) -> list[Verdict]:
        """All goals; without any peer those alone that need none."""
        told = list(judge(work_out(self.rows)))
        if {row.subject for row in self.rows} <= {OURS, COMPILED, NULL}:
            return [each for each in told if each.measured is not None]
        return told

    def _memory_table(self) -> Table:
        table = Table(title="Memory of all processes, MiB")
        table.add_column("server")
        for when in self._memory_bytes:
            table.add_column(when, justify="right")
        subjects = dict.fromkeys(name for held in self._memory_bytes.values() for name in held)
        for subject in subjects:
            cells = (held.get(subject) for held in self._memory_bytes.values())
            table.add_row(
                subject, *(f"{median(found) / MEGABYTE:,.0f}" if found else "-" for found in cells)
            )
        return table
