"""The comparison's report: medians, memory, goals, where we lose, who was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from datetime import datetime
from http.client import HTTPException
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from load_tests.findings import Findings
from load_tests.measure import GeneratorFailed
from load_tests.peers.contestants import NO_PEERS
from load_tests.peers.markdown import ByServer, servers_of, write_markdown
from load_tests.peers.verdicts import (
    Verdict,
    judge,
    judge_alone,
    late_losses,
    losses,
    memory_losses,
    work_out,
)
from load_tests.plot import Bar, Panels
from load_tests.processes import MEGABYTE
from load_tests.report import Report
from load_tests.server_process import ServerFailed
from load_tests.tenants import TrainingFailed

# of ours: a part of the run; those of HTTP are a server that went away
_FAILURES = (GeneratorFailed, ServerFailed, TrainingFailed, OSError, HTTPException)


class PeersReport(Report):
    """As Report, which see, with what else a comparison tells."""

    def __init__(self, scenario: str, started: datetime, console: Console) -> None:
        super().__init__(scenario, started, console)
        self._memory_bytes: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self._first_seconds: dict[str, dict[str, list[float]]] = defaultdict(dict)
        self.alone = Findings(scenario, started, console)  # what needs no peer
        self._versions: dict[str, Mapping[str, str]] = {}
        self._left_out: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        self._notes: list[str] = []

    def add_versions(self, subject: str, found: Mapping[str, str]) -> None:
        """Enters what a peer runs on."""
        self._versions[subject] = found

    def add_memory(self, subject: str, when: str, used_bytes: int) -> None:
        """Enters what a server and all its processes held, shared pages counted once."""
        self._memory_bytes[when][subject].append(used_bytes)

    def add_first_answers(self, subject: str, framework: str, seconds: list[float]) -> None:
        """Enters how long models that were not loaded took to answer."""
        self._first_seconds[framework][subject] = seconds
        told = f"{framework:>33}, cold  {subject:<24} {1000 * median(seconds):9,.1f} ms"
        self._console.print(told, markup=False, highlight=False)

    def failures(self) -> dict[str, int]:
        """As Report; of ours alone the wrong answers; and the parts of the run that were lost."""
        failed = {f"{part} failed": 1 for part in self._lost}
        return {**super().failures(), **self.alone.wrong_answers(), **failed}

    @contextmanager
    def going_on(self, part: str) -> Iterator[None]:
        """Tells and counts what makes `part` of the run fail, so that others are still measured."""
        try:
            yield
        except _FAILURES as error:
            self._lost[part] = f"{error}" or repr(error)
            self._console.print(f"{part} failed: {self._lost[part]}", markup=False, style="red")

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
        for title, columns in self._by_server().items():
            self._console.print(_server_table(title, columns))
        if self.alone.findings:
            self.alone.print_tables()
        goals = Table(title="Goals")
        for name in ("goal", "measured", "target", ""):
            goals.add_column(name, justify="left" if name == "goal" else "right")
        for each in self._verdicts():
            measured = "-" if each.measured is None else f"{each.measured:.2f}"
            bound = "<=" if each.is_at_most else ">="
            goals.add_row(each.goal, measured, f"{bound} {each.target:g}", each.word)
        self._console.print(goals)
        for title, lines in (
            ("Where we lose", self._losses()),
            ("Left out", [f"{name}: {why}" for name, why in self._left_out.items()]),
            ("Failed", [f"{part}: {why}" for part, why in self._lost.items()]),
            ("Notes", self._notes),
        ):
            told = "\n".join(f"  {line}" for line in lines) or "  nothing"
            self._console.print(f"{title}:\n{told}", markup=False, highlight=False)

    def write(self, directory: Path, arguments: Mapping[str, Any]) -> Path:
        """As Report, and the tables in Markdown."""
        path, cells = super().write(directory, arguments), work_out(self.rows)
        text = write_markdown(cells, self._by_server(), self.alone.findings, self._verdicts())
        path.with_suffix(".md").write_text(text)
        return path

    def told(self) -> dict[str, Any]:
        """As Report, with all else that was found."""
        return {
            "versions_of_peers": self._versions,
            **super().told(),
            "memory_bytes": self._memory_bytes,
            "first_seconds": self._first_seconds,
            "alone": self.alone.told(),
            "goals": [{**asdict(each), "word": each.word} for each in self._verdicts()],
            "losses": self._losses(),
            "left_out": self._left_out,
            "lost": self._lost,
            "notes": self._notes,
        }

    def panels(self) -> Panels:
        """As Report, with first answers, and what needs no peer."""
        first = {
            f"{framework}, first answer of a cold model: ms": [
                Bar(name=subject, value=taken) for subject, taken in found.items()
            ]
            for framework, found in self._first_ms().items()
        }
        return {**super().panels(), **first, **self.alone.panels()}

    def _verdicts(self) -> list[Verdict]:
        """All goals; without any peer those alone that need none."""
        told = [*judge(work_out(self.rows)), *judge_alone(self.alone.findings)]
        if {row.subject for row in self.rows} <= NO_PEERS:
            return [each for each in told if each.measured is not None]
        return told

    def _losses(self) -> list[str]:
        return [
            *losses(work_out(self.rows)),
            *memory_losses(self._held_mib()),
            *late_losses(self._first_ms()),
        ]

    def _held_mib(self) -> dict[str, dict[str, float]]:
        return {
            when: {name: median(used) / MEGABYTE for name, used in found.items()}
            for when, found in self._memory_bytes.items()
        }

    def _first_ms(self) -> dict[str, dict[str, float]]:
        return {
            framework: {name: 1000 * median(seconds) for name, seconds in found.items()}
            for framework, found in self._first_seconds.items()
        }

    def _by_server(self) -> ByServer:
        """What is told of servers besides how they answered."""
        held = {
            when: {name: f"{used:,.0f}" for name, used in found.items()}
            for when, found in self._held_mib().items()
        }
        first = {
            framework: {name: f"{taken:,.1f}" for name, taken in found.items()}
            for framework, found in self._first_ms().items()
        }
        told = {"memory, MiB": held, "first answer of a cold model, ms": first}
        return {title: columns for title, columns in told.items() if columns}


def _server_table(title: str, columns: Mapping[str, Mapping[str, str]]) -> Table:
    table = Table(title=title[0].upper() + title[1:])
    table.add_column("server")
    for name in columns:
        table.add_column(name, justify="right")
    for server in servers_of(columns):
        table.add_row(server, *(found.get(server, "-") for found in columns.values()))
    return table
